"""Local work: the steps that the nodes of a block take between two exchanges."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from hansa.base.errors import RunError
from hansa.base.lazy import torch
from hansa.base.own_code import in_own_code
from hansa.base.streams import Streams
from hansa.data import Dataset
from hansa.engine.block import EFFECTIVE_STEPS, TRAIN_LOSS, Block
from hansa.engine.settings import TrainSettings
from hansa.engine.training.batches import Batching
from hansa.engine.training.bench import Strategy, rows_at
from hansa.engine.training.budget import Ask
from hansa.engine.training.evaluator import Evaluator
from hansa.engine.training.feed import Feed
from hansa.engine.training.gradients import Passes
from hansa.engine.training.optimizers import clip_norm_
from hansa.engine.training.precision import Precision
from hansa.engine.training.private_steps import PrivateSteps
from hansa.metrics import Metric
from hansa.models.draws import Chance, drawing
from hansa.privacy.example import ExamplePrivacy

if TYPE_CHECKING:
    from torch import nn

Correction: TypeAlias = "Callable[[np.ndarray, torch.Tensor, torch.Tensor], None]"
"""Adds to the gradients of some nodes in place: positions in the block [m], rows and gradients
[m, P]. Called from several threads at a time, never twice for the same node."""


@dataclass(frozen=True)
class _Work:
    """One call of :meth:`Trainer.train`; arrays are by position in the block, [n]."""

    block: Block
    round: int
    draw: int
    lr: float
    steps: np.ndarray
    asked: np.ndarray
    correct: Correction | None
    guesses: np.ndarray
    guessed: np.ndarray


class Trainer(Evaluator):
    """Trains (and evaluates) rows of one model on one data set.

    Args:
        settings: local steps, optimizer and the like.
        rounds: length of the run, for the learning rate's schedule.
        counters: integer buffers that training changes, as a block's state names them.
        privacy: whose noise is in the gradients; None: there is none.
        others: as for :class:`Evaluator`.

    Attributes:
        weighs_steps: whether :meth:`train` also leaves ``effective_steps`` in the block's report
            (see :meth:`Optimizer.effective_steps`); an algorithm that needs them sets it. With
            an optimizer that guesses they are always there.
    """

    def __init__(
        self,
        module: nn.Module,
        dataset: Dataset,
        settings: TrainSettings,
        rounds: int,
        strategy: Strategy,
        device: str = "cpu",
        threads: int = 0,
        chance: Chance | None = None,
        seed: int = 0,
        counters: tuple[str, ...] = (),
        restless: bool = False,
        metrics: Sequence[Metric] = (),
        alone: bool = True,
        privacy: ExamplePrivacy | None = None,
        precision: Precision = "float32",
        widest: int = 0,
    ) -> None:
        super().__init__(
            module, dataset, strategy, device, threads, chance, seed, restless, metrics, alone,
            precision, widest,
        )  # fmt: skip
        self.private = None if privacy is None else PrivateSteps(privacy, settings, rounds)
        self.counters = counters
        self.settings = settings
        self.rounds = rounds
        self.weighs_steps = False

    def like(self, settings: TrainSettings, rounds: int) -> Trainer:
        """A trainer of the same model, examples and threads with other settings."""
        other = copy.copy(self)
        other.settings, other.rounds = settings, rounds
        if self.private is not None:
            other.private = PrivateSteps(self.private.privacy, settings, rounds)
        return other

    @property
    def batching(self) -> Batching:
        """How examples become mini-batches."""
        return self.settings.batching if self.private is None else self.private.batching

    def asked_examples(self, sizes: np.ndarray) -> np.ndarray:
        """Examples of a round without a budget, int64 [k], for nodes with ``sizes`` [k] of them."""
        return self.settings.asked_examples(sizes)

    def planned(
        self,
        ids: np.ndarray,
        sizes: np.ndarray,
        streams: Streams,
        round: int,
        pace: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """What nodes will do in a round that leaves the number of steps to them.

        Args:
            ids: int64 [k], nodes of the run.
            sizes: int64 [k], training examples of each.
            streams: of the run.
            round: names the budget's streams.
            pace: float64 [k], seconds an example, for a budget of time.

        Returns:
            (steps, examples), int64 [k] each.
        """
        ids, sizes = np.asarray(ids, dtype=np.int64), np.asarray(sizes, dtype=np.int64)
        settings = self.settings
        ask = Ask(ids, sizes, settings.asked(sizes), self.batching, streams, round, pace)
        steps = settings.budget.steps(ask)
        return steps, self.batching.samples(sizes, steps)

    def train(
        self,
        block: Block,
        round: int,
        who: np.ndarray | None = None,
        steps: int | np.ndarray | None = None,
        draw: int | None = None,
        correct: Correction | None = None,
    ) -> None:
        """Local steps of the nodes at the block's positions ``who`` (default all), in place.

        Counts each node's steps and examples and leaves its mean loss in the block's report.

        Args:
            round: says the learning rate, and names the streams of batches and budget.
            steps: of everybody, or int64 [n] by position in the block; None: what the round asks
                for, as far as the budget goes (see :meth:`planned`).
            draw: names the streams instead, for nodes that work more than once a round.
            correct: changes each step's gradients after they are clipped: the norm of the
                stochastic gradient is what has to be bounded, and a term that an algorithm adds
                (proximal, control variate) only does its work when it is added whole.
        """
        n, settings = len(block.ids), self.settings
        draw = round if draw is None else draw
        who = np.arange(n) if who is None else np.asarray(who)
        sizes = np.array([len(block.parts[i]) for i in who.tolist()], dtype=np.int64)
        todo = self._todo(block, who, sizes, steps, draw)
        if self.private is not None:
            done = block.state["steps"].numpy()[who] + block.before[who]
            todo = np.minimum(todo, self.private.affordable(sizes, done))
        guesses = settings.optimizer.finishes
        losses, extra = np.full(n, np.nan), np.full((2, n if self._weighs else 0), np.nan)
        working = todo > 0
        if not working.all():
            who, todo, sizes = who[working], todo[working], sizes[working]
        if len(who):
            self._prepare(block)
            every, asked = (
                np.zeros(n, dtype=np.int64),
                np.zeros(n if guesses else 0, dtype=np.int64),
            )
            every[who] = todo
            if guesses:
                asked[who] = np.maximum(settings.asked(sizes), todo)
            lr = self.learning_rate(round)
            work = _Work(block, round, draw, lr, every, asked, correct, extra[0], extra[1])
            order = who
            if self.strategy == "stacked" and todo.min() != todo.max():
                order = who[np.argsort(-todo, kind="stable")]
            each = list(self.map(partial(self._train_chunk, work), self.chunks(order)))
            means = each[0] if len(each) == 1 else np.concatenate(each)
            if not np.isfinite(means).all():
                # NaN marks nodes at rest, so a loss that is not a number is reported as infinite.
                means = np.nan_to_num(means, nan=np.inf, posinf=np.inf)
            losses[order] = means
            block.state["steps"].numpy()[who] += todo
            block.state["samples"].numpy()[who] += self.batching.samples(sizes, todo)
        block.report[TRAIN_LOSS] = losses
        if self._weighs:
            self._report(block, who, todo, extra)

    @property
    def _weighs(self) -> bool:
        return self.weighs_steps or self.settings.optimizer.finishes

    def learning_rate(self, round: int) -> float:
        """The learning rate of a round."""
        factor = self.settings.schedule.factor(round, self.rounds)
        return self.settings.optimizer.lr * factor

    def _todo(
        self,
        block: Block,
        who: np.ndarray,
        sizes: np.ndarray,
        steps: int | np.ndarray | None,
        draw: int,
    ) -> np.ndarray:
        """Steps of each of ``who``, int64 [k]."""
        if steps is None:
            pace, ids = None, block.ids[who]
            if self.settings.budget.timed and block.clock is not None and block.clock.modelled:
                pace = block.clock.pace(block, ids)
            return self.planned(ids, sizes, block.streams, draw, pace)[0]
        if isinstance(steps, np.ndarray):
            return steps[who].astype(np.int64)
        return np.full(len(who), steps, dtype=np.int64)

    def _report(self, block: Block, who: np.ndarray, steps: np.ndarray, extra: np.ndarray) -> None:
        """Leave gradient steps, guesses and effective steps where something makes them differ."""
        optimizer = self.settings.optimizer
        if optimizer.finishes:
            block.report["gradients"] = np.full(len(block.ids), np.nan)
            block.report["gradients"][who] = steps
            block.report["guesses"] = extra[0]
        effective = np.full(len(block.ids), np.nan)
        effective[who] = optimizer.effective_steps(steps) + np.nan_to_num(extra[1, who])
        block.report[EFFECTIVE_STEPS] = effective

    def _prepare(self, block: Block) -> None:
        n, size = len(block.ids), self.layout.trainable
        for slot in self.settings.optimizer.slots:
            if f"optimizer.{slot}" not in block.state:
                block.state[f"optimizer.{slot}"] = torch.zeros(n, size, device=self.device)

    def _train_chunk(self, work: _Work, chunk: np.ndarray) -> np.ndarray:
        try:
            if not self.chance:
                return self._train_rows(work, chunk)
            # A chunk is one node: what draws does not stack.
            stream = work.block.streams.own.integer("dropout", work.block.ids[chunk[0]], work.draw)
            if self.device.type == "cpu":
                return self._train_rows(work, chunk, stream)
            with drawing(stream):
                return self._train_rows(work, chunk)
        except RunError:
            raise
        except Exception as error:
            self._refuse_own(error, work.round)
            ids = work.block.ids[chunk]
            raise RunError(
                f"{type(error).__name__}: {error}"
                + (f" (in one of nodes {ids[0]}..{ids[-1]})" if len(ids) > 1 else ""),
                node=int(ids[0]) if len(ids) == 1 else None,
                round=work.round,
                phase="training",
            ) from error

    def _refuse_own(self, error: Exception, round: int) -> None:
        """Raise an error as one of the user's own network or algorithm, where it is one."""
        spec = self.dataset.spec
        expected = (
            f"a model that maps [B, {', '.join(map(str, spec.shape))}] to [B, {spec.outputs}]"
        )
        own = in_own_code(error, "model", expected)
        if own is not None:
            own.problem = f"round {round + 1}, phase training: {own.problem}"
            raise own from error

    def _train_rows(self, work: _Work, chunk: np.ndarray, stream: int | None = None) -> np.ndarray:
        """All steps of a chunk's nodes, those with most steps first: mean losses [k].

        Args:
            stream: seeds what passes draw, where they do.
        """
        block, settings, optimizer = work.block, self.settings, self.settings.optimizer
        steps, k = work.steps[chunk], len(chunk)
        feed = Feed(
            self.dataset, self.batching, block, chunk, steps, work.draw, self.device,
            settings.augment,
        )  # fmt: skip
        passes, grads = self.passes(k)
        passes.draw_from(stream)
        passes.compute_in(settings.precision)
        rows, write_back = rows_at(block.rows, chunk)
        slots, backs = {}, [write_back]
        for slot in optimizer.slots:
            slots[slot], back = rows_at(block.state[f"optimizer.{slot}"], chunk)
            backs.append(back)
        count = torch.from_numpy(block.state["steps"].numpy()[chunk])  # a copy
        self.put_integers(passes, block.state, int(chunk[0]))
        total = torch.zeros(k, device=self.device)
        trained = rows[:, : self.layout.trainable]
        start = trained.clone() if optimizer.needs_start else None
        noises, sizes = self._noises(block, chunk, work.draw)
        active, done, ends = k, 0, steps if k == 1 else np.unique(steps)
        with torch.no_grad():
            for end in ends:
                # All of the first ``active`` nodes take the steps up to this end.
                x_, g_, at, sums, some, all_ = trained, grads, count, total, slots, rows
                if active < k:
                    x_, g_, at, sums, all_ = (t[:active] for t in (x_, g_, at, sums, all_))
                    some = {name: slot[:active] for name, slot in slots.items()}
                passes.attach(all_, g_)
                for step in range(done, int(end)):
                    x, y, lengths = feed.batch(step, active)
                    if self.private is not None:
                        sums += self.private.gradients(
                            passes, all_, x, y, lengths, g_, sizes[:active], noises[:active]
                        )
                    else:
                        with torch.enable_grad():
                            sums += passes.backward(x, y, g_, lengths)
                    if settings.clip_norm is not None:
                        clip_norm_(g_, settings.clip_norm)
                    if work.correct is not None:
                        work.correct(chunk[:active], x_, g_)
                    at += 1
                    optimizer.step_(x_, g_, some, at, work.lr)
                done, before = int(end), active
                active = int(np.count_nonzero(steps > done))
                if optimizer.finishes:
                    span = slice(active, before)
                    guessed = optimizer.finish_(
                        trained[span],
                        grads[span],
                        {name: slot[span] for name, slot in slots.items()},
                        None if start is None else start[span],
                        steps[span],
                        count[span],
                        work.lr,
                        work.asked[chunk[span]],
                    )
                    if guessed is not None:
                        work.guesses[chunk[span]] = guessed.number
                        work.guessed[chunk[span]] = guessed.effective
        self._save_integers(passes, block, chunk)
        for back in backs:
            back()
        return (total.cpu().numpy() / steps.astype(np.float32)).astype(np.float64)

    def _noises(
        self, block: Block, chunk: np.ndarray, draw: int
    ) -> tuple[list[np.random.Generator], np.ndarray]:
        """(each node's own generator of noise, its number of examples int64 [k]), if needed."""
        if self.private is None:
            return [], chunk[:0]
        own, ids = block.streams.own, block.ids[chunk].tolist()
        sizes = np.array([len(block.parts[i]) for i in chunk.tolist()], dtype=np.int64)
        return [own.numpy("privacy", node, draw) for node in ids], sizes

    def _save_integers(self, passes: Passes, block: Block, chunk: np.ndarray) -> None:
        for entry in self.layout.integer_buffers:
            block.state[f"buffer.{entry.name}"][chunk[0]] = passes.module.get_buffer(entry.name)
