"""Puts the blocks' reports of a round together and into the run folder."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hansa.base import few, many
from hansa.base.few import Figures
from hansa.base.lazy import torch
from hansa.engine.accounts import EPSILON, summed_up
from hansa.engine.exchange.backhaul import BACKHAUL, bytes_by_level
from hansa.engine.exchange.exchange import MESSAGE_BYTES
from hansa.engine.job import Job
from hansa.engine.own_judge import Tallies
from hansa.engine.roster import Roster
from hansa.engine.runtimes.arrivals_file import add_round, cut_after
from hansa.engine.runtimes.checkpoint import seal
from hansa.engine.runtimes.host import Report
from hansa.engine.runtimes.sealer import Sealer
from hansa.engine.time.battery import BATTERY_EMPTY
from hansa.engine.training.trainer import Trainer
from hansa.report import RunFolder

Progress = Callable[[int, dict[str, float]], None]
_MANY = 100_000  # nodes, of whom those that have done nothing yet are not recorded
_SO_FAR = (
    "final", "best", "bytes_sent", "levels", "spent", "diverged", "reason", "privacy",
)  # fmt: skip
"""What a checkpoint keeps of a collector."""


class Collector:
    """Merges reports by node, measures what needs all nodes, records, and shows progress.

    Args:
        progress: is told the number of rounds done and the latest figures, before the first
            round too where the initial model is measured.

    Attributes:
        expected: how many nodes report here; at a site of several owners its own alone.
        diverged: the round and the nodes in which training diverged first, if it did.
        overhead: bytes beyond the messages between nodes, by cause; ``sent`` and ``received`` are
            those of all causes.
        saved: the round of the last checkpoint.
        privacy: what differential privacy has come to, where there is some.
        levels: bytes sent by level and way, where servers have a server (:func:`bytes_by_level`).
        reason: why the algorithm has ended the run before its last round, if it did.
    """

    def __init__(self, job: Job, folder: RunFolder, progress: Progress | None = None) -> None:
        self.job, self.folder, self.progress = job, folder, progress
        self.worst: dict[str, float] = {}
        self.expected = job.nodes
        self.began = time.time()
        self.rounds_done = 0
        self.final: dict[str, float] = {}
        self.best: dict[str, float] = {}
        self.bytes_sent = 0
        self.spent: dict[str, float] = {}
        self.overhead: dict[str, int] = {}
        self._waiting: dict[int, list[Report]] = {}
        self._until: dict[int, int | None] = {}
        self._sent = many.zeros(job.nodes, np.int64)
        self._between = many.zeros(job.nodes, np.int64)
        self.levels: dict[str, int] = {}
        self._trainer: Trainer | None = None
        self._cut = True  # what a run that is gone on with has recorded of later rounds
        self.privacy: dict[str, Any] = {}
        self.diverged: dict[str, Any] | None = None
        self.saved = 0
        self.sealer: Sealer | None = None  # of checkpoints
        self.reason = ""

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, with what came before a resume."""
        return time.time() - self.began

    @property
    def safe(self) -> bool:
        """Whether an end right now would lose no round that a checkpoint could have kept."""
        return not self.job.checkpoint.every or self.saved >= self.rounds_done

    def seal(
        self, root: Path, done: int, entries: list[dict[str, Any]], spare: Collection[Path] = ()
    ) -> None:
        """Make a checkpoint of all blocks' files valid, with what the run has come to so far.

        Args:
            spare: folders of other checkpoints that must stay.
        """
        self.folder.flush()
        stopped = any((entry["outcome"] or {}).get("reason") for entry in entries)
        so_far = {name: getattr(self, name) for name in _SO_FAR}
        facts = {"seconds": self.seconds, "part": self.folder.parts, "stopped": stopped}
        facts |= self.folder.marks
        keep, sealer = self.job.checkpoint.keep, self.sealer
        seal(root, done, entries, keep, spare, sealer, **facts, so_far=so_far)
        self.saved = done

    def restore(self, manifest: dict[str, Any]) -> None:
        """Go on from what a checkpoint says that the run had come to."""
        self.began = time.time() - float(manifest.get("seconds", 0.0))
        self.rounds_done = self.saved = int(manifest["round"])
        for name, value in manifest.get("so_far", {}).items():
            if name in _SO_FAR:
                setattr(self, name, value)

    def joined(self, roster: Roster) -> None:
        """Record what the clients told of themselves, if anything."""
        if roster.told:
            self.folder.event("joined", **roster.event())

    def add(self, report: Report) -> None:
        """Take one block's report of a round; record the round when all nodes are in."""
        waiting = self._waiting.setdefault(report["round"], [])
        waiting.append(report)
        self._record_whole()

    def note(self, event: dict[str, Any]) -> None:
        """Record an event of a block at once, and not with the report of its round."""
        self.folder.event(**event)

    def leave(self, ids: np.ndarray) -> None:
        """Nodes are gone: rounds are recorded without them until they are back."""
        self._until |= dict.fromkeys(ids.tolist(), None)
        self._record_whole()

    def back(self, ids: np.ndarray, round: int) -> None:
        """Nodes that were gone report again, from this round on."""
        self._until |= dict.fromkeys(ids.tolist(), round)
        self._record_whole()

    def away(self, ids: np.ndarray, round: int) -> bool:
        """Whether nodes of one block are gone in a round."""
        node = int(ids[0])
        return node in self._until and self._gone(node, round)

    def _record_whole(self) -> None:
        """Record the rounds of which nothing is missing any more."""
        for round, parts in sorted(self._waiting.items()):
            there = sum(len(part["ids"]) for part in parts)
            if self._until:
                here = np.concatenate([part["ids"] for part in parts])
                away = np.setdiff1d(np.fromiter(self._until, np.int64, len(self._until)), here)
                there += sum(self._gone(node, round) for node in away.tolist())
            if there < self.expected:
                return
            del self._waiting[round]
            self._record(round, sorted(parts, key=lambda part: part["ids"][0]))

    def _gone(self, node: int, round: int) -> bool:
        back = self._until[node]
        return back is None or round < back

    def _record(self, done: int, parts: list[Report]) -> None:
        # Workers stamp their reports, since this process may be busy when they arrive.
        now = max(part["at"] for part in parts) - self.began
        ids, order = _in_order([part["ids"] for part in parts])
        lengths = [len(part["ids"]) for part in parts]
        counters = _merge([part["counters"] for part in parts], lengths, order)
        values = _merge([part["values"] for part in parts], lengths, order)
        if self.job.privacy is not None and EPSILON in values:
            self.privacy = summed_up(self.job.privacy, values)
        sizes = values.pop(MESSAGE_BYTES, np.array([np.nan]))
        if BATTERY_EMPTY in values:
            nodes = ids[few.known(values.pop(BATTERY_EMPTY))[0]].tolist()
            self.folder.event("battery_empty", round=done, nodes=nodes)
        for event in (event for part in parts for event in part["events"]):
            self.folder.event(**{**event, "round": done})
        arrivals = [part["arrivals"] for part in parts if part.get("arrivals") is not None]
        if done and arrivals:
            if self._cut:
                cut_after(self.folder.path, done - 1)
            self._cut = False
            add_round(self.folder.path, done, np.concatenate(arrivals))
        log = overlaid([part["log"] for part in parts])
        sent = counters["bytes_sent"]
        every = len(ids) == self.job.nodes
        self._sent = sent if every else _with(self._sent, ids, sent)
        if BACKHAUL in counters:
            self._between = _with(self._between, ids, counters[BACKHAUL])
            self.levels = bytes_by_level(self._sent, self._between, self.job.network.clients)
        self.bytes_sent = int(self._sent.sum())
        if "modelled_time" in counters:
            # A server's time is the run's: a client that went away or gave up holds nobody up.
            hosts = counters["modelled_time"]
            if self.job.servers and ids[-1] >= self.job.network.clients:
                hosts = hosts[ids >= self.job.network.clients]
            self.spent = {
                "modelled_seconds": float(hosts.max()),
                "device_seconds": float(counters["compute_time"].sum()),
                "energy_joules": float(counters["energy"].sum()),
            }
        steps = counters["steps"]
        whole = {"step": int(steps.max()), "time": now, "bytes": self.bytes_sent}
        record = self.folder.record
        figures: dict[str, float] = {}
        if done:
            record(done, "round_seconds", max(part["seconds"] for part in parts), **whole)
        for name, array in values.items():
            if np.isfinite(few.known(array)[1]).any():
                figures[name] = few.mean(array)
                record(done, name, figures[name], **whole)
        taken = steps if every else _with(many.zeros(self.job.nodes, steps.dtype), ids, steps)
        for name, array in log.items():
            seen, known = few.known(array)
            node = {"node": seen, "step": taken[seen], "time": now, "bytes": self._sent[seen]}
            record(done, name, known, **node)
        if done and self.job.presence.absences:
            present = int(self.job.presence.at(done - 1)[: self.job.network.clients].sum())
            record(done, "present", present, **whole)
        of = few.known(sizes)[1]
        if np.isfinite(of).any():
            spread = {"mean": few.mean(sizes), "min": float(of.min()), "max": float(of.max())}
            for kind, size in spread.items():
                record(done, f"message_bytes_{kind}", size, **whole)
        if "diverged" in values:
            bad, losses = few.known(values["diverged"])
            self._report_divergence(done, ids[bad].tolist(), losses.tolist())
        if all(part["measured"] is not None for part in parts):
            measured = [part["measured"] for part in parts]
            model_figures = _merge([part["values"] for part in measured], lengths, order)
            by_node, own = self._own(measured, ids)
            model_figures |= by_node
            self._note_worst(model_figures)
            active = _active(counters)
            for name, array in {**model_figures, **values, **counters}.items():
                seen, known = few.known(array[active] if name in counters else array)
                seen = active[seen] if name in counters else seen
                record(
                    done,
                    name,
                    known,
                    node=ids[seen],
                    step=steps[seen],
                    time=now,
                    bytes=sent[seen],
                )
            figures |= self._by_client(done, measured, now)
            with np.errstate(all="ignore"):  # of models that diverged
                figures |= self._whole_run(done, parts, measured, model_figures, own, whole)
            if done:
                self._keep_final(done, figures, best=not parts[0]["extra"])
        self.rounds_done = done
        self.folder.round_over(done)
        ends = {end["reason"] for part in parts if (end := part.get("outcome")) is not None}
        self.reason = next(iter(ends), "")
        if self.progress is not None:
            self.progress(done, figures)

    def _whole_run(
        self,
        done: int,
        parts: list[Report],
        measured: list[dict[str, Any]],
        found: dict[str, Figures],
        own: dict[str, float],
        whole: dict[str, Any],
    ) -> dict[str, float]:
        """Figures that need all nodes: means, spread, the average model, consensus distance."""
        figures: dict[str, float] = {}
        for name, array in found.items():
            figures |= _mean_and_std(name, array)
        counts = np.array([part["models"] for part in measured])
        means = np.stack([part["mean"] for part in measured])
        mean = (counts[:, None] * means).sum(0) / counts.sum()
        between = float((counts * np.square(means - mean).sum(1)).sum())
        within = sum(part["spread"] for part in measured)
        several = counts.sum() > 1 and not self.job.servers and self.expected == self.job.nodes
        if several:  # root mean squared distance of the models to their average
            figures["consensus_distance"] = float(np.sqrt((within + between) / counts.sum()))
        figures |= own
        if self.job.evaluate.average_model and several and len(self.job.dataset.test):
            self._trainer = self._trainer or self.job.trainer()
            row = torch.from_numpy(mean.astype(np.float32)).unsqueeze(0).to(self._trainer.device)
            size = self.job.evaluate.batch_size
            average = self._trainer.evaluate(row, self.job.dataset.test, size)
            for name, array in average.items():
                if not np.isnan(array[0]):
                    figures[f"{name}_average_model"] = float(array[0])
        for name, value in figures.items():
            if name not in found:
                self.folder.record(done, name, value, **whole)
        return figures

    def _own(
        self, measured: list[dict[str, Any]], ids: np.ndarray
    ) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """(figures of each node [len(ids)], of the whole run) on what clients hold back."""
        judge, parts = self.job.evaluate.own, [part["own"] for part in measured if "own" in part]
        if judge is None or not any(len(part[0]) for part in parts):
            return {}, {}
        sums: dict[str, np.ndarray] = {}
        counts: dict[str, np.ndarray] = {}
        for clients, by_name, added in parts:
            at = np.searchsorted(ids, clients)
            for name, values in by_name.items():
                sums.setdefault(name, np.full(len(ids), np.nan))[at] = values
            for name, array in added.items():
                counts[name] = counts[name] + array if name in counts else array
        tallies = Tallies(sums, counts)
        return judge.by_node(tallies), judge.figures(tallies)

    def _by_client(self, done: int, measured: list[dict[str, Any]], now: float) -> dict[str, float]:
        """Record the figures of clients on their own examples: mean and spread over them."""
        parts = [part["clients"] for part in measured if "clients" in part]
        figures: dict[str, float] = {}
        for name in dict.fromkeys(name for _, by_name in parts for name in by_name):
            ids, values = (
                np.concatenate(each)
                for each in zip(*((ids, by_name[name]) for ids, by_name in parts), strict=True)
            )
            order = np.argsort(ids)
            known = order[~np.isnan(values[order])]
            name = f"{name}_per_client"
            self.folder.record(done, name, values[known], node=ids[known], time=now)
            figures |= _mean_and_std(name, values[known])
        return figures

    def _note_worst(self, figures: Mapping[str, Figures]) -> None:
        """Keep the first metric's figure of the node that does worst."""
        first = self.job.metrics.first
        values = few.known(figures.get(first.figure, np.zeros(0)))[1]
        if len(values) > 1:
            worst = values.min() if first.better == "higher" else values.max()
            self.worst = {first.figure: float(worst)}

    def _keep_final(self, done: int, figures: dict[str, float], best: bool) -> None:
        """Note the latest figures, and whether they are the ``best``, if these may be."""
        self.final = dict(figures)
        metrics = self.job.metrics
        if any(math.isinf(figures.get(name, 0.0)) for name in metrics.names):
            self._report_divergence(done, [], [])
        score = figures.get(f"validation_{metrics.first.figure}", np.nan)
        score = score if metrics.first.better == "higher" else -score
        if best and score > self.best.get("score", -np.inf):
            self.best = {"round": done, "score": score, **figures}

    def _report_divergence(self, done: int, nodes: list[int], losses: list[float]) -> None:
        """Say once a run which nodes diverged first."""
        if self.diverged is None:
            self.diverged = {"round": done, "nodes": nodes[:32]}
            self.folder.event("diverged", **self.diverged, losses=[str(v) for v in losses[:32]])

    def close(self) -> None:
        """Write what is still in memory."""
        if self._trainer is not None:
            self._trainer.close()
        self.folder.flush()


def _mean_and_std(name: str, figures: Figures) -> dict[str, float]:
    """Over those that have the figure; nothing where nobody has."""
    if not len(few.known(figures)[0]):
        return {}
    return {name: few.mean(figures), f"{name}_std": few.std(figures)}


def _in_order(parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(all ids ascending, which place in the parts end to end each has)."""
    if len(parts) == 1:
        return parts[0], np.zeros(0, dtype=np.int64)  # a block's are ascending
    ids = np.concatenate(parts)
    order = np.argsort(ids)
    return ids[order], order


def _with(values: np.ndarray, at: np.ndarray, new: np.ndarray) -> np.ndarray:
    """A copy with other values at some places: the first may be a block's own."""
    changed = values.copy()
    changed[at] = new
    return changed


def _merge(parts: list[dict[str, Any]], lengths: list[int], order: np.ndarray) -> dict[str, Any]:
    """Arrays by name, put end to end and in order; a name that some parts lack is NaN there."""
    if len(parts) == 1:
        return dict(parts[0])
    names = dict.fromkeys(name for part in parts for name in part)
    merged = {}
    for name in names:
        pieces = [
            part.get(name, np.full(length, np.nan))
            for part, length in zip(parts, lengths, strict=True)
        ]
        merged[name] = np.concatenate(pieces)[order]
    return merged


def _active(counters: dict[str, np.ndarray]) -> np.ndarray:
    """Who has something to record, int64: all, but of many only those that have done something, as
    rows of zeros say nothing."""
    n = len(next(iter(counters.values())))
    if n <= _MANY:
        return np.arange(n)
    active = np.zeros(n, dtype=bool)
    for array in counters.values():
        active |= array != 0
    return np.flatnonzero(active)


def overlaid(parts: list[dict[str, Figures]]) -> dict[str, Figures]:
    """Arrays by name over all nodes of the run; each part fills in what it has a say in."""
    whole: dict[str, Figures] = {}
    for part in parts:
        for name, array in part.items():
            before = whole.get(name)
            whole[name] = array if before is None else np.where(np.isnan(array), before, array)
    return whole
