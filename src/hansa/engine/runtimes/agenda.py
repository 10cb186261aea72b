"""The order of things in an asynchronous run: whose script goes on when, and with what.

A script that yields is either gone on with at once, or parked until what it waits for is so. In
``simulate`` wake-ups and messages happen one at a time by modelled time. In a worker its own nodes
wake by their modelled time, and what others send is heard between two steps. Rounds end where
reports, measuring and checkpoints want them: every wake-up of the round has come to its end, and
where the block is saved nothing is on its way (see :mod:`hansa.engine.runtimes.live`).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from hansa.base.errors import OwnCodeError, RunError
from hansa.base.modules import import_path
from hansa.engine.asynchronous import Asynchronous, acting
from hansa.engine.block import TRAIN_LOSS, Block
from hansa.engine.exchange.exchange import MESSAGE_BYTES
from hansa.engine.exchange.letter import Letter
from hansa.engine.exchange.taking import Put, Take, Taken, Until
from hansa.engine.job import Job
from hansa.engine.node_view import NodeViews
from hansa.engine.runtimes.arrivals import HEARD, WOKE, Events
from hansa.engine.runtimes.mailing import Mailing
from hansa.engine.runtimes.running import Running

Guard = Callable[..., Any]
_SOON, _POLL = 2, 200  # ms to wait for a message: while something is computed here, and otherwise


class Agenda:
    """Interleaves the scripts of a block's nodes.

    Args:
        mailing: moves and counts messages.
        guard: runs a piece of work and names its errors: (phase, round, work[, codec]).
        watch: is told of a round in which a loss may be too high.

    Attributes:
        now: the modelled time of what happens, as far as this block has come.
    """

    def __init__(
        self, job: Job, block: Block, mailing: Mailing, guard: Guard, watch: Callable[[int], None]
    ) -> None:
        self.job, self.block, self.mailing = job, block, mailing
        self.guard, self.watch = guard, watch
        self.events = Events()
        self.now, self.t, self.unfinished = -np.inf, 0, 0
        self.algorithm = Asynchronous()  # see play
        self.views = NodeViews(block)
        self.mail: dict[int, list[Letter]] = {}
        self._parked: dict[int, list[Running]] = {}
        self._coming: list[tuple[float, int, int, int, Letter | None]] = []
        self._next: dict[int, tuple[float, int, int, float]] = {}
        self._wakes: list[tuple[float, int, int, float]] = []
        self._losses: dict[int, list[float]] = {}
        self._serial = 0
        self._time = block.state["modelled_time"].numpy()
        saved, block.mail = block.mail, []
        for letter in sorted(saved, key=lambda letter: letter.arrival):
            self._file(letter)

    # -- a round

    def begin(self, algorithm: Asynchronous, t: int) -> None:
        """What nodes say first in a round."""
        self.algorithm, self.t = algorithm, t
        self._losses = {}
        self.views.refresh()
        for k, put in algorithm.opening(self.block, t):
            self.put([(self.views[k], put)], t)
        self.views.refresh()
        self._time = self.block.state["modelled_time"].numpy()

    def play(self, algorithm: Asynchronous, t: int) -> None:
        """A round by modelled time: all nodes are here.

        Raises:
            RunError: scripts wait for what nobody will ever send.
        """
        self.begin(algorithm, t)
        left = self.enter(t)
        while left or self.unfinished:
            if self.arrives_next(left):
                self.arrive()
            elif left and self._wakes:
                left -= self.wake_next(t)
            elif not self.finish_parked():
                self._refuse_waiting(t)
        self.end()

    def enter(self, t: int) -> int:
        """Take down who wakes in a round; returns how many wake-ups it has."""
        present = acting(self.block, t).tolist()
        busy = {run.k for runs in self._parked.values() for run in runs if run.wakes}
        self._wakes = [self._entry(k, t) for k in present if k not in busy]
        heapq.heapify(self._wakes)
        return len(present)

    def wake_next(self, t: int) -> int:
        """Have the node that is due first wake; returns 1, or 0 where its time has moved."""
        time, _, k, stamp = heapq.heappop(self._wakes)
        if self._time.item(k) != stamp:
            heapq.heappush(self._wakes, self._entry(k, t))
            return 0
        self.now = max(self.now, time)
        self.wake(k, t)
        return 1

    @property
    def pending(self) -> bool:
        """Whether a node is due to wake that is not at it already."""
        return bool(self._wakes)

    def arrives_next(self, left: int) -> bool:
        """Whether a message arrives before the next of ``left`` wake-ups."""
        if not self._coming:
            return False
        return not (left and self._wakes and self._wakes[0][0] < self._coming[0][0])

    def end(self) -> None:
        """End a round in which nothing is left to do."""
        self.finish_parked()
        self.report()

    def settle(self, t: int, still: bool) -> None:
        """End a round for all; ``still``: nothing may be on its way, which here it never is."""

    def report(self) -> None:
        """Report the nodes' mean losses of a round."""
        if self._losses:
            self.block.report.pop(TRAIN_LOSS, None)
            means = [float(np.mean(losses)) for losses in self._losses.values()]
            self.block.note(TRAIN_LOSS, list(self._losses), means)

    def _entry(self, k: int, t: int) -> tuple[float, int, int, float]:
        """When a node wakes next, with the time of its that this was said at."""
        at = self._time.item(k)
        known = self._next.get(k)
        if known is None or known[3] != at:
            time, tie = self.algorithm.due(self.views[k], t)
            known = self._next[k] = (time, tie, k, at)
        return known

    def parked(self, k: int) -> list[Running]:
        """The scripts of a node that wait for something."""
        return self._parked.get(k, [])

    def waiting(self) -> tuple[list[int], str]:
        """(ids of the nodes that wait for messages, a sentence of them and of what they lack)."""
        runs = [run for runs in self._parked.values() for run in runs]
        runs = [run for run in runs if isinstance(run.waiting, Take)]
        who = sorted({int(self.block.ids[run.k]) for run in runs})
        kinds = sorted({run.waiting.kind for run in runs if isinstance(run.waiting, Take)})
        nodes = ", ".join(map(str, who[:8])) + " ..." * (len(who) > 8)
        return who, f"node(s) {nodes} wait for messages of kind {', '.join(kinds)}"

    def _refuse_waiting(self, t: int) -> None:
        who, waiting = self.waiting()
        raise RunError(
            f"{waiting} that nobody will send",
            node=who[0],
            round=t + 1,
            phase="exchange",
            repeats=True,
        )

    # -- scripts

    def wake(self, k: int, t: int) -> None:
        """A node's wake-up, as far as it goes."""
        self.events.add(t, self.block.ids.item(k), self.block.ids.item(k), WOKE, 0)
        self._next.pop(k, None)
        self.unfinished += 1
        node = self.views[k]
        self._go(Running(k, node, self.algorithm.wake(node, t), t, True))

    def hear(self, letters: Iterable[tuple[int, Letter]]) -> None:
        """Have nodes hear letters that came in one moment: (position, letter)."""
        begun = []
        for k, letter in letters:
            self.finish_parked(k)
            self.events.add(self.t, letter.receiver, letter.sender, HEARD, self._kind(letter.kind))
            node = self.views[k]
            script = self.algorithm.hear(node, self.t, letter)
            begun.append(Running(k, node, script, self.t, False))
        if len(begun) == 1:
            self._go(begun[0])
            return
        # What several answer in one moment leaves together: attackers may know of each other.
        asked = [self._advance(run, None) for run in begun]
        together = [
            (run.node, put)
            for run, (put, ended) in zip(begun, asked, strict=True)
            if not ended and isinstance(put, Put) and put.rows is not None and put.after is None
        ]
        if len(together) == len(begun):
            self.put(together, self.t)
            asked = [self._advance(run, None) for run in begun]
        for run, first in zip(begun, asked, strict=True):
            self._go(run, first=first)

    def _go(self, run: Running, value: Any = None, first: tuple[Any, bool] | None = None) -> None:
        """Take a script on until it is parked or over."""
        while True:
            asked, ended = first or self._advance(run, value)
            first, value = None, None
            if ended:
                self._over(run)
                return
            if isinstance(asked, Put):
                if asked.after is not None and self.mailing.live and not asked.after():
                    self._park(run, asked)
                    return
                self.put([(run.node, asked)], run.t)
            elif isinstance(asked, Take):
                letters = self._match(run.k, asked)
                if letters is None:
                    self._park(run, asked)
                    return
                value = self._take(run, asked, letters)
            elif isinstance(asked, Until):
                self._park(run, asked)
                return
            else:
                raise self._not_asked(asked)

    def _advance(self, run: Running, value: Any) -> tuple[Any, bool]:
        """(what a script asks for next, False), or (None, True) at its end."""
        node, samples = run.node, run.node.state["samples"]
        worked = samples.item()
        asked, ended = self.guard("training", run.t, partial(run.go_on, value))
        done = samples.item() - worked
        if done:
            effort = np.array([done]) if node.effort is None else np.array([done]) * node.effort
            self.job.clock.compute(node, effort)
        if node.report:
            self._report(run)
        return asked, ended

    def _report(self, run: Running) -> None:
        """Take over what a node reported."""
        block, k = self.block, run.k
        for name, values in run.node.report.items():
            value = np.asarray(values).item(0)
            if name == TRAIN_LOSS:
                self._losses.setdefault(k, []).append(value)
                if value > self.job.train.diverged_above * self.job.dataset.spec.unit**2:
                    block.report.pop(TRAIN_LOSS, None)
                    block.note(TRAIN_LOSS, k, value)
                    self.watch(run.t)
                continue
            before = block.report[name][k] if name in block.report else math.nan
            if name != MESSAGE_BYTES or math.isnan(before) or value > before:  # the largest
                block.note(name, k, value)
        run.node.report.clear()

    def _over(self, run: Running) -> None:
        if run.wakes:
            self.unfinished -= 1
            heapq.heappush(self._wakes, self._entry(run.k, run.t))

    def _park(self, run: Running, asked: Take | Until | Put) -> None:
        run.waiting = asked
        self._parked.setdefault(run.k, []).append(run)
        if isinstance(asked, Take) and asked.until is not None:
            self._later(asked.until, -1, run.k, None)

    def _unpark(self, run: Running) -> None:
        run.waiting = None
        self._parked[run.k].remove(run)
        if not self._parked[run.k]:
            del self._parked[run.k]

    def finish_parked(self, k: int | None = None) -> bool:
        """Take on scripts that let others go on meanwhile: the results are needed now.

        Args:
            k: of this node only.
        """
        moved = False
        while True:
            nodes = list(self._parked) if k is None else [k]
            runs = [r for node in nodes for r in self._parked.get(node, []) if r.computes]
            if not runs:
                return moved
            moved = True
            for run in runs:
                self._proceed(run)

    def poll_parked(self) -> bool:
        """Take on those whose results are there."""
        ready = [r for runs in list(self._parked.values()) for r in runs if r.ready]
        for run in ready:
            self._proceed(run)
        return bool(ready)

    @property
    def patience(self) -> int:
        """For how many ms there is nothing else to do than to wait for a message."""
        computing = any(r.computes for runs in self._parked.values() for r in runs)
        return _SOON if computing else _POLL

    def _proceed(self, run: Running) -> None:
        asked = run.waiting
        if not run.computes:
            return  # what came meanwhile has taken it on
        self._unpark(run)
        if isinstance(asked, Put):
            self.put([(run.node, asked)], run.t)
        self._go(run)

    # -- messages

    def put(self, group: list[tuple[Block, Put]], t: int) -> None:
        """Send what nodes put in one moment."""
        for _, put in group:
            self._kind(put.kind)
        work = partial(self.mailing.send, group, t)
        for (node, put), letters in zip(
            group, self.guard("exchange", t, work, group[0][1].codec), strict=True
        ):
            if node.report:
                k = self.mailing.place.item(node.ids.item(0))
                self._report(Running(k, node, None, t, False))
            self.came(letters, put.at_once)

    def came(self, letters: list[Letter], at_once: bool) -> None:
        """Letters for nodes of this block, of one :class:`Put`."""
        heard = []
        for letter in letters:
            k = self.mailing.place.item(letter.receiver)
            if not at_once and not self.mailing.live:
                self._later(letter.arrival, letter.sender, k, letter)
                continue
            self.mail.setdefault(k, []).append(letter)
            if letter.kind in self.algorithm.hears:
                heard.append((k, letter))
            else:
                self._resume(k)
        if heard:
            self.hear(heard)

    def _later(self, time: float, sender: int, k: int, letter: Letter | None) -> None:
        self._serial += 1
        heapq.heappush(self._coming, (time, sender, self._serial, k, letter))

    def arrive(self) -> None:
        """The next that is on its way in modelled time arrives."""
        time, _, _, k, letter = heapq.heappop(self._coming)
        self.now = max(self.now, time)
        if letter is not None:
            self.came([letter], True)
        else:
            self._resume(k)

    def _resume(self, k: int, once: bool = False) -> bool:
        """Take on a node's scripts, or ``once`` the first, that have what they wait for.

        Returns:
            Whether there was one.
        """
        went = False
        for run in list(self._parked.get(k, [])):
            if isinstance(run.waiting, Take) and not (once and went):
                asked = run.waiting
                letters = self._match(k, asked)
                if letters is not None:
                    self._unpark(run)
                    self._go(run, self._take(run, asked, letters))
                    went = True
        return went

    def _match(self, k: int, take: Take) -> list[Letter] | None:
        """What a node may take now; None: it has to wait."""
        while not self.mailing.live and self._coming and self._coming[0][0] <= self.now:
            if self._coming[0][3] != k or self._coming[0][4] is None:
                break
            self.mail.setdefault(k, []).append(heapq.heappop(self._coming)[4])  # type: ignore[arg-type]
        fit = [letter for letter in self.mail.get(k, []) if letter.kind == take.kind]
        if not self.mailing.live:
            fit.sort(key=lambda letter: (letter.arrival, letter.sender))
        if take.senders is not None:
            first: dict[int, Letter] = {}
            for letter in fit:
                first.setdefault(letter.sender, letter)
            wanted = sorted(take.senders.tolist())
            return [first[s] for s in wanted] if first.keys() >= set(wanted) else None
        if take.count is not None:
            return fit[: take.count] if len(fit) >= take.count else None
        return None if take.until is not None and self.now < take.until else fit

    def _take(self, run: Running, take: Take, letters: list[Letter]) -> Taken:
        mail = self.mail.get(run.k, [])
        gone = {id(letter) for letter in letters}
        self.mail[run.k] = [letter for letter in mail if id(letter) not in gone]
        kind, own = self._kind(take.kind), self.block.ids.item(run.k)
        self.events.took(run.t, own, [letter.sender for letter in letters], kind)
        if take.until is not None:  # it has waited, whatever has come
            run.node.state["modelled_time"].clamp_(min=take.until)
        work = partial(self.mailing.open, run.node, letters, take)
        taken: Taken = self.guard("exchange", run.t, work, take.codec)
        return taken

    def _file(self, letter: Letter) -> None:
        """Put back a letter that a checkpoint has kept."""
        k = self.mailing.place.item(letter.receiver)
        if self.mailing.live:
            self.mail.setdefault(k, []).append(letter)
        else:
            self._later(letter.arrival, letter.sender, k, letter)

    def letters(self) -> list[Letter]:
        """What was sent to nodes of this block and not taken yet."""
        waiting = [letter for mail in self.mail.values() for letter in mail]
        return waiting + [entry[4] for entry in sorted(self._coming) if entry[4] is not None]

    def _kind(self, name: str) -> int:
        kinds = self.algorithm.kinds
        if name not in kinds:
            path = import_path(type(self.algorithm))
            raise OwnCodeError("algorithm", path, f"no kind {name!r} is declared", f"{kinds}")
        return kinds.index(name)

    def _not_asked(self, asked: Any) -> OwnCodeError:
        return OwnCodeError(
            "algorithm",
            import_path(type(self.algorithm)),
            f"a script of its yields a {type(asked).__name__}",
            "a Put, a Take or an Until",
        )
