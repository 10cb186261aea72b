"""Robust aggregators and attacks in learning: what breaks a mean and leaves a median alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import hansa
from hansa.base.errors import ConfigError, OwnCodeError
from hansa.engine import Job
from hansa.ensemble import Aggregator

FEDERATED: dict[str, Any] = {"algorithm": {"name": "fedavg", "weighting": "uniform"}}
PEERS: dict[str, Any] = {"algorithm": {"name": "dpsgd"}, "topology": {"name": "complete"}}
FLIP: dict[str, Any] = {"name": "sign_flip", "nodes": (1, 6), "scale": 4.0}
TRIM = {"name": "trimmed_mean", "f": 1}
LEARNS: dict[str, Any] = {
    "rounds": 12,
    "data": {"name": "digits", "partition": {"name": "iid"}},
    "train.optimizer": {"name": "sgd", "lr": 0.2},
    "train.local_steps": 8,
    "evaluate": {"every": 12, "dense_start": False},
}


def changed(base: dict[str, Any], **algorithm: Any) -> dict[str, Any]:
    return {**base, "algorithm": {**base["algorithm"], **algorithm}}


def accuracy(reports: list[dict[str, Any]]) -> float:
    return float(np.nanmin(reports[-1]["measured"]["values"]["accuracy"]))


@pytest.mark.parametrize("base", [FEDERATED, PEERS], ids=["fedavg", "dpsgd"])
@pytest.mark.parametrize(
    ("aggregator", "attacked", "learns"),
    [
        ("mean", False, True),
        ("mean", True, False),
        ("median", True, True),
        ({"name": "trimmed_mean", "f": 2}, True, True),
    ],
    ids=["mean", "mean attacked", "median attacked", "trimmed_mean attacked"],
)
def test_two_of_eight_break_a_mean_and_no_robust_aggregator(
    make_job: Callable[..., Job],
    host: Callable[..., Any],
    base: dict[str, Any],
    aggregator: Any,
    attacked: bool,
    learns: bool,
) -> None:
    settings = {**LEARNS, **changed(base, aggregator=aggregator)}
    job = make_job(settings | ({"attack": FLIP} if attacked else {}))
    _, reports = host(job)
    assert (accuracy(reports) > 0.8) == learns
    assert (accuracy(reports) < 0.5) != learns


@pytest.mark.parametrize(
    ("base", "more"),
    [
        (changed(PEERS, aggregator="median"), {}),
        (changed(PEERS, codec="qsgd"), {}),
        ({"algorithm": {"name": "jwins", "aggregator": {"name": "trimmed_mean"}}}, {}),
        (changed(FEDERATED, aggregator="median", codec="qsgd", server="adam"), {}),
        ({"algorithm": {"name": "scaffold", "aggregator": "median", "codec": "sign"}}, {}),
        ({"algorithm": {"name": "fednova", "aggregator": "trimmed_mean"}}, {}),
        (
            {"algorithm": {"name": "cpfl", "cohorts": 2, "merge": "none", "stop": None}},
            {"algorithm.select": "last", "algorithm.aggregator": "median"},
        ),
    ],
    ids=[
        "dpsgd",
        "dpsgd, lossy",
        "jwins",
        "fedavg, lossy",
        "scaffold, lossy",
        "fednova",
        "cohorts",
    ],
)
def test_blocks_do_not_matter(
    make_job: Callable[..., Job],
    host: Callable[..., Any],
    host_apart: Callable[..., Any],
    base: dict[str, Any],
    more: dict[str, Any],
) -> None:
    attack = {"name": "gaussian", "share": 0.25}

    def make() -> Job:
        return make_job({"rounds": 2, "attack": attack, **base, **more})

    block, _ = host(make())
    rows, _, _ = host_apart(make, 3)
    assert torch.equal(block.rows, rows)


class PlainMean(Aggregator):
    """A weighted mean that nothing takes a short cut for."""

    def start(self, like: Tensor) -> list[Any]:
        return []

    def add(self, state: list[Any], rows: Tensor, weights: np.ndarray) -> None:
        state += zip(rows.double().clone(), weights, strict=True)

    def end(self, state: list[Any]) -> Tensor:
        total = sum(w for _, w in state)
        return (sum(x * w for x, w in state) / total).float()


MEANS = """dpsgd el_local jwins topk random_sampling centralized
fedavg fedadam scaffold fednova fedbuff quickdrop"""


@pytest.mark.parametrize("name", MEANS.split())
def test_the_mean_is_what_the_general_way_gives(
    make_job: Callable[..., Job], host: Callable[..., Any], name: str
) -> None:
    more: dict[str, Any] = {"fedbuff": {"concurrency": 4, "buffer": 3}}.get(name, {})
    # A last bit of the first mean may decide which numbers are the largest in the next round.
    rounds = 1 if name in ("topk", "jwins") else 2
    settings = {"rounds": rounds, "clock": {"name": "modelled", "spread": 0.8}}
    found = [
        host(make_job({**settings, "algorithm": {"name": name, "aggregator": one, **more}}))[0].rows
        for one in ("mean", PlainMean())
    ]
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def test_a_node_that_hears_too_few_keeps_its_model(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    settings = {"rounds": 1, "train.local_steps": 0, "topology": {"name": "ring"}}
    lonely = {"name": "el_local", "fanout": 1, "aggregator": {"name": "trimmed_mean", "f": 3}}
    job = make_job({**settings, "algorithm": lonely, "attack": {"name": "gaussian", "nodes": (0,)}})
    block, _ = host(job)
    assert torch.equal(block.rows, block.rows[:1].expand_as(block.rows))


def test_attackers_are_not_measured_and_are_told(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    job = make_job({"rounds": 2, **PEERS, "attack": {"name": "gaussian", "nodes": (1, 6)}})
    _, reports = host(job)
    assert reports[0]["events"] == [{"kind": "attack", "name": "gaussian", "nodes": [1, 6]}]
    assert reports[1]["events"] == []
    measured = reports[-1]["measured"]
    assert np.flatnonzero(np.isnan(measured["values"]["accuracy"])).tolist() == [1, 6]
    assert measured["models"] == 6
    assert len(make_job({"evaluate": {"nodes": 6}, "attack": FLIP}).evaluated_nodes()) == 6


ALIE: dict[str, Any] = {"name": "a_little_is_enough", "nodes": (1, 6), "z": 3.0}
MIMIC: dict[str, Any] = {"name": "mimic", "nodes": (1, 6)}
MIXED = {"name": "nnm", "f": 2, "then": {"name": "trimmed_mean", "f": 2}}


@pytest.mark.parametrize(
    ("base", "aggregator", "attack"),
    [
        (PEERS, MIXED, ALIE),
        (FEDERATED, "geometric_median", ALIE),
        (PEERS, {"name": "centered_clipping", "steps": 2}, MIMIC),
        (FEDERATED, {"name": "multi_krum", "f": 2}, MIMIC),
        (FEDERATED, {"name": "bucketing", "size": 2, "then": "median"}, FLIP),
        (PEERS, {"name": "krum", "f": 2}, {"name": "inner_product", "nodes": (1, 6)}),
    ],
    ids=["nnm", "geometric_median", "centered_clipping", "multi_krum", "bucketing", "krum"],
)
def test_blocks_do_not_matter_to_whole_rows(
    make_job: Callable[..., Job],
    host: Callable[..., Any],
    host_apart: Callable[..., Any],
    base: dict[str, Any],
    aggregator: Any,
    attack: dict[str, Any],
) -> None:
    def make() -> Job:
        return make_job({"rounds": 2, "attack": attack, **changed(base, aggregator=aggregator)})

    block, _ = host(make())
    assert torch.equal(block.rows, host_apart(make, 3)[0])


@pytest.mark.parametrize(
    ("base", "aggregator"),
    [
        pytest.param(FEDERATED, MIXED, id="fedavg, nnm"),
        # In blocks apart it is held above.
        pytest.param(
            PEERS, "geometric_median", id="dpsgd, geometric_median", marks=pytest.mark.slow
        ),
    ],
)
def test_attacked_runs_are_the_same_in_processes_and_resumed(
    tmp_path: Path, small: Callable[..., dict[str, Any]], base: dict[str, Any], aggregator: Any
) -> None:
    models = {}
    for name, runtime, rounds in (
        ("simulate", {"name": "simulate"}, 3),
        ("processes", {"name": "processes", "workers": 2}, 3),
        ("resumed", {"name": "simulate"}, 2),
    ):
        settings = small({
            **changed(base, aggregator=aggregator), "attack": ALIE, "rounds": rounds,
            "runtime": runtime, "checkpoint": {"every": 1},
        })  # fmt: skip
        hansa.run(settings, tmp_path / name, report=False)
        if name == "resumed":
            hansa.resume(tmp_path / name, {"rounds": 3}, report=False)
        models[name] = hansa.open_run(tmp_path / name).trained().block.models()[1]
    assert torch.equal(models["simulate"], models["processes"])
    assert torch.equal(models["simulate"], models["resumed"])


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"attack": {"name": "sign_flip"}}, "attack.share"),
    ({"attack": {"name": "sign_flip", "nodes": (1,), "share": 0.2}}, "attack.share"),
    ({"attack": {"name": "sign_flip", "nodes": (8,)}}, "attack.nodes"),
    ({"attack": {"name": "sign_flip", "nodes": tuple(range(8))}}, "attack.nodes"),
    ({"attack": {"name": "sign_flip", "share": 0.01}}, "attack.share"),
    ({"attack": FLIP, "algorithm": {"name": "isolated"}}, "sends nothing"),
    ({"attack": FLIP, "algorithm": {"name": "secure_dpsgd"}}, "masked bytes"),
    (
        {"attack": FLIP, "algorithm": {"name": "local_sgd", "algorithm": {"name": "isolated"}}},
        "sends nothing",
    ),
    (
        {"algorithm": {"name": "dpsgd", "aggregator": {"name": "trimmed_mean", "f": 2}}},
        "needs 5 models, and node 0 has 4 with its own",
    ),
    ({"algorithm": {"name": "choco", "aggregator": "median"}}, "can only average"),
    ({"algorithm": {"name": "scalefl", "aggregator": "median"}}, "hold only part"),
    (
        {"algorithm": {"name": "fedavg", "sampled": 2, "aggregator": "trimmed_mean"}},
        "needs 3 updates and a server gets 2",
    ),
    (
        {"algorithm": {"name": "fedbuff", "buffer": 2, "concurrency": 4, "aggregator": TRIM}},
        "needs 3 updates",
    ),
    (
        {"algorithm": {"name": "cpfl", "cohorts": 4, "merge": "none", "stop": None,
                       "select": "last", "aggregator": {"name": "trimmed_mean", "f": 2}}},
        "algorithm.aggregator",
    ),
    ({"algorithm": {"name": "centralized", "aggregator": {"name": "trimmed_mean", "f": 4}}}, "8"),
    (
        {"algorithm": {"name": "dpsgd", "aggregator": {"name": "krum", "f": 2}}},
        "needs 5 models, and node 0 has 4 with its own",
    ),
    (
        {"algorithm": {"name": "fedavg", "aggregator": {**MIXED, "f": 4}}},
        "needs 9 updates and a server gets 8",
    ),
    ({"algorithm": {"name": "fedavg", "aggregator": "majority_vote"}}, "numbers cast none"),
    (
        {"algorithm": {"name": "dpsgd",
                       "aggregator": {"name": "bucketing", "then": "majority_vote"}}},
        "algorithm.aggregator",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "said"), WRONG, ids=range(len(WRONG)))
def test_what_cannot_be_robust_is_refused(
    make_job: Callable[..., Job], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        make_job(changes)


def test_a_round_with_too_few_updates_for_the_aggregator_has_failed(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    settings = {"name": "scaffold", "failure": 0.8, "aggregator": {"name": "trimmed_mean", "f": 3}}
    changes = {"rounds": 2, "algorithm": {**settings, "on_failed_round": "skip"}}
    block, reports = host(make_job(changes))
    assert all(r["events"][-1]["kind"] == "round_failed" for r in reports)
    assert torch.equal(block.kept["scaffold.control"], torch.zeros(1, block.rows.shape[1]))
    with pytest.raises(Exception, match=r"algorithm\.aggregator needs 7"):
        host(make_job({"rounds": 2, "algorithm": settings}))


KRUM = '''
import numpy as np
import torch
from pydantic import Field
from hansa.base.component import register
from hansa.ensemble import Buffered


@register("my_krum")
class Krum(Buffered):
    """The row that is nearest to its n - f - 2 nearest (Blanchard et al., 2017)."""

    f: int = Field(1, ge=0, description="rows that may be anything")

    @property
    def least(self):
        return 2 * self.f + 3

    def combine(self, rows, weights):
        near = torch.cdist(rows, rows).square().sort(dim=1).values
        return rows[near[:, 1 : len(rows) - self.f - 1].sum(1).argmin()]
'''
OWN_ATTACK = '''
from pydantic import Field
from hansa.base.component import register
from hansa.ensemble import Attack


@register("my_attack")
class Opposite(Attack):
    """All attackers send the opposite of the mean of theirs (Xie et al., 2019)."""

    colluding = True
    scale: float = Field(1.0, gt=0, description="how many times as large")

    def forge(self, rows, scene):
        return (-self.scale * scene.honest.mean(0)).expand_as(rows)
'''


@pytest.mark.parametrize("runtime", ["simulate", "processes"])
def test_ones_own_aggregator_and_attack_are_a_file_each(
    tmp_path: Path, small: Callable[..., dict[str, Any]], runtime: str
) -> None:
    for name, text in {"krum": KRUM, "attack": OWN_ATTACK}.items():
        (tmp_path / f"{name}.py").write_text(text)
        assert len(text.strip().splitlines()) < 30
    settings = small({
        **LEARNS, **changed(FEDERATED, aggregator={"name": "my_krum", "f": 2}),
        "attack": {"name": "my_attack", "nodes": [1, 6], "scale": 4.0},
        "plugins": [str(tmp_path / "krum.py"), str(tmp_path / "attack.py")],
        "runtime": {"name": runtime, **({"workers": 2} if runtime == "processes" else {})},
    })  # fmt: skip
    run = hansa.run(settings, tmp_path / "run", report=False)
    assert run.summary is not None
    assert run.summary["final"]["accuracy"] > 0.7
    assert "2 of 8 nodes" in (tmp_path / "run" / "remarks.json").read_text()
    assert '"attack"' in (tmp_path / "run" / "events.jsonl").read_text()


def test_colluders_see_each_other_whatever_the_blocks(
    tmp_path: Path,
    make_job: Callable[..., Job],
    host: Callable[..., Any],
    host_apart: Callable[..., Any],
) -> None:
    (tmp_path / "attack_blocks.py").write_text(OWN_ATTACK.replace("my_attack", "together"))
    plugins = [str(tmp_path / "attack_blocks.py")]
    for base in (PEERS, FEDERATED):

        def make(base: dict[str, Any] = base) -> Job:
            attack = {"name": "together", "nodes": (1, 6), "scale": 2.0}
            return make_job({"rounds": 2, **base, "attack": attack, "plugins": plugins})

        block, _ = host(make())
        assert torch.equal(block.rows, host_apart(make, 3)[0])


def test_an_attack_that_gives_something_else_is_named(
    tmp_path: Path, make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    wrong = OWN_ATTACK.replace("my_attack", "wrong").replace(".expand_as(rows)", "")
    (tmp_path / "wrong_attack.py").write_text(wrong)
    attack = {"name": "wrong", "nodes": (1, 6)}
    job = make_job({**PEERS, "attack": attack, "plugins": [str(tmp_path / "wrong_attack.py")]})
    with pytest.raises(OwnCodeError, match=r"attack.*forge gives"):
        host(job)
