"""Clients of an ensemble that lie: what they upload, what it does to a rule, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hansa.base.errors import ConfigError
from hansa.combine.ensemble import EnsembleSettings, Place, combine, prepare
from hansa.combine.ensemble.run import ensemble
from hansa.engine import Processes
from hansa.models import ParameterLayout

from .conftest import QUICK, quick, ran

FLIP = {"name": "sign_flip", "nodes": [1, 4], "scale": 10}
NNM = {"name": "nnm", "f": 2, "then": {"name": "trimmed_mean", "f": 2}}
SETTINGS: dict[str, Any] = {
    "clients": 8,
    "rules": ["average", "per_class"],
    "choose": "per_class",
    "quantize": "none",
    "local": {"epochs": 12, "optimizer": {"name": "sgd", "lr": 0.2}, "strategy": "looped"},
    "aggregate": {"rounds": 60, "every": 60, "aggregator": NNM, "strategy": "looped"},
}


def rows(members: Any) -> torch.Tensor:
    return torch.stack([ParameterLayout.of(m.module).flatten(m.module) for m in members])


def test_liars_upload_the_opposite_of_what_they_trained_and_the_others_what_they_did(
    tmp_path: Path,
) -> None:
    honest, attacked = (
        rows(ran(tmp_path / str(k), **SETTINGS, attack=attack)[1].members)
        for k, attack in enumerate([None, FLIP])
    )
    liars = torch.tensor([1, 4])
    assert torch.equal(attacked[liars], -10 * honest[liars])
    others = torch.tensor([0, 2, 3, 5, 6, 7])
    assert torch.equal(attacked[others], honest[others])


def test_a_rule_that_is_learned_robustly_survives_and_one_of_means_does_not(tmp_path: Path) -> None:
    robust = ran(tmp_path / "robust", **SETTINGS, attack=FLIP)[1].accuracy
    plain = {**SETTINGS, "aggregate": SETTINGS["aggregate"] | {"aggregator": "mean"}}
    broken = ran(tmp_path / "mean", **plain, attack=FLIP)[1].accuracy
    honest = ran(tmp_path / "without", **SETTINGS, without=[1, 4])[1].accuracy
    assert robust > honest - 0.08
    assert broken < robust - 0.3


def test_who_lies_is_told_by_number_when_some_are_left_out() -> None:
    prepared = prepare(quick(**SETTINGS, attack=FLIP, without=[0, 4]))
    assert prepared.attackers is not None
    assert prepared.division.clients[int(prepared.attackers.nodes[0])] == 1
    assert len(prepared.attackers.nodes) == 1
    assert prepare(quick(**SETTINGS, attack=FLIP, without=[1, 4])).attackers is None


@pytest.mark.slow
def test_an_attacked_ensemble_is_the_same_in_worker_processes(tmp_path: Path) -> None:
    colluding = {"name": "inner_product", "share": 0.25, "scale": 3}
    prepared = prepare(quick(**SETTINGS, attack=colluding))
    here = combine(prepared, tmp_path / "here", lambda text: None)
    there = combine(
        prepared, tmp_path / "there", lambda text: None, place=Place(Processes(workers=2))
    )
    assert torch.equal(rows(here.members), rows(there.members))
    for name, fit in here.fits.items():
        same = [ParameterLayout.of(f.module).flatten(f.module) for f in (fit, there.fits[name])]
        assert torch.equal(*same), name


def test_the_run_folder_says_who_lies(tmp_path: Path) -> None:
    small = {"aggregate": {"rounds": 2, "every": 2}, "local": {"epochs": 1}, "models": ["mlp"]}
    run = ensemble(QUICK | small | {"attack": FLIP | {"nodes": [1]}}, tmp_path / "run")
    assert any(
        text.startswith("attack: clients 1 upload") for text in run.read_json("remarks.json")
    )
    assert "attack: clients 1 upload" in (run.path / "report.html").read_text()


@pytest.mark.parametrize(
    ("changes", "field", "fix"),
    [
        ({"attack": FLIP | {"nodes": [9]}}, "attack.nodes", "0 to 7"),
        ({"attack": {"name": "sign_flip", "share": 0.01}}, "attack.share", "larger"),
        ({"attack": FLIP, "predictors": ["sklearn.tree:DecisionTreeClassifier"], "models": []},
         "attack", "train a network"),
        ({"attack": FLIP, "aggregate": {"over": "server"}}, "attack", "aggregate.over: clients"),
        ({"attack": FLIP, "baselines": {"methods": ["fedavg"]}}, "attack", "methods: []"),
        ({"aggregate": {"aggregator": NNM, "over": "server"}}, "aggregate.aggregator", "clients"),
        ({"aggregate": {"aggregator": NNM, "algorithm": "fedavg"}}, "aggregate.aggregator",
         "aggregate.algorithm.aggregator"),
        ({"clients": 4, "aggregate": {"aggregator": NNM}}, "aggregate.aggregator", "more clients"),
        ({"aggregate": {"aggregator": {"name": "median"}, "over": "peers",
                        "topology": {"name": "regular", "degree": 9}}}, "aggregate.topology",
         "degree"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_trained(
    changes: dict[str, Any], field: str, fix: str
) -> None:
    if "predictors" in changes:
        changes = {**changes, "predictors": [{"path": changes["predictors"][0]}]}
    given = {**QUICK, **SETTINGS, **changes}
    with pytest.raises(ConfigError) as caught:
        prepare(EnsembleSettings.model_validate(given))
    assert caught.value.field.startswith(field)
    assert fix in f"{caught.value.fix} {caught.value.problem}"
