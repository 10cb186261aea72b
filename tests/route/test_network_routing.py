"""Routing over whole networks: what goes where, held to a plain reference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hansa.base.errors import ConfigError
from hansa.cli import main
from hansa.cli.route_models import _rows
from hansa.route.answering import Mixture
from hansa.route.network_routing import (
    answered_by,
    encoded,
    fit_router,
    probabilities,
    sent,
    try_routing,
)
from hansa.route.routing import Routed


def clouds(seed: int, tasks: int = 3, count: int = 40, width: int = 5) -> list[torch.Tensor]:
    """Examples of tasks that lie apart."""
    draw = np.random.default_rng(seed)
    middles = draw.normal(size=(tasks, width)) * 6
    return [
        torch.from_numpy(draw.normal(middle, 1, (count, width)).astype(np.float32))
        for middle in middles
    ]


class Counting(nn.Module):
    """Says one class of four, and how many examples it saw."""

    def __init__(self, label: int) -> None:
        super().__init__()
        self.label, self.seen = label, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += len(x)
        scores = torch.zeros(len(x), 4)
        scores[:, self.label] = 3.0
        return scores


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 4))
def test_routes_are_those_of_plain_cosines(seed: int, places: int, k: int) -> None:
    own = clouds(seed)
    router = fit_router(nn.Identity(), own, sees="inputs", places=places, k=k, seed=seed)
    x = torch.cat(clouds(seed + 1))
    spots, choices = router.router.centroids, router.router.choices
    for row, routed in zip(x.double().numpy(), router.route(nn.Identity(), x), strict=True):
        v = row - router.centre
        cosines = [float(v @ spot / np.linalg.norm(v)) for spot in spots.astype(np.float64)]
        best = sorted(range(len(spots)), key=lambda p: -cosines[p])[:k]
        raw = [np.exp((cosines[p] - cosines[best[0]]) / 0.05) for p in best]
        wanted: dict[int, float] = {}
        for p, w in zip(best, raw, strict=True):
            wanted[int(choices[p])] = wanted.get(int(choices[p]), 0.0) + w / sum(raw)
        got = dict(zip(routed.mixture.adapters, routed.mixture.weights, strict=True))
        assert got == pytest.approx(wanted, abs=1e-6)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.lists(st.floats(0.01, 1), min_size=3, max_size=3), min_size=1, max_size=6))
def test_answers_are_mixtures_and_networks_see_their_own_examples(rows: list[list[float]]) -> None:
    weights = [[w if w > 0.3 else 0.0 for w in row] for row in rows]
    routed = []
    for row in weights:
        total = sum(row)
        adapters = tuple(n for n, w in enumerate(row) if w)
        mixture = Mixture(adapters, tuple(row[n] / total for n in adapters))
        routed.append(Routed((), (), (), mixture, not adapters))
    networks = [Counting(n) for n in range(3)]
    base = Counting(3)
    x = torch.zeros(len(rows), 2)
    answers = answered_by(routed, networks, base, x)
    assert torch.allclose(answers.sum(1), torch.ones(len(rows)))
    each = [probabilities(Counting(n)(x[:1]))[0] for n in range(4)]
    for m, row in enumerate(weights):
        total = sum(row)
        wanted = sum((w / total * each[n] for n, w in enumerate(row) if w), torch.zeros(4))
        assert torch.allclose(answers[m], wanted if total else each[3], atol=1e-6)
    asked = np.array(weights) > 0
    assert [network.seen for network in networks] == asked.sum(0).tolist()
    assert base.seen == int((~asked.any(1)).sum())


def test_tasks_that_lie_apart_are_found_and_the_encoder_that_finds_them() -> None:
    own = clouds(3)
    blind = nn.Sequential(nn.Linear(5, 2), nn.Linear(2, 4))
    nn.init.zeros_(blind[0].weight)  # its features say nothing of an example
    router = fit_router(blind, own, places=3)
    assert router.sees == "inputs"
    assert router.found["inputs"] == 1.0
    assert router.found["features"] < 0.7
    for t, x in enumerate(clouds(3)):
        assert (sent(router.route(blind, x)) == t).all()


def test_features_are_what_the_last_layer_reads() -> None:
    net = nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 2))
    x = torch.randn(600, 5)
    with torch.no_grad():
        assert np.allclose(encoded("features", net, x), net[:2](x).double().numpy())
        assert np.allclose(encoded("features", nn.Tanh(), x), x.tanh().double().numpy())


def test_a_trial_counts_what_is_right_and_who_is_asked() -> None:
    own = clouds(5, tasks=2)
    tests = [(x, torch.full((len(x),), t)) for t, x in enumerate(own)]
    networks = [Counting(0), Counting(1)]  # each is right on its own task alone
    router = fit_router(nn.Identity(), own, sees="inputs", places=2)
    trial = try_routing(router, networks, Counting(3), tests, tests)
    facts = trial.facts()
    assert facts["routed"]["accuracy"] == facts["told"]["accuracy"] == 1.0
    assert facts["single"]["accuracy"] == 0.5
    assert facts["base"]["accuracy"] == 0.0
    assert facts["average"]["passes"] == 2.0
    assert np.allclose(trial.sent, np.eye(2))


def test_one_task_and_no_place_are_refused() -> None:
    own = clouds(1)
    with pytest.raises(ConfigError, match="nothing to choose from"):
        fit_router(nn.Identity(), own[:1])
    with pytest.raises(ConfigError, match="leaves a task nowhere"):
        fit_router(nn.Identity(), own, places=0)


VIEWS = """
seed: 1
nodes: 3
rounds: 3
data:
  name: digits_views
  views: [rot90, invert, permuted]
  partition: {name: natural, choose: first}
model: {name: mlp, hidden: [16]}
topology: complete
algorithm: dpsgd
train: {local_steps: 20, batch_size: 16, optimizer: {name: sgd, lr: 0.1}}
evaluate: {every: 3}
"""


def test_a_run_of_dpsgd_is_merged_and_routed_by_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From run folder to answers, by commands alone."""

    def hansa(*words: str | Path) -> dict[str, object]:
        status = main([*map(str, words), "--json"])
        said = capsys.readouterr()
        assert status == 0, said.err
        return json.loads(said.out)

    file = tmp_path / "views.yaml"
    file.write_text(VIEWS)
    hansa("learn", file, "--out", tmp_path / "run", "--quiet", "--no-report")
    merged = hansa(
        "combine", "merge", tmp_path / "run", "--set", "tasks.personalise=60", "--set",
        "least_gain=0", "--algorithm", "averaging", "--size", "2", "--out", tmp_path / "merge",
        "--quiet",
    )  # fmt: skip
    assert "site_1: invert" in merged["notes"][0]  # type: ignore[index]
    cut = tmp_path / "two.safetensors"
    hansa("combine", "cut", tmp_path / "merge", "--size", "2", "--out", cut)
    routed = hansa("route", "models", cut, "--run", tmp_path / "merge", "--places", "5")
    methods = routed["methods"]
    assert routed["sent_to_own"] > 0.9  # type: ignore[operator]
    assert methods["routed"]["accuracy"] <= methods["told"]["accuracy"] + 0.02  # type: ignore
    assert methods["routed"]["accuracy"] > methods["single"]["accuracy"]  # type: ignore
    assert methods["routed"]["passes"] == 1.0  # type: ignore[index]
    by_task = merged["final"]["curve"][0]["by_task"]  # type: ignore
    assert methods["told"]["by_task"] == pytest.approx(list(by_task.values()))  # type: ignore

    rows = np.zeros((2, 1, 8, 8), np.float32)
    np.save(tmp_path / "rows.npy", rows + np.arange(64, dtype=np.float32).reshape(8, 8) / 64)
    asked = hansa("route", "models", cut, "--run", tmp_path / "merge",
                  "--rows", tmp_path / "rows.npy")  # fmt: skip
    answers = asked["answers"]
    assert len(answers) == 2  # type: ignore[arg-type]
    assert answers[0] == answers[1]  # type: ignore[index]
    assert answers[0]["task"].startswith("site_")  # type: ignore[index]
    np.save(tmp_path / "wrong.npy", rows[:, :, :4])
    status = main(["route", "models", str(cut), "--run", str(tmp_path / "merge"), "--rows",
                   str(tmp_path / "wrong.npy"), "--json"])  # fmt: skip
    said = json.loads(capsys.readouterr().out)["error"]
    assert (status, said["field"]) == (2, "rows")


def test_rows_of_ids_are_taken_as_ids(tmp_path: Path) -> None:
    ids, pixels = torch.zeros(3, 4, dtype=torch.int64), torch.zeros(3, 4)
    np.save(tmp_path / "ids.npy", np.full((2, 4), 7.0))
    assert _rows(tmp_path / "ids.npy", ids).tolist() == [[7] * 4] * 2
    assert _rows(tmp_path / "ids.npy", ids).dtype == torch.int64
    assert _rows(tmp_path / "ids.npy", pixels).dtype == torch.float32
    np.save(tmp_path / "halves.npy", np.full((2, 4), 0.5))
    assert _rows(tmp_path / "halves.npy", pixels).tolist() == [[0.5] * 4] * 2
    with pytest.raises(ConfigError, match="holds fractions"):
        _rows(tmp_path / "halves.npy", ids)
