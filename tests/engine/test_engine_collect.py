"""What is written down of a run, and what is said of one that diverges."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import torch

from hansa.base.errors import Diverged
from hansa.engine import Collector, Job
from hansa.engine.runtimes.host import Host
from hansa.experiment import run
from hansa.report import RunFolder

N, ROUNDS = 8, 5


@pytest.fixture(scope="module")
def collected(
    make_job: Callable[..., Job], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Job, RunFolder, Collector, dict[int, torch.Tensor], dict[int, dict[str, float]]]:
    """A hosted run with the rows and the figures shown of each round."""
    job = make_job({"data": {"name": "digits", "validation": 0.2}})
    folder = RunFolder.create(tmp_path_factory.mktemp("run") / "run", {}, {})
    shown: list[tuple[int, dict[str, float]]] = []
    collector = Collector(job, folder, lambda done, figures: shown.append((done, figures)))
    block = job.block(np.arange(N))
    rows: dict[int, torch.Tensor] = {}

    def report(values: dict[str, Any]) -> None:
        rows[values["round"]] = block.rows.clone()
        collector.add(values)

    Host(job, block, job.exchange(), report, lambda block, done: None).run()
    collector.close()
    assert [done for done, _ in shown] == list(range(1, ROUNDS + 1))
    return job, folder, collector, rows, dict(shown)


def value(folder: RunFolder, round: int, name: str) -> float:
    """A figure of the whole run."""
    frame = folder.metrics().filter(
        (polars.col("round") == round) & (polars.col("name") == name) & polars.col("node").is_null()
    )
    assert len(frame) == 1, (round, name)
    return float(frame["value"][0])


def each(folder: RunFolder, round: int, name: str) -> np.ndarray:
    """A figure of every node, in order."""
    frame = folder.metrics().filter(
        (polars.col("round") == round)
        & (polars.col("name") == name)
        & polars.col("node").is_not_null()
    )
    frame = frame.sort("node")
    assert frame["node"].to_list() == list(range(N))
    return frame["value"].to_numpy()


def test_figures_equal_direct_computation(collected: Any) -> None:
    job, folder, collector, rows, shown = collected
    trainer = job.block(np.arange(N)).trainer
    for done in (2, 4, 5):
        now = rows[done].double()
        mean = now.mean(0)
        distance = float((now - mean).square().sum(1).mean().sqrt())
        assert value(folder, done, "consensus_distance") == pytest.approx(distance, rel=1e-9)
        for prefix, split in (("", job.dataset.test), ("validation_", job.dataset.validation)):
            found = trainer.evaluate(rows[done], split, 64)
            average = trainer.evaluate(mean.float()[None], split, 64)
            for name in ("loss", "accuracy"):
                full = prefix + name
                np.testing.assert_allclose(each(folder, done, full), found[name], rtol=1e-5)
                assert shown[done][full] == pytest.approx(found[name].mean(), rel=1e-5)
                spread = value(folder, done, f"{full}_std")
                assert spread == pytest.approx(found[name].std(), rel=1e-3, abs=1e-6)
                if not prefix:
                    whole = value(folder, done, f"{full}_average_model")
                    assert whole == pytest.approx(float(average[name][0]), rel=1e-4)
    trainer.close()
    assert collector.final == shown[5]
    assert collector.rounds_done == ROUNDS


def test_the_best_round_is_chosen_on_validation_data(collected: Any) -> None:
    _, _, collector, _, shown = collected
    scores = {done: shown[done]["validation_accuracy"] for done in (2, 4, 5)}
    best = max(scores, key=lambda done: scores[done])
    assert collector.best["score"] == scores[best]
    assert scores[collector.best["round"]] == scores[best]
    assert collector.best["accuracy"] == shown[collector.best["round"]]["accuracy"]


def test_every_round_and_node_is_there_once(collected: Any) -> None:
    _, folder, collector, _, _ = collected
    metrics = folder.metrics()
    assert len(metrics.unique(["round", "node", "name"])) == len(metrics)
    assert metrics["value"].is_nan().sum() == 0
    whole = metrics.filter(polars.col("node").is_null())
    for name in ("train_loss", "round_seconds", "message_bytes_min", "message_bytes_max"):
        assert whole.filter(polars.col("name") == name)["round"].to_list() == [1, 2, 3, 4, 5]
    nodes = metrics.filter(polars.col("node").is_not_null())
    counts = nodes.group_by("round", "name").len()
    assert set(counts["len"]) == {N}
    assert set(counts["round"]) == {2, 4, 5}
    assert {"steps", "samples", "bytes_sent", "bytes_received", "messages_sent"} <= set(
        counts["name"]
    )
    # What a row says of the state of its node: steps, bytes and time so far.
    sent = nodes.filter(polars.col("name") == "bytes_sent")
    assert (sent["value"] == sent["bytes"]).all()
    steps = nodes.filter(polars.col("name") == "steps")
    assert (steps["value"] == steps["step"]).all()
    total = whole.filter(polars.col("round") == 5)["bytes"].unique().to_list()
    assert total == [int(each(folder, 5, "bytes_sent").sum())] == [collector.bytes_sent]
    assert metrics["time"].is_sorted() or metrics.sort("round")["time"].is_sorted()


def part(ids: list[int], done: int = 1, **changes: Any) -> dict[str, Any]:
    """A block's report of a round."""
    n = len(ids)
    zeros = dict.fromkeys(
        ("steps", "samples", "messages_sent", "messages_received", "bytes_received"),
        np.zeros(n, dtype=np.int64),
    )
    return {
        "round": done,
        "ids": np.array(ids),
        "at": 0.0,
        "seconds": 0.5,
        "values": {},
        "log": {},
        "events": [],
        "counters": zeros | {"bytes_sent": np.array(ids, dtype=np.int64)},
        "measured": None,
        "extra": False,
    } | changes


def test_parts_may_come_in_any_order_and_lack_what_others_have(
    make_job: Callable[..., Job], tmp_path: Path
) -> None:
    """A figure that an algorithm reports for some blocks only is still that of its nodes."""
    folder = RunFolder.create(tmp_path / "run", {}, {})
    collector = Collector(make_job(), folder)
    mean = {"mean": np.zeros(2), "spread": 0.0}
    measured = {"values": {"score": np.arange(3.0)}, **mean, "models": 3}
    empty = {"values": {}, **mean, "models": 5}
    collector.job.evaluate = collector.job.evaluate.model_copy(update={"average_model": False})
    last = part([5, 6, 7], measured=measured, values={"mood": np.array([1.0, 2.0, 3.0])})
    first = part([0, 1, 2, 3, 4], measured=empty)
    collector.add(last)
    collector.add(part([5, 6, 7], done=2))
    assert collector.rounds_done == 0
    collector.add(first)
    assert collector.rounds_done == 1
    collector.add(part([0, 1, 2, 3, 4], done=2))
    assert collector.rounds_done == 2
    collector.close()
    for name, values in (("mood", [1.0, 2.0, 3.0]), ("score", [0.0, 1.0, 2.0])):
        frame = folder.metrics().filter(
            (polars.col("name") == name) & polars.col("node").is_not_null()
        )
        assert frame.sort("node")["node"].to_list() == [5, 6, 7]
        assert frame.sort("node")["value"].to_list() == values
    assert value(folder, 1, "mood") == 2.0


# -- divergence ------------------------------------------------------------------------------------

HOT = {"name": "sgd", "lr": 1e6}


@pytest.mark.parametrize("lr", [1e6, 1e30])
@pytest.mark.parametrize("strategy", ["looped", "stacked"])
def test_divergence_is_reported_and_the_run_goes_on(
    small: Callable[..., Any], tmp_path: Path, strategy: str, lr: float
) -> None:
    """Losses that are not numbers are no reason for warnings, and none is written as nothing."""
    settings = small(
        {
            "train.optimizer": {"name": "sgd", "lr": lr},
            "train.strategy": strategy,
            "train.local_steps": 8,
            "rounds": 6,
        }
    )
    folder = run(settings, tmp_path / "run", report=False)
    assert folder.summary is not None
    assert folder.summary["status"] == "diverged"
    assert folder.summary["diverged"]["round"] == 1
    assert folder.summary["rounds"] == 6
    (event,) = [e for e in folder.events() if e["kind"] == "diverged"]
    assert event["round"] == 1
    assert event["nodes"]
    assert set(event["nodes"]) <= set(range(N))
    assert len(event["losses"]) == len(event["nodes"])
    # A node whose loss is no number is still seen to have been measured, and spoils the mean.
    assert len(each(folder, 6, "accuracy")) == N
    assert len(each(folder, 6, "loss")) == N
    mean = folder.summary["final"]["loss"]  # null in JSON where it is not finite
    assert mean is None or mean > 1e3


@pytest.mark.parametrize("strategy", ["looped", "stacked"])
def test_divergence_can_stop_the_run(
    small: Callable[..., Any], tmp_path: Path, strategy: str
) -> None:
    settings = small(
        {"train.optimizer": HOT, "train.on_divergence": "stop", "train.strategy": strategy}
    )
    with pytest.raises(Diverged, match=r"lower train\.optimizer\.lr") as caught:
        run(settings, tmp_path / "run", report=False)
    assert caught.value.node in range(N)
    assert (caught.value.round, caught.value.phase) == (1, "training")
    assert f"node {caught.value.node}, round 1" in str(caught.value)
    folder = RunFolder.open(tmp_path / "run")
    assert folder.summary is not None
    assert folder.summary["status"] == "diverged"
    assert [e["type"] for e in folder.events() if e["kind"] == "failed"] == ["Diverged"]


def test_one_bad_node_is_the_one_that_is_named(
    make_job: Callable[..., Job], host: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Job.block

    def spoiled(self: Job, ids: np.ndarray) -> Any:
        block = begin(self, ids)
        block.rows[block.positions(np.array([3]))] = torch.nan
        return block

    monkeypatch.setattr(Job, "block", spoiled)
    with pytest.raises(Diverged, match="training loss is inf") as caught:
        host(make_job({"train.on_divergence": "stop"}))
    assert caught.value.node == 3
    _, reports = host(make_job({"algorithm": "isolated"}))
    for report in reports:
        bad = report["values"]["diverged"]
        assert np.isnan(bad).tolist() == [k != 3 for k in range(N)]
