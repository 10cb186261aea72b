"""Several runs on a screen: what fits, what is said of it, what only follows from a choice."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import hansa
from hansa.cli import main
from hansa.report import RunFolder
from hansa.report.comparing import comparison_table
from hansa.report.several.apart import choices, told_apart
from hansa.report.several.overview import ROWS, Overview


def run(place: Path, name: str, seed: int, top: float = 0.6, ended: str = "finished", **settings):
    config = {"algorithm": {"name": name}, "seed": seed, "data": {"name": "digits"}, **settings}
    made = RunFolder.create(place / f"{len(list(place.glob('*'))):03}", config, {})
    for t in range(4):
        right = top * t / 3 + 0.01 * seed * (1 + len(name) % 2)
        made.record(t, "accuracy", [right - 0.01, right + 0.01], node=[0, 1], time=0.5 * t)
        made.record(t, "loss", [1 - right] * 2, node=[0, 1], time=0.5 * t)
        made.record(t, "bytes_sent", [1000.0 * t] * 2, node=[0, 1], time=0.5 * t)
        made.record(t, "energy", [2.0 * t] * 2, node=[0, 1], time=0.5 * t)
    if ended:
        made.finish({"status": ended, "nodes": 2})
    return made


def lines_of(found: Overview, width: int) -> list[str]:
    """What a terminal of this width shows."""
    screen = Console(width=width, record=True, file=io.StringIO(), markup=False)
    for part in found.grid.within(width):
        screen.print(part.rich())
    return screen.export_text().splitlines()


def test_twelve_settings_fit_eighty_columns_and_a_screen(tmp_path):
    for k in range(12):
        for seed in (1, 2, 3):
            run(tmp_path, f"algorithm_{k}", seed, 0.5 + k / 50)
    found = hansa.compare(tmp_path, reach="accuracy=68%")
    short = found.overview(80)
    shown = lines_of(short, 80)
    assert max(map(len, shown)) <= 80
    assert sum(len(grid.rows) for grid in short.grid.within(80)) == 12, "in one part"
    assert len(shown) <= 22
    heads = short.grid.columns
    assert heads[:2] == ["settings", "accuracy"]
    assert "less algorithm_0 (points)" in heads
    assert "rounds to accuracy ≥ 68.00 %" in heads
    assert short.grid.rows[0][heads.index("less algorithm_0 (points)")] == "baseline"
    reached = [row[heads.index("rounds to accuracy ≥ 68.00 %")] for row in short.grid.rows]
    assert reached[0] == "0 of 3"
    assert any("(1 of 3)" in cell or "(2 of 3)" in cell for cell in reached)
    assert reached[-1] == "3"
    said = " ".join(short.notes)
    assert "±: the standard deviation over seeds" in said
    assert "the mean of the three that got there" in said
    assert "With --all, and on the page:" in said
    wide = found.overview(200)
    assert set(heads) < set(wide.grid.columns)
    assert {"loss", "energy"} <= set(wide.grid.columns)
    # Nothing of it is another figure than that of the whole tables.
    whole = found.grids()[0]
    at = [whole.columns.index(name) for name in ("accuracy", "worst", "loss", "energy")]
    here = [wide.grid.columns.index(name) for name in ("accuracy", "worst", "loss", "energy")]
    for row, other in zip(whole.rows, wide.grid.rows, strict=True):
        assert [row[k] for k in at] == [other[k] for k in here]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_long_names_and_few_columns_are_no_obstacle(tmp_path, width):
    for k in range(2):
        run(tmp_path, "a_rather_long_name_of_an_algorithm_of_a_package_of_ones_own" + "xy"[k], 1)
    short = hansa.compare(tmp_path).overview(width)
    shown = lines_of(short, width)
    assert max(map(len, shown)) <= width
    assert len(short.grid.columns) >= 2


def test_of_many_the_best_are_shown_and_the_rest_counted(tmp_path):
    for k in range(ROWS + 5):
        run(tmp_path, "gossip", 1, 0.3 + k / 100, rate=k)
    short = hansa.compare(tmp_path).overview(80)
    assert len(short.grid.rows) == ROWS
    assert short.grid.rows[0][0].startswith(f"{ROWS + 4:03}")
    assert "5 more runs" in " ".join(short.notes)


def test_what_did_not_finish_is_seen(tmp_path):
    run(tmp_path, "a", 1)
    run(tmp_path, "a", 2, ended="diverged", top=math.nan)
    run(tmp_path, "b", 1)
    short = hansa.compare(tmp_path).overview(100)
    heads = short.grid.columns
    assert [row[heads.index("not finished")] for row in short.grid.rows] == ["1 of 2", ""]
    assert short.grid.rows[0][heads.index("accuracy")].endswith("(n = 1)")
    assert any("001 (diverged)" in note for note in short.notes)
    run(tmp_path, "c", 1, ended="diverged", top=math.nan)
    found = hansa.compare(tmp_path)
    whole, short = found.grids()[0], found.overview(200).grid
    assert [grid.rows[-1][grid.columns.index("loss")] for grid in (whole, short)] == [
        "not finite"
    ] * 2


def test_a_column_over_nodes_says_so(tmp_path):
    alone = comparison_table([run(tmp_path, "a", 1), run(tmp_path, "b", 1)])
    assert "accuracy, ± over nodes" in alone.columns
    assert "rounds" in alone.columns
    assert hansa.compare(tmp_path).grids()[0].columns == alone.columns


def test_only_runs_on_the_same_data_are_held_against_each_other(tmp_path):
    for seed in (1, 2, 3):
        run(tmp_path, "a", seed, 0.5)
        run(tmp_path, "bb", seed, 0.9, data={"name": "local", "path": "/tables/wine.csv"})
        run(tmp_path, "c", seed, 0.6)
    found = hansa.compare(tmp_path)
    said = " ".join(found.sentences)
    assert "Settings are held against those on the same data (digits and local wine.csv)." in said
    assert "On digits: c has the highest accuracy" in said
    assert "bb has" not in said
    assert found.differences(["accuracy"])["setting"].to_list() == ["c"]


keys = st.sampled_from(["algorithm", "algorithm.a", "algorithm.a.b", "rate", "algorithm.c"])
values = st.lists(st.sampled_from([None, 1, 2]), min_size=3, max_size=3)


@given(st.dictionaries(keys, values))
def test_a_setting_is_chosen_or_follows_from_one_that_is(differences):
    own, following = choices(differences)
    assert len(own) + sum(following.values()) == len(differences)
    assert set(following) <= set(differences)
    for key in set(differences) - set(own):
        assert None in differences[key], "what all have is a choice"
        above = [k for k in differences if key.startswith(f"{k}.")]
        assert any(
            len({(a, b) for a, b in zip(differences[k], differences[key], strict=True)})
            == len(set(differences[k]))
            for k in above
        ), "one that decides it"


def test_what_follows_from_an_algorithm_is_counted(tmp_path):
    def folder(seed, **algorithm):
        config = {"algorithm": algorithm, "seed": seed, "lr": algorithm.pop("lr", 1)}
        return RunFolder.create(tmp_path / f"{len(list(tmp_path.glob('*')))}", config, {})

    one, two = {"name": "a", "fanout": 3, "depth": 2}, {"name": "b", "lr": 2}
    assert told_apart([folder(1, **one), folder(2, **two)]) == (
        "They differ in algorithm (and 2 settings that follow from it), lr."
    )
    assert told_apart([folder(1, **one), folder(2, **one)]) == ""
    tuned = [folder(1, **{**one, "fanout": 4}), folder(1, **one), folder(1, **two)]
    assert told_apart(tuned) == (
        "They differ in algorithm (and 1 setting that follows from it), algorithm.fanout, lr."
    )


def test_the_command_prints_a_screen_or_all(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for name, top in (("a", 0.5), ("bb", 0.501), ("cc", 0.9)):
        for seed in (1, 2, 3):
            run(tmp_path, name, seed, top)
    out = str(tmp_path.parent / "page.md")
    assert main(["compare", str(tmp_path), "--out", out]) == 0
    short = capsys.readouterr().out
    assert "9 runs of 3 settings, 3 seeds each. cc has the highest accuracy" in short
    assert len(short.splitlines()) <= 24
    assert "p (Holm)" not in short
    assert main(["compare", str(tmp_path), "--out", out, "--all"]) == 0
    whole = capsys.readouterr().out
    assert "p (Holm)" in whole
    assert "never below 2 / 2^n" in " ".join(whole.split())
