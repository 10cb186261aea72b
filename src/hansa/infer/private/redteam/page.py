"""The page of the red team: what each attack recovers in each mode, and what modes claim."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from hansa.base.component import register
from hansa.base.lazy import altair as alt
from hansa.base.lazy import polars as pl
from hansa.infer.private.mode_claims import claims_grid
from hansa.report.charts import WIDE, records, style
from hansa.report.folder import RunFolder
from hansa.report.grid import Grid
from hansa.report.measured import Measured
from hansa.report.page import Figure, Section, Tile
from hansa.report.run_page import RunPage
from hansa.report.units import number, quantity

_MODES = ("unprotected", "shuffle", "budget", "shares", "shares, logits")


class Attacked(Measured):
    """Attacks that were tried, as far as a run has come."""

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """One an attack, layer and mode."""
        return list(self.run.read_json("rows.json") or [])

    @cached_property
    def done(self) -> list[dict[str, Any]]:
        """Those that came to a figure."""
        return [row for row in self.rows if row["recovered"] is not None]


@register("redteam")
class RedTeamPage(RunPage):
    """Attacks on a server's weights."""

    def claim(self, path: Path, config: Mapping[str, Any] | None) -> int:
        """A run of ``hansa infer redteam`` that has tried something."""
        return 3 * ((config or {}).get("verb") == "redteam" and (path / "rows.json").exists())

    def read(self, folder: RunFolder | Path) -> Attacked:
        """The folder with its rows."""
        return Attacked(folder)

    def called(self, folder: RunFolder) -> str:
        """What it is."""
        return "red team"

    def figures(self, of: Attacked) -> dict[str, Figure]:
        """The most that an attack recovered in each mode."""
        most: dict[str, float] = {}
        for row in of.done:
            most[row["mode"]] = max(row["recovered"], most.get(row["mode"], 0.0))
        return {f"recovered, {mode}": Figure(v, True, "lower") for mode, v in most.items()}

    def headline(self, of: Attacked) -> str:  # type: ignore[override]
        """The question."""
        return "What clients learn of a server's weights"

    def sentence(self, of: Attacked) -> str:  # type: ignore[override]
        """How many attacks, and what the best came to in each mode."""
        if not of.done:
            return "Nothing was tried yet."
        kinds = len({row["attack"].partition(" (")[0] for row in of.done})
        text = f"{number(kinds)} attacks in {number(len(of.done))} trials on real sessions. "
        right = sum(row["as_expected"] for row in of.done)
        text += "All came" if right == len(of.done) else f"{number(right)} came"
        return text + " to what these pages say of the modes."

    def tiles(self, of: Attacked) -> list[Tile]:  # type: ignore[override]
        """What the attack recovered that is farthest above chance, by mode."""
        tiles = []
        for mode in ("shuffle", "budget", "shares", "shares, logits"):
            rows = [row for row in of.done if row["mode"] == mode]
            if rows:
                best = max(rows, key=lambda row: row["recovered"] - row["chance"])
                share = quantity(best["recovered"], "accuracy")
                tiles.append(Tile(f"best attack, mode {mode}", share, f"{best['attack']}, chance "
                                  f"{quantity(best['chance'], 'accuracy')}"))  # fmt: skip
        return tiles

    def main_chart(self, of: Attacked) -> list[Any]:  # type: ignore[override]
        """Attacks by modes."""
        return [_heat_map(of.done)] if of.done else []

    def unfolded(self, of: Attacked) -> list[Section]:  # type: ignore[override]
        """What the modes claim."""
        return [Section("What modes hide", grid=claims_grid())]

    def folded(self, of: Attacked) -> list[Section]:  # type: ignore[override]
        """Every trial, and why each is expected."""
        note = "unprotected is there to show that attacks work; nothing serves it. Recovered: the "
        note += "share of weights that is exact, up to the order of channels where these are "
        note += "shuffled. Chance: what a guess gets that knows how often each weight occurs."
        rows = [(row["attack"], row["mode"], row["why"], row["note"]) for row in of.done]
        words = [list(row) for row in dict.fromkeys(rows)]
        why = Grid("", ["attack", "mode", "why", "note"], words, words=4)
        left = [row for row in of.rows if row["recovered"] is None]
        untried = [[row["attack"], row["layer"], row["mode"], row["note"]] for row in left]
        none = Grid("", ["attack", "layer", "mode", "why"], untried, words=4)
        return [
            Section("Every trial", grid=self.table(of), note=note, folded=True),
            Section("Why", grid=why, folded=True),
            Section("Not tried", grid=none, folded=True),
        ]

    def others(self, of: Measured) -> list[Section]:
        """There are no curves over rounds."""
        return []

    def table(self, of: Attacked, *, every: bool = False) -> Grid:  # type: ignore[override]
        """A line a trial."""
        rows = []
        for row in of.done:
            found = "" if row["as_expected"] else " !"
            rows.append([
                row["attack"], row["layer"], row["mode"],
                f"{100 * row['recovered']:.1f}", f"{100 * row['chance']:.1f}",
                row["expected"] + found, number(row["weights"]), number(row["queries"]),
            ])  # fmt: skip
        heads = ["attack", "layer", "mode", "recovered, %", "chance, %", "expected", "weights",
                 "queries"]  # fmt: skip
        return Grid("What attacks recover", heads, rows, words=3)


def _heat_map(done: list[dict[str, Any]]) -> Any:
    rows = [
        (f"{row['attack']}: {row['layer']}", row["mode"], row["recovered"], row["chance"],
         row["queries"])
        for row in done
    ]  # fmt: skip
    schema = ["attack", "mode", "recovered", "chance", "queries"]
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    x = alt.X("mode:N", sort=list(_MODES), title=None, axis=alt.Axis(labelAngle=0, orient="top"))
    y = alt.Y("attack:N", sort=list(dict.fromkeys(row[0] for row in rows)), title=None,
              axis=alt.Axis(labelLimit=320))  # fmt: skip
    base = alt.Chart(records(frame)).encode(x=x, y=y)
    colour = alt.Color("recovered:Q", legend=None,
                       scale=alt.Scale(domain=[0, 1], scheme="oranges"))  # fmt: skip
    ink = alt.condition(alt.datum.recovered > 0.6, alt.value("white"), alt.value("#1c2024"))
    tips: list[Any] = ["attack:N", "mode:N", alt.Tooltip("recovered:Q", format=".1%"),
                       alt.Tooltip("chance:Q", format=".1%"), "queries:Q"]  # fmt: skip
    title = alt.TitleParams(
        "Weights recovered, percent", subtitle="dark: the server's weights are the client's"
    )
    layers = alt.layer(
        base.mark_rect().encode(color=colour, tooltip=tips),
        base.transform_calculate(shown="100 * datum.recovered")
        .mark_text(fontSize=11)
        .encode(text=alt.Text("shown:Q", format=".1f"), color=ink),
    )
    height = 24 * frame["attack"].n_unique()
    return style(layers.properties(width=WIDE - 330, height=height, title=title))
