"""What clients got from their servers, what they work on, and those that are at work."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch
from hansa.engine import Block
from hansa.learn.federated.invitation import Invitations

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Heard:
    """What clients of a block got from their servers.

    Attributes:
        who: int64 [k], their positions in the block.
        invited: their invitations, in the same order.
        table: float32 [m, K], the different models that servers sent.
        which: int64 [k], the model that each client got.
        told: by name of what else came, (rows [m', K], which of them each client got).
        t: the round.
    """

    who: np.ndarray
    invited: Invitations
    table: Tensor
    which: np.ndarray
    told: dict[str, tuple[Tensor, np.ndarray]]
    t: int

    def take(self, at: np.ndarray) -> Heard:
        """What some of the clients got."""
        aside = {name: (rows, whose[at]) for name, (rows, whose) in self.told.items()}
        return replace(
            self,
            who=self.who[at],
            invited=self.invited.take(at),
            which=self.which[at],
            told=aside,
        )


@dataclass
class Work:
    """What clients of a block work on.

    Attributes:
        crew: a block of them alone; its rows are their models.
        invited, table, which, told, t: as in :class:`Heard`.
    """

    crew: Block
    invited: Invitations
    table: Tensor
    which: np.ndarray
    told: dict[str, tuple[Tensor, np.ndarray]]
    t: int

    @property
    def parameters(self) -> int:
        """P, the number of trainable parameters: they come first in a row."""
        return self.crew.trainer.layout.trainable

    def origin(self, at: np.ndarray) -> Tensor:
        """The parameters [len(at), P] from which clients at these positions started."""
        return self.table[torch.from_numpy(self.which[at]), : self.parameters]

    def heard(self, name: str) -> Tensor:
        """What else each client was told under a name, [k, K]."""
        rows, which = self.told[name]
        return rows[torch.from_numpy(which)]


@dataclass
class Flight:
    """Clients at work.

    Attributes:
        works: pieces of the work, each done apart from the others.
        done: what says of each that it is done, or what went wrong.
        updates: float32 [k, K], the clients' updates once they are done.
        aside: float32 [k, A], what goes with them.
    """

    works: list[Work]
    done: list[Future[None]]
    updates: Tensor
    aside: Tensor
