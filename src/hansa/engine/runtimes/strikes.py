"""Faults that strike a live site at a moment of a round: what a test of real failures needs.

Unlike the run file's ``faults`` these are no part of a run's meaning: a process is really killed or
stopped, bytes on its links are really damaged. Nobody is told; the others find out as they would.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from hansa.engine.links.conditions import Course
from hansa.engine.links.link_filter import Filter, Passage

Moment = Literal["training", "sending", "receiving", "checkpointing"]
MOMENTS: tuple[Moment, ...] = ("training", "sending", "receiving", "checkpointing")
What = Literal["crash", "pause", "slow", "drop", "delay", "duplicate", "corrupt", "partition"]


@dataclass(frozen=True)
class Strike:
    """A fault of one site, once.

    Attributes:
        site: whom it strikes.
        round: from 0.
        moment: of the round; ``training``: as local work begins; ``sending``: as its first message
            goes out; ``receiving``: as it waits for messages; ``checkpointing``: as its part of a
            checkpoint is written and nobody has been told.
        what: ``crash``: killed by SIGKILL; ``pause``: all its threads stand still for ``seconds``;
            ``slow``: its work does, its links go on; ``drop``: its connections are reset;
            ``delay``: what it sends is held for ``seconds``; ``duplicate``, ``corrupt``: the next
            ``frames`` that it sends; ``partition``: it is cut off for ``seconds``.
        incarnation: how often the site had been started before.
    """

    site: int
    round: int
    moment: Moment
    what: What
    seconds: float = 1.0
    frames: int = 3
    incarnation: int = 0


class Severed(Protocol):
    """Links whose connections can be reset."""

    def cut(self, site: int) -> None:
        """Reset the connection to a peer."""


class Strikes:
    """The faults of a site, and the state of its links that they bring about.

    Args:
        strikes: of all sites.
        site: this one.
        incarnation: how often it was started before.

    Attributes:
        links: this site's, once there are some; without them no connection is reset.
        peers: those that links lead to.
    """

    def __init__(self, strikes: Sequence[Strike], site: int, incarnation: int = 0) -> None:
        self._due = [s for s in strikes if (s.site, s.incarnation) == (site, incarnation)]
        self._storm = _Storm()
        self.links: Severed | None = None
        self.peers: set[int] = set()

    def over(
        self, toward: Callable[[int], Filter | None] | None
    ) -> Callable[[int], Filter | None] | None:
        """Filters of links that these faults strike too; the same if there are no faults."""
        if not self._due:
            return toward

        def struck(peer: int) -> Filter | None:
            self.peers.add(peer)
            plain = toward(peer) if toward is not None else None
            return _Struck(plain if plain is not None else Filter(Course()), self._storm)

        return struck

    def at(self, moment: str, round: int) -> None:
        """Let happen what is due; a crash does not return.

        Args:
            round: from 0.
        """
        for strike in [s for s in self._due if (s.moment, s.round) == (moment, round)]:
            self._due.remove(strike)
            self._hit(strike)

    def _hit(self, strike: Strike) -> None:
        if strike.what == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        elif strike.what == "pause":
            stand_still(strike.seconds)
        elif strike.what == "slow":
            time.sleep(strike.seconds)
        elif strike.what != "drop":
            self._storm.coming.append(strike)
        if strike.what in ("drop", "partition") and self.links is not None:
            for peer in sorted(self.peers):
                self.links.cut(peer)


def stand_still(seconds: float) -> None:
    """Stop this process, all its threads, for so long (SIGSTOP)."""
    own = os.getpid()
    wake = f"sleep {seconds:.3f}; kill -CONT {own}"
    with subprocess.Popen(["/bin/sh", "-c", wake], start_new_session=True):
        os.kill(own, signal.SIGSTOP)


class _Storm:
    """What strikes all links of a site; filled by its work, read by the thread of its links.

    Strikes count their seconds from the next frame on, so that no clock has to be agreed on.
    """

    def __init__(self) -> None:
        self.coming: deque[Strike] = deque()
        self.held = 0.0  # until when nothing comes out, s
        self.severed = 0.0  # until when it is cut off, s
        self.frames: dict[str, int] = {"duplicate": 0, "corrupt": 0}

    def begin(self, now: float) -> None:
        """Begin what has come since."""
        while self.coming:
            strike = self.coming.popleft()
            if strike.what in self.frames:
                self.frames[strike.what] += strike.frames
                continue
            self.held = max(self.held, now + strike.seconds)
            if strike.what == "partition":
                self.severed = max(self.severed, now + strike.seconds)

    def takes(self, what: str) -> bool:
        """Whether the next frame is one of those that are to be struck so."""
        if not self.frames[what]:
            return False
        self.frames[what] -= 1
        return True


class _Struck(Filter):
    """A link of a site that faults strike."""

    def __init__(self, plain: Filter, storm: _Storm) -> None:
        super().__init__(plain.course, plain.key)
        self._storm = storm

    def offer(self, now: float, nbytes: int) -> list[Passage]:
        self._storm.begin(now)
        out = [Passage(max(at, self._storm.held), what) for at, what in super().offer(now, nbytes)]
        if self._storm.takes("corrupt"):
            return [Passage(out[0].at, "corrupt")]
        if self._storm.takes("duplicate"):
            out.append(Passage(out[-1].at, "duplicate"))
        return out

    def down(self, now: float) -> float | None:
        self._storm.begin(now)
        over = max(super().down(now) or 0.0, self._storm.severed - now)
        return over if over > 0 else None
