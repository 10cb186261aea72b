"""Reports of servers and clients: the server's time and model, the clients' fates and work."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from hansa.experiment.progress import RunProgress
from hansa.learn.federated.invitation import OUTCOMES
from hansa.report import RunFolder, page
from hansa.report.charts import comparison_chart, metric_chart
from hansa.report.cohort_curves import MERGED, cohort_curves
from hansa.report.rounds import FATES, UNDER_WAY, costs, invitations, participation
from hansa.report.sections import drawn_sections
from hansa.report.series import families, final, measurements, progress, servers
from hansa.report.tables import comparison_table, costs_table, final_table
from hansa.report.timeline import COHORTS, ROWS, timeline_picture


def data(spec: dict, layer: int) -> list[dict]:
    return spec["datasets"][spec["layer"][layer]["data"]["name"]]


def titles(run: RunFolder) -> dict[str, list[str]]:
    metrics = measurements(run)
    return {
        section.title: [
            chart.title if isinstance(chart.title, str) else chart.title.text
            for chart in section.charts
        ]
        for section in drawn_sections(run, metrics, invitations(metrics))
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
    assert cohort_curves(metrics, "accuracy") == {}
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
    counts = participation(invited, list(range(clients)))
    assert counts["client"].to_list() == list(range(clients))
    assert counts["invited"].sum() == len(invited) == 6 * sampled
    assert counts["counted"].sum() == (invited["fate"] == "done").sum()
    assert (counts["counted"] <= counts["invited"]).all()
    unknown = participation(invited, [])
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


def test_the_sections_of_a_federated_run(federated):
    run = federated()
    found = titles(run)
    assert found["Curves"][:5] == [
        "Accuracy",
        "Loss",
        "Accuracy by bytes sent",
        "Accuracy by wall time",
        "Accuracy by modelled time",
    ]
    assert "Accuracy by device time" in found["Curves"]
    assert found["Clients"] == [
        "Timeline of clients",
        "What became of those invited",
        "Participation of clients",
        "Participation by data size",
        "Modelled time of a round",
        "Idle time of clients",
    ]
    assert found["Nodes and data"] == ["Data sizes"]
    assert "Where the time went" in found
    assert page.write_report(run).read_text().count("avg, 30 clients") == 2


def test_a_curve_of_one_server_has_no_spread(federated):
    spec = metric_chart(measurements(federated()), "accuracy").to_dict()
    assert "subtitle" not in spec["title"] or spec["title"]["subtitle"] == []
    assert not any("area" in str(layer["mark"]) for layer in spec["layer"])


def test_what_the_one_server_says_every_round_is_drawn_every_round(federated):
    metrics = measurements(federated(rounds=6, every=3))
    spec = metric_chart(metrics, "round_time").to_dict()
    assert [row["round"] for row in next(iter(spec["datasets"].values()))] == [1, 2, 3, 4, 5, 6]
    assert len(progress(metrics).drop_nulls("device_time")) == 2


def test_without_modelled_time_nothing_is_said_of_it(federated):
    run = federated(timed=False)
    assert timeline_picture(invitations(measurements(run))) is None
    found = titles(run)
    assert "Invitations" in found
    assert "Modelled time of a round" not in found["Clients"]
    assert not any("modelled" in title for title in found["Curves"])
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
    metrics = measurements(federated(servers=3, merged=True))
    found = cohort_curves(metrics, "accuracy")
    assert list(found) == ["cohort 1", "cohort 2", "cohort 3", MERGED]
    assert [len(frame) for frame in found.values()] == [6, 6, 6, 1]
    assert found["cohort 2"]["mean"][-1] == pytest.approx(1 - 1 / 8)
    assert found[MERGED]["mean"].to_list() == [pytest.approx((1 - 1 / 7) / 2)]
    own = cohort_curves(metrics, "accuracy", "modelled_time")
    assert own["cohort 2"]["x"].to_list() == [30.0 * t for t in range(1, 7)]
    assert len(own["cohort 1"]) == 5  # at the end its clock is that of the merged model
    assert cohort_curves(metrics, "compute_time") == {}
    assert len(metric_chart(metrics, "accuracy", "bytes").to_dict()["datasets"]) == 1


def test_many_cohorts_are_a_mean_with_a_spread(federated):
    metrics = measurements(federated(servers=12, merged=True))
    assert cohort_curves(metrics, "accuracy") == {}
    spec = metric_chart(metrics, "accuracy").to_dict()
    assert spec["title"]["subtitle"] == "mean of 12 servers, min to max shaded"


def test_a_comparison_takes_servers_and_peers(federated, tmp_path):
    peers = RunFolder.create(tmp_path / "peers", {"algorithm": {"name": "gossip"}, "nodes": 3}, {})
    for t in (1, 2):
        peers.record(t, "accuracy", [0.1 * t, 0.2 * t, 0.3 * t], node=[0, 1, 2], time=0.1 * t)
        peers.record(t, "modelled_time", [1.0 * t, 2.0 * t, 9.0 * t], node=[0, 1, 2])
        peers.record(t, "compute_time", [1.0 * t, 1.0 * t, 1.0 * t], node=[0, 1, 2])
    runs = [federated(), federated(servers=4, merged=True, clients=20), peers]
    out = page.write_comparison(runs, tmp_path / "compare.html")
    assert "Accuracy by device time" in out.read_text()
    grid = comparison_table(runs)
    row = dict(zip(grid.columns, grid.rows[2], strict=True))
    assert (row["modelled time"], row["device time"]) == ("18.0 s", "6.00 s")
    metrics = {name: measurements(run) for name, run in zip("abc", runs, strict=True)}
    spec = comparison_chart(metrics, "accuracy", "modelled_time").to_dict()
    assert spec["title"]["subtitle"].endswith("a dot: what cohorts merged into")
    rows = [row for name in spec["datasets"] for row in spec["datasets"][name]]
    assert {row["line"] for row in rows} == {"a", "b", "c"}
    assert comparison_table(runs[:1]).rows[0][2] == "85.71 %"  # one model: no ±


def test_a_page_of_ten_thousand_clients_is_light(federated):
    run = federated(clients=10_000, sampled=2000, rounds=5, every=5)
    histogram = np.ones((10_000, 10), int)
    sizes = np.arange(10_000) % 90
    run.write_json("partition.json", {"classes": None, "histogram": histogram, "sizes": sizes})
    written = page.write_report(run)
    assert written.stat().st_size < 2_000_000
    assert "60 of 10000 clients" in written.read_text()


def test_pictures_hold_the_timeline_and_accuracy_by_time(federated, monkeypatch):
    def save(chart, path):
        path.parent.mkdir(exist_ok=True)
        path.touch()
        return path

    monkeypatch.setattr(page.charts, "save_png", save)
    run = federated()
    names = {path.name for path in page.write_pictures(run.path)}
    assert {"timeline_of_clients.png", "accuracy_by_modelled_time.png"} <= names
    assert names == {path.name for path in (run.path / "pictures").iterdir()}


def test_progress_says_how_many_clients_counted(capsys):
    shown = RunProgress(quiet=False)
    shown(1, {"accuracy": 0.5, "participants": 12.0, "invited": 16.0, "bytes_sent": 1000.0})
    shown(2, {"accuracy": 0.5, "bytes_sent": 1000.0})
    lines = capsys.readouterr().err.splitlines()
    assert "accuracy 50.00 %, 12 of 16 clients, 1.00 kB sent" in lines[0]
    assert "clients" not in lines[1]
