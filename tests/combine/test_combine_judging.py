"""Rules are judged by the clients, and what they tell adds up to what the whole would say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.streams import Streams
from hansa.combine.ensemble import AggregateSettings, Place, Scores, tallying
from hansa.combine.ensemble.aggregate import out_of_fold
from hansa.combine.ensemble.judging import fold_of
from hansa.combine.ensemble.worst_votes import robust_hits
from hansa.engine import Job, Processes
from hansa.ensemble import (
    Average,
    Experts,
    LabelWeighted,
    Neural,
    PerClass,
    Rule,
    Voting,
    initial_rule,
    loudness,
    surest_votes,
    tally,
    votes_as_loud_as,
)
from hansa.models import ParameterLayout
from hansa.report import RunFolder

from ..engine.apart import in_order, parties_of, play_apart
from .conftest import judged_by_clients, made_up, sums

FEW = AggregateSettings(rounds=6, every=6, folds=3)
SIZES = (9, 20, 13, 1, 0)


def known(scores: Scores) -> Scores:
    """One member knows most of the answers."""
    scores.train[1] += 2 * torch.nn.functional.one_hot(scores.targets, 4)
    return scores


def whole(rule: Rule, scores: Scores, f: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(right, right under lies), bool [N] each, from all scores in one place."""
    streams, rows = Streams(1), scores.rows(rule)
    votes = surest_votes(scores.train)
    right, robust = torch.zeros(2, len(rows), dtype=torch.bool)
    cut = np.full(len(rows), 0)
    for client, part in enumerate(scores.parts):
        cut[part] = fold_of(len(part), client, FEW.folds, streams)
    first = Streams(streams.integer(f"phase 2 {rule.name}"))
    fitted = out_of_fold(rule, scores, FEW, 1).rows if rule.learned else None
    for fold in range(FEW.folds):
        at, kept = (torch.from_numpy(np.flatnonzero(x)) for x in (cut == fold, cut != fold))
        told = tally(scores.train[:, kept], scores.targets[kept]) if rule.counts_votes else None
        module = initial_rule(rule, scores.panel, first, told)
        if fitted is not None:
            ParameterLayout.of(module).load_(module, fitted[fold])
        module.eval()
        with torch.no_grad():
            right[at] = module(rows[at]).argmax(1) == scores.targets[at]
        robust[at] = robust_hits(module, scores.panel, rows[at], scores.targets[at], votes, f)
    return right, robust


RULES: list[Rule] = [Average(), LabelWeighted(), Voting(), PerClass(), Neural(width=3)]


def test_the_sums_are_those_of_all_proxies_in_one_place(tmp_path: Path) -> None:
    scores = known(made_up(3, SIZES))
    found = judged_by_clients(RULES, scores, FEW, tmp_path / "run", f=1)
    hits, robust = zip(*(whole(rule, scores, 1) for rule in RULES), strict=True)
    due = sums(found.rules, torch.stack(hits), torch.stack(robust))
    assert found.proxies == due.proxies == sum(SIZES)
    assert np.array_equal(found.right, due.right)
    assert found.robust is not None
    assert due.robust is not None
    assert np.array_equal(found.robust, due.robust)
    assert 0 < found.right[0, 0] < found.proxies
    plain = judged_by_clients(RULES[:1], scores, FEW, tmp_path / "plain")
    assert plain.robust is None
    assert plain.robust_accuracy("average") is None
    assert np.array_equal(plain.right, found.right[:1, :1])


def test_what_is_fitted_is_judged_on_what_it_has_not_seen(tmp_path: Path) -> None:
    scores = made_up(members=2, sizes=(30, 30, 1, 0))
    long = AggregateSettings(rounds=60, every=60)
    found = judged_by_clients([Neural(width=40, lr=0.1), Voting()], scores, long, tmp_path / "run")
    # Scores say nothing of the targets, so only who has seen a target can know it.
    assert found.accuracy("neural") < 0.5
    assert found.accuracy("voting") < 0.5


def test_workers_judge_alike(tmp_path: Path) -> None:
    scores = known(made_up(3, SIZES))
    here = judged_by_clients(RULES, scores, FEW, tmp_path / "here", f=1)
    apart = Place(Processes(workers=2))
    there = judged_by_clients(RULES, scores, FEW, tmp_path / "there", 1, apart)
    assert here.bytes_sent == there.bytes_sent
    assert np.array_equal(here.right, there.right)
    assert here.robust is not None
    assert there.robust is not None
    assert np.array_equal(here.robust, there.robust)


def test_what_is_not_fitted_costs_a_count_of_each_client(tmp_path: Path) -> None:
    scores = made_up()
    found = judged_by_clients([Average(), Voting(), PerClass()], scores, FEW, tmp_path / "run")
    fitting = out_of_fold(PerClass(), scores, FEW, 1).bytes_sent
    average, voting, learned = (found.bytes_sent[name] for name in found.rules)
    assert 0 < average < 3 * 100
    tallies = FEW.folds * 3 * 4 * 4 * 4
    assert 2 * 3 * tallies < voting < 2 * 3 * (tallies + 100) + 3 * 100
    numbers = FEW.folds * 4 * sum(p.numel() for p in PerClass().build(scores.panel).parameters())
    assert 3 * numbers < learned - fitting < 3 * (numbers + 200)


@pytest.mark.parametrize("rules", [RULES, [Average(), Experts()]], ids=["scores", "inputs"])
def test_a_party_needs_no_scores_of_others(
    rules: list[Rule], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, jobs = known(made_up(3, SIZES)), list[Job]()
    if rules is not RULES:
        inputs = torch.randn(sum(SIZES), 2), torch.randn(6, 2)
        object.__setattr__(scores, "inputs", inputs[0])
        object.__setattr__(scores, "test_inputs", inputs[1])
    play = tallying.play

    def watched(path: Path, job: Job, **given: Any) -> Any:
        jobs.append(job)
        return play(path, job, **given)

    monkeypatch.setattr(tallying, "play", watched)
    judged = judged_by_clients(rules, scores, FEW, tmp_path / "run", f=1)
    job = jobs[-1]
    groups = [np.array([k]) for k in range(job.nodes)]
    blocks, _ = play_apart(parties_of(job, tmp_path, groups), groups)
    told = [event for block in blocks for event in block.events if event["kind"] == "judged"]
    assert {k: v for k, v in told[-1].items() if k in ("right", "robust")} == {
        "right": judged.right[-1].tolist(),
        "robust": judged.robust[-1].tolist() if judged.robust is not None else None,
    }
    sent = int(in_order(blocks).state["bytes_sent"].sum())
    assert sent == (RunFolder.open(tmp_path / "run").summary or {})["bytes_sent"]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 5))
def test_gains_of_sums_are_those_of_hits(seed: int, proxies: int, clients: int) -> None:
    random = np.random.default_rng(seed)
    hits = torch.from_numpy(random.random((2, proxies)) < 0.6)
    owner = random.integers(clients, size=proxies)
    parts = [sums(("a", "b"), hits[:, owner == k]).right for k in range(clients)]
    found = sums(("a", "b"), hits)
    assert np.array_equal(sum(parts), found.right)
    gain, error = found.gain("b", "a")
    difference = hits[1].double() - hits[0].double()
    assert gain == pytest.approx(float(difference.mean()))
    assert error == pytest.approx(float((difference.square().sum() + 1).sqrt()) / proxies)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31 - 1), st.sampled_from([1, 3]), st.integers(1, 6))
def test_how_loud_members_are_adds_up(seed: int, outputs: int, cut: int) -> None:
    scores = torch.randn(2, 7, outputs, generator=torch.Generator().manual_seed(seed))
    parts = np.array([loudness(scores[:, :cut]), loudness(scores[:, cut:])])
    mean = float(parts[:, 1].sum() / parts[:, 0].sum())
    votes = votes_as_loud_as(float(parts[:, 2].max()), mean, outputs)
    torch.testing.assert_close(votes, surest_votes(scores))
