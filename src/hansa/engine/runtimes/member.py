"""What the coordinator of one owner's run knows of a site."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np


@dataclass
class Member:
    """What is known of a site.

    Attributes:
        ids: its nodes.
        address: where it listens, once it has said so.
        key: the fingerprint of its key, where sites have keys.
        part: its last part of a checkpoint.
        source: the part that it is being started from again.
        state: ``starting`` until it hears of the others, ``running``, ``gone``, or ``done``.
        incarnation: how many times it was started before.
        vain: how many of these starts, the latest, no round came of.
        latest: the last round of which it has reported.
        at: the round in which it took part again.
        awaited: nobody begins a round before it is back: a hub of the algorithm lives there.
        overhead: bytes beyond the messages between nodes, of its latest start.
    """

    ids: np.ndarray
    address: str = ""
    key: str = ""
    part: dict[str, Any] | None = None
    source: dict[str, Any] | None = None
    state: Literal["starting", "running", "gone", "done"] = "starting"
    incarnation: int = 0
    vain: int = 0
    latest: int = -1
    at: int = 0
    awaited: bool = False
    overhead: dict[str, int] = field(default_factory=dict)

    @property
    def there(self) -> bool:
        """Whether it can be told something."""
        return self.state in ("running", "done")

    @property
    def busy(self) -> bool:
        """Whether it has yet to do something."""
        return self.state in ("starting", "running")
