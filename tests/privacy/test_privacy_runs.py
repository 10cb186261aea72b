"""Runs with privacy: the same in every runtime, epsilon where it is looked for, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn
from typer.testing import CliRunner

from hansa.base.errors import ConfigError
from hansa.cli.app import app
from hansa.experiment.prepare import framed
from hansa.experiment.run import resume, run
from hansa.experiment.runfile import RunFile
from hansa.report import RunFolder


class Normed(nn.Sequential):
    """A network with a batch norm."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))


SMALL: dict[str, Any] = {
    "nodes": 4,
    "rounds": 3,
    "model": {"name": "mlp", "hidden": [8]},
    "topology": {"name": "regular", "degree": 2},
    "train": {"local_steps": 2},
    "evaluate": {"every": 3, "dense_start": False},
}
EXAMPLE = {"name": "example", "clip": 1.0, "noise": 1.0, "delta": 1e-5}
LOCAL = {"name": "local", "clip": 1.0, "noise": 0.5, "delta": 1e-5}
APART = {"name": "processes", "workers": 2}


def played(out: Path, privacy: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    settings = {**SMALL, **more} | ({"privacy": privacy} if privacy else {})
    summary = run(settings, out, report=False).summary
    assert summary is not None
    return summary


@pytest.mark.parametrize(
    ("privacy", "algorithm"),
    [(EXAMPLE, "fedavg"), pytest.param(LOCAL, "dpsgd", marks=pytest.mark.slow)],
)
def test_the_runtime_does_not_matter(tmp_path: Path, privacy: Any, algorithm: str) -> None:
    one = played(tmp_path / "one", privacy, algorithm=algorithm)
    two = played(tmp_path / "two", privacy, algorithm=algorithm, runtime=APART)
    assert one["final"] == two["final"]
    assert one["privacy"] == two["privacy"]
    assert one["privacy"]["epsilon"] > 0


def test_a_resumed_run_goes_on_as_it_would_have(tmp_path: Path) -> None:
    whole = played(tmp_path / "whole", LOCAL)
    played(tmp_path / "part", LOCAL, rounds=2, checkpoint={"every": 1})
    again = resume(tmp_path / "part", {"rounds": 3}, report=False).summary
    assert again is not None
    assert again["final"]["accuracy"] == whole["final"]["accuracy"]
    assert again["privacy"] == whole["privacy"]


def test_without_noise_and_bound_it_is_the_plain_run_of_the_same_batches(tmp_path: Path) -> None:
    # Every example is in every batch at q = 1, so that both see all of them at each step.
    every = {"batch_size": 400, "drop_last": False, "local_steps": 2}
    plain = played(tmp_path / "plain", None, train=every)
    clipped = played(tmp_path / "clipped", EXAMPLE | {"clip": 1e6, "noise": 0}, train=every)
    assert clipped["final"]["loss"] == pytest.approx(plain["final"]["loss"], rel=1e-4)
    assert clipped["privacy"]["epsilon"] is None  # no noise, no guarantee


def test_a_budget_ends_the_run_before_it_is_passed(tmp_path: Path) -> None:
    for name, privacy in (
        ("example", EXAMPLE | {"budget": 1.9}),
        ("local", LOCAL | {"noise": 4.0, "budget": 3.5}),
    ):
        alone = played(tmp_path / name, privacy, rounds=30)
        assert alone["rounds"] < 30
        assert "epsilon" in alone["ended"]
        assert alone["privacy"]["epsilon"] <= privacy["budget"]
    more = played(tmp_path / "more", LOCAL | {"noise": 4.0}, rounds=alone["rounds"] + 1)
    assert more["privacy"]["epsilon"] > 3.5  # one more round would have passed it


def test_who_has_spent_its_budget_stops_and_others_go_on(tmp_path: Path) -> None:
    data = {"name": "digits", "partition": {"name": "dirichlet", "alpha": 0.5}}
    privacy = EXAMPLE | {"budget": 2.2}
    train = {"local_steps": 2, "drop_last": False}
    summary = played(tmp_path / "run", privacy, rounds=60, data=data, train=train, seed=3)
    last = RunFolder.open(tmp_path / "run").metrics()
    steps = last.filter((last["name"] == "steps") & last["node"].is_not_null())
    steps = steps.filter(steps["round"] == steps["round"].max())["value"]
    assert steps.min() < steps.max()
    assert summary["privacy"]["epsilon"] <= 2.2


def test_epsilon_is_found_noise_for(tmp_path: Path) -> None:
    privacy = {"name": "example", "clip": 1.0, "epsilon": 4.0, "delta": 1e-5}
    said = played(tmp_path / "run", privacy)["privacy"]
    assert 3.8 < said["epsilon"] <= 4.0
    assert said["noise"]


def test_page_and_json_say_epsilon(tmp_path: Path) -> None:
    arguments = ["learn", "dpsgd", "--json", "--quiet", "--out", str(tmp_path / "run")]
    for field, value in (SMALL | {"privacy": EXAMPLE}).items():
        arguments += ["--set", f"{field}={json.dumps(value)}"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)["privacy"]
    assert said["unit"] == "one training example of a node, added or removed"
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "nobody can tell apart" in page
    assert f"{said['epsilon']:.4g}" in page


def test_check_foresees_what_the_run_comes_to(tmp_path: Path) -> None:
    from hansa.experiment.outlook import plan
    from hansa.experiment.prepare import prepare

    chosen = RunFile.of({**SMALL, "privacy": EXAMPLE})
    foreseen = plan(chosen, prepare(chosen))["privacy"]
    assert foreseen == played(tmp_path / "run", EXAMPLE)["privacy"]


TOGETHER = [
    (EXAMPLE, {"algorithm": "skiptrain"}),
    (EXAMPLE, {"algorithm": "jwins"}),
    (EXAMPLE, {"algorithm": "scaffold"}),
    (EXAMPLE, {"algorithm": "adpsgd"}),
    (EXAMPLE, {"algorithm": "secure_dpsgd", "topology": {"name": "regular", "degree": 3}}),
    (EXAMPLE, {"algorithm": {"name": "hierarchical", "edges": 2}}),
    (EXAMPLE, {"algorithm": {"name": "fedbuff", "concurrency": 2, "buffer": 2}}),
    (LOCAL, {"algorithm": {"name": "dpsgd", "codec": "qsgd"}, "faults": {"loss": 0.2}}),
    (LOCAL, {"algorithm": {"name": "fedavg", "aggregator": "median"}}),
    (
        LOCAL,
        {
            "algorithm": {"name": "el_local", "fanout": 2},
            "attack": {"name": "sign_flip", "nodes": [1]},
        },
    ),
    (LOCAL, {"algorithm": {"name": "el_local", "fanout": 2}}),
]


@pytest.mark.parametrize(("privacy", "more"), TOGETHER, ids=[str(k) for k in range(len(TOGETHER))])
def test_what_goes_with_what(tmp_path: Path, privacy: Any, more: dict[str, Any]) -> None:
    evaluate = {"every": 1, "dense_start": False}
    said = played(tmp_path / "run", privacy, **more, rounds=1, evaluate=evaluate)
    assert 0 < said["privacy"]["epsilon"] < 1e4
    assert said["final"]["loss"] > 0


REFUSED = [
    ({"privacy": {"name": "example", "noise": 1, "delta": 1e-5}}, "privacy.clip"),
    ({"privacy": {"name": "example", "clip": 1, "noise": 1}}, "privacy.delta"),
    ({"privacy": {"name": "example", "clip": 1, "epsilon": 1}}, "privacy.delta"),
    ({"privacy": {"name": "example", "clip": 1, "delta": 1e-5}}, "privacy.noise"),
    ({"privacy": EXAMPLE | {"epsilon": 3}}, "privacy.epsilon"),
    ({"privacy": EXAMPLE | {"noise": 0, "budget": 3}}, "privacy.budget"),
    ({"privacy": LOCAL, "algorithm": "jwins"}, "privacy"),
    ({"privacy": LOCAL, "algorithm": "choco"}, "privacy"),
    ({"privacy": LOCAL, "algorithm": "secure_dpsgd"}, "privacy"),
    ({"privacy": LOCAL, "algorithm": "adpsgd"}, "privacy"),
    ({"privacy": EXAMPLE, "algorithm": "quickdrop"}, "privacy"),
    ({"privacy": EXAMPLE, "algorithm": "rex"}, "privacy"),
    ({"privacy": EXAMPLE, "algorithm": {"name": "fedavg", "select": "best"}}, "privacy"),
    (
        {
            "privacy": {"name": "central", "clip": 1, "noise": 1, "delta": 1e-5},
            "algorithm": {
                "name": "fedavg",
                "weighting": "uniform",
                "sampled": 2,
                "sampler": "poisson",
                "global_momentum": 0.5,
            },
        },
        "privacy",
    ),
    ({"privacy": EXAMPLE, "faults": {"crash": [{"node": 1, "at": 1, "back": 3}]}}, "faults"),
    ({"privacy": EXAMPLE, "runtime": APART | {"on_crash": "continue"}}, "runtime.on_crash"),
]


@pytest.mark.parametrize(("wrong", "field"), REFUSED, ids=[str(k) for k in range(len(REFUSED))])
def test_what_does_not_protect_is_refused(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        framed(RunFile.of({**SMALL, **wrong}))
    assert refusal.value.field.startswith(field)
    assert refusal.value.fix


def test_batch_norm_is_refused_with_what_works() -> None:
    from hansa.experiment.prepare import prepare

    model = {"name": "module", "path": f"{__file__}:Normed"}
    chosen = RunFile.of({**SMALL, "model": model, "privacy": EXAMPLE})
    with pytest.raises(ConfigError, match="GroupNorm"):
        prepare(chosen)
