"""The end of a request: what has to be destroyed is, and the receipt and its page are written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.lazy import torch
from hansa.engine.history import UPDATES
from hansa.engine.shelf import Shelf
from hansa.ensemble.condensation import nearest
from hansa.ensemble.synthetic import SHELF
from hansa.experiment.hosting import write_page
from hansa.forget.page import IMAGES
from hansa.forget.request import Request
from hansa.forget.requests import scrub
from hansa.forget.trained import Trained
from hansa.report.image_grid import image_grid

if TYPE_CHECKING:
    from torch import Tensor

COPY = 0.05
"""Root mean squared distance below which a synthetic image counts as a copy of an example."""


def keep(
    run: Trained, request: Request, receipt: dict[str, Any], allow_relearn: bool
) -> dict[str, Any]:
    """Destroy what has to be, write the request down, and return its receipt.

    While the goal is not reached, nothing is destroyed: another request may go on from there.
    """
    images, files = run.images, {}
    count, withheld, done = 0, {}, receipt["status"] == "done"
    if run.layout is not None and done:
        withheld = scrub(images, run.layout, request)
        count = sum(
            int((row != 0).any(1).sum()) for row in map(run.layout.stacked, withheld.values())
        )
        shelve(run, images, dropped=request.clients)
        receipt["images"] = _describe(run, request, images)
        if picture := _picture(run, request, images):
            files[IMAGES] = picture
    if run.keeps and done:  # what the leavers have sent is theirs as well
        run.block.kept[UPDATES][0][:, list(request.clients)] = 0.0
    replaced = [run.requests.checkpoint] if done else []
    receipt["deleted"] = {
        "synthetic_images": count,
        "synthetic_images_of_clients": sorted(withheld),
        "kept_for_relearning": bool(withheld) and allow_relearn,
        "checkpoints": [str(p.relative_to(run.folder.path)) for p in replaced if p is not None],
        "not_here": "clients delete their original examples themselves",
    }
    kept = withheld if allow_relearn else {}
    folder = run.requests.commit(run.block, run.done, receipt, kept, files, run.layout)
    event = "forgotten" if done else "not forgotten"
    run.folder.event(event, request=str(request), method=receipt["method"]["name"])
    return reported(run, folder)


def reported(run: Trained, folder: Path) -> dict[str, Any]:
    """The newest receipt, once its page is written."""
    receipt = run.requests.receipts[-1]
    write_page(run.folder, folder)
    return {**receipt, "folder": str(folder)}


def shelve(run: Trained, images: dict[int, Tensor], dropped: tuple[int, ...] = ()) -> None:
    """Put the clients' images back on their shelf, but for those who have left."""
    shelf = run.block.shelves.setdefault(SHELF, Shelf())
    for client, row in images.items():
        shelf.put(np.array([client]), row.unsqueeze(0))
    shelf.drop(np.array(dropped, dtype=np.int64))


def _remaining(run: Trained, request: Request, images: dict[int, Tensor]) -> list[Any]:
    federation = run.federation(Request())
    federation.past, federation.images = run.requests.past | request, images
    return federation.synthetic(forget=False)


def _describe(run: Trained, request: Request, images: dict[int, Tensor]) -> dict[str, Any]:
    """How many synthetic images are left, and how near they are to their clients' examples."""
    left, apart = 0, []
    dataset = run.job.dataset
    for holding in _remaining(run, request, images):
        index = torch.from_numpy(np.asarray(run.job.parts[holding.client]))
        examples, _ = dataset.gather(dataset.train, index.to(holding.x.device))
        apart.append(nearest(holding.x, examples.reshape(len(examples), *holding.x.shape[1:]))[0])
        left += len(holding.y)
    distances = torch.cat(apart) if apart else torch.zeros(0)
    return {
        "left": left,
        "bytes": 4 * left * (run.layout.pixels if run.layout else 0),
        "nearest_example": {
            "median": float(distances.median()) if left else None,
            "copies": float((distances < COPY).double().mean()) if left else None,
            "copy_below": COPY,
        },
    }


def _picture(run: Trained, request: Request, images: dict[int, Tensor]) -> bytes | None:
    """The images that are left, one line a class."""
    holdings = _remaining(run, request, images)
    if not holdings or run.job.dataset.spec.kind != "image":
        return None
    x = torch.cat([h.x for h in holdings]).cpu().numpy()
    y = torch.cat([h.y for h in holdings]).cpu().numpy()
    return image_grid(x, y)
