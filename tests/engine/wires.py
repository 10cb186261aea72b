"""Links in memory: what sites send is there at once, or when a test says so; nothing is lost."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hansa.engine.exchange.post import SitePost
from hansa.engine.exchange.wire import Buffer
from hansa.engine.links.assembly import DATA


@dataclass
class State:
    """What one site knows of another."""

    heard: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)


class Wires:
    """The links of all sites of a run.

    Attributes:
        held: messages between two sites wait until :meth:`deliver`.
        log: (from, to, bytes of the payload) of every message between nodes.
    """

    def __init__(self, posts: Sequence[SitePost], credit: int = 1 << 40) -> None:
        self.posts, self.credit = list(posts), credit
        self.held = False
        self.lock = threading.RLock()
        self.log: list[tuple[int, int, int]] = []
        self.ends = [Wire(self, site) for site in range(len(posts))]
        for post, end in zip(posts, self.ends, strict=True):
            post.connect(end)

    def deliver(
        self, choose: Callable[[list[tuple[int, int]]], tuple[int, int]] | None = None
    ) -> bool:
        """Let one waiting message through, of the pair that is chosen; whether there was one."""
        pairs = [
            (end.site, to)
            for end in self.ends
            for to, queue in end.waiting.items()
            if queue and end.credit[to] > 0
        ]
        if not pairs:
            return False
        sender, to = pairs[0] if choose is None else choose(pairs)
        self.ends[sender].through(to)
        return True


class Wire:
    """One site's end of its links."""

    def __init__(self, wires: Wires, site: int) -> None:
        self.wires, self.site = wires, site
        self.waiting: dict[int, deque[Sequence[Buffer]]] = defaultdict(deque)
        self.credit: dict[int, int] = defaultdict(lambda: wires.credit)
        self.states: dict[int, State] = defaultdict(State)

    def send(self, site: int, kind: int, parts: Sequence[Buffer]) -> None:
        assert kind == DATA
        self.wires.log.append((self.site, site, len(parts[1])))
        self.waiting[site].append([bytes(part) for part in parts])
        if not self.wires.held:
            self.push(site)

    def push(self, site: int) -> None:
        """Let through what there is credit for."""
        with self.wires.lock:
            while self.waiting[site] and self.credit[site] > 0:
                self.through(site)

    def through(self, site: int) -> None:
        """Let one message through."""
        parts = self.waiting[site].popleft()
        self.credit[site] -= sum(map(len, parts))
        other = self.wires.posts[site]
        self.wires.ends[site].states[self.site].heard += 1
        other.arrived(self.site, parts)

    def queued(self, site: int) -> int:
        with self.wires.lock:
            return sum(len(part) for parts in self.waiting[site] for part in parts)

    def grant(self, site: int, nbytes: int) -> None:
        with self.wires.lock:
            self.wires.ends[site].credit[self.site] += nbytes
        if not self.wires.held:
            self.wires.ends[site].push(self.site)

    def state(self, site: int) -> State:
        return self.states[site]

    def tell(self, **facts: Any) -> None:
        for end in self.wires.ends:
            if end.site != self.site:
                end.states[self.site].facts.update(facts)
                end.states[self.site].heard += 1
                self.wires.posts[end.site].wake()

    def forget(self, site: int) -> None:
        self.waiting[site].clear()
