"""Tables of one run and of several: what stands in them, and what runs are called there."""

from __future__ import annotations

import pytest

from hansa.report import RunFolder
from hansa.report.comparing import run_labels, settings_table
from hansa.report.tables import events_table, final_table


def test_labels_fall_back_to_what_differs_then_to_folders(tmp_path):
    def run(name, **settings):
        config = {"algorithm": {"name": "gossip", **settings}, "seed": 1}
        return RunFolder.create(tmp_path / name, config, {})

    stamp = "gossip-digits-20260101-00000"
    rates = [run(f"{stamp}0", rate=0.1, same=1), run(f"{stamp}1", rate=0.2, same=1)]
    assert run_labels(rates) == ["rate 0.1", "rate 0.2"]
    assert run_labels([run("c"), run("d")]) == ["c", "d"]
    assert run_labels([run("e")]) == ["gossip"]
    assert len(set(run_labels([run("x/f"), run("y/f")]))) == 2


def test_the_final_table_is_over_nodes(tmp_path):
    run = RunFolder.create(tmp_path / "run", {}, {})
    run.record(0, "accuracy", [0.0, 0.0], node=[0, 1])
    run.record(5, "accuracy", [0.5, 0.7], node=[0, 1])
    run.record(5, "bytes_sent", [1e6, 3e6], node=[0, 1])
    run.record(7, "round_seconds", 90.0)
    rows = {row[0]: row[1:] for row in final_table(run, every=True).rows}
    assert rows["accuracy"] == ["60.00 %", "10.00 %", "50.00 %", "70.00 %", "2", "5"]
    assert rows["bytes sent"] == ["2.00 MB", "1.00 MB", "1.00 MB", "3.00 MB", "2", "5"]
    assert rows["wall time of a round"] == ["90.0 s", "", "", "", "", "7"]
    few = {row[0]: row[1:] for row in final_table(run).rows}
    assert few["accuracy"] == ["60.00 %", "50.00 %", "70.00 %", "2", "5"]
    assert final_table(run).rich().row_count == 3


@pytest.mark.parametrize("every", [False, True])
def test_eight_lines_matter_and_all_are_there_when_asked(tmp_path, every):
    run = RunFolder.create(tmp_path / "run", {}, {})
    names = ("loss", "accuracy", "loss_average_model", "accuracy_average_model", "f1", "steps")
    spent = ("bytes_sent", "modelled_time", "compute_time", "transfer_time", "radio_energy")
    for name in (*names, *spent, "consensus_distance", "calibration_error"):
        run.record(3, name, [0.25, 0.5], node=[0, 1])
    run.record(3, "energy", [0.0, 0.0], node=[0, 1])  # no profile gave any
    shown = [row[0] for row in final_table(run, every=every).rows]
    assert len(shown) == (14 if every else 8)
    if not every:
        assert shown[:2] == ["accuracy", "accuracy of the averaged model"]
        assert shown[-3:] == ["bytes sent", "modelled time", "compute time"]


def test_a_name_that_was_given_is_kept(tmp_path):
    def run(name, rate):
        return RunFolder.create(
            tmp_path / name, {"algorithm": {"name": "gossip", "rate": rate}}, {}
        )

    assert run_labels([run("slow", 1), run("fast", 2)]) == ["slow", "fast"]
    stamped = [run("gossip-digits-20260101-000000", 1), run("gossip-digits-20260101-000000-2", 2)]
    assert run_labels(stamped) == ["rate 1", "rate 2"]


def test_runs_of_two_kinds_differ_in_what_both_have(tmp_path):
    one = RunFolder.create(tmp_path / "a", {"verb": "learn", "seed": 1, "nodes": 3}, {})
    two = RunFolder.create(tmp_path / "b", {"verb": "combine", "seed": 2, "clients": 3}, {})
    assert [row[0] for row in settings_table([one, two]).rows] == ["verb", "seed"]


def test_long_lists_of_the_diary_are_cut(tmp_path):
    run = RunFolder.create(tmp_path / "run", {}, {})
    run.event("missing", senders=list(range(1000)), receivers=[1, 2])
    (row,) = events_table(run).rows
    assert row[2].endswith("9, 10, 11, ... 1000 in all], receivers: [1, 2]")
