"""The synthetic images that are left, where one party has them all."""

from __future__ import annotations

from pathlib import Path

from hansa.base.lazy import safetensors, torch
from hansa.ensemble.synthetic import SHELF, SyntheticLayout
from hansa.forget.request import Request
from hansa.report.image_grid import image_grid


def picture(checkpoint: Path, layout: SyntheticLayout, gone: Request) -> bytes | None:
    """A PNG of them, one line a class; None if there are none, or several workers have some.

    They are personal data, so that what is with several workers is not gathered: to a worker, the
    others' clients are strangers.

    Args:
        gone: what the run has forgotten.
    """
    files = sorted(checkpoint.glob("nodes-*.safetensors"))
    if len(files) != 1 or len(layout.shape) != 3:
        return None
    with safetensors.safe_open(files[0], framework="pt") as file:
        if f"shelf.{SHELF}.ids" not in file.keys():  # noqa: SIM118
            return None
        ids, rows = (file.get_tensor(f"shelf.{SHELF}.{name}") for name in ("ids", "rows"))
    shown, classes = [], []
    for client, row in zip(ids.tolist(), rows, strict=True):
        labels = layout.labels(client)
        left = torch.tensor([not gone.covers_cell(client, c) for c in labels.tolist()])
        shown.append(layout.images(row, client)[left])
        classes.append(labels[left])
    if not any(map(len, classes)):
        return None
    return image_grid(torch.cat(shown).numpy(), torch.cat(classes).numpy())
