"""How a run ended: which models it came to, whose they are, and why it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Which = Literal["last", "best", "merged"]


@dataclass(frozen=True)
class Outcome:
    """The end of a run, as far as one block has it; its checkpoint holds it.

    Attributes:
        ids: int64 [k], the nodes of the block whose models these are; None: all residents.
        rows: float32 [k, D]; None: the residents' models as they are.
        which: the ``last`` models, those that were ``best`` when they were judged, or one
            ``merged`` of several.
        reason: why the run ended before its last round; empty: it had done all of them.
    """

    ids: np.ndarray | None = None
    rows: Tensor | None = None
    which: Which = "last"
    reason: str = ""

    def facts(self) -> dict[str, Any]:
        """All but the models, as plain data."""
        return {"which": self.which, "reason": self.reason}
