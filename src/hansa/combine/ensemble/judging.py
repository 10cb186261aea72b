"""Rules are judged where the proxies are: each client tells how many of its own they get right."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from hansa.base.lazy import torch, without_gradients
from hansa.base.losses import predicted
from hansa.base.streams import Streams
from hansa.base.threads import one_thread
from hansa.codec import Table, Tables
from hansa.combine.ensemble.judgement import Judged
from hansa.combine.ensemble.proxies import Scores
from hansa.combine.ensemble.rule_model import Carrier
from hansa.combine.ensemble.tallying import OverScores, over_scores
from hansa.combine.ensemble.worst_votes import robust_hits
from hansa.engine import Block, Script, Send, star_to
from hansa.ensemble import Rule, initial_rule, loudness, tally, votes_as_loud_as
from hansa.experiment.played import HERE, Place
from hansa.models import ParameterLayout
from hansa.report import RunFolder

if TYPE_CHECKING:
    from torch import Tensor, nn


def fold_of(proxies: int, client: int, folds: int, streams: Streams) -> np.ndarray:
    """The fold of each of a client's proxies, int64 [m]."""
    # By the run's seed, so that whoever fits without a fold and whoever judges on it mean the same.
    order = streams.numpy("folds", client).permutation(proxies)
    # Offset by client, so that clients with a single example do not all share a fold.
    return (order + client) % folds


def used_folds(cuts: list[np.ndarray], folds: int) -> tuple[int, ...]:
    """Folds that have a proxy, where another fold has one to fit on.

    Args:
        cuts: the fold of each proxy, by client.
    """
    counts = np.bincount(np.concatenate(cuts), minlength=folds)
    return tuple(k for k in range(folds) if 0 < counts[k] < counts.sum())


@dataclass(frozen=True)
class OutOfFold:
    """A learned rule, fitted anew without each of the folds.

    Attributes:
        rows: [folds that are used, q], its numbers.
        bytes_sent: by the runs that fitted it.
    """

    rows: Tensor
    bytes_sent: int


_LOUD = ("scores", "sum", "loudest")
"""What a client tells of its scores, where it is judged how members lie."""


@dataclass
class _Desk:
    """What a block remembers from rule to rule; by client, in the block's order.

    Attributes:
        hits, robust: by rule, which proxies it gets right, bool [m].
        votes: [K, C], how those vote who lie.
    """

    rows: list[Tensor]
    targets: list[Tensor]
    folds: list[np.ndarray]
    hits: list[list[Tensor]] = field(default_factory=list)
    robust: list[list[Tensor]] = field(default_factory=list)
    votes: list[Tensor] = field(default_factory=list)


class Judging(OverScores):
    """A rule a round: the server hands it out, and clients tell how many proxies it gets right,
    and how many both it and each rule before.

    What is right out of fold never leaves a client; of what a rule is fitted on, each hands
    out tallies alone (a rule that counts votes), or what fitting sends.
    """

    rules: tuple[Rule, ...]
    places: tuple[int, ...] = Field(description="which client each node is: it names its folds")
    folds: int
    used: tuple[int, ...] = Field(description="folds that rules are fitted without in turn")
    f: int | None = Field(None, description="members that lie")

    def round(self, block: Block, t: int) -> Script:
        desk, panel, rule = self._desk(block), self.form.panel, self.rules[t]
        if t == 0 and self.f is not None:
            desk.votes = yield from self._loudest(block, desk)
        handed: list[list[Tensor]] = [[] for _ in desk.rows]
        shape = (panel.members, panel.classes, panel.classes)
        if rule.counts_votes:
            width = len(self.used) * math.prod(shape)
            own = zip(desk.rows, desk.targets, desk.folds, strict=True)
            tallies = [
                torch.cat(
                    [self._tally(rows, y, cut != fold).flatten() for fold in self.used]
                    or [torch.zeros(0)]
                )
                for rows, y, cut in own
            ]
            votes = yield from self.summed(block, tallies, width, "tallies")
            sums = yield from self.handed(block, votes, width, "votes")
            handed = [list(row.view(-1, *shape)) for row in sums]
        elif rule.learned:
            first, width = self._span(block, t)
            numbers = None
            if len(self.center(block)):
                row = block.trainer.layout.views(block.rows[0])["numbers"]
                numbers = row[first : first + width * len(self.used)]
            rows = yield from self.handed(block, numbers, width * len(self.used), "rule")
            handed = [list(row.view(-1, width)) if len(row) else [] for row in rows]
        self._judge(block, desk, rule, handed)
        yield from self._told(block, desk, t)

    def _desk(self, block: Block) -> _Desk:
        if "judging" not in block.facts:
            holders = self.holders(block).tolist()
            own = [self.own(block, k) for k in holders]
            places = [self.places[int(block.ids[k])] for k in holders]
            block.facts["judging"] = _Desk(
                [rows for rows, _ in own],
                [targets for _, targets in own],
                [
                    fold_of(len(y), place, self.folds, block.streams)
                    for place, (_, y) in zip(places, own, strict=True)
                ],
            )
        desk = block.facts["judging"]
        assert isinstance(desk, _Desk)
        return desk

    def _loudest(self, block: Block, desk: _Desk) -> Generator[Any, Any, list[Tensor]]:
        """Clients tell how loud members are; the server how liars vote then."""
        panel, center = self.form.panel, self.center(block)
        loud = [loudness(self.said(panel, rows[:, : panel.width])) for rows in desk.rows]
        said = {name: np.array([own[k] for own in loud]) for k, name in enumerate(_LOUD)}
        inbox = yield self._up(block, said)
        votes = None
        if len(center):
            tables = inbox.messages(int(center[0]))[1]
            assert isinstance(tables, Tables)
            count, total, loudest = (tables.columns[name] for name in _LOUD)
            mean = float(total.sum() / count.sum())
            votes = votes_as_loud_as(float(loudest.max()), mean, panel.outputs)
        rows = yield from self.handed(block, votes, panel.classes * panel.outputs, "loudest")
        return [row.view(panel.classes, panel.outputs) for row in rows]

    def _tally(self, rows: Tensor, targets: Tensor, some: np.ndarray) -> Tensor:
        at = torch.from_numpy(np.flatnonzero(some))
        return tally(self.said(self.form.panel, rows[at]), targets[at])

    def _span(self, block: Block, t: int) -> tuple[int, int]:
        """(where the numbers of rule t begin, how many a fold has)."""
        panel, sizes = self.form.panel, []
        for rule in self.rules[: t + 1]:
            q = 0
            if rule.learned:
                q = ParameterLayout.of(_first(rule, panel, block.streams)).size
            sizes.append(q)
        return len(self.used) * sum(sizes[:-1]), sizes[-1]

    @without_gradients
    def _judge(self, block: Block, desk: _Desk, rule: Rule, handed: list[list[Tensor]]) -> None:
        """Which proxies the rule gets right, for each client."""
        panel = self.form.panel
        hits, robust = [], []
        whole = zip(desk.rows, desk.targets, desk.folds, handed, strict=True)
        for k, (rows, targets, cut, numbers) in enumerate(whole):
            rows = rows if rule.sees_input else rows[:, : panel.width].contiguous()
            right, worst = torch.zeros(2, len(targets), dtype=torch.bool)
            fitted = rule.learned or rule.counts_votes
            for which in range(len(self.used) if fitted else 1):
                left = np.flatnonzero(cut == self.used[which]) if fitted else np.arange(len(cut))
                at = torch.from_numpy(left)
                if not len(at):
                    continue
                module = self._module(block, rule, numbers[which] if fitted else None)
                answers = torch.cat([module(piece) for piece in rows[at].split(4096)])
                right[at] = predicted(answers) == targets[at]
                if self.f is not None:
                    worst[at] = robust_hits(
                        module, panel, rows[at], targets[at], desk.votes[k], self.f
                    )
            hits.append(right)
            robust.append(worst)
        desk.hits.append(hits)
        desk.robust.append(robust)

    def _module(self, block: Block, rule: Rule, numbers: Tensor | None) -> nn.Module:
        votes = numbers if rule.counts_votes else None
        module = _first(rule, self.form.panel, block.streams, votes)
        if rule.learned:
            assert numbers is not None
            ParameterLayout.of(module).load_(module, numbers)
        return module.eval()

    def _told(self, block: Block, desk: _Desk, t: int) -> Script:
        """Clients tell their counts, and the server adds them up."""
        said = {"proxies": np.array([len(targets) for targets in desk.targets], dtype=np.int64)}
        said["right"] = _both(desk.hits)
        if self.f is not None:
            said["robust"] = _both(desk.robust)
        inbox, center = (yield self._up(block, said)), self.center(block)
        if not len(center):
            return
        tables = inbox.messages(int(center[0]))[1]
        assert isinstance(tables, Tables)
        sums = {name: column.sum(0).tolist() for name, column in tables.columns.items()}
        block.events.append({"kind": "judged", "rule": t, **sums})

    def _up(self, block: Block, said: dict[str, np.ndarray]) -> Send:
        """One row of a table from each client to the server."""
        up = star_to(block.clients, block.nodes)
        codec, holders = Table(names=tuple(said)), self.holders(block)
        return Send(Tables.rows(**said), up, codec, "counts", senders=holders, on_missing="wait")


def _both(hits: list[list[Tensor]]) -> np.ndarray:
    """How many proxies of each client the last rule gets right, and so does each: int64 [n, R]."""
    new = hits[-1]
    counts = [[int((old[k] & new[k]).sum()) for old in hits] for k in range(len(new))]
    return np.array(counts, dtype=np.int64).reshape(len(new), len(hits))


def _first(rule: Rule, panel: Any, streams: Streams, votes: Tensor | None = None) -> nn.Module:
    """A rule's module as all know it, before its numbers are filled in."""
    return initial_rule(rule, panel, Streams(streams.integer(f"phase 2 {rule.name}")), votes)


def judge(
    rules: Mapping[str, Rule],
    fitted: Mapping[str, OutOfFold],
    scores: Scores,
    folds: int,
    seed: int,
    path: Path,
    f: int | None = None,
    place: Place = HERE,
) -> Judged:
    """Rules on the clients' proxies, which the clients judge themselves.

    Args:
        fitted: those that are learned, without each of the folds.
        path: a folder for the run.
        f: also judge them where so many members lie.

    Raises:
        RunError: something failed on the way.
    """
    names, streams = tuple(rules), Streams(seed)
    who = [k for k, part in enumerate(scores.parts) if len(part)]
    cuts = [fold_of(len(scores.parts[k]), k, folds, streams) for k in who]
    numbers = [fitted[name].rows.flatten() for name in names if rules[name].learned]
    row = torch.cat(numbers) if numbers else torch.zeros(1)
    work = Judging(
        form=Carrier.of(scores.panel, len(row)),
        rules=tuple(rules.values()),
        places=tuple(who),
        folds=folds,
        used=used_folds(cuts, folds),
        f=f,
    )
    seeing = max(rules.values(), key=lambda rule: rule.sees_input)
    with one_thread(not seeing.sees_input):
        over_scores(work, seeing, scores, seed, path, place, row, len(rules))
    folder = RunFolder.open(path)
    said = sorted(
        (event for event in folder.events() if event["kind"] == "judged"),
        key=lambda event: int(event["rule"]),
    )
    sent = [0, *_bytes_by_round(folder)]
    return Judged(
        names,
        int(said[0]["proxies"]),
        _symmetric([event["right"] for event in said]),
        None if f is None else _symmetric([event["robust"] for event in said]),
        {
            name: b - a + (fitted[name].bytes_sent if rules[name].learned else 0)
            for name, (a, b) in zip(names, itertools.pairwise(sent), strict=True)
        },
    )


def _symmetric(lower: list[list[int]]) -> np.ndarray:
    """The matrix of rows that end at the diagonal."""
    whole = np.zeros((len(lower), len(lower)), dtype=np.int64)
    for k, row in enumerate(lower):
        whole[k, : k + 1] = whole[: k + 1, k] = row
    return whole


def _bytes_by_round(folder: RunFolder) -> list[int]:
    """What all nodes had sent after each round."""
    import polars

    rows = folder.metrics().filter(polars.col("name") == "round_seconds").sort("round")
    return [int(count) for count in rows["bytes"].to_list()]
