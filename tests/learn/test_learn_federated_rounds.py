"""How a federated round goes: who counts, how long it takes, who is there."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from hansa.base.errors import ConfigError, RunError
from hansa.engine import Job
from hansa.engine.exchange.wire import HEADER_BYTES
from hansa.learn.federated.invitation import (
    DONE,
    OUTCOMES,
)

CLOCK = {"name": "modelled", "spread": 0.7, "bandwidth": 1e5, "latency": 0.03}
MODEL = 910  # numbers
ROW = MODEL * 4

# -- rounds ----------------------------------------------------------------------------------------


def outcomes(report: dict[str, Any]) -> list[str]:
    """Of each client of a round; '-' for those that were not invited."""
    codes = report["log"]["client_outcome"][:-1]
    return ["-" if np.isnan(c) else OUTCOMES[int(c)] for c in codes]


def ends(report: dict[str, Any]) -> np.ndarray:
    """When those who count were done."""
    log = report["log"]
    return log["client_end"][log["client_outcome"] == DONE]


def starts(report: dict[str, Any]) -> float:
    return float(np.nanmin(report["log"]["client_start"]))


def test_a_round_takes_as_long_as_its_slowest(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """Download, training and upload by hand; the next round begins when this one ends."""
    block, reports = host(make_job({"algorithm": "fedavg", "clock": CLOCK}))
    pace = block.clock.pace(block, block.ids)[:8]
    nbytes = ROW + HEADER_BYTES
    each = 0.03 + 16 * pace + nbytes / 1e5 + 0.03
    for t, report in enumerate(reports):
        assert outcomes(report) == ["done"] * 8
        assert starts(report) == pytest.approx(t * each.max())
        assert ends(report) == pytest.approx(t * each.max() + each)
        server = {name: report["values"][name][8] for name in ("round_time", "idle_time")}
        assert server["round_time"] == pytest.approx(each.max())
        assert server["idle_time"] == pytest.approx((each.max() - each).sum())
        assert report["values"]["invited"][8] == report["values"]["participants"][8] == 8
        assert report["counters"]["modelled_time"][8] == pytest.approx((t + 1) * each.max())
    assert block.state["compute_time"].numpy()[:8] == pytest.approx(5 * 16 * pace)


@pytest.mark.parametrize("method", ["fedavg", "scaffold", "fednova"])
@pytest.mark.parametrize("codec", ["dense", "qsgd"])
@pytest.mark.parametrize("clock", [{**CLOCK, "bandwidth": 1e4}, {"name": "devices"}], ids=str)
def test_the_plan_is_what_the_clock_then_shows(
    make_job: Callable[..., Job], host: Callable[..., Any], method: str, codec: str, clock: Any
) -> None:
    """Also where a lossy codec sends what goes aside in a message of its own."""
    job = make_job({"algorithm": {"name": method, "codec": codec}, "clock": clock})
    for report in host(job)[1]:
        assert report["counters"]["modelled_time"][8] == pytest.approx(ends(report).max())
        assert report["values"]["round_time"][8] == pytest.approx(
            ends(report).max() - starts(report)
        )
        assert report["values"]["idle_time"][8] >= -1e-9


def test_over_selection_takes_the_fastest(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    changes = {"algorithm": {"name": "fedavg", "sampled": 3, "over_selection": 2.0}, "clock": CLOCK}
    block, reports = host(make_job(changes))
    pace = block.clock.pace(block, block.ids)[:8]
    for report in reports:
        fates = np.array(outcomes(report))
        assert (fates == "done").sum() == (fates == "surplus").sum() == 3
        assert pace[fates == "done"].max() < pace[fates == "surplus"].min()
        assert report["values"]["round_time"][8] == pytest.approx(
            ends(report).max() - starts(report)
        )


def test_a_round_that_has_what_it_wants_waits_for_nobody(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """With failures, over-selection and a deadline: it ends with the last update that it wants."""
    changes = {
        "rounds": 20,
        "clock": CLOCK,
        "algorithm": {
            "name": "fedavg",
            "sampled": 4,
            "over_selection": 1.5,
            "failure": 0.35,
            "deadline": 9.0,
            "on_failed_round": "skip",
        },
    }
    reports = host(make_job(changes))[1]
    full = short = 0
    for report in reports:
        fates = outcomes(report)
        assert len([f for f in fates if f != "-"]) == 6
        took = report["values"]["round_time"][8]
        if fates.count("done") == 4:
            full += "failed" in fates
            assert took == pytest.approx(ends(report).max() - starts(report))
            assert np.nanmax(report["log"]["client_end"]) <= ends(report).max() + 1e-9
        else:
            short += 1
            assert took == pytest.approx(9.0)
    assert full
    assert short


def test_a_deadline_leaves_the_slow_behind(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    patient = host(make_job({"algorithm": "fedavg", "clock": CLOCK}))
    pace = patient[0].clock.pace(patient[0], patient[0].ids)[:8]
    limit = 0.06 + (ROW + HEADER_BYTES) / 1e5 + 16 * float(np.sort(pace)[4:6].mean())
    job = make_job({"algorithm": {"name": "fedavg", "deadline": limit}, "clock": CLOCK})
    block, reports = host(job)
    slow = pace > np.sort(pace)[4]
    for t, report in enumerate(reports):
        assert (np.array(outcomes(report)) == np.where(slow, "late", "done")).all()
        assert report["counters"]["modelled_time"][8] == pytest.approx((t + 1) * limit)
    assert not torch.equal(block.rows, patient[0].rows)
    assert (
        reports[-1]["counters"]["modelled_time"][8] < patient[1][-1]["counters"]["modelled_time"][8]
    )
    # The late ones worked until the deadline, and are charged for it: no steps, but time.
    spent = block.state["compute_time"].numpy()[:8]
    could = limit - 0.03
    expected = np.where(slow, np.minimum(16 * pace, could), 16 * pace)
    assert spent == pytest.approx(5 * expected)
    assert (block.state["steps"].numpy()[:8] == np.where(slow, 0, 10)).all()
    assert block.state["training_energy"].numpy()[:8] == pytest.approx(5 * 5 * expected)


def test_who_fails_is_charged_for_what_it_had_done(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    settings = {"name": "fedavg", "failure": 0.5, "on_failed_round": "skip"}
    block, reports = host(make_job({"algorithm": settings, "clock": CLOCK, "rounds": 10}))
    pace, expected = block.clock.pace(block, block.ids)[:8], np.zeros(8)
    for report in reports:
        log = report["log"]
        for i, fate in enumerate(outcomes(report)):
            heard, trained = log["client_heard"][i], log["client_trained"][i]
            expected[i] += 16 * pace[i] if fate == "done" else trained - heard
    assert block.state["compute_time"].numpy()[:8] == pytest.approx(expected)
    fates = [f for report in reports for f in outcomes(report)]
    assert {"done", "failed"} == set(fates)
    assert abs(fates.count("failed") / 80 - 0.5) < 4 * np.sqrt(0.25 / 80)


def test_failing_clients_do_not_wait_for_a_clock(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """Without modelled time a failure is a failure all the same."""
    block, reports = host(
        make_job({"algorithm": {"name": "fedavg", "failure": 0.5}, "clock": "wall"})
    )
    fates = [f for report in reports for f in outcomes(report)]
    assert {"done", "failed"} == set(fates)
    assert (block.state["steps"].sum() == 2 * fates.count("done")).all()


def test_all_failing_has_a_name(make_job: Callable[..., Job], host: Callable[..., Any]) -> None:
    job = make_job({"algorithm": {"name": "fedavg", "failure": 1.0}, "clock": CLOCK})
    with pytest.raises(RunError, match=r"0 updates where algorithm\.min_updates is 1") as caught:
        host(job)
    assert "8 failed" in str(caught.value)
    assert caught.value.round == 1


@pytest.mark.parametrize("method", ["fedavg", "scaffold", "fedadam"])
def test_a_failed_round_can_be_skipped(
    make_job: Callable[..., Job], host: Callable[..., Any], method: str
) -> None:
    settings = {"name": method, "failure": 1.0, "on_failed_round": "skip"}
    job = make_job({"algorithm": settings, "clock": CLOCK})
    before = job.block(np.arange(9)).rows.clone()
    block, reports = host(job)
    assert torch.equal(block.rows, before)
    for report in reports:
        assert [event["kind"] for event in report["events"]] == ["round_failed"]
        assert report["events"][0]["server"] == 8
        # A server without a deadline learns of a failure when it happens.
        last = np.nanmax(report["log"]["client_end"])
        assert report["counters"]["modelled_time"][8] == pytest.approx(last)
    # An invitation, a model and a release for each; nothing came back.
    assert block.state["messages_sent"].sum() == 3 * 5 * 8


def test_too_few_updates_fail_a_round(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    settings = {"name": "fedavg", "failure": 0.5, "min_updates": 5, "on_failed_round": "skip"}
    _, reports = host(make_job({"algorithm": settings, "clock": CLOCK, "rounds": 12}))
    failed = [bool(report["events"]) for report in reports]
    assert failed == [outcomes(report).count("done") < 5 for report in reports]
    assert any(failed)
    assert not all(failed)


def test_who_cannot_afford_a_step_is_idle(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    budget = {"name": "classes", "shares": [0.5, 0.5], "steps_each": [0, 2]}
    job = make_job({"algorithm": "fedavg", "clock": CLOCK, "train.budget": budget})
    block, reports = host(job)
    rests = block.state["steps"].numpy()[:8] == 0
    assert rests.sum() == 4
    for report in reports:
        assert (np.array(outcomes(report)) == np.where(rests, "idle", "done")).all()
    assert (block.state["compute_time"].numpy()[:8][rests] == 0).all()


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"name": "fedavg", "sampled": 9}, "algorithm.sampled"),
        ({"name": "fedavg", "sampled": 0}, "algorithm.sampled"),
        ({"name": "fedavg", "min_updates": 9}, "algorithm.min_updates"),
        ({"name": "fedavg", "sampled": 3, "min_updates": 4}, "algorithm.min_updates"),
        ({"name": "fedavg", "stop": {}}, "algorithm.stop"),
        ({"name": "fedavg", "select": "best"}, "algorithm.select"),
        ({"name": "fedavg", "deadline": 1.0}, "clock"),
        ({"name": "fedavg", "over_selection": 2.0}, "clock"),
        ({"name": "scaffold", "global_momentum": 0.5}, "algorithm.global_momentum"),
        ({"name": "fedavg", "codec": "sparse"}, "algorithm.codec"),
    ],
    ids=str,
)
def test_what_cannot_work_is_explained_beforehand(
    make_job: Callable[..., Job], settings: Any, field: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_job({"algorithm": settings, "clock": "wall"})
    assert caught.value.field == field


@pytest.mark.parametrize("least", [1, 5])
@pytest.mark.parametrize("name", ["fedavg", "fednova", "scaffold", "scalefl"])
def test_a_deadline_that_too_few_can_ever_meet_is_refused(
    make_job: Callable[..., Job], host: Callable[..., Any], name: str, least: int
) -> None:
    """With the seconds that it takes: at these a round succeeds."""

    def job(deadline: float) -> Job:
        algorithm = {"name": name, "deadline": deadline, "min_updates": least}
        return make_job({"algorithm": algorithm, "clock": CLOCK, "rounds": 1})

    with pytest.raises(ConfigError, match="can ever be in time") as caught:
        job(1e-3)
    assert caught.value.field == "algorithm.deadline"
    seconds = float(re.search(r"more than (\S+)", caught.value.fix).group(1))  # type: ignore[union-attr]
    with pytest.raises(ConfigError):
        job(0.99 * seconds)
    (report,) = host(job(1.01 * seconds))[1]
    assert outcomes(report).count("done") >= least


# -- who is there ----------------------------------------------------------------------------------


def present(tmp_path: Any, lines: list[str], repeat: float | None = None) -> dict[str, Any]:
    """A clock of equal devices, there as a file says."""
    file = tmp_path / "there.csv"
    file.write_text("node,from,to\n" + "\n".join(lines) + "\n")
    availability: dict[str, Any] = {"name": "file", "file": str(file)}
    if repeat:
        availability["repeat"] = repeat
    return {"name": "devices", "availability": availability}


def test_only_those_who_are_there_are_invited(
    make_job: Callable[..., Job], host: Callable[..., Any], tmp_path: Any
) -> None:
    clock = present(tmp_path, [f"{i},1e6,2e6" for i in (0, 3, 5)])
    _, reports = host(make_job({"algorithm": {"name": "fedavg", "sampled": 6}, "clock": clock}))
    for report in reports:
        assert [i for i, f in enumerate(outcomes(report)) if f == "-"] == [0, 3, 5]


def test_a_server_waits_where_nobody_is(
    make_job: Callable[..., Job], host: Callable[..., Any], tmp_path: Any
) -> None:
    clock = present(tmp_path, [f"{i},{1000 * (1 + i)},1e9" for i in range(8)])
    _, reports = host(make_job({"algorithm": "fedavg", "clock": clock, "rounds": 1}))
    assert outcomes(reports[0]) == ["done"] + ["-"] * 7
    assert starts(reports[0]) == 1000
    assert reports[0]["values"]["round_time"][8] < 1000


def test_nobody_ever_is_an_error(
    make_job: Callable[..., Job], host: Callable[..., Any], tmp_path: Any
) -> None:
    clock = present(tmp_path, [f"{i},0,0.001" for i in range(8)])
    job = make_job(
        {"algorithm": {"name": "fedavg", "on_failed_round": "skip"}, "clock": clock, "rounds": 9}
    )
    with pytest.raises(RunError, match="no client of server 8 ever becomes available"):
        host(job)


def test_who_leaves_does_not_count(
    make_job: Callable[..., Job], host: Callable[..., Any], tmp_path: Any
) -> None:
    clock = present(tmp_path, ["2,0,0.01"])
    _, reports = host(make_job({"algorithm": "fedavg", "clock": clock}))
    assert outcomes(reports[0]) == ["done"] * 2 + ["left"] + ["done"] * 5
    assert reports[0]["log"]["client_end"][2] == 0.01
    assert outcomes(reports[1])[2] == "-"
