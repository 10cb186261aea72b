"""What becomes of synthetic images: destroyed, withheld, put back, and what is to be said of them.

All of that is done by the client that has them, on the shelves of its own block. The server is told
numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.lazy import torch
from hansa.ensemble.condensation import nearest
from hansa.ensemble.synthetic import SHELF, SyntheticLayout
from hansa.forget.federation import Asking, Federation
from hansa.forget.holdings import Synthetic
from hansa.forget.orders import Answer, Form, order
from hansa.forget.party import Party
from hansa.forget.portions import Portion
from hansa.forget.request import Request

if TYPE_CHECKING:
    from torch import Tensor

COPY = 0.05
"""Root mean squared distance below which a synthetic image counts as a copy of an example."""
_WITHHELD = "client.withheld."


def withheld_shelf(number: int) -> str:
    """The shelf with what a request has taken from the clients' images, kept for relearning."""
    return f"{_WITHHELD}{number:03d}"


@order("scrub", count=Form(mass=True), any=Form())
def scrub(party: Party, request: dict[str, Any], keep: str, withheld: Sequence[str]) -> Answer:
    """Destroy the images that a request covers.

    Args:
        keep: the shelf for what was there; empty: it is gone for good.
        withheld: shelves with what earlier requests have taken, and which lose it too.

    Returns:
        ``count``, how many images there were, and whether it had a place for some (``any``).
    """
    meant, count, any_there = Request.parse(request), 0, False
    for name in (SHELF, *withheld):
        row = party.stored(name)
        if row is None or party.layout is None:
            continue
        was = scrubbed(row, party.layout, party.client, meant)
        if was is None:
            continue
        party.store(name, row)
        if name == SHELF:
            any_there = True
            count = int((was != 0).view(-1, party.layout.pixels).any(1).sum())
            if keep:
                party.store(keep, was)
    if party.client in meant.clients:
        party.store(SHELF, None)
    return {"count": count, "any": any_there}


@order("restore")
def restore(party: Party, kept: str, rest: dict[str, Any], dropped: Sequence[str]) -> Answer:
    """Put back images that a request has taken, but for what other requests cover.

    Args:
        kept: the shelf with them; empty: there is nothing to put back.
        rest: the other requests.
        dropped: shelves that nobody needs any more.
    """
    back = party.stored(kept) if kept else None
    if back is not None and party.layout is not None:
        row = party.stored(SHELF)
        row = back if row is None else row + back
        scrubbed(row, party.layout, party.client, Request.parse(rest))
        party.store(SHELF, row)
    for name in dropped:
        party.store(name, None)
    return {}


@order("left", distances=Form((None,)))
def left(party: Party, portion: dict[str, Any]) -> Answer:
    """How near a client's images are to its own examples.

    Returns:
        ``distances``, float32 [m], of each to the nearest, ascending.
    """
    images = party.holding(Portion.parse(portion))
    if not isinstance(images, Synthetic):
        return {"distances": np.zeros(0, np.float32)}
    index = party.to_device(party.index)
    examples, _ = party.dataset.gather(party.dataset.train, index)
    near = nearest(images.x, examples.reshape(len(examples), *images.x.shape[1:]))[0]
    return {"distances": near.sort().values}


def erased(federation: Federation, keep: str, withheld: Sequence[str]) -> Asking[dict[str, Any]]:
    """Have all clients destroy what the request covers; what there is to say, as plain data."""
    answers = yield from federation.ask(
        "scrub", federation.clients, request=federation.request.dump(), keep=keep,
        withheld=list(withheld),
    )  # fmt: skip
    holders = [client for client, answer in answers.items() if answer["any"]]
    return {
        "synthetic_images": sum(answer["count"] for answer in answers.values()),
        "synthetic_images_of_clients": holders,
        "kept_for_relearning": bool(holders) and bool(keep),
    }


def restored(federation: Federation, kept: str, dropped: Sequence[str]) -> Asking[None]:
    """Have all clients put back what was kept of the request, but for what the past covers."""
    yield from federation.ask(
        "restore", federation.clients, kept=kept, rest=federation.past.dump(),
        dropped=list(dropped),
    )  # fmt: skip


def described(federation: Federation, pixels: int) -> Asking[dict[str, Any]]:
    """How many synthetic images are left, and how near they are to their clients' examples.

    Args:
        pixels: numbers of an image.
    """
    gone = federation.past | federation.request
    portion = Portion(False, Request(), gone, source="synthetic")
    answers = yield from federation.ask("left", federation.clients, portion=portion.dump())
    distances = np.concatenate([answer["distances"] for answer in answers.values()])
    near = torch.from_numpy(distances)
    return {
        "left": len(near),
        "bytes": 4 * len(near) * pixels,
        "nearest_example": {
            "median": float(near.median()) if len(near) else None,
            "copies": float((near < COPY).double().mean()) if len(near) else None,
            "copy_below": COPY,
        },
    }


def scrubbed(row: Tensor, layout: SyntheticLayout, client: int, request: Request) -> Tensor | None:
    """Overwrite with zeros, in place, the synthetic images in a row that a request covers.

    Returns:
        What was there, a row that is 0 elsewhere; None if the client has no such images.
    """
    meant = [
        k
        for k, label in enumerate(layout.labels(client).tolist())
        if request.covers_cell(client, label)
    ]
    if not meant:
        return None
    was, at = torch.zeros_like(row), torch.tensor(meant)
    layout.images(was, client)[at] = layout.images(row, client)[at]
    layout.images(row, client)[at] = 0.0
    return was
