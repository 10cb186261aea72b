"""Phase 2: exact against plain loops (FENS checks 1 and 3), where it runs, and what is kept."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.combine.ensemble import AggregateSettings, Judged, choose, fit
from hansa.combine.ensemble.aggregate import _quick
from hansa.combine.ensemble.ensemble_settings import algorithm
from hansa.ensemble import (
    Average,
    LabelWeighted,
    Neural,
    PerClass,
    Residual,
    Rule,
    initial_rule,
)

from .conftest import made_up, sums


def by_hand(rule: Rule, rounds: int, rate: float, adam: dict[str, float] | None) -> torch.Tensor:
    """The rule's numbers after so many rounds with K = 1, all examples a step, in float64."""
    scores = made_up()
    start = Streams(Streams(1).integer(f"phase 2 {rule.name}"))
    module = initial_rule(rule, scores.panel, start).double()
    rows = scores.rows(rule).double()
    m = v = torch.zeros(sum(p.numel() for p in module.parameters()), dtype=torch.float64)
    total = len(scores.targets)
    for _ in range(rounds):
        loss = sum(
            len(part) / total * F.cross_entropy(module(rows[part]), scores.targets[part])
            for part in scores.parts
        )
        assert isinstance(loss, torch.Tensor)
        grads = torch.autograd.grad(loss, list(module.parameters()))
        step = -rate * torch.cat([grad.flatten() for grad in grads])
        if adam is not None:
            m = adam["beta1"] * m + (1 - adam["beta1"]) * step
            v = adam["beta2"] * v + (1 - adam["beta2"]) * step.square()
            step = adam["lr"] * m / (v.sqrt() + adam["tau"])
        at = 0
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += step[at : at + parameter.numel()].view_as(parameter)
                at += parameter.numel()
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def numbers(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()]).double()


@pytest.mark.parametrize("strategy", ["looped", "stacked"])
@pytest.mark.parametrize("rule", [PerClass(), Neural(width=3)], ids=lambda rule: rule.name)
def test_a_round_with_one_step_is_a_central_step_on_the_weighted_loss(
    rule: Rule, strategy: str, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"rounds": 1, "strategy": strategy}
    sgd = AggregateSettings.model_validate(settings | {"algorithm": algorithm("fedavg")})
    found = fit(rule, made_up(), sgd, 1, tmp_path / "sgd")
    assert torch.allclose(numbers(found.module), by_hand(rule, 1, 1.0, None), rtol=0, atol=1e-6)
    adam = {"beta1": 0.9, "beta2": 0.99, "tau": 1e-3, "lr": rule.lr}  # type: ignore[attr-defined]
    found = fit(rule, made_up(), AggregateSettings.model_validate(settings), 1, tmp_path / "adam")
    assert torch.allclose(numbers(found.module), by_hand(rule, 1, 1.0, adam), rtol=0, atol=1e-6)


def test_two_rounds_of_fedadam_are_the_closed_form(tmp_path: Path) -> None:
    adam = {"beta1": 0.9, "beta2": 0.99, "tau": 1e-3, "lr": 1e-2}
    found = fit(PerClass(), made_up(), AggregateSettings(rounds=2), 1, tmp_path / "run")
    assert torch.allclose(numbers(found.module), by_hand(PerClass(), 2, 1.0, adam), atol=1e-6)


@pytest.mark.parametrize("rule", [PerClass(), Neural(), Residual()], ids=lambda rule: rule.name)
def test_the_short_way_of_judging_is_the_long_one(rule: Rule, tmp_path: Path) -> None:
    settings = AggregateSettings(rounds=30)
    long, short = (
        fit(rule, made_up(), settings, 4, tmp_path / "run"), _quick(rule, made_up(), settings, 4),
    )  # fmt: skip
    assert torch.allclose(numbers(long.module), numbers(short.module), rtol=0, atol=1e-5)
    assert long.bytes_sent == short.bytes_sent


@pytest.mark.parametrize("over", ["clients", "server", "peers"])
def test_phase_2_learns_wherever_it_runs(over: str, tmp_path: Path) -> None:
    scores = made_up(members=5, sizes=(40,) * 5)
    scores.train[2] += 3 * F.one_hot(scores.targets, 4)  # one member knows
    settings = AggregateSettings.model_validate(
        {"over": over, "rounds": 150, "every": 150, "topology": "ring"}
    )
    found = fit(Neural(lr=1e-2), scores, settings, 1, tmp_path / "run")
    plain = fit(Average(), scores, settings, 1, tmp_path / "none")
    hits = [f.hits(scores.rows(f.rule), scores.targets).double().mean() for f in (found, plain)]
    assert hits[0] > hits[1] + 0.1
    assert found.bytes_sent > 0


def judged(*shares: float) -> Judged:
    names = ("average", "label_weighted", "neural")
    return sums(names, torch.stack([torch.arange(100) < 100 * share for share in shares]))


@pytest.mark.parametrize(
    ("shares", "kept"),
    [
        ((0.5, 0.6, 0.9), "neural"),
        ((0.5, 0.89, 0.9), "label_weighted"),  # a single example decides nothing
        ((0.5, 0.9, 0.9), "label_weighted"),
        ((0.5, 0.9, 0.7), "label_weighted"),
        ((0.5, 0.4, 0.3), "average"),
    ],
)
def test_a_learned_rule_is_kept_only_if_it_is_better(shares: tuple[float, ...], kept: str) -> None:
    rules: dict[str, Rule] = {r.name: r for r in (Average(), LabelWeighted(), Neural())}
    if shares[2] == 0.9 > shares[1]:  # a rule that starts plain need only be better
        plain = rules | {"neural": Residual()}
        assert choose("auto", plain, judged(*shares))[0] == "neural"
    assert choose("auto", rules, judged(*shares))[0] == kept
    assert choose("average", rules, None)[0] == "average"
    with pytest.raises(ConfigError, match="not among"):
        choose("linear", rules, None)
