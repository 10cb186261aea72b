"""Reports of servers and clients: the server's time and model, the clients' fates and work."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from hansa.experiment.progress import RunProgress
from hansa.learn.federated.cohort_curves import MERGED, cohort_curves
from hansa.learn.federated.fates import (
    FATES,
    UNDER_WAY,
    costs,
    invitations,
    times_counted,
)
from hansa.learn.federated.invitation import OUTCOMES
from hansa.learn.federated.page import FederatedPage, costs_table
from hansa.learn.federated.timeline import COHORTS, ROWS, timeline_picture
from hansa.report import RunFolder, writing
from hansa.report.charts import views
from hansa.report.comparing import comparison_table
from hansa.report.comparison import write_comparison
from hansa.report.page import page_of
from hansa.report.series import curve, families, final, measurements, progress, servers
from hansa.report.tables import final_table


def data(spec: dict, layer: int) -> list[dict]:
    return spec["datasets"][spec["layer"][layer]["data"]["name"]]


def titles(run: RunFolder) -> dict[str, list[str]]:
    page = page_of(run)
    return {
        section.title: [chart.title.text for chart in section.charts]
        for section in page.sections(page.read(run))
        if section
    }


def test_fates_are_the_outcomes_of_invitations():
    assert FATES == OUTCOMES


def test_the_servers_are_told_from_their_clients(federated):
    metrics = measurements(federated(clients=30, servers=2))
    assert servers(metrics) == [30, 31]
    assert families(metrics)["accuracy"][0].label == "servers"
    assert families(metrics)["compute_time"][0].label == "clients"
    assert not any(name.startswith("client_") for name in families(metrics))
    spent = progress(metrics)
    assert spent["modelled_time"].to_list() == [30.0 * t for t in range(1, 7)]
    computed = metrics.filter((pl.col("name") == "compute_time") & (pl.col("round") == 6))
    assert spent["device_time"][-1] == pytest.approx(computed["value"].sum())


def test_peers_have_no_servers(tmp_path):
    run = RunFolder.create(tmp_path / "run", {"nodes": 4}, {})
    run.record(1, "accuracy", [0.1, 0.2, 0.3, 0.4], node=np.arange(4))
    run.record(1, "modelled_time", [1.0, 2.0, 3.0, 4.0], node=np.arange(4))
    metrics = measurements(run)
    assert servers(metrics) == []
    assert len(invitations(metrics)) == 0
    assert costs(run, metrics, invitations(metrics)) == {}
    assert cohort_curves(metrics, "accuracy", progress(metrics)) == {}
    assert families(metrics)["accuracy"][0].label == "nodes"
    assert progress(metrics)["modelled_time"].to_list() == [4.0]


def test_invitations_are_what_was_recorded(federated):
    metrics = measurements(federated(rounds=5, sampled=10, servers=3))
    invited = invitations(metrics)
    assert len(invited) == 50
    assert set(invited["fate"].unique()) == {"done", "late", "failed"}
    assert (invited["server"] == 30 + invited["client"] % 3).all()
    assert (invited.filter(pl.col("fate") == "failed").group_by("round").len()["len"] == 1).all()
    moments = invited.select("start", "heard", "trained", "end").to_numpy()
    assert (np.diff(moments) >= 0).all()


def test_who_is_not_done_when_the_run_ends_is_under_way(tmp_path):
    run = RunFolder.create(tmp_path / "run", {"nodes": 2}, {})
    for name, values in {
        "start": [0, 1], "heard": [1, 2], "trained": [5, 7], "end": [6, 9], "outcome": [0, 0]
    }.items():  # fmt: skip
        run.record(1, f"client_{name}", values, node=[0, 1])
    run.record(1, "modelled_time", [6.0, 9.0, 6.0], node=[0, 1, 2])
    invited = invitations(measurements(run))
    assert invited["fate"].to_list() == ["done", UNDER_WAY]
    assert invited["server"].to_list() == [2, 2]


@pytest.mark.parametrize(("clients", "sampled"), [(10, 10), (30, 7), (200, 50)])
def test_participation_adds_up(federated, clients, sampled):
    invited = invitations(measurements(federated(clients=clients, sampled=sampled)))
    counts = times_counted(invited, list(range(clients)))
    assert counts["client"].to_list() == list(range(clients))
    assert counts["invited"].sum() == len(invited) == 6 * sampled
    assert counts["counted"].sum() == (invited["fate"] == "done").sum()
    assert (counts["counted"] <= counts["invited"]).all()
    unknown = times_counted(invited, [])
    assert unknown["invited"].sum() == len(invited)


def test_where_the_time_went(federated):
    run = federated(rounds=4, servers=2)
    metrics = measurements(run)
    invited = invitations(metrics)
    found = costs(run, metrics, invited)
    lost = invited.filter(pl.col("fate") != "done")
    assert found["modelled_time"] == 120
    assert found["wasted_time"] == pytest.approx((lost["trained"] - lost["heard"]).sum())
    assert 0 < found["wasted_time"] < found["device_time"]
    assert found["idle_time"] == 4 * 5 * 2  # rounds, seconds, servers
    assert found["transfer_time"] == 30 * 3
    assert found["failed_rounds"] == 1
    assert sum(found.get(fate, 0) for fate in FATES) == found["invited"] == 40
    words = {row[0]: row[2] for row in costs_table(found).rows}
    assert words["modelled time"] == "2.00 min"
    assert words["failed rounds"] == "1"


def test_the_final_table_says_whose_figures_they_are(federated):
    rows = [[row[0], row[-2]] for row in final_table(federated(servers=1)).rows]
    assert ["accuracy", "1 server"] in rows
    assert ["bytes sent", "30 clients"] in rows
    assert ["bytes sent", "1 server"] in rows
    assert ["compute time", "1 server"] not in rows  # a server's is nothing
    assert not any(name.startswith("client") for name, _ in rows)
    frame = final(measurements(federated(servers=1))).filter(pl.col("name") == "accuracy")
    assert frame["std"].to_list() == [None]  # of one model there is no spread


def test_the_page_of_a_federated_run(federated):
    run = federated()
    assert type(page_of(run)) is FederatedPage
    found = titles(run)
    assert found[""] == ["Accuracy"]
    assert found["Nodes and data"] == ["Data sizes"]
    assert found["Clients"] == [
        "Timeline of clients",
        "What became of those invited",
        "Participation of clients",
        "Participation by data size",
    ]  # a round always takes as long, and as much of it is idle: no curves
    assert found["Other metrics"] == ["Loss"]  # all else is constant, or straight
    assert "Where the time went" in found
    text = writing.write_report(run).read_text()
    assert text.count("avg, 30 clients") == 2
    assert "30 clients ran avg for 6 rounds and finished." in text


def test_clients_that_are_measured_are_shown_one_by_one(federated):
    run = federated(clients=5, sampled=5)
    run.record(6, "accuracy", np.linspace(0.2, 0.6, 5), node=np.arange(5))
    page = page_of(run)
    name, values = page.by_node(page.read(run))
    assert name == "accuracy"
    assert list(values) == [0, 1, 2, 3, 4]
    assert "Final accuracy of each client" in titles(run)["Nodes and data"]


def test_one_server_has_no_spread_and_says_so(federated):
    page = page_of(run := federated())
    (chart,) = page.main_chart(page.read(run))
    spec = chart.to_dict()
    assert "no spread over nodes" in " ".join(spec["title"]["subtitle"])
    assert not any("area" in str(layer["mark"]) for layer in spec["layer"])


def test_what_the_one_server_says_every_round_is_drawn_every_round(federated):
    metrics = measurements(federated(rounds=6, every=3))
    (line,) = families(metrics)["round_time"]
    assert curve(metrics, line, progress(metrics))["round"].to_list() == [1, 2, 3, 4, 5, 6]
    assert len(progress(metrics).drop_nulls("device_time")) == 2


def test_without_modelled_time_nothing_is_said_of_it(federated):
    run = federated(timed=False)
    assert timeline_picture(invitations(measurements(run))) is None
    found = titles(run)
    assert "Invitations" in found
    assert "Modelled time of a round" not in found["Clients"]
    page = page_of(run)
    (chart,) = page.main_chart(page.read(run))
    assert "modelled time" not in [view["words"] for view in views(chart)]
    metrics = measurements(run)
    assert not any("time" in key for key in costs(run, metrics, invitations(metrics)))


@pytest.mark.parametrize(("clients", "servers"), [(12, 1), (300, 1), (300, 4), (400, 60)])
def test_the_timeline_shows_few_clients_and_says_how_many(federated, clients, servers):
    run = federated(clients=clients, servers=servers, sampled=min(clients, 100), rounds=12)
    invited = invitations(measurements(run))
    spec = timeline_picture(invited).to_dict()
    rules, bars = data(spec, 0), data(spec, 1)
    shown = {bar["client"] for bar in bars}
    assert len(shown) <= ROWS + min(servers, COHORTS)
    assert all(bar["to"] > bar["from"] for bar in bars)
    assert {bar["work"] for bar in bars} == {"download", "training", "upload"}
    # A row is one client's, and one client has one row.
    assert len({(bar["client"], bar["row"]) for bar in bars}) == len(shown)
    first = spec["title"]["subtitle"]
    assert f"{len(shown)} of" in first or f"{len(shown)} clients" in first
    assert ("8 of 60 cohorts" in first) == (servers == 60)
    if clients == 300:
        assert "rounds 1 to 3, " in first
    assert len(spec["layer"][0]["encoding"]["y"]["axis"]["values"]) >= len(shown)
    last = max(bar["round"] for bar in bars)
    assert max(rule["round"] for rule in rules) == min(last + 1, 12)


def test_cohorts_are_lines_and_their_merged_model_is_a_dot(federated):
    run = federated(servers=3, merged=True)
    metrics = measurements(run)
    found = cohort_curves(metrics, "accuracy", progress(metrics))
    assert list(found) == ["cohort 1", "cohort 2", "cohort 3", MERGED]
    assert [len(frame) for frame in found.values()] == [6, 6, 6, 1]
    assert found["cohort 2"]["mean"][-1] == pytest.approx(1 - 1 / 8)
    assert found[MERGED]["mean"].to_list() == [pytest.approx((1 - 1 / 7) / 2)]
    assert found["cohort 2"]["modelled_time"].to_list() == [30.0 * t for t in range(1, 7)]
    # At the end its clock is that of the merged model.
    assert found["cohort 1"]["modelled_time"].null_count() == 1
    assert cohort_curves(metrics, "compute_time", progress(metrics)) == {}
    page = page_of(run)
    assert list(page.curves(page.read(run), "accuracy").lines) == list(found)


def test_many_cohorts_are_a_mean_with_a_spread(federated):
    run = federated(servers=12, merged=True)
    metrics = measurements(run)
    assert cohort_curves(metrics, "accuracy", progress(metrics)) == {}
    page = page_of(run)
    note = page.curves(page.read(run), "accuracy").note
    assert note == "Line: mean of 12 servers; band: the lowest to the highest of them."


def test_a_comparison_takes_servers_and_peers(federated, tmp_path):
    peers = RunFolder.create(tmp_path / "peers", {"algorithm": {"name": "gossip"}, "nodes": 3}, {})
    for t in (1, 2):
        peers.record(t, "accuracy", [0.1 * t, 0.2 * t, 0.3 * t], node=[0, 1, 2], time=0.1 * t)
        peers.record(t, "modelled_time", [1.0 * t, 2.0 * t, 9.0 * t], node=[0, 1, 2])
        peers.record(t, "compute_time", [1.0 * t, 1.0 * t, 1.0 * t], node=[0, 1, 2])
    runs = [federated(), federated(servers=4, merged=True, clients=20), peers]
    text = write_comparison(runs, tmp_path / "compare.html").read_text()
    assert "<span>device time</span>" in text
    assert "Dot: what cohorts merged into." in text
    grid = comparison_table(runs)
    row = dict(zip(grid.columns, grid.rows[2], strict=True))
    assert (row["modelled time"], row["device time"]) == ("18.0 s", "6.00 s")
    assert comparison_table(runs[:1]).rows[0][2] == "85.71 %"  # one model: no ±


def test_a_page_of_ten_thousand_clients_is_light(federated):
    run = federated(clients=10_000, sampled=2000, rounds=5, every=5)
    histogram = np.ones((10_000, 10), int)
    sizes = np.arange(10_000) % 90
    run.write_json(
        "partition.json", {"classes": None, "histogram": histogram, "sizes": sizes, "servers": 1}
    )
    written = writing.write_report(run)
    assert written.stat().st_size < 2_000_000
    assert r"60 of 10\u202f000 clients" in written.read_text()


def test_pictures_hold_the_timeline_and_accuracy_by_time(federated, monkeypatch):
    def save(chart, path, *, change=None):
        path.parent.mkdir(exist_ok=True)
        path.touch()
        return path

    monkeypatch.setattr(writing.charts, "save_png", save)
    run = federated()
    names = {path.name for path in writing.write_pictures(run.path)}
    assert {"timeline_of_clients.png", "accuracy_by_modelled_time.png"} <= names
    assert names == {path.name for path in (run.path / "pictures").iterdir()}


def test_progress_says_how_many_clients_counted(capsys):
    shown = RunProgress(quiet=False)
    shown(1, {"accuracy": 0.5, "participants": 12.0, "invited": 16.0, "bytes_sent": 1000.0})
    shown(2, {"accuracy": 0.5, "bytes_sent": 1000.0})
    lines = capsys.readouterr().err.splitlines()
    assert "accuracy 50.00 %, 12 of 16 clients, 1.00 kB sent" in lines[0]
    assert "clients" not in lines[1]
