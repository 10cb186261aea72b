"""What a clock sees of a block: whose nodes they are, and the figures of each that it moves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from hansa.base.few import Figures
from hansa.base.streams import Streams
from hansa.models import ParameterLayout

if TYPE_CHECKING:
    from torch import Tensor


class Workload(Protocol):
    """What a clock needs of local work."""

    @property
    def layout(self) -> ParameterLayout:
        """Where the numbers of a model are."""

    def asked_examples(self, sizes: np.ndarray) -> np.ndarray:
        """Examples of a round without a budget, int64 [k], for nodes with ``sizes`` of them."""


class Times(Protocol):
    """A block as its clock sees it; :class:`hansa.engine.Block` is one.

    Attributes:
        ids: int64 [n], the nodes' names in the run, ascending.
        state: per-node figures [n], among them ``modelled_time`` in s and ``energy`` in J.
        report: this round's measurements by name, arrays [n].
        streams: the run's named random streams.
        effort: an example's compute in each node's model as a share of the whole one's, [n].
        tables: what was worked out for exactly these nodes and can be worked out anew.
    """

    ids: np.ndarray
    state: dict[str, Tensor]
    report: dict[str, Figures]
    streams: Streams
    effort: np.ndarray | None
    tables: dict[str, Any]

    @property
    def trainer(self) -> Workload:
        """Local work."""

    @property
    def clients(self) -> int:
        """How many nodes of the run have data; the ids from there on are servers."""

    @property
    def nodes(self) -> int:
        """How many nodes the run has, servers included."""

    @property
    def own_sizes(self) -> np.ndarray:
        """int64 [n]: how many training examples the block's nodes have."""

    def __len__(self) -> int: ...

    def positions(self, ids: np.ndarray) -> np.ndarray:
        """Where these nodes of the run stand; those not in it are left out."""

    def aside(self, state: dict[str, Tensor]) -> Self:
        """The same nodes with other figures, to try something."""
