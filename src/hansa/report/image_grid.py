"""Many small images as one picture, a line a class."""

from __future__ import annotations

import io

import numpy as np

_SIDE, _GAP, _COLUMNS = 48, 3, 24


def image_grid(images: np.ndarray, labels: np.ndarray, columns: int = _COLUMNS) -> bytes:
    """A PNG of images [m, C, H, W] with their classes [m]: classes from the top, in order.

    Each image is drawn from its own darkest to its own brightest value; of a class, the first
    ``columns`` are shown.
    """
    from PIL import Image

    scale = max(1, _SIDE // max(images.shape[2:]))
    height, width = images.shape[2] * scale, images.shape[3] * scale
    kinds = np.unique(labels)
    across = min(columns, max(int((labels == kind).sum()) for kind in kinds))
    canvas = np.full(
        (len(kinds) * (height + _GAP) + _GAP, across * (width + _GAP) + _GAP, 3), 255, np.uint8
    )
    for line, kind in enumerate(kinds):
        for place, image in enumerate(images[labels == kind][:across]):
            low, high = image.min(), image.max()
            shown = (image - low) / max(high - low, 1e-9)
            shown = np.broadcast_to(
                shown[:3] if len(shown) >= 3 else shown[:1], (3, *image.shape[1:])
            )
            pixels = (shown.transpose(1, 2, 0) * 255).astype(np.uint8)
            pixels = pixels.repeat(scale, 0).repeat(scale, 1)
            top, left = _GAP + line * (height + _GAP), _GAP + place * (width + _GAP)
            canvas[top : top + height, left : left + width] = pixels
    out = io.BytesIO()
    Image.fromarray(canvas).save(out, format="PNG", optimize=True)
    return out.getvalue()
