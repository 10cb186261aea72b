"""The loop of one block through the rounds: the same in every runtime."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base import few, many
from hansa.base.errors import Diverged, HansaError, OwnCodeError, RunError
from hansa.base.lazy import torch
from hansa.base.memory import give_back
from hansa.base.modules import import_path
from hansa.base.own_code import in_own_code
from hansa.base.telling import doing
from hansa.base.threads import one_thread
from hansa.engine.accounts import ReleaseAccounts
from hansa.engine.asynchronous import Wakes
from hansa.engine.block import COUNTERS, MODELLED, TRAIN_LOSS, Block
from hansa.engine.exchange import losses
from hansa.engine.exchange.asked import Asked, Exchange
from hansa.engine.exchange.backhaul import BACKHAUL
from hansa.engine.exchange.carrier import no_moment
from hansa.engine.exchange.exchange import Send
from hansa.engine.exchange.mishaps import paused
from hansa.engine.exchange.noising import noised
from hansa.engine.exchange.recorded import Rewind
from hansa.engine.job import Job
from hansa.engine.outcome import Outcome
from hansa.engine.runtimes import early_end
from hansa.engine.runtimes.absence import Away, Returns
from hansa.engine.runtimes.agenda import Agenda
from hansa.engine.runtimes.arrivals import Order
from hansa.engine.runtimes.measuring import Models, handed_out, measure
from hansa.engine.runtimes.pacing import agenda_of
from hansa.engine.time.battery import BATTERY_LEFT
from hansa.models.layout import Entry

if TYPE_CHECKING:
    from torch import Tensor

    from hansa.codec import Codec

_ROUNDING = 1e-4
_OUTSIDE = ("exchange", "checkpoint")
"""Phases whose errors may be a peer's, a network's or a disk's, and so need not come again."""

Report = dict[str, Any]
"""What a block says of a round: plain data and arrays, fit for a control message."""


class Host:
    """Takes a block of nodes through the rounds of a job.

    Args:
        report: is given each round's :data:`Report`.
        save: is asked to save the block after the given number of rounds.
        ends: whether the run was asked to end after the given number of rounds.
        order: what an asynchronous run does when, if it shall do as another did.
        moment: is told when ``training`` begins, in which round.
    """

    def __init__(
        self,
        job: Job,
        block: Block,
        exchange: Exchange,
        report: Callable[[Report], None],
        save: Callable[[Block, int], None],
        ends: Callable[[int], bool] = lambda done: False,
        order: Order | None = None,
        moment: Callable[[str, int], None] = no_moment,
    ) -> None:
        self.moment = moment
        self.job, self.block, self.exchange = job, block, exchange
        self.report, self.save, self.ends, self.order = report, save, ends, order
        self.agenda: Agenda | None = None
        self._ending = False
        recorded = exchange.recorded
        rewinds = [] if job.faults is None else [*job.faults.rewinds]
        gone: tuple[Rewind, ...] = ()
        if recorded is not None:
            rewinds, gone = [*rewinds, *recorded.rewinds], recorded.ends
        self.returns = Returns(rewinds, gone)

    def begin(self) -> None:
        """Measure the models that the run starts from, if that is asked for, as its round 0.

        Raises:
            RunError: they cannot be measured.
        """
        if self.job.evaluates(0):
            t = -1
            models, _ = self._models(t, 0)
            measured = self._guard("evaluation", t, partial(self._measure, models))
            self.report(self._said(t, 0.0, measured, False))

    def run(self, start: int = 0) -> bool:
        """Rounds ``start`` to the last, or until the algorithm is finished.

        Returns:
            Whether it came to its end; no: it was asked to end before, and saved the last round.

        Raises:
            RunError: with the round and the phase in which it happened.
        """
        try:
            with one_thread(small=False):
                self.job.algorithm.ready(self.block)
                self.returns.keep(self.block, start)
                for t in range(start, self.job.rounds):
                    report = self._round(t)
                    last = self.block.outcome is not None
                    try:
                        self.report(report)
                    except KeyboardInterrupt:  # raised by who watches the rounds: this one is whole
                        if self.job.checkpoint.every:
                            self._save(t)
                        raise
                    ends = self._ending
                    if self.agenda is None:
                        ends = not last and self.ends(t + 1)
                    if last or ends:
                        self.returns.end(self.block, t + 1)
                    if ends or self.job.saves(t + 1, last):
                        self._save(t)
                    if ends:
                        return False
                    if last:
                        break
            return True
        finally:
            self.block.trainer.close()

    def _save(self, t: int) -> None:
        self._guard("checkpoint", t, partial(self.save, self.block, t + 1))

    def _round(self, t: int) -> Report:
        job, block = self.job, self.block
        began = time.perf_counter()
        self.moment("training", t)
        block.report, block.log, block.events = {}, {}, []
        if len(block) >= many.MANY:
            give_back()  # else the heap keeps what a round of so many nodes has freed
        self.returns.begin(block, t)
        if job.faults is not None and job.faults.pause and job.clock.modelled:
            stands = paused(job.faults.pause, block.ids, t)
            block.state["modelled_time"] += torch.from_numpy(stands)
        if job.attackers is not None and t == 0:
            block.events.append(job.attackers.event(block))
        block.awake = block.presence.charged(block)
        before = many.copied(block.state["samples"].numpy())
        variances = [(e, _of(block.rows, e).clone()) for e in block.trainer.layout.variances]
        away = Away(block, t)
        early = job.evaluates(t + 1) and job.evaluate.when == "after_training"
        early &= not job.algorithm.own_pace  # there is no such moment
        block.outcome = None
        reason, phase, measured = self._play(job.algorithm.round(block, t), t, 0, early)
        self._check_reason(reason)
        if job.accounts is not None and reason is None and t + 1 < job.rounds:
            reason, phase = self._spent(t, phase)
        if job.until is not None and reason is None and t + 1 < job.rounds:
            asked = time.perf_counter()
            reason, phase, measured = self._until(t, phase, measured)
            began += time.perf_counter() - asked  # measuring is no part of a round
        last = reason is not None or t + 1 == job.rounds
        again = last and measured is not None and not early
        if last:
            end, phase, _ = self._play(job.algorithm.finish(block, t), t, phase, False)
            block.outcome = replace(end or Outcome(), reason=reason or "")
            measured = None if again else measured  # what the run has come to may be another model
        away.put_back()
        for entry, values in variances:
            # Steps that compression made too long end below zero; those are not taken. What is
            # below by rounding alone is zero.
            now = _of(block.rows, entry)
            now.copy_(torch.where(now < -_ROUNDING * values, values, now.clamp(min=0)))
        samples = block.state["samples"].numpy()
        worked = many.differ(samples, before)
        block.state["training_rounds"].numpy()[worked] += samples[worked] > before[worked]
        if job.accounts is not None and (job.evaluates(t + 1) or last):
            block.report |= job.accounts.figures(block)
        seconds = time.perf_counter() - began
        if (job.evaluates(t + 1) or last) and measured is None:
            models, _ = self._models(t, phase, again)
            measured = self._guard("evaluation", t, partial(self._measure, models))
        self.returns.keep(block, t + 1)
        return self._said(t, seconds, measured, last)

    def _said(self, t: int, seconds: float, measured: Any, last: bool) -> Report:
        """The report of round t, whose ``extra`` says that only a dense start had it measured."""
        job, block = self.job, self.block
        more = (*losses.COUNTERS, BACKHAUL)
        names: list[str] = [*COUNTERS, *(name for name in more if name in block.state)]
        counters = {name: block.state[name].numpy() for name in names}
        if job.clock.modelled:
            names = [name for name in (*MODELLED, BATTERY_LEFT) if name in block.state]
            counters |= {name: block.state[name].numpy() for name in names}
        return {
            "round": t + 1,
            "ids": block.ids,
            "seconds": seconds,
            "at": time.time(),
            "values": dict(block.report),
            "log": dict(block.log),
            "events": list(block.events),
            "counters": counters,
            "measured": measured,
            "extra": not (last or job.regular(t + 1)),
            "outcome": None if block.outcome is None else block.outcome.facts(),
            "arrivals": None if self.agenda is None else self.agenda.events.drain(),
        }

    def _play(self, script: Any, t: int, phase: int, early: bool) -> tuple[Any, int, Any]:
        """Take a script to its end.

        Returns:
            (what it returns, the next phase, what was measured after local work).
        """
        job, block = self.job, self.block
        came: Any = None
        measured: dict[str, Any] | None = None
        name = "incoming" if phase else "training"
        while True:
            worked = many.copied(block.state["samples"].numpy())
            asked, ended = self._guard(name, t, partial(_advance, script, came))
            samples = block.state["samples"].numpy()
            some = many.differ(samples, worked)
            if len(some):
                delta = many.zeros(len(block), np.int64)
                delta[some] = samples[some] - worked[some]
                effort = delta if block.effort is None else delta * block.effort
                job.clock.compute(block, effort)
            self._watch(t)
            if measured is None and early:
                models = Models(*block.models())  # among peers, who have them
                measured = self._guard("evaluation", t, partial(self._measure, models))
            if ended:
                return asked, phase, measured
            if not isinstance(asked, Asked):
                raise self._no_exchange(asked)
            if isinstance(asked, Wakes):
                self._interleave(asked, t)
                came = None
                continue
            if isinstance(asked, Send):
                asked = self._noised(asked, t, phase)
                asked, phase = self._attacked(asked, t, phase)
            work = partial(self.exchange, block, asked, t, phase)
            came = self._guard("exchange", t, work, asked.codec)
            name = "incoming" if isinstance(asked, Send) else name
            phase += asked.turn is None

    def _interleave(self, wakes: Wakes, t: int) -> None:
        """A round of nodes at their own pace; where it is saved nothing is on its way."""
        job, block = self.job, self.block
        if self.agenda is None:
            self.agenda = agenda_of(job, block, self.exchange, self._guard, self._watch, self.order)
        self._guard("exchange", t, partial(self.agenda.play, wakes.algorithm, t))
        last = t + 1 == job.rounds
        self._ending = not last and self.ends(t + 1)
        still = last or self._ending or job.saves(t + 1, last)
        self._guard("exchange", t, partial(self.agenda.settle, t, still))
        block.mail = self.agenda.letters()

    def _noised(self, send: Send, t: int, phase: int) -> Send:
        """What leaves the block where its nodes add noise to all that they send."""
        accounts, privacy = self.job.accounts, self.job.privacy
        if privacy is None or privacy.way != "local":
            return send
        assert isinstance(accounts, ReleaseAccounts)
        noise = partial(noised, accounts, self.block, send, t, phase)
        changed: Send = self._guard("noising", t, noise)
        return changed

    def _spent(self, t: int, phase: int) -> tuple[str | None, int]:
        """(why privacy ends the run with this round, if it does; the next phase)."""
        accounts = self.job.accounts
        assert accounts is not None
        share = accounts.ask(self.block)
        if share is None:
            return None, phase
        told = self._guard("exchange", t, partial(self.exchange, self.block, share, t, phase))
        return accounts.verdict(told) or None, phase + 1

    def _until(self, t: int, phase: int, measured: Any) -> tuple[str | None, int, Any]:
        """(why a budget or a figure ends the run with this round, the next phase, what was measured
        to find that out)."""
        job, block = self.job, self.block
        assert job.until is not None
        if job.until.watches and job.evaluates(t + 1) and measured is None:
            models, phase = self._models(t, phase)
            measured = self._guard("evaluation", t, partial(self._measure, models))
        share = early_end.ask(job, block, measured)
        if share is None:
            return None, phase, measured
        told = self._guard("exchange", t, partial(self.exchange, block, share, t, phase))
        said = self._guard("evaluation", t, partial(early_end.verdict, job, block, told))
        return said or None, phase + 1, measured

    def _attacked(self, send: Send, t: int, phase: int) -> tuple[Send, int]:
        """(what leaves the block where some of its nodes attack, the next phase)."""
        attackers, honest = self.job.attackers, None
        if attackers is None:
            return send, phase
        share = self._guard("attack", t, partial(attackers.share, self.block, send))
        if share is not None:
            work = partial(self.exchange, self.block, share, t, phase)
            honest, phase = self._guard("exchange", t, work), phase + 1
        forge = partial(attackers.forged, self.block, send, t, phase, honest)
        return self._guard("attack", t, forge), phase

    def _no_exchange(self, asked: Any) -> OwnCodeError:
        method = type(self.job.algorithm)
        return OwnCodeError(
            "algorithm",
            import_path(method),
            f"its round yields a {type(asked).__name__}",
            "a Send or a Tell, as round and outgoing of an algorithm have to",
        )

    def _check_reason(self, reason: Any) -> None:
        """What a round returns ends the run, so it has to say why."""
        if reason is not None and not (isinstance(reason, str) and reason):
            raise OwnCodeError(
                "algorithm",
                import_path(type(self.job.algorithm)),
                f"its round returns {reason!r}",
                "nothing, or a text that says why the run ends with this round",
            )

    def _models(self, t: int, phase: int, again: bool = False) -> tuple[Models, int]:
        """The models that the algorithm wants measured, at first (-1) what it starts from; and the
        next phase.

        What is sent to put them together is no part of the run: it takes no modelled time, and its
        bytes are a figure of their own.

        Args:
            again: they were measured in this round before.
        """
        block, came = self.block, None
        script = handed_out(self.job, block, t, again)
        names = (*COUNTERS, BACKHAUL, *MODELLED, BATTERY_LEFT)
        state: dict[str, np.ndarray] = {}
        report = dict(block.report)
        while True:
            try:
                asked = script.send(came)
            except StopIteration as end:
                models: Models = end.value
                break
            if not state:
                named = {name: block.state[name].numpy() for name in names if name in block.state}
                state = {name: many.copied(values) for name, values in named.items()}
            work = partial(self.exchange, block, asked, max(t, 0), phase)
            came = self._guard("exchange", t, work)
            phase += asked.turn is None
        if not state:
            return models, phase
        total, before = block.state["bytes_sent"].numpy(), state["bytes_sent"]
        some = many.differ(total, before)
        sent = many.zeros(len(block))
        sent[some] = total[some] - before[some]
        for name, values in state.items():
            moved = many.differ(block.state[name].numpy(), values)
            block.state[name].numpy()[moved] = values[moved]
        block.report = report
        if len(some):
            block.report["measuring_bytes"] = sent
        return models, phase

    def _measure(self, models: Models) -> dict[str, Any]:
        doing("measuring")
        measured = self.block.positions(self.job.evaluated_nodes())
        return measure(self.job, self.block, models, measured)

    def _watch(self, t: int) -> None:
        """Name the nodes whose training loss is not finite or too high."""
        losses = self.block.report.get(TRAIN_LOSS)
        if losses is None:
            return
        limit = self.job.train.diverged_above * self.job.dataset.spec.unit**2
        at, losses = few.known(losses)
        bad = losses > limit
        if bad.any():
            ids = self.block.ids[at[bad]]
            self.block.report.pop("diverged", None)
            self.block.note("diverged", at[bad], losses[bad])
            if self.job.train.on_divergence == "stop":
                loss = losses[bad][0]
                raise Diverged(
                    f"training loss is {loss:.4g}"
                    + (f", as for {len(ids) - 1} more nodes of this block" * (len(ids) > 1))
                    + "; lower train.optimizer.lr, set train.clip_norm, or let it run with "
                    "train.on_divergence: report",
                    node=int(ids[0]),
                    round=t + 1,
                    phase="training",
                    repeats=True,
                )

    def _guard(
        self, phase: str, t: int, work: Callable[[], Any], codec: Codec | None = None
    ) -> Any:
        try:
            return work()
        except RunError as error:
            error.round = t + 1
            error.phase = error.phase or phase
            error.repeats |= phase not in _OUTSIDE
            raise
        except OwnCodeError:
            raise
        except HansaError as error:
            again = phase not in _OUTSIDE
            raise RunError(str(error), round=t + 1, phase=phase, repeats=again) from error
        except Exception as error:
            expected = "what an algorithm has to give is in docs/tutorials/your_own_algorithm.md"
            own = None
            if codec is not None and not isinstance(error, OSError | MemoryError):
                own = in_own_code(error, "codec", "what hansa.codec.Codec says", codec)
            if phase == "attack" and self.job.attackers is not None:
                attack = self.job.attackers.attack
                own = in_own_code(error, "attack", "what hansa.ensemble.Attack says", attack)
            own = own or in_own_code(error, "algorithm", expected, self.job.algorithm)
            if own is not None:
                own.problem = f"round {t + 1}, phase {phase}: {own.problem}"
                raise own from error
            again = phase not in _OUTSIDE and not isinstance(error, OSError | MemoryError)
            problem = f"{type(error).__name__}: {error}"
            raise RunError(problem, round=t + 1, phase=phase, repeats=again) from error


def _of(rows: Tensor, entry: Entry) -> Tensor:
    """The numbers of one tensor of the model, a view [n, size]."""
    return rows[:, entry.offset : entry.offset + entry.size]


def _advance(script: Any, inbox: Any) -> tuple[Any, bool]:
    """(the next exchange that a script asks for, False), or (what it returns, True) at its end."""
    try:
        return script.send(inbox), False
    except StopIteration as end:
        return end.value, True
