"""What happened when in an asynchronous run: recorded by node, and read to do it again.

Three things can happen to a node from outside its scripts: it wakes, it hears a message, and it
takes messages that a script waited for. Messages of one kind from one node to another keep their
order, so that the list of these for each node says all about the order of a run: who does the same
in the same order gets the same models.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from hansa.base.errors import RunError

WOKE, HEARD, TOOK, TOO = range(4)
"""What happened: a node woke, heard a message, took one, took one more at the same time."""
COLUMNS = ("round", "node", "sender", "what", "kind")


class Events:
    """What happened in a block since it was last asked, as rows of :data:`COLUMNS`."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, int, int, int]] = []

    def add(self, t: int, node: int, sender: int, what: int, kind: int) -> None:
        """Note one thing."""
        self._rows.append((t, node, sender, what, kind))

    def took(self, t: int, node: int, senders: list[int], kind: int) -> None:
        """Note that a node took messages of these, or that there were none."""
        for e, sender in enumerate(senders or [-1]):
            self.add(t, node, sender, TOO if e else TOOK, kind)

    def drain(self) -> np.ndarray:
        """int32 [k, 5], in the order of time; from now on they are forgotten."""
        rows, self._rows = self._rows, []
        return np.array(rows, dtype=np.int32).reshape(-1, len(COLUMNS))


@dataclass
class Happening:
    """One thing that is to happen to a node.

    Attributes:
        senders: of what it takes; of what it hears, one.
    """

    t: int
    what: int
    kind: int
    senders: list[int] = field(default_factory=list)


class Order:
    """A recorded order, by node.

    Args:
        rows: int [k, 5], :data:`COLUMNS`; those of one node in the order of time.
        nodes: how many there are in the run.
        start: the first round that is to happen; those before have.

    Raises:
        RunError: it does not fit this run.

    Attributes:
        last: the last round of which something is recorded.
    """

    def __init__(self, rows: np.ndarray, nodes: int, start: int = 0) -> None:
        self.todo: dict[int, deque[Happening]] = {}
        self.last = int(rows[:, 0].max(initial=-1))
        for t, node, sender, what, kind in rows.tolist():
            if t < start:
                continue
            mine = self.todo.setdefault(node, deque())
            if not (0 <= node < nodes and -1 <= sender < nodes and WOKE <= what <= TOO):
                raise RunError(f"the recorded order names node {node}, {sender} or thing {what}")
            if what == TOO:
                if not mine or mine[-1].what != TOOK:
                    raise RunError("the recorded order begins in the middle of what was taken")
                mine[-1].senders.append(sender)
            else:
                mine.append(Happening(t, what, kind, [sender] if sender >= 0 else []))

    def next(self, node: int) -> Happening | None:
        """What is to happen to a node next."""
        mine = self.todo.get(node)
        return mine[0] if mine else None

    def done(self, node: int) -> None:
        """It has happened."""
        self.todo[node].popleft()

    def left(self, t: int) -> list[int]:
        """Nodes to which something is still to happen in rounds up to t."""
        return [node for node, mine in self.todo.items() if mine and mine[0].t <= t]
