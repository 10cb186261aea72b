"""``choose: robust``: the K-vote on proxies, by the worst members, in table and choice."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hansa.base.errors import ConfigError
from hansa.combine.ensemble import AggregateSettings, Scores, choose, fit
from hansa.combine.ensemble import worst_votes as worst_votes_
from hansa.combine.ensemble.page import columns, lines
from hansa.combine.ensemble.worst_votes import robust_hits
from hansa.ensemble import Average, LabelWeighted, Robust, Rule, Voting
from hansa.ensemble.kvote import kvote, surest_votes
from hansa.ensemble.networks import Fixed

from .conftest import made_up, quick, ran, sums


def agreeing(members: int) -> Scores:
    """Members that are mostly right, and more or less sure."""
    scores = made_up(members)
    random = torch.Generator().manual_seed(2)
    sure = 9 * torch.rand(1, len(scores.targets), 1, generator=random)
    hot = torch.nn.functional.one_hot(scores.targets, 4)
    return replace(scores, train=scores.train + sure * hot)


def by_hand(rule: Rule, f: int, path: Path) -> torch.Tensor:
    """Every set of liars, every class, one proxy at a time."""
    scores = agreeing(5)
    module = fit(rule, scores, AggregateSettings(), 1, path / "hand").module
    votes = surest_votes(scores.train)
    right = []
    for k, target in enumerate(scores.targets.tolist()):
        own = scores.train[:, k]  # [M, C]
        tries = [own]
        for liars in itertools.combinations(range(5), f):
            for vote in votes:
                lied = own.clone()
                lied[list(liars)] = vote
                tries += [lied] if not torch.equal(vote, votes[target]) else []
        said = [int(module(lied.flatten()[None])[0].argmax()) for lied in tries]
        right.append(set(said) == {target})
    return torch.tensor(right)


@pytest.mark.parametrize("f", [0, 1, 2])
@pytest.mark.parametrize("rule", [Average(), LabelWeighted(), Voting(), Robust()], ids=str)
def test_all_sets_of_liars_are_tried(rule: Rule, f: int, tmp_path: Path) -> None:
    scores = agreeing(5)
    fitted = fit(rule, scores, AggregateSettings(), 1, tmp_path / "run")
    votes, rows = surest_votes(scores.train), scores.rows(rule)
    robust = robust_hits(fitted.module, scores.panel, rows, scores.targets, votes, f)
    assert torch.equal(robust, by_hand(rule, f, tmp_path))
    assert robust.any() or f == 2


def test_greedy_liars_of_a_weighted_sum_are_the_worst(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = agreeing(7)
    weights = (1.0 + torch.arange(7.0))[:, None].expand(7, 4)
    module = Fixed(scores.panel, weights)
    votes = surest_votes(scores.train)
    given = module, scores.panel, scores.rows(Average()), scores.targets, votes
    whole = [robust_hits(*given, f) for f in range(4)]
    monkeypatch.setattr(worst_votes_, "SETS", 0)
    for f, right in enumerate(whole):
        assert torch.equal(robust_hits(*given, f), right)
    assert whole[0].sum() > whole[1].sum() > whole[2].sum()


def test_a_rule_that_looks_at_the_input_keeps_its_input() -> None:
    """Rows hold inputs behind the scores; they stay beside what is forged."""
    scores = agreeing(3)
    inputs = torch.randn(len(scores.targets), 2, generator=torch.Generator().manual_seed(1))

    class Looking(torch.nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            mean = scores.panel.scores(rows).mean(-2)
            return torch.where(rows[:, -1:] > 0, mean, -mean)

    rows = torch.cat([scores.rows(Average()), inputs], 1)
    votes = surest_votes(scores.train)
    robust = robust_hits(Looking(), scores.panel, rows, scores.targets, votes, 1)
    for k, target in enumerate(scores.targets):
        sign = 1.0 if inputs[k, -1] > 0 else -1.0
        each = [
            bool(
                kvote(
                    lambda r, s=sign: s * r.mean(1),
                    scores.train[:, k][None],
                    torch.tensor([liar]),
                    target[None],
                    votes,
                )
            )
            for liar in range(3)
        ]
        assert bool(robust[k]) == all(each)


def test_the_choice_is_by_what_lies_leave() -> None:
    rules: dict[str, Rule] = {"average": Average(), "voting": Voting()}
    many, few = torch.arange(100) < 90, torch.arange(100) < 40
    robust = torch.stack([few, few | (many & ~few)])
    judged = sums(("average", "voting"), torch.stack([many, few]), robust)
    assert choose("auto", rules, judged)[0] == "average"
    kept, why = choose("robust", rules, judged)
    assert kept == "voting"
    assert "50.0 points better than average on the proxies, however members lie" in why


def test_a_run_says_what_lies_leave(tmp_path: Path) -> None:
    rules = ["average", "label_weighted", "voting", "robust"]
    _, result = ran(tmp_path, choose="robust", f=1, rules=rules)
    rows = [row for row in result.table if row["kind"] == "rule"]
    assert {row["liars"] for row in rows} == {1}
    for row in rows:
        assert row["proxy_robust_accuracy"] <= row["proxy_accuracy"]
    best = max(row["proxy_robust_accuracy"] for row in rows)
    kept = next(row for row in rows if row["name"] == result.chosen)
    assert kept["proxy_robust_accuracy"] >= best - 0.05
    assert "however members lie" in kept["note"]
    heads = columns(result.table)
    assert heads[:4] == ["", "accuracy", "on proxies", "1 lies"]
    assert all(len(line) == len(heads) for line in lines(result.table, result.chosen))


@pytest.mark.parametrize("changes", [{"f": 2}, {"f": 1, "without": [0, 1]}])
def test_liars_that_cannot_be_outvoted_are_refused(changes: dict[str, Any]) -> None:
    from hansa.combine.ensemble import prepare

    with pytest.raises(ConfigError, match="below half"):
        prepare(quick(choose="robust", **changes))
