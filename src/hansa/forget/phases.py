"""What the two phases of forgetting share: their settings are frozen, and steps are shortened."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict

from hansa.forget.federation import Asking

if TYPE_CHECKING:
    from torch import Tensor

Seen = TypeVar("Seen")

HALVINGS = 6
WORSE = 1.5
"""A loss on what remains that grows so many times has got worse."""


class Settings(BaseModel):
    """A frozen group of settings that refuses unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def shortened(
    start: Tensor,
    end: Tensor,
    look: Callable[[Tensor], Asking[Seen]],
    fits: Callable[[Tensor, Seen], Asking[bool]],
) -> Asking[tuple[Tensor, Seen | None]]:
    """(the first model on the way back from ``end`` that fits, what was seen of it).

    The server halves its step; ``start`` and None if not even a small one fits.
    """
    at = end
    for _ in range(HALVINGS + 1):
        seen = yield from look(at)
        if (yield from fits(at, seen)):
            return at, seen
        at = start + (at - start) / 2
    return start, None
