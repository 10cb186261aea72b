"""What went wrong in a run, as its events and its settings say it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

MESSAGES = ("lost", "resent", "silent")
"""What became of messages: a fault of the run file took them for good; took them, and they went
again; their sender's site was not heard in time."""


class Span(NamedTuple):
    """A node that took no part for some rounds.

    Attributes:
        first: the first of them, from 1.
        until: the first in which it took part again; None: it never did.
        why: ``absent`` or ``crashed`` as the run file asks for; ``lost``: its site was gone.
    """

    node: int
    first: int
    until: int | None
    why: str


@dataclass(frozen=True)
class FaultLog:
    """What went wrong in a run.

    Attributes:
        messages: how many by (round from 1, one of :data:`MESSAGES`).
        spans: who took no part when, by node and round.
        rejoined: (round, node) of those whose site came back.
        parted: [first, until) rounds, from 1, in which the network had fallen apart.
    """

    messages: Mapping[tuple[int, str], int]
    spans: tuple[Span, ...]
    rejoined: tuple[tuple[int, int], ...]
    parted: tuple[tuple[int, int | None], ...]

    def __bool__(self) -> bool:
        return bool(self.messages or self.spans or self.rejoined or self.parted)

    @property
    def counts(self) -> dict[str, int]:
        """How many messages, nodes that were lost and nodes that came back, by what happened."""
        totals = dict.fromkeys(MESSAGES, 0)
        for (_, kind), count in self.messages.items():
            totals[kind] += count
        lost = sum(span.why == "lost" for span in self.spans)
        return totals | {"nodes_lost": lost, "rejoined": len(self.rejoined)}

    @classmethod
    def of(cls, events: Iterable[Mapping[str, Any]], config: Mapping[str, Any]) -> FaultLog:
        """From a run's events and its settings; what they say otherwise than usual is left out."""
        messages: Counter[tuple[int, str]] = Counter()
        gone: dict[int, tuple[int, str]] = {}
        spans, rejoined = _planned(config), []
        for event in standing(events):
            kind = event.get("kind")
            if kind == "missing":
                messages[int(event.get("round", 0)), _outcome(event)] += len(event["senders"])
            elif kind == "lost":
                gone |= {int(node): (int(event["round"]), "lost") for node in event["nodes"]}
            elif kind == "rejoined":
                at = int(event["at"])
                rejoined += [(at, int(node)) for node in event["nodes"]]
                for node in map(int, event["nodes"]):
                    if node in gone:
                        first, why = gone.pop(node)
                        spans.append(Span(node, first, at, why))
        spans += [Span(node, first, None, why) for node, (first, why) in gone.items()]
        parted = [
            (int(one["rounds"][0]) + 1, _later(one["rounds"][1]))
            for one in (config.get("faults") or {}).get("partition") or ()
        ]
        return cls(dict(messages), tuple(sorted(spans, key=str)), tuple(rejoined), tuple(parted))


def standing(events: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Events but for those of rounds that were taken back, to go on from a checkpoint."""
    kept: list[Mapping[str, Any]] = []
    for event in events:
        if event.get("kind") == "truncated":
            last = int(event["after_round"])
            kept = [one for one in kept if int(one.get("round", one.get("at", 0))) <= last]
        kept.append(event)
    return kept


def _outcome(event: Mapping[str, Any]) -> str:
    if event.get("cause") == "silent":
        return "silent"
    return "resent" if event.get("outcome") == "wait" else "lost"


def _planned(config: Mapping[str, Any]) -> list[Span]:
    """Absences and crashes that the run file asks for."""
    faults = config.get("faults") or {}
    spans = [
        Span(int(node), int(begins) + 1, _later(until), "absent")
        for node, intervals in (faults.get("absent") or {}).items()
        for begins, until in intervals
    ]
    for crash in faults.get("crash") or ():
        first = int(crash["round"]) + 1
        until = None if crash["away"] is None else first + int(crash["away"])
        spans += [Span(int(node), first, until, "crashed") for node in crash["nodes"]]
    return spans


def _later(until: Any) -> int | None:
    return None if until is None else int(until) + 1
