"""Reports are whole in themselves, draw every chart, and say only what was measured."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import altair as alt
import numpy as np
import pytest

from hansa.base.errors import CheckpointError, ConfigError
from hansa.cli.answer import Answer
from hansa.report import RunFolder
from hansa.report.charts import comparison_chart, metric_chart, save_png
from hansa.report.page import write_comparison, write_report
from hansa.report.pictures import topology_picture
from hansa.report.tables import comparison_table, final_table, run_labels, settings_table

HOSTILE = "</script><script>alert(1)</script><!-- {{ x }} <b>"


def make(path: Path, *, algorithm="gossip", topology="ring", nodes=12, rounds=6, scale=1.0):
    config = {"algorithm": {"name": algorithm}, "topology": {"name": topology}, "nodes": nodes}
    run = RunFolder.create(path, config | {"note": HOSTILE}, {"hansa": "0", "seed": 1})
    rng, each = np.random.default_rng(0), np.arange(nodes)
    for t in range(rounds + 1):
        sent = np.full(nodes, 1000 * t * scale)
        shared = {"node": each, "time": 0.5 * t, "bytes": sent.astype(int)}
        right = 0.1 + 0.8 * t / rounds + rng.normal(0, 0.01, nodes)
        run.record(t, "accuracy", right, **shared)
        run.record(t, "validation_accuracy", right - 0.02, **shared)
        run.record(t, "loss", 2 - right, **shared)
        run.record(t, "bytes_sent", sent, **shared)
        run.record(t, "modelled_time", 2.0 * t + 0.1 * rng.random(nodes), **shared)
        run.record(t, "energy", 3.0 * t + each, **shared)
        whole = {"time": 0.5 * t, "bytes": int(sent.sum())}
        run.record(t, "accuracy_average_model", 0.95 * (t + 1) / (rounds + 1), **whole)
        run.record(t, "consensus_distance", 10.0**-t, **whole)
        for name, size in (("mean", 100), ("min", 90), ("max", 130)):
            run.record(t, f"message_bytes_{name}", size, **whole)
    edges = [[i, (i + 1) % nodes] for i in range(nodes)]
    run.write_json("topology.json", {"nodes": nodes, "edges": edges, "directed": False})
    histogram = rng.integers(0, 50, (nodes, 3))
    classes = ["cat", "dog", HOSTILE]
    run.write_json(
        "partition.json",
        {"classes": classes, "histogram": histogram, "sizes": histogram.sum(1)},
    )
    run.event("warning", message=HOSTILE)
    run.finish({"status": "finished", "nodes": nodes, "seconds": 0.5 * rounds})
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[RunFolder]:
    path = tmp_path_factory.mktemp("runs")
    return [
        make(path / "gossip-digits-20260101-000000"),
        make(path / "gossip-digits-20260101-000001", topology="regular", nodes=40),
        make(path / "other-digits-20260101-000002", algorithm="other", scale=0.3),
    ]


class Page(HTMLParser):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads, self.specs, self.text, self.scripts, self.open = [], {}, [], 0, []
        self.source, self.kind = path.read_text(), None
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.loads += [v for k, v in attrs if k in ("src", "href", "srcset", "data", "action")]
        if tag not in ("meta", "br", "hr", "img", "link"):
            self.open.append(tag)
        if tag == "script":
            self.scripts += 1
            self.kind = found.get("data-for") or "script"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.kind = None

    def handle_data(self, data):
        if self.kind is None:
            self.text.append(data)
        elif self.kind != "script":
            self.specs[self.kind] = json.loads(data)


def data(spec: dict, part: dict) -> list[dict]:
    return spec["datasets"][(part.get("data") or spec["data"])["name"]]


def titles(page: Page) -> list[str]:
    found = [spec["title"] for spec in page.specs.values()]
    return [title["text"] if isinstance(title, dict) else title for title in found]


def test_the_report_is_whole_and_names_everything(runs):
    page = Page(write_report(runs[0].path))
    assert page.loads == []
    assert "url(" not in page.source.partition("<body>")[0]
    assert page.open == []
    assert page.scripts == len(page.specs) + 1
    assert "alert(1)" in "".join(page.text)  # shown as text, never run
    assert titles(page) == [
        "Accuracy",
        "Loss",
        "Accuracy by bytes sent",
        "Accuracy by wall time",
        "Accuracy by modelled time",
        "Accuracy by energy",
        "Consensus distance",
        "Bytes sent",
        "Message size",
        "Topology",
        "Final accuracy over nodes",
        "Labels of each node",
        "Data sizes",
    ]
    assert len(page.source) < 1_500_000
    for spec in page.specs.values():
        alt.Chart.from_dict(spec)  # it has the form that Vega-Lite asks for
    text = " ".join(page.text)
    assert "gossip on ring, 12 nodes" in text
    assert "72.0 kB" in text  # 12 nodes, 6 rounds, 1000 bytes


def test_charts_hold_means_never_the_measurements(tmp_path):
    run = RunFolder.create(tmp_path / "run", {}, {})
    for t in range(2000):
        run.record(t, "loss", np.linspace(0, 1, 50) + t, node=np.arange(50))
    spec = metric_chart(run.metrics(), "loss").to_dict()
    rows = data(spec, spec)
    assert len(rows) == 300
    assert (rows[0]["round"], rows[-1]["round"]) == (0, 1999)
    assert rows[0] == {"x": 0, "mean": 0.5, "low": 0, "high": 1, "nodes": 50} | {
        "round": 0,
        "line": "nodes",
    }


@pytest.mark.parametrize("case", ["empty", "one", "nan", "regression", "odd"])
def test_what_is_missing_is_absent(tmp_path, case):
    run = RunFolder.create(tmp_path / "run", {}, {})
    if case == "one":
        run.record(0, "accuracy", [0.5], node=[0])
    elif case == "nan":
        run.record(0, "loss", [1.0, 2.0, 3.0], node=[0, 1, 2])
        run.record(1, "loss", [1.0, float("nan"), 3.0], node=[0, 1, 2])
        run.record(2, "loss", [float("inf"), 1.0, 3.0], node=[0, 1, 2])
    elif case == "regression":
        run.record(0, "rmse", [1.0, 2.0], node=[0, 1], bytes=[1, 2], time=0.1)
        run.record(0, "rmse_average_model", 1.5)
    elif case == "odd":
        run.record(3, "something_else", -4.0)
        run.write_json("topology.json", {"nodes": 3, "edges": []})
        run.write_json("partition.json", {"classes": None, "histogram": [], "sizes": [5, 6]})
    page = Page(write_report(run))
    expected = {
        "empty": [],
        "one": ["Accuracy"],
        "nan": ["Loss", "Final loss over nodes (1 not finite)"],
        "regression": ["RMSE", "RMSE by wall time", "Final RMSE over nodes"],
        "odd": ["Something else", "Topology", "Data sizes"],
    }[case]
    assert titles(page) == expected
    assert write_comparison([run, run], tmp_path / "two.html").exists()


def test_a_comparison_tells_the_runs_apart(runs, tmp_path):
    assert run_labels(runs) == ["gossip, ring", "gossip, regular", "other, ring"]
    page = Page(write_comparison([run.path for run in runs], tmp_path / "compare.html"))
    assert page.loads == []
    assert titles(page)[:2] == ["Accuracy", "Accuracy by bytes sent"]
    spec = page.specs["chart-2-1"]
    assert {row["line"] for row in data(spec, spec)} == set(run_labels(runs))
    grid = comparison_table(runs)
    assert grid.columns[:3] == ["run", "nodes", "rounds"]
    assert [row[1] for row in grid.rows] == ["12", "40", "12"]
    with pytest.raises(ConfigError, match="nothing to compare"):
        write_comparison([], tmp_path / "none.html")


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
    rows = {row[0]: row[1:] for row in final_table(run).rows}
    assert rows["accuracy"] == ["60.00 %", "10.00 %", "50.00 %", "70.00 %", "2", "5"]
    assert rows["bytes sent"] == ["2.00 MB", "1.00 MB", "1.00 MB", "3.00 MB", "2", "5"]
    assert rows["wall time of a round"] == ["90.0 s", "", "", "", "", "7"]
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


def test_large_graphs_are_sampled_and_say_so():
    nodes = 1000
    edges = [[i, (i + k) % nodes] for i in range(nodes) for k in range(1, 21)]
    spec = topology_picture({"nodes": nodes, "edges": edges}, {}, "").to_dict()
    subtitle = spec["title"]["subtitle"]
    assert re.fullmatch(r"300 of 1000 nodes, 3000 of 20000 edges", subtitle)
    assert [len(data(spec, layer)) for layer in spec["layer"]] == [3000, 300]


def test_png(runs, tmp_path):
    metrics = {name: run.metrics() for name, run in zip("abc", runs, strict=True)}
    path = save_png(comparison_chart(metrics, "accuracy", "bytes"), tmp_path / "chart.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_report_of_no_run_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="not a run folder"):
        write_report(tmp_path)


@pytest.mark.browser
def test_every_chart_is_drawn_by_a_browser(runs, federated, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        pytest.skip("there is neither chromium nor google-chrome here")
    pages = [write_report(runs[1]), write_comparison(runs, tmp_path / "compare.html")]
    pages.append(write_report(federated(servers=3, merged=True)))
    for path in pages:
        flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-sync"
        flags += " disable-background-networking disable-component-update dump-dom"
        command = [browser, *(f"--{flag}" for flag in flags.split())]
        command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=8000"]
        done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, check=True)
        charts = re.findall(r'<div class="([^"]*)" id="chart-[^>]*>(.*?)<script', done.stdout, re.S)
        assert len(charts) == len(Page(path).specs) > 5
        for kind, drawn in charts:
            assert "error" not in kind.split(), drawn
            assert re.search(r'<svg[^>]*class="marks"', drawn)
            assert re.search(r'aria-roledescription="[a-z ]*mark[^>]*>.*?<path[^>]* d="M', drawn)
            assert "NaN" not in drawn


@pytest.mark.parametrize("width", [60, 80, 100])
def test_no_number_is_cropped_however_narrow_the_terminal(runs, width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    grid = comparison_table(runs)
    Answer(as_json=False).table(grid)
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= width
    for row in grid.rows:
        for number in row[grid.words :]:
            assert re.search(rf"(?<!\S){re.escape(number)}(?!\S)", said), number
    assert said.count(grid.rows[0][0].split()[0].rstrip(",")) >= len(grid.within(width))


def test_many_runs_are_told_apart_in_the_legend(tmp_path):
    many = [make(tmp_path / f"run{k}", rounds=2, nodes=3) for k in range(12)]
    page = Page(write_comparison(many, tmp_path / "compare.html"))
    looks = re.findall(
        r'<line [^>]*stroke="(#\w+)"[^>]*?(?:stroke-dasharray="([^"]*)")?/>', page.source
    )
    legend = looks[:12]
    assert len(set(legend)) == 12
    spec = page.specs["chart-2-1"]
    assert {row["line"] for row in data(spec, spec)} == {f"run{k}" for k in range(12)}


def test_a_lone_point_stands_at_its_tick(tmp_path):
    run = RunFolder.create(tmp_path / "run", {}, {})
    run.record(7, "accuracy", [0.5], node=[0])
    spec = metric_chart(run.metrics(), "accuracy").to_dict()
    x = spec["layer"][0]["encoding"]["x"]
    assert x["axis"]["values"] == [7]
    low, high = x["scale"]["domain"]
    assert low < 7 < high
    assert spec["layer"][0]["encoding"]["y"]["scale"]["domain"] == [0, 1]


def test_what_diverged_has_ticks_in_few_digits(tmp_path):
    run = RunFolder.create(tmp_path / "run", {}, {})
    for t, loss in enumerate((2.0, 5e31)):
        run.record(t + 1, "loss", [loss], node=[0])
    spec = metric_chart(run.metrics(), "loss").to_dict()
    assert spec["layer"][0]["encoding"]["y"]["axis"]["format"] == "~g"


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
