"""What a run that is replayed has recorded of faults that nobody had planned.

Who was silent when, and who came back with what: with these, and the faults that its run file asks
for, a simulation does what the recorded run did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from hansa.engine.exchange.wire import When
from hansa.report.fault_log import standing


class Rewind(NamedTuple):
    """Nodes that take part again as they were before.

    Attributes:
        nodes: their ids.
        back: they are what they were after so many rounds; 0: before the first.
        at: from which round on, counted from 0.
        counters: what was counted of them since is forgotten too.
    """

    nodes: tuple[int, ...]
    back: int
    at: int
    counters: bool = True


class Absence(NamedTuple):
    """Nodes of which nothing is recorded in rounds [start, end), counted from 0; None: for good.

    Attributes:
        saved: after how many rounds they were what later checkpoints say that they are; None: it is
            not known.
    """

    nodes: tuple[int, ...]
    start: int
    end: int | None
    saved: int | None


Exchanges: TypeAlias = "Mapping[tuple[int, str, int], np.ndarray]"
"""(round from 0, kind, number of the exchange) -> int64 [messages, 2], (sender, receiver)."""


@dataclass(frozen=True)
class Recorded:
    """What happened in a run and has to happen again.

    Attributes:
        silent: the messages that did not come since their sender's site was not heard in time.
        rewinds: who came back, in the order of time.
        absences: of whom there is no record, and when.
        ends: what the last checkpoint says of those who never came back.
    """

    silent: Exchanges = field(default_factory=dict)
    rewinds: tuple[Rewind, ...] = ()
    absences: tuple[Absence, ...] = ()
    ends: tuple[Rewind, ...] = ()

    def unheard(
        self, when: When, kind: str, senders: np.ndarray, receivers: np.ndarray
    ) -> np.ndarray:
        """Which messages of an exchange did not come, bool [pairs].

        Args:
            senders, receivers: node ids, int64 [pairs].
        """
        gone = self.silent.get((when.round, kind, when.number))
        if gone is None:
            return np.zeros(len(senders), dtype=bool)
        width = int(max(gone.max(), senders.max(initial=0), receivers.max(initial=0))) + 1
        pairs = np.asarray(senders) * width + receivers
        return np.isin(pairs, gone[:, 0] * width + gone[:, 1])

    def away(self, nodes: int, round: int) -> np.ndarray:
        """bool [nodes]: of whom nothing is recorded in a round counted from 0."""
        gone = np.zeros(nodes, dtype=bool)
        for one in self.absences:
            if one.start <= round and (one.end is None or round < one.end):
                gone[list(one.nodes)] = True
        return gone

    def until(self, done: int) -> Recorded:
        """The same of a run of which so many rounds are recorded."""
        ends = [
            Rewind(one.nodes, one.saved, done)
            for one in self.absences
            if one.saved is not None and one.start < done and (one.end is None or one.end >= done)
        ]
        return replace(self, ends=tuple(ends))

    @classmethod
    def of(cls, events: Sequence[Mapping[str, Any]]) -> Recorded:
        """From the events of a run, in the order in which they were written.

        Raises:
            KeyError, TypeError, ValueError: an event lacks what such an event says.
        """
        silent: dict[tuple[int, str, int], list[np.ndarray]] = {}
        rewinds: list[Rewind] = []
        lost: list[Absence] = []
        for event in standing(events):
            kind = event["kind"]
            if kind == "missing" and event["cause"] == "silent":
                pairs = np.array([event["senders"], event["receivers"]], dtype=np.int64).T
                key = int(event["round"]) - 1, str(event["of"]), int(event["exchange"])
                silent.setdefault(key, []).append(pairs)
            elif kind == "lost":
                nodes = tuple(map(int, event["nodes"]))
                lost.append(Absence(nodes, int(event["round"]) - 1, None, event.get("saved")))
            elif kind == "rejoined":
                back = tuple(map(int, event["nodes"]))
                at = int(event["at"]) - 1
                rewinds.append(Rewind(back, int(event["from"]), at))
                lost = [part for one in lost for part in _ended(one, set(back), at)]
        rewinds.sort(key=lambda one: one.at)
        together = {key: np.concatenate(parts) for key, parts in silent.items()}
        silences = {key: pairs for key, pairs in together.items() if len(pairs)}
        return cls(silences, tuple(rewinds), tuple(lost))


def _ended(absence: Absence, back: set[int], at: int) -> list[Absence]:
    """An absence as it is once some of its nodes are ``back`` at a round."""
    if absence.end is not None or not back & set(absence.nodes):
        return [absence]
    here = tuple(node for node in absence.nodes if node in back)
    others = tuple(node for node in absence.nodes if node not in back)
    rest = [absence._replace(nodes=others)] if others else []
    return [*rest, absence._replace(nodes=here, end=at)]
