"""Eight ways to look at a digit, and four ways to name it: tasks that one network can learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.base.streams import Streams

if TYPE_CHECKING:
    from torch import Tensor

    Looked = tuple[Tensor, Tensor]
    View = Callable[[Tensor, Tensor], Looked]

_LOOPS = (1, 0, 0, 0, 1, 0, 1, 0, 2, 1)  # closed loops of each digit as it is usually written


def _permuted(number: int) -> View:
    """Pixels in another order, the same one whatever the run's seed."""

    def view(x: Tensor, y: Tensor) -> Looked:
        order = Streams(0).numpy("pixels", number).permutation(x[0].numel())
        return x.flatten(1)[:, torch.from_numpy(order)].view_as(x), y

    return view


# Each takes images [B, 1, H, W] in [-1, 1] and classes [B], and gives both as the task sees them.
VIEWS: dict[str, View] = {
    "rot90": lambda x, y: (torch.rot90(x, 1, (2, 3)), y),
    "rot180": lambda x, y: (torch.rot90(x, 2, (2, 3)), y),
    "mirror": lambda x, y: (x.flip(3), y),
    "invert": lambda x, y: (-x, y),
    "permuted": _permuted(0),
    "permuted_2": _permuted(1),
    "roll": lambda x, y: (x.roll(3, 3), y),
    "transposed_mod_3": lambda x, y: (x.transpose(2, 3), y % 3),
    "parity": lambda x, y: (x, y % 2),
    "mod_3": lambda x, y: (x, y % 3),
    "above_4": lambda x, y: (x, (y > 4).long()),
    "loops": lambda x, y: (x, torch.tensor(_LOOPS)[y]),
}
INPUT_VIEWS = tuple(VIEWS)[:8]
"""Tasks that differ in what they see; the other four in what they call it."""


def _known(views: tuple[str, ...]) -> tuple[str, ...]:
    for view in views:
        if view not in VIEWS:
            raise ConfigError("views", view, "is no view", f"of {', '.join(VIEWS)}")
    if len(set(views)) < len(views):
        raise ConfigError("views", list(views), "names one twice", "each once")
    return views


Views = Annotated[tuple[str, ...], AfterValidator(_known)]
"""A setting ``views``: names of views, each once."""
