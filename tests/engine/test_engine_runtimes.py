"""A run is the same in every runtime, and after a resume; worker processes for real."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars
import pytest
import torch

from hansa.base.errors import ConfigError
from hansa.engine import Processes
from hansa.engine.exchange.wire import HEADER_BYTES
from hansa.experiment import resume, run
from hansa.report import RunFolder

from .conftest import children

CLOCK = {"name": "modelled", "spread": 0.5, "bandwidth": 1e5, "radio_joules_per_byte": 1e-6}
ROUNDS, N, DEGREE = 6, 8, 3
CHANGES: dict[str, Any] = {
    "rounds": ROUNDS,
    "checkpoint": {"every": 5},
    "clock": CLOCK,
    "topology": {"name": "regular", "degree": DEGREE, "dynamic": True},
    "train.optimizer": {"name": "adam", "lr": 0.01},
}
TIMES = ("round_seconds",)


def figures(folder: RunFolder) -> polars.DataFrame:
    """All that was measured but wall time, in one order."""
    return (
        folder.metrics()
        .filter(~polars.col("name").is_in(TIMES))
        .drop("time")
        .sort("round", "name", "node", nulls_last=True)
    )


def equal(left: RunFolder, right: RunFolder) -> None:
    """To the last bit, but for the figures of all nodes together that blocks add up in parts."""
    a, b = figures(left), figures(right)
    assert a.drop("value").equals(b.drop("value"))
    off = a.with_columns(off=(a["value"] - b["value"]).abs()).filter(polars.col("off") > 0)
    assert set(off["name"]) <= {"consensus_distance", "loss_average_model"}
    assert off["off"].max() is None or off["off"].max() < 1e-6


@pytest.fixture(scope="module")
def simulated(small: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return run(small(CHANGES), tmp_path_factory.mktemp("sim") / "run", report=False)


@pytest.fixture(scope="module", params=[1, 2, 4])
def processed(
    request: pytest.FixtureRequest,
    small: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunFolder]:
    settings = small(CHANGES) | {"runtime": {"name": "processes", "workers": request.param}}
    yield run(settings, tmp_path_factory.mktemp("proc") / "run", report=False)
    assert children() == []


@pytest.mark.usefixtures("nothing_left")
def test_processes_measure_what_the_simulation_does(
    simulated: RunFolder, processed: RunFolder, saved_rows: Callable[..., torch.Tensor]
) -> None:
    """Looped, for any number of workers: every figure and every model to the last bit.

    That holds for bytes, messages, modelled time and energy too.
    """
    equal(simulated, processed)
    assert torch.equal(saved_rows(simulated.path, 5), saved_rows(processed.path, 5))
    a, b = simulated.summary, processed.summary
    assert a is not None
    assert b is not None
    assert a["final"] == pytest.approx(b["final"], abs=1e-6)
    assert a["bytes_sent"] == b["bytes_sent"]
    assert b["status"] == "finished"
    assert [e["kind"] for e in processed.events()] == ["overhead", "ended"]
    assert b["overhead_bytes"] == processed.events()[0]["sent"] > 0


def test_counters_are_those_of_paper(simulated: RunFolder, processed: RunFolder) -> None:
    size = 910 * 4 + HEADER_BYTES
    for folder in (simulated, processed):
        for round in (2, 4, 6):
            now = folder.metrics().filter(
                (polars.col("round") == round) & polars.col("node").is_not_null()
            )
            expected = {
                "steps": 2 * round,
                "samples": 16 * round,
                "messages_sent": DEGREE * round,
                "messages_received": DEGREE * round,
                "bytes_sent": DEGREE * round * size,
                "bytes_received": DEGREE * round * size,
            }
            for name, value in expected.items():
                assert now.filter(polars.col("name") == name)["value"].to_list() == [value] * N
    sizes = simulated.metrics().filter(polars.col("name").str.starts_with("message_bytes"))
    assert set(sizes["value"]) == {size}
    assert sizes["node"].null_count() == len(sizes) == 3 * ROUNDS


def test_what_the_runtime_refuses() -> None:
    with pytest.raises(ConfigError, match="more than the 3 nodes"):
        Processes(workers=4).check(3)


@pytest.fixture(scope="module")
def stacked(
    small: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunFolder, RunFolder]:
    chosen = small({**CHANGES, "train.strategy": "stacked"})
    path = tmp_path_factory.mktemp("stacked")
    first = run(chosen, path / "sim", report=False)
    return first, run(
        chosen | {"runtime": {"name": "processes", "workers": 3}}, path / "proc", report=False
    )


def test_stacked_blocks_agree_to_a_tolerance(
    stacked: tuple[RunFolder, RunFolder], saved_rows: Callable[..., torch.Tensor]
) -> None:
    """Batched products may add in another order for another number of nodes: rows to 1e-5.

    Counters and modelled times are exact all the same.
    """
    first, second = stacked
    rows = saved_rows(first.path, 5), saved_rows(second.path, 5)
    torch.testing.assert_close(*rows, rtol=0, atol=1e-5)
    a, b = figures(first), figures(second)
    assert a.select("round", "node", "name", "step", "bytes").equals(
        b.select("round", "node", "name", "step", "bytes")
    )
    counted = polars.col("name").is_in(
        ["bytes_sent", "bytes_received", "messages_sent", "modelled_time", "energy", "steps"]
    )
    assert a.filter(counted).equals(b.filter(counted))
    assert (a["value"] - b["value"]).abs().max() < 1e-2  # an accuracy may tip by an example


# -- resuming --------------------------------------------------------------------------------------


class Cut(Exception):
    """The test ends the run here."""


def cut_at(last: int) -> Callable[[int, dict[str, float]], None]:
    def progress(done: int, figures: dict[str, float]) -> None:
        if done == last:
            raise Cut

    return progress


RESUMED: dict[str, Any] = {**CHANGES, "checkpoint": {"every": 2}}


@pytest.fixture(scope="module")
def uninterrupted(small: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return run(small(RESUMED), tmp_path_factory.mktemp("whole") / "run", report=False)


@pytest.mark.parametrize("last", [1, 2, 3, 4, 5])
def test_a_resumed_simulation_is_the_uninterrupted_one(
    small: Callable[..., Any], uninterrupted: RunFolder, tmp_path: Path, last: int
) -> None:
    with pytest.raises(Cut):
        run(small(RESUMED), tmp_path / "run", progress=cut_at(last), report=False)
    folder = RunFolder.open(tmp_path / "run")
    assert folder.summary is not None
    assert folder.summary["status"] == "failed"
    assert folder.metrics()["round"].max() == last
    folder = resume(tmp_path / "run", report=False)
    equal(folder, uninterrupted)
    assert folder.summary is not None
    assert folder.summary["status"] == "finished"
    # The round after which it was cut had no time to be saved.
    expected = {1: None, 2: None, 3: 2, 4: 2, 5: 4}[last]
    assert [e["round"] for e in folder.events() if e["kind"] == "resumed"] == (
        [0] if expected is None else [expected]
    )


def test_looped_and_stacked_resume_alike(small: Callable[..., Any], tmp_path: Path) -> None:
    chosen = small({**RESUMED, "train.strategy": "stacked"})
    whole = run(chosen, tmp_path / "whole", report=False)
    with pytest.raises(Cut):
        run(chosen, tmp_path / "cut", progress=cut_at(3), report=False)
    equal(resume(tmp_path / "cut", report=False), whole)


@pytest.mark.usefixtures("nothing_left")
def test_a_run_of_processes_goes_on_anywhere(
    small: Callable[..., Any], uninterrupted: RunFolder, tmp_path: Path
) -> None:
    """Begun with 3 workers, gone on with 2, finished in the simulation."""
    settings = small(RESUMED) | {"runtime": {"name": "processes", "workers": 3}}
    with pytest.raises(Cut):
        run(settings, tmp_path / "run", progress=cut_at(3), report=False)
    assert children() == []
    fewer = {"runtime": {"name": "processes", "workers": 2}}
    with pytest.raises(Cut):
        resume(tmp_path / "run", fewer, progress=cut_at(5), report=False)
    folder = resume(tmp_path / "run", {"runtime": {"name": "simulate"}}, report=False)
    equal(folder, uninterrupted)


def test_a_longer_run_is_the_shorter_one_gone_on(small: Callable[..., Any], tmp_path: Path) -> None:
    """In processes too: workers must hear of the changes that the coordinator made."""
    whole = run(small({**RESUMED, "evaluate.every": 1}), tmp_path / "whole", report=False)
    chosen = small({**RESUMED, "evaluate.every": 1, "rounds": 5})
    run(chosen, tmp_path / "short", report=False)
    changes = {"rounds": ROUNDS, "runtime": {"name": "processes", "workers": 2}}
    folder = resume(tmp_path / "short", changes, report=False)
    assert folder.summary is not None
    assert folder.summary["rounds"] == ROUNDS
    equal(folder, whole)


# -- when and on whom models are measured --------------------------------------------------


def test_models_are_measured_before_or_after_the_exchange(
    make_job: Callable[..., Any], host: Callable[..., Any]
) -> None:
    changes = {"topology": "complete", "evaluate": {"every": 1}, "rounds": 3}
    after, reports_after = host(make_job(changes))
    changes["evaluate"] = {"every": 1, "when": "after_training"}
    before, reports_before = host(make_job(changes))
    assert torch.equal(after.rows, before.rows)
    for late, early in zip(reports_after, reports_before, strict=True):
        assert late["measured"]["spread"] < 1e-10  # all the same after a complete average
        assert early["measured"]["spread"] > 1e-4
        assert len(set(late["measured"]["values"]["accuracy"].tolist())) == 1
        assert len(set(early["measured"]["values"]["loss"].tolist())) == N
    alone = make_job(changes | {"algorithm": "isolated"})
    assert all(report["measured"] for report in host(alone)[1])


def test_a_sample_of_nodes_is_the_same_everywhere(
    small: Callable[..., Any], tmp_path: Path
) -> None:
    """Two of eight nodes in four blocks: most blocks have none of them."""
    chosen = small({**CHANGES, "evaluate": {"every": 3, "nodes": 2}})
    first = run(chosen, tmp_path / "sim", report=False)
    measured = first.metrics().filter(
        (polars.col("name") == "accuracy") & polars.col("node").is_not_null()
    )
    assert measured["round"].to_list() == sorted(2 * [0, 1, 2, 3, 6])
    nodes = measured["node"].to_list()
    assert nodes == 5 * nodes[:2]
    assert len(set(nodes)) == 2
    second = run(
        chosen | {"runtime": {"name": "processes", "workers": 4}}, tmp_path / "proc", report=False
    )
    equal(first, second)
