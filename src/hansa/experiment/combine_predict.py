"""A saved ensemble on files that somebody brings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.errors import ConfigError, DataError
from hansa.base.lazy import torch
from hansa.combine import Loaded, load

if TYPE_CHECKING:
    from torch import Tensor

_BATCH = 256
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


def predict(run: str | Path, inputs: str | Path, trust: bool = False) -> list[dict[str, Any]]:
    """Class and probability of every example in a file, or image in a folder.

    Args:
        run: a run folder of ``hansa combine ensemble``, or the ``ensemble`` folder in it.
        inputs: an image, a folder of images, a .npy array [m, ...] of stored values (images
            channels last), or a .csv of numbers, a row an example.
        trust: as for :func:`hansa.combine.load`.

    Raises:
        CheckpointError: the ensemble is missing or corrupt.
        ConfigError, DataError: the inputs are not what its models take.
    """
    path, given = Path(run), Path(inputs)
    found = load(path / "ensemble" if (path / "ensemble").is_dir() else path, trust)
    names, stored = read(given, found)
    answers = []
    for start in range(0, len(stored), _BATCH):
        scores = found(found.prepared(stored[start : start + _BATCH]))
        if found.spec.outputs == 1:
            scores = torch.cat([torch.zeros_like(scores), scores], dim=1)
        answers.append(torch.softmax(scores, -1))
    shares = torch.cat(answers)
    classes = found.card["class_names"] or list(range(found.spec.classes))
    best = shares.argmax(-1).tolist()
    return [
        {"input": name, "class": classes[k], "probability": round(float(row[k]), 6)}
        for name, k, row in zip(names, best, shares, strict=True)
    ]


def read(path: Path, found: Loaded) -> tuple[list[str], Tensor]:
    """(names, stored values [m, ...]) of what a path holds.

    Raises:
        ConfigError, DataError: it is not what the models take.
    """
    if not path.exists():
        raise ConfigError("input", str(path), "there is no such file or folder", "check the path")
    kind = found.spec.kind
    if path.is_dir() or path.suffix.lower() in IMAGES:
        if kind != "image":
            raise ConfigError("input", str(path), f"holds images, the models take {kind}", ".csv")
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        files = [file for file in files if file.suffix.lower() in IMAGES]
        if not files:
            raise ConfigError("input", str(path), "holds no image", ", ".join(IMAGES))
        return [str(file) for file in files], torch.stack([_image(f, found) for f in files])
    try:
        if path.suffix == ".npy":
            table = np.load(path, allow_pickle=False)
        elif path.suffix == ".csv":
            table = np.loadtxt(path, delimiter=",", ndmin=2, dtype=np.float32)
        else:
            raise ConfigError("input", str(path), "is of no known kind", ".npy, .csv or an image")
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    stored = torch.from_numpy(np.ascontiguousarray(table, dtype=np.float32))
    shape = list(found.spec.shape)
    if kind == "image":
        shape = [shape[1], shape[2], shape[0]]
    if list(stored.shape[1:]) != shape:
        raise DataError(f"{path}: examples are {list(stored.shape[1:])}, the models take {shape}")
    if not torch.isfinite(stored).all():
        raise DataError(f"{path}: holds a value that is not finite")
    return [f"{path}:{k}" for k in range(len(stored))], stored


def _image(file: Path, found: Loaded) -> Tensor:
    """One image [H, W, C] of the models' size."""
    from PIL import Image, UnidentifiedImageError

    channels, height, width = found.spec.shape
    if channels not in (1, 3):
        raise ConfigError("input", str(file), f"the models take {channels} channels", ".npy")
    try:
        with Image.open(file) as image:
            if image.size != (width, height):
                size = f"{image.size[0]} x {image.size[1]}"
                raise DataError(f"{file}: is {size}, the models take {width} x {height} pixels")
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"), dtype=np.float32)
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{file}: is no image that can be read ({error})") from error
    stored = torch.from_numpy(pixels.reshape(height, width, channels).copy())
    return stored * (float(found.card.get("peak", 255.0)) / 255)
