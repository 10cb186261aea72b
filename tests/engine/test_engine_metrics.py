"""Metrics of runs: which, on whose examples, and how the best round is chosen by them."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from sklearn import metrics as reference
from typer.testing import CliRunner

import hansa
from hansa.base.errors import ConfigError
from hansa.cli.app import app
from hansa.engine.runtimes.checkpoint import load_block, read_manifest
from hansa.experiment.prepare import prepare
from hansa.experiment.runfile import RunFile
from hansa.report import RunFolder

RUN: dict[str, Any] = {
    "nodes": 5,
    "rounds": 2,
    "algorithm": "dpsgd",
    "model": {"name": "mlp", "hidden": [8]},
    "train": {"local_steps": 4, "batch_size": 8, "strategy": "looped"},
    "topology": {"name": "regular", "degree": 2},
    "checkpoint": {"every": 1},
    "evaluate": {
        "every": 1,
        "metrics": ["f1", "recall", "loss", {"name": "f1", "average": "weighted"}],
        "local_validation": 0.2,
        "per_client": True,
    },
}


def of(folder: RunFolder, name: str, round: int = 2) -> dict[int | None, float]:
    rows = folder.metrics().filter((pl.col("name") == name) & (pl.col("round") == round))
    return dict(rows.select("node", "value").rows())


@pytest.mark.parametrize("algorithm", ["dpsgd", "fedavg"])
def test_figures_of_the_test_set_and_of_each_client(algorithm: str, tmp_path: Path) -> None:
    folder = hansa.run({**RUN, "algorithm": algorithm}, tmp_path / "run", report=False)
    job = prepare(RunFile.parse(folder.config))
    block = job.block(np.arange(job.nodes))
    checkpoint = tmp_path / "run/checkpoints/round-000002"
    load_block(block, checkpoint, read_manifest(checkpoint))
    trainer = job.trainer()
    for client in range(5):
        row = block.rows[client if algorithm == "dpsgd" else 0]
        trainer.layout.load_(trainer.module, row)
        for split, index, name in (
            (job.dataset.train, job.held[client], "_per_client"),
            (job.dataset.test, np.arange(len(job.dataset.test)), ""),
        ):
            x, y = job.dataset.gather(split, torch.from_numpy(index))
            with torch.no_grad():
                outputs = trainer.module.eval()(x)
            taken = outputs.argmax(1).numpy()
            node = client if name or algorithm == "dpsgd" else 5
            f1 = reference.f1_score(y.numpy(), taken, average="macro")
            assert of(folder, f"f1{name}")[node] == pytest.approx(f1)
            weighted = reference.f1_score(y.numpy(), taken, average="weighted")
            assert of(folder, f"f1_weighted{name}")[node] == pytest.approx(weighted)
            loss = float(torch.nn.functional.cross_entropy(outputs, y))
            assert of(folder, f"loss{name}")[node] == pytest.approx(loss, rel=1e-5)
            right = float((taken == y.numpy())[y.numpy() == 3].mean()) if (y == 3).any() else None
            assert of(folder, f"recall_3{name}").get(node) == pytest.approx(right)
    assert folder.summary is not None
    final = folder.summary["final"]
    assert final["f1_per_client"] == pytest.approx(
        np.mean(list(of(folder, "f1_per_client").values()))
    )
    assert "accuracy" not in final
    facts = folder.environment["metrics"]
    assert facts["f1"] == {"better": "higher", "share": True, "label": "F1", "rank": 0}
    assert facts["recall_3"] == {"better": "higher", "share": True, "label": "", "rank": None}
    assert facts["loss"] == {"better": "lower", "share": False, "label": "", "rank": 2}


@pytest.mark.parametrize("algorithm", ["fedavg", "cpfl"])
def test_workers_say_the_same_of_clients(algorithm: str, tmp_path: Path) -> None:
    more: dict[str, Any] = {"name": algorithm}
    if algorithm == "cpfl":
        more |= {"cohorts": 2, "stop": None, "merge": "average"}
    settings = {**RUN, "algorithm": more}
    one = hansa.run(settings, tmp_path / "one", report=False)
    apart = {**settings, "runtime": {"name": "processes", "workers": 2}}
    two = hansa.run(apart, tmp_path / "two", report=False)
    for round in (1, 2):
        found = of(one, "f1_per_client", round)
        assert sorted(found) == [0, 1, 2, 3, 4]
        assert found == of(two, "f1_per_client", round)


@pytest.mark.parametrize(("first", "sign"), [("loss", -1), ("accuracy", 1)])
def test_the_first_metric_chooses_the_best_round(first: str, sign: int, tmp_path: Path) -> None:
    evaluate = {"every": 1, "metrics": [first, "auroc"]}
    data = {"name": "digits", "validation": 0.2}
    run = {**RUN, "rounds": 4, "data": data, "evaluate": evaluate}
    folder = hansa.run(run, tmp_path / "run", report=False)
    assert folder.summary is not None
    best = folder.summary["best"]
    means = [np.mean(list(of(folder, f"validation_{first}", k).values())) for k in range(1, 5)]
    assert best["round"] == 1 + int(np.argmax(sign * np.array(means)))
    assert best["score"] == pytest.approx(sign * best[f"validation_{first}"])


def test_what_cannot_be_measured_is_refused_by_name() -> None:
    def refused(evaluate: dict[str, Any]) -> str:
        with pytest.raises(ConfigError) as caught:
            prepare(RunFile.parse({**RUN, "evaluate": evaluate}))
        return str(caught.value)

    assert "evaluate.per_client" in refused({"per_client": True})
    assert "local_validation" in refused({"per_client": True})
    assert "evaluate.metrics.1" in refused({"metrics": ["f1", "rmse"]})
    text = refused({"metrics": ["acuracy"]})
    assert "evaluate.metrics" in text
    assert "did you mean 'accuracy'" in text


def test_metrics_are_listed() -> None:
    done = CliRunner().invoke(app, ["list", "metric"])
    assert done.exit_code == 0
    for name in (
        "accuracy",
        "auroc",
        "balanced_accuracy",
        "calibration_error",
        "f1",
        "loss",
        "rmse",
    ):
        assert name in done.output
