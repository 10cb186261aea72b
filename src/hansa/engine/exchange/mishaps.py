"""What can go wrong by rounds: the network falls apart, nodes crash, devices stand still.

All of it follows from the run file and the number of the round, so everybody knows it alike, and no
process is killed for it: it means the same in every runtime.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import Field

from hansa.base.errors import ConfigError
from hansa.engine.exchange.recorded import Rewind
from hansa.engine.settings import Settings


class Partition(Settings):
    """Groups of nodes that hear nothing of each other for some rounds."""

    groups: tuple[tuple[int, ...], ...] = Field(
        description="nodes that still hear each other; those in no group are one more"
    )
    rounds: tuple[int, int | None] = Field(
        (0, None), description="[from, until) rounds, counted from 0; null = for good"
    )

    def covers(self, round: int) -> bool:
        """Whether the network has fallen apart in a round."""
        begins, until = self.rounds
        return begins <= round and (until is None or round < until)

    def apart(self, senders: np.ndarray, receivers: np.ndarray) -> np.ndarray:
        """Which messages go from one group to another, bool [pairs]."""
        last = max([senders.max(initial=0), receivers.max(initial=0), *map(max, self.groups)])
        group = np.full(int(last) + 1, -1)
        for k, nodes in enumerate(self.groups):
            group[list(nodes)] = k
        between: np.ndarray = group[senders] != group[receivers]
        return between

    def check(self, field: str, nodes: int) -> None:
        """Refuse groups that part nobody, and rounds that there cannot be.

        Raises:
            ConfigError: naming ``field``.
        """
        named = [node for group in self.groups for node in group]
        fix = f"lists of nodes, each of 0..{nodes - 1} in at most one"
        stranger = next((node for node in named if not 0 <= node < nodes), None)
        if stranger is not None:
            raise ConfigError(f"{field}.groups", stranger, "is no node of the run", fix)
        twice = next((node for node in named if named.count(node) > 1), None)
        if twice is not None:
            raise ConfigError(f"{field}.groups", twice, "is in two groups", fix)
        if not all(self.groups) or len(self.groups) + (len(named) < nodes) < 2:
            groups = [list(group) for group in self.groups]
            raise ConfigError(f"{field}.groups", groups, "part nobody from anybody", fix)
        begins, until = self.rounds
        if begins < 0 or (until is not None and until <= begins):
            problem, way = "are no rounds", "[from, until] with 0 <= from < until, such as [5, 10]"
            raise ConfigError(f"{field}.rounds", list(self.rounds), problem, way)


class Crash(Settings):
    """Nodes that fail at the beginning of a round and come back some rounds later."""

    nodes: tuple[int, ...] = Field(min_length=1, description="who crashes")
    round: int = Field(ge=0, description="in which round, counted from 0")
    away: int | None = Field(
        1, ge=1, description="for how many rounds they are away; null = for good"
    )
    loses: int | None = Field(
        1,
        ge=0,
        description="of how many rounds the work is lost: they come back as after a checkpoint so "
        "old; 0 = as they were, null = as at the start",
    )

    @property
    def interval(self) -> tuple[int, int | None]:
        """[from, until) rounds in which they are away."""
        return self.round, None if self.away is None else self.round + self.away

    @property
    def rewind(self) -> Rewind | None:
        """What they come back as, where that is not what they were. What was counted stays."""
        if self.away is None or self.loses == 0:
            return None
        back = 0 if self.loses is None else self.round - self.loses
        return Rewind(self.nodes, back, self.round + self.away, counters=False)

    def check(self, field: str, clients: int) -> None:
        """Refuse nodes that cannot crash, and work that was never done.

        Raises:
            ConfigError: naming ``field``.
        """
        for node in self.nodes:
            if not 0 <= node < clients:
                fix = f"nodes are 0..{clients - 1}"
                raise ConfigError(f"{field}.nodes", node, "is no node that can crash", fix)
        if self.loses is not None and self.loses > self.round:
            problem = f"is more than the {self.round} rounds before the crash"
            raise ConfigError(f"{field}.loses", self.loses, problem, f"at most {self.round}")


class Pause(Settings):
    """A node that stands still in modelled time."""

    node: int = Field(ge=0, description="which")
    round: int = Field(ge=0, description="at the beginning of which round, counted from 0")
    seconds: float = Field(gt=0, description="for how long, in modelled time")


def paused(pauses: Sequence[Pause], ids: np.ndarray, round: int) -> np.ndarray:
    """For how long each of these nodes stands still at the beginning of a round, s [k]."""
    seconds = np.zeros(len(ids))
    for pause in pauses:
        if pause.round == round:
            seconds[ids == pause.node] += pause.seconds
    return seconds
