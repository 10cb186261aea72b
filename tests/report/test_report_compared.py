"""``hansa.compare``: one object, its files, and the command."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import hansa
from hansa.base import component
from hansa.base.component import catalogue, register
from hansa.base.errors import ConfigError
from hansa.cli import main
from hansa.report import RunFolder
from hansa.report.comparison import write_comparison
from hansa.report.grid import Grid
from hansa.report.page import Figure
from hansa.report.run_page import RunPage
from hansa.report.several.paper_chart import paper_chart
from hansa.report.several.table_files import latex, markdown, tex, units_in_heads


def run(folder: Path, algorithm: str, seed: int, rounds: int = 4, nodes: int = 3) -> RunFolder:
    config = {"algorithm": {"name": algorithm}, "seed": seed, "nodes": nodes}
    made = RunFolder.create(folder / f"{algorithm}-{seed}-{rounds}".replace("/", "_"), config, {})
    for t in range(rounds + 1):
        right = 0.3 + 0.1 * t + 0.01 * seed + 0.02 * len(algorithm) * (t > 0)
        who = {"node": range(nodes), "time": 0.5 * t}
        made.record(t, "accuracy", [right - 0.01, right, right + 0.01], **who)
        made.record(t, "loss", [1 - right] * nodes, **who)
        made.record(t, "bytes_sent", [1000.0 * t * len(algorithm)] * nodes, **who)
    made.finish({"status": "finished", "nodes": nodes})
    return made


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("compared")
    for algorithm in ("a_b%", "gossip", "c&d"):
        for seed in (1, 2, 3):
            run(path / "runs", algorithm, seed)
    return path


def test_the_object_has_tables_a_picture_and_a_line(place, monkeypatch):
    found = hansa.compare(place / "runs", baseline="gossip", reach="accuracy=65%")
    assert found.settings == ["a_b%", "c&d", "gossip"]
    table = found.table()
    row = table.row(
        by_predicate=(pl.col("setting") == "gossip") & (pl.col("metric") == "accuracy"), named=True
    )
    assert row["mean"] == pytest.approx(0.84)
    assert row["std"] == pytest.approx(0.01)
    assert found.summary("gossip") == "84.0 ± 1.0 % (n = 3), worst 83.00 %"
    assert "gossip: 84.0 ± 1.0 %" in repr(found)
    reached = table.filter(pl.col("metric") == "round to accuracy >= 0.65")
    assert reached["n"].to_list() == [3, 3, 3]
    assert len(found.values()) == 9 * 6  # three metrics, rounds, total bytes and time
    assert found.differences(["loss"])["setting"].to_list() == ["a_b%", "c&d"]
    html = found._repr_html_()
    assert html.count("<svg") == 1
    assert "band: one standard deviation" in html
    assert "c&amp;d" in html
    assert "To reach accuracy ≥ 65.00 %" in html
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match=r"hansa\[pandas\]"):
        found.to_pandas()


def test_pandas_has_the_same_table(place):
    pytest.importorskip("pandas")
    found = hansa.compare([RunFolder.open(p) for p in sorted((place / "runs").iterdir())])
    frame = found.to_pandas()
    assert list(frame["mean"]) == found.table()["mean"].to_list()
    assert next(iter(frame["seeds"])) == [1, 2, 3]


def test_every_form_is_written(place):
    found = hansa.compare(place / "runs", reach=["accuracy=65%"])
    begins = {"html": b"<!doctype", "svg": b"<svg", "pdf": b"%PDF", "png": b"\x89PNG"}
    for form in ("html", "svg", "pdf", "png", "tex", "md", "csv", "parquet"):
        path = found.write(place / "new" / f"out.{form}")
        assert path.read_bytes().startswith(begins.get(form, b""))
    assert b"/MediaBox [0 0 249 " in (place / "new" / "out.pdf").read_bytes()  # 88 mm
    text = (place / "new" / "out.tex").read_text()
    assert text.count(r"\begin{tabular}") == 3
    assert r"a\_b\% & " in text
    assert r"c\&d & " in text
    assert r"$\pm$" in text
    assert r"accuracy (\%)" in text
    assert "% seeds (of all): 3" in text
    assert "| a\\_b% |" in (place / "new" / "out.md").read_text()
    whole = pl.read_parquet(place / "new" / "out.parquet")
    assert whole.equals(found.table())
    flat = pl.read_csv(place / "new" / "out.csv")
    assert flat["mean"].to_list() == pytest.approx(whole["mean"].to_list())
    assert set(flat["seeds"]) == {"1 2 3"}
    page = (place / "new" / "out.html").read_text()
    assert "Differences over shared seeds" in page
    assert "To reach accuracy ≥ 65.00 %" in page


def test_lines_of_a_paper_are_told_apart_in_grey_and_their_bands_are_said(place):
    folders = [RunFolder.open(p) for p in sorted((place / "runs").iterdir())]
    made = paper_chart(folders, x="bytes", y="accuracy", band="range", width=122)
    assert "Accuracy against bytes sent by all nodes." in made.caption
    assert "mean of 3 seeds" in made.caption
    assert "band: min to max" in made.caption
    spec = made.chart.to_dict()
    assert spec["width"] == round(122 * 72 / 25.4)
    scales = [layer["encoding"] for layer in spec["layer"]]
    shapes = next(e["shape"]["scale"]["range"] for e in scales if "shape" in e)
    dashes = next(e["strokeDash"]["scale"]["range"] for e in scales if "strokeDash" in e)
    looks = [(shape, tuple(dash)) for shape, dash in zip(shapes, dashes, strict=True)]
    assert len(set(looks)) == 3
    ends = made.data.filter(pl.col("line") == "gossip").sort("round").row(-1, named=True)
    assert (ends["low"], ends["mean"], ends["high"]) == pytest.approx((0.83, 0.84, 0.85))
    assert ends["bytes"] == 3 * 4 * 1000 * 6
    wrongs = {"x": "epochs"}, {"band": "sem"}, {"width": 4.0}, {"y": "auroc"}, {"x": "energy"}
    for wrong in wrongs:
        with pytest.raises(ConfigError) as caught:
            paper_chart(folders, **wrong)
        assert caught.value.field == next(iter(wrong))


def test_a_mean_ends_where_its_first_seed_does(tmp_path):
    folders = [run(tmp_path, "gossip", 1, rounds=4), run(tmp_path, "gossip", 2, rounds=2)]
    assert paper_chart(folders).data["round"].to_list() == [0, 1, 2]
    spec = json.dumps(comparison_spec(folders))
    assert "Thin: the mean of those seeds that went on" in spec
    assert json.dumps({"field": "part", "type": "nominal"}) in spec


def comparison_spec(folders: list[RunFolder]) -> dict:
    text = write_comparison(folders, folders[0].path.parent / "page.html").read_text()
    specs = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.S)
    return json.loads(specs[0])


@given(st.text(max_size=30))
@example('---no `x` ?` "q"')
@example("[64, 32] µ ± α")
@example("\x00*")
def test_no_sign_of_a_name_is_a_command_of_latex(text):
    words = "backslash|asciitilde|asciicircum|asciigrave|less|greater|bar"
    known = rf"\\text({words}){{}}|\\dots{{}}|{{}}|\\[&%$#_{{}},]|\$\\?[A-Za-z-]+\$"
    bare = re.sub(known, "", tex(text))
    assert not set(bare) & set('\\&%$#_{}~^\n`"')
    assert "--" not in tex(text)
    assert tex(text)[:1] not in ("[", "*")  # \\ and \midrule would take them for arguments


def test_tables_as_text():
    rows = [["x|y", "1 %", "2 s", ""], ["z", "3 %", "4 ms", ""]]
    grid = Grid("Two", ["name", "a", "b", "c"], rows)
    heads = units_in_heads(grid)
    assert heads.columns == ["name", "a (%)", "b", "c"]
    assert [row[1] for row in heads.rows] == ["1", "3"]
    assert r"\begin{tabular}{lrr}" in latex([grid])
    lines = markdown([heads], ["note"]).splitlines()
    assert lines[2] == "| name | a (%) | b | c |"
    assert lines[4] == r"| x\|y | 1 | 2 s |  |"
    assert lines[-1] == "note"


def test_the_command_end_to_end(place, capsys, monkeypatch):
    def hansa_line(line: str, fails: bool = False) -> str:
        assert (main(line.split()) != 0) == fails
        said = capsys.readouterr()
        return said.err if fails else said.out

    monkeypatch.chdir(place)
    targets = "--reach accuracy=65% --baseline gossip"
    said = hansa_line(f"compare runs {targets} --all --out a.md --out b.tex")
    assert "Accuracy against gossip" in said
    assert "3 of 3" in said
    assert "min to max" not in said
    found = json.loads(hansa_line("compare runs --out t.csv --reach accuracy=65% --json"))
    assert {row["setting"] for row in found["settings"]} == {"a_b%", "c&d", "gossip"}
    assert len(found["runs"]) == 9
    assert found["differences"][0]["baseline"] == "a_b%"
    assert found["reached"][0]["target"] == "accuracy >= 0.65"
    assert found["files"] == ["t.csv"]
    assert (place / "a.md").exists()
    assert (place / "b.tex").exists()
    for line, problem in (
        ("--out table.xls", "is no form"),
        ("--x epochs", "is no axis"),
        ("--baseline nobody", "is no setting here"),
        ("--reach accuracy", "says no figure"),
    ):
        assert problem in hansa_line(f"compare runs {line}", fails=True)


def test_a_page_says_what_its_runs_came_to_beside_metrics(tmp_path, monkeypatch):
    monkeypatch.setitem(component._registry, "page", dict(catalogue("page")))

    @register("lottery")
    class LotteryPage(RunPage):
        def claim(self, path, config):
            return 2 * ((config or {}).get("verb") == "lottery")

        def called(self, folder):
            return f"drawn by {folder.summary['by']}"

        def figures(self, of):
            return {"odds": Figure(of.summary["odds"], share=True, better="lower")}

    runs = []
    for seed, by in enumerate(("hand", "wheel")):
        made = RunFolder.create(tmp_path / by, {"verb": "lottery", "seed": seed}, {})
        made.finish({"odds": 0.25 + 0.5 * seed, "by": by})
        runs.append(made)
    found = hansa.compare(runs)
    assert found.settings == ["drawn by …"]  # each chose another way
    assert found.summary("drawn by …") == "50 ± 35 % (n = 2), worst 75.00 %"
    assert found._repr_html_().count("<svg") == 0  # nothing to draw
    assert found.write(tmp_path / "page.html").exists()
    with pytest.raises(ConfigError, match="measured nothing"):
        found.plot()


def test_settings_whose_runs_chose_alike_stay_apart(tmp_path, monkeypatch):
    """They had one name, and their seeds were taken together."""
    monkeypatch.setitem(component._registry, "page", dict(catalogue("page")))

    @register("raffle")
    class RafflePage(RunPage):
        def claim(self, path, config):
            return 2 * ((config or {}).get("verb") == "raffle")

        def called(self, folder):
            return f"drawn by {folder.summary['by']}"

    drawn = {(3, 1): ("hand", 0.5), (3, 2): ("wheel", 0.6), (9, 1): ("wheel", 0.8)}
    drawn[9, 2] = ("hand", 0.9)
    for (nodes, seed), (by, right) in drawn.items():
        config = {"verb": "raffle", "seed": seed, "nodes": nodes}
        made = RunFolder.create(tmp_path / f"run-{nodes}-{seed}", config, {})
        made.record(1, "accuracy", [right], node=[0])
        made.finish({"by": by, "status": "finished" if right < 0.9 else "diverged"})
    found = hansa.compare(tmp_path)
    assert found.settings == ["nodes 3", "nodes 9"]
    table = found.table().filter(metric="accuracy")
    assert table["mean"].to_list() == pytest.approx([0.55, 0.85])
    assert table["n"].to_list() == [2, 2]
    assert "Counted by their last evaluation: run-9-2 (diverged)." in found.notes
    assert "run-9-2 (diverged)" in found.write(tmp_path / "page.html").read_text()


def test_endings_are_read_in_any_case(place, tmp_path):
    found = hansa.compare(place / "runs")
    assert found.write(tmp_path / "A.PARQUET").read_bytes()[:4] == b"PAR1"
    assert "<svg" in found.write(tmp_path / "A.SVG").read_text()


def test_a_metric_that_nobody_measured_is_named(place):
    for text in ("acuracy=90%", "acuracy=0.9", "acuracy>=0.9"):
        with pytest.raises(ConfigError, match="measured by no run here") as caught:
            hansa.compare(place / "runs", reach=text)
        assert caught.value.fix == "such as accuracy"
