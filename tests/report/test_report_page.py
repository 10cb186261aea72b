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
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hansa.base import component
from hansa.base.component import catalogue
from hansa.base.errors import CheckpointError, ConfigError
from hansa.base.modules import load_module
from hansa.cli.answer import Answer
from hansa.report import RunFolder
from hansa.report.charts import save_png, spec_of, views
from hansa.report.comparing import comparison, comparison_table, groups_of, run_labels
from hansa.report.comparison import write_comparison
from hansa.report.curves import Curves, curves_chart
from hansa.report.page import final, page_of
from hansa.report.pictures import topology_picture
from hansa.report.series import (
    COLUMNS,
    curve,
    families,
    is_constant,
    is_straight,
    measurements,
    progress,
    without_moments,
)
from hansa.report.several.seed_curves import over_seeds
from hansa.report.writing import write_report

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
        if tag not in ("meta", "br", "hr", "img", "input", "link"):
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
        "Final accuracy of each node",
        "Topology",
        "Labels of each node",
        "Data sizes",
        "Loss",
        "Consensus distance",
    ]  # bytes and energy are straight lines, the sizes of messages never change
    assert len(page.source) < 1_500_000
    for spec in page.specs.values():
        alt.Chart.from_dict(spec)  # it has the form that Vega-Lite asks for
    text = " ".join(page.text)
    assert "gossip on ring, 12 nodes" in text
    assert "72.0 kB" in text  # 12 nodes, 6 rounds, 1000 bytes


def test_the_one_large_chart_has_every_axis_that_there_is(runs):
    page = page_of(runs[0])
    (chart,) = page.main_chart(page.read(runs[0]))
    spec, choices = spec_of(chart), views(chart)
    fields = [view["change"]["encoding"]["x"]["field"] for view in choices]
    assert fields == ["round", "bytes", "time", "modelled_time", "energy"]
    rows = data(spec, spec)
    for view in choices:
        alt.Chart.from_dict({**spec, **view["change"]})
        assert all(row[view["change"]["encoding"]["x"]["field"]] is not None for row in rows)
    words = " ".join(spec["title"]["subtitle"])
    assert "mean of 12 nodes; band: the lowest to the highest of them" in words
    assert "seeds" in words  # the spread over nodes is told from one over seeds
    last = max((row for row in rows if row["line"] == "nodes"), key=lambda row: row["round"])
    assert (last["bytes"], last["modelled_time"]) == (72.0, pytest.approx(12, abs=0.1))


def test_the_sentence_says_what_was_done_how_it_ended_and_what_it_cost(tmp_path):
    def told(name, status=None, rounds=10, **more):
        run = RunFolder.create(
            tmp_path / name, {"algorithm": "gossip", "nodes": 2, "rounds": 10}, {}
        )
        run.record(rounds, "accuracy", [0.5, 0.7], node=[0, 1])
        run.record(rounds, "bytes_sent", [500, 500], node=[0, 1], time=90.0)
        if status == "failed":
            run.event("failed", error="node 1 is gone\n  start it again")
        if status:
            run.finish({"status": status, "rounds": rounds, **more})
        page = page_of(run)
        return page.sentence(of := page.read(run)), page.status(of)

    text, word = told("finished", "finished")
    assert text == (
        "2 nodes ran gossip for 10 rounds and finished. Accuracy is 60.00 % on average, 50.00 % to "
        "70.00 % over nodes. It cost 1.00 kB sent and 90.0 s of wall time."
    )
    assert word == "finished"
    text, word = told("early", "finished", 4, ended="nothing moves")
    assert "and stopped early after 4 rounds of 10, as nothing moves." in text
    assert word == "stopped early"
    where = {"round": 2, "nodes": [1]}
    assert "and diverged, first in round 2." in told("diverged", "diverged", diverged=where)[0]
    text, _ = told("interrupted", "interrupted", 4, saved=3)
    assert "was interrupted after 4 rounds of 10, the last checkpoint is of round 3." in text
    assert "failed after 4 rounds of 10: node 1 is gone." in told("failed", "failed", 4)[0]
    assert "and stopped by its own rule after 4 rounds of 10." in told("rule", "finished", 4)[0]
    text, word = told("killed", None, 4)
    assert "has not ended: it goes on, or was killed" in text
    assert word == "unfinished"


def test_charts_hold_means_never_the_measurements(tmp_path):
    run = RunFolder.create(tmp_path / "run", {}, {})
    for t in range(2000):
        run.record(t, "loss", np.linspace(0, 1, 50) + t, node=np.arange(50))
    page = page_of(run)
    spec = spec_of(page.main_chart(page.read(run))[0])
    rows = data(spec, spec)
    assert len(rows) == 251  # every eighth round, and the last
    assert (rows[0]["round"], rows[-1]["round"]) == (0, 1999)
    assert rows[0] == {"round": 0, "mean": 0.5, "low": 0, "high": 1, "line": "nodes"}


numbers = st.floats(-1e6, 1e6).map(lambda x: float(np.float32(x)))


@given(st.lists(st.lists(numbers, min_size=5, max_size=5), min_size=1, max_size=6))
def test_a_band_over_seeds_holds_every_seed_and_one_seed_is_itself(seeds):
    frames = []
    for values in seeds:
        frame = pl.DataFrame({"round": range(5), "mean": values, "low": values, "high": values})
        frame = frame.with_columns(nodes=pl.lit(1), **dict.fromkeys(COLUMNS[5:], pl.lit(1.0)))
        frames.append(frame.select(COLUMNS))
    found = over_seeds(frames)
    for frame in frames:
        assert (found["low"] <= frame["mean"]).all()
        assert (frame["mean"] <= found["high"]).all()
    assert found["mean"].to_list() == pytest.approx(np.mean(seeds, axis=0).tolist(), abs=1e-6)
    assert over_seeds(frames[:1])["mean"].to_list() == frames[0]["mean"].to_list()
    assert over_seeds(frames[::-1])["high"].to_list() == found["high"].to_list()


@given(st.floats(0.01, 1e9), st.floats(0, 1e9), st.integers(3, 40))
def test_what_grows_by_as_much_every_round_is_straight_and_no_level_is(slope, start, rounds):
    x = np.arange(1, rounds + 1)
    frame = pl.DataFrame({"round": x, "mean": start + slope * x})
    level = pl.DataFrame({"round": x, "mean": np.full(rounds, start)})
    same = level.with_columns(low=pl.col("mean"), high=pl.col("mean"))
    assert is_straight(frame)
    assert not is_straight(level)
    assert is_constant([same, same])
    assume(slope * rounds > 1e-5 * start)
    assert not is_constant([frame.with_columns(low=pl.col("mean"), high=pl.col("mean"))])


def test_what_is_said_of_each_class_is_one_chart(tmp_path):
    run = RunFolder.create(tmp_path / "run", {}, {})
    for t in range(3):
        run.record(t, "accuracy", [0.1 * t, 0.2 * t], node=[0, 1])
        run.record(t, "recall", [0.1 * t, 0.2 * t], node=[0, 1])
        for k in range(11):
            run.record(t, f"recall_{k}", [0.05 * t, 0.01 * k * t], node=[0, 1])
        run.record(t, "other_5", float(t * t))  # of no class: there is no other
    page = page_of(run)
    of = page.read(run)
    assert list(of.families) == ["accuracy", "recall", "recall_by_class", "other_5"]
    curves = page.curves(of, "recall_by_class")
    assert list(curves.lines) == [f"class {k}, nodes" for k in range(11)]
    assert curves.note == "Line: mean of 2 nodes."
    assert all((frame["low"] == frame["high"]).all() for frame in curves.lines.values())


def test_runs_that_differ_in_their_seed_are_one_line(tmp_path):
    def run(name, rate, seed):
        config = {"algorithm": {"name": "gossip", "rate": rate}, "seed": seed}
        folder = RunFolder.create(tmp_path / f"{name}-{seed}", config, {})
        for t in (1, 2):
            folder.record(t, "accuracy", [0.1 * t * rate + 0.01 * seed], node=[0])
        return folder

    runs = [run("slow", 1, 1), run("slow", 1, 2), run("fast", 4, 1), run("other", 2, 1)]
    groups = groups_of(runs)
    assert [group.runs for group in groups] == [(0, 1), (2,), (3,)]
    assert len({group.name for group in groups}) == 3
    page = Page(write_comparison(runs, tmp_path / "compare.html"))
    spec = page.specs["chart-1-1"]
    assert len(data(spec, spec)) == 3 * 2
    words = " ".join(spec["title"]["subtitle"])
    assert "mean of 2 seeds" in words
    assert "band: min to max over 2 seeds" in words
    alone = [runs[0], runs[2]]
    assert [group.name for group in groups_of(alone)] == run_labels(alone)


def test_a_comparison_says_which_runs_had_simulated_hardware(tmp_path):
    marks = {"tee": "simulated", "is_hardware": False}

    def run(name, seed=1, marks=marks):
        folder = RunFolder.create(tmp_path / name, {"algorithm": "gossip", "seed": seed}, marks)
        for t in (1, 2):
            folder.record(t, "accuracy", [0.1 * t], node=[0])
        return folder

    marked, plain = run("marked"), run("plain", marks={})
    assert run_labels([marked, plain]) == ["marked (tee: simulated)", "plain"]
    page = Page(write_comparison([marked, plain], tmp_path / "compare.html"))
    assert "<h1>2 runs compared (tee: simulated)" in page.source
    assert "marked: tee: simulated: no hardware stands behind" in page.source
    assert page.specs["chart-1-1"]["title"]["text"].endswith("(tee: simulated)")
    assert [row.get("tee") for row in comparison([marked, plain])] == ["simulated", None]
    assert [group.name for group in groups_of([marked, run("again", seed=2)])] == [
        "gossip (tee: simulated)"
    ]
    unmarked = write_comparison([plain, run("other", seed=2, marks={})], tmp_path / "plain.html")
    assert "simulated" not in unmarked.read_text().partition("<script")[0]


def test_a_page_of_ones_own_claims_its_runs(tmp_path, monkeypatch):
    monkeypatch.setitem(component._registry, "page", dict(catalogue("page")))
    text = (Path(__file__).parents[2] / "docs" / "learn.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (own,) = [block for block in blocks if "(RunPage)" in block]
    (tmp_path / "auction.py").write_text(own)
    assert len(own.splitlines()) < 40
    load_module(str(tmp_path / "auction.py"))
    for verb in ("auction", "learn"):
        run = RunFolder.create(tmp_path / verb, {"verb": verb, "nodes": 3}, {})
        run.record(1, "bid", [1.0, 5.0, 2.0], node=[0, 1, 2])
        text = write_report(run).read_text()
        words = (
            "Auction among 3 bidders",
            "The best bid was 5.",
            "<span>bids</span>",
            "No refunds.",
        )
        assert all((word in text) == (verb == "auction") for word in words)
    assert final(run).rows


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
        "one": [],  # a number says it
        "nan": ["Final loss of each node (1 not finite)"],
        "regression": ["Final RMSE of each node"],
        "odd": ["Topology"],
    }[case]
    assert titles(page) == expected
    assert write_comparison([run, run], tmp_path / "two.html").exists()


def test_a_comparison_tells_the_runs_apart(runs, tmp_path):
    assert run_labels(runs) == ["gossip, ring", "gossip, regular", "other, ring"]
    page = Page(write_comparison([run.path for run in runs], tmp_path / "compare.html"))
    assert page.loads == []
    assert titles(page)[0] == "Accuracy"
    spec = page.specs["chart-1-1"]
    assert {row["line"] for row in data(spec, spec)} == set(run_labels(runs))
    grid = comparison_table(runs)
    assert grid.columns[:3] == ["run", "nodes", "rounds"]
    assert [row[1] for row in grid.rows] == ["12", "40", "12"]
    with pytest.raises(ConfigError, match="nothing to compare"):
        write_comparison([], tmp_path / "none.html")


def test_large_graphs_are_sampled_and_say_so():
    nodes = 1000
    edges = [[i, (i + k) % nodes] for i in range(nodes) for k in range(1, 21)]
    spec = topology_picture({"nodes": nodes, "edges": edges}, {}, "").to_dict()
    subtitle = spec["title"]["subtitle"]
    assert re.fullmatch("300 of 1\u202f000 nodes, 3\u202f000 of 20\u202f000 edges", subtitle)
    assert [len(data(spec, layer)) for layer in spec["layer"]] == [3000, 300]


def test_a_view_of_a_chart_is_a_picture_of_its_own(runs, tmp_path):
    page = page_of(runs[0])
    (chart,) = page.main_chart(page.read(runs[0]))
    change = views(chart)[1]["change"]
    plain, other = tmp_path / "chart.png", tmp_path / "bytes.png"
    assert save_png(chart, plain).read_bytes().startswith(b"\x89PNG")
    assert save_png(chart, other, change=change).read_bytes() != plain.read_bytes()


def test_a_report_of_no_run_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="is not a run folder"):
        write_report(tmp_path)


@pytest.mark.browser
def test_every_chart_is_drawn_by_a_browser(runs, federated, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        pytest.skip("there is neither chromium nor google-chrome here")
    pages = [write_report(runs[1]), write_comparison(runs, tmp_path / "compare.html")]
    pages.append(write_report(federated(servers=3, merged=True)))
    for path in pages:
        path.write_text(path.read_text().replace("<details>", "<details open>"))
        flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-sync"
        flags += " disable-background-networking disable-component-update dump-dom"
        command = [browser, *(f"--{flag}" for flag in flags.split())]
        command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=8000"]
        done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, check=True)
        charts = re.findall(r'<div class="([^"]*)" id="chart-[^>]*>(.*?)<script', done.stdout, re.S)
        assert len(charts) == len(Page(path).specs) > 2
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
    spec = page.specs["chart-1-1"]
    assert {row["line"] for row in data(spec, spec)} == {f"run{k}" for k in range(12)}


def lines_of(run: RunFolder, family: str) -> Curves:
    metrics = without_moments(measurements(run))
    spent = progress(metrics)
    return Curves({one.label: curve(metrics, one, spent) for one in families(metrics)[family]})


def test_a_lone_point_stands_at_its_tick(tmp_path):
    run = RunFolder.create(tmp_path / "run", {}, {})
    run.record(7, "accuracy", [0.5], node=[0])
    spec = curves_chart(lines_of(run, "accuracy"), "accuracy").to_dict()
    x = spec["encoding"]["x"]
    assert x["axis"]["values"] == [7]
    low, high = x["scale"]["domain"]
    assert low < 7 < high
    assert spec["layer"][0]["encoding"]["y"]["scale"]["domain"] == [0, 1]


def test_what_diverged_has_ticks_in_few_digits(tmp_path):
    run = RunFolder.create(tmp_path / "run", {}, {})
    for t, loss in enumerate((2.0, 5e31)):
        run.record(t + 1, "loss", [loss], node=[0])
    spec = curves_chart(lines_of(run, "loss"), "loss").to_dict()
    assert spec["layer"][0]["encoding"]["y"]["axis"]["format"] == "~g"
