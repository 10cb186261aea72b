"""Aggregators that learn from the server's own examples: a kind of their own, one file a name."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

from hansa.base.component import Component
from hansa.base.streams import Streams
from hansa.infer.robust.score_aggregator import ScoreAggregator
from hansa.infer.robust.server_set import ServerSet

if TYPE_CHECKING:
    from torch import Tensor


class LearnedAggregator(Component, kind="learned_aggregator"):
    """A rule that is trained on the server set before it answers."""

    only_answering: ClassVar[tuple[str, ...]] = ()
    """Settings that matter when it answers, not when it is trained: several share one training."""

    @abstractmethod
    def train(
        self,
        learning: ServerSet,
        judging: ServerSet,
        f: int,
        streams: Streams,
        say: Callable[[str], None],
    ) -> dict[str, Tensor]:
        """What it learns, by name.

        Args:
            learning: examples to learn from.
            judging: others, to choose among what was learned.
            f: how many members may lie.
            say: is told how far it has come.
        """

    @abstractmethod
    def build(self, name: str, classes: int, learned: Mapping[str, Tensor]) -> ScoreAggregator:
        """The rule with what it has learned."""

    def check(self, members: int, f: int) -> None:
        """Refuse settings that cannot work with so many members, f of them liars.

        Raises:
            ConfigError: names the field.
        """

    @property
    def training_key(self) -> str:
        """Equal of two rules that learn the same."""
        settings = {k: v for k, v in self.dump().items() if k not in self.only_answering}
        return json.dumps(settings, sort_keys=True)
