"""Isolated nodes: the lower bound, what each node learns from its own data alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from hansa.base.component import register
from hansa.engine import Algorithm, Block, Inbox


@register("isolated")
class Isolated(Algorithm):
    """Local steps and no exchange: what collaboration has to beat."""

    uses_topology: ClassVar[bool] = False
    tolerates_loss: ClassVar[bool] = True  # there is none to lose
    unattackable: ClassVar[str] = "sends nothing"
    lacks: ClassVar[Mapping[str, str]] = {
        **Algorithm.lacks,
        "aggregator": "receives nothing that could be aggregated",
        "codec": "sends nothing that could be encoded",
    }

    def outgoing(self, block: Block, t: int) -> None:
        return None

    def incoming(self, block: Block, inbox: Inbox, t: int) -> None:
        """Never called: nothing is sent."""
