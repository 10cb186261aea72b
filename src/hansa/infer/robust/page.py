"""The page of robust inference: which rules stand up to liars, how surely, at what cost."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from hansa.base.component import register
from hansa.infer.robust import robust_charts as charts
from hansa.infer.robust.measuring_attacks import ANY, CLEAN, WORST, WORST_QUERY
from hansa.report.folder import RunFolder
from hansa.report.grid import Grid
from hansa.report.measured import Measured
from hansa.report.page import Figure, Section, Tile
from hansa.report.run_page import RunPage
from hansa.report.units import number, quantity

_ROWS = {
    CLEAN: "honest",
    WORST: "worst attack",
    WORST_QUERY: "worst of each query",
    ANY: "certified",
}


class Tried(Measured):
    """Rules that were tried, as far as a run has come."""

    @cached_property
    def final(self) -> dict[str, Any]:
        """``table`` and ``rules``."""
        return self.summary.get("final") or {"table": [], "rules": []}

    @property
    def rules(self) -> list[dict[str, Any]]:
        """A line a rule."""
        return list(self.final.get("rules", []))

    @property
    def table(self) -> list[dict[str, Any]]:
        """All rows."""
        return list(self.final.get("table", []))

    @cached_property
    def kept(self) -> dict[str, Any]:
        """The line of the rule that is kept; of a run cut short, of the first."""
        named = [rule for rule in self.rules if rule["aggregator"] == self.summary.get("kept")]
        return (named or self.rules)[0]

    @cached_property
    def each(self) -> list[dict[str, Any]]:
        """What was measured, by seed and rule."""
        places = sorted((self.run.path / "measured").glob("*.json"))
        from hansa.base.bundle import read_facts

        return [read_facts(place) for place in places]


def simpler(rules: list[dict[str, Any]], kept: dict[str, Any], key: str) -> list[str]:
    """Rules that learn nothing and come to at least what a kept one that has learned does."""
    if not kept["train_seconds"] or kept[key] is None:
        return []
    return [
        f"{rule['aggregator']} ({quantity(rule[key], 'accuracy')})"
        for rule in rules
        if not rule["train_seconds"] and rule[key] is not None and rule[key] >= kept[key]
    ]


@register("robust_inference")
class RobustPage(RunPage):
    """Rules that make one answer of many, under attack."""

    def claim(self, path: Path, config: Mapping[str, Any] | None) -> int:
        """A run of ``hansa infer robust`` that has measured something."""
        mine = (config or {}).get("verb") == "infer" and "aggregators" in (config or {})
        return 3 * (mine and any((path / "measured").glob("*.json")))

    def read(self, folder: RunFolder | Path) -> Tried:
        """The folder with its table."""
        return Tried(folder)

    def called(self, folder: RunFolder) -> str:
        """The rule that is kept."""
        kept = (folder.summary or {}).get("kept")
        return f"inference by {kept}" if kept else "robust inference"

    def figures(self, of: Tried) -> dict[str, Figure]:
        """The accuracy of every rule among honest clients and under the worst attack."""
        return {
            f"{rule['aggregator']}, {words}": Figure(rule[key], share=True)
            for rule in of.rules
            for key, words in (("clean", "honest"), ("worst", "worst attack"))
            if rule[key] is not None
        }

    def who(self, of: Measured) -> str:
        """They are clients."""
        return "clients"

    def headline(self, of: Tried) -> str:  # type: ignore[override]
        """How many answer, and how many lie."""
        n, f = of.summary.get("members"), of.summary.get("f")
        return f"Answers of {n} clients, of whom {f} may lie" if n else "Robust inference"

    def sentence(self, of: Tried) -> str:  # type: ignore[override]
        """What was tried and what came of it."""
        if not of.rules:
            return "Nothing was measured yet."
        kept, about = of.kept, of.summary
        text = f"{number(about['members'])} clients were asked about "
        text += f"{number(about['test_examples'])} test examples"
        text += f", {number(about['f'])} of them lie in every way of the table. "
        text += f"{kept['aggregator']} is kept"
        text += f": {about['why']}. " if about.get("why") else ". "
        text += f"Of honest answers it makes {quantity(kept['clean'], 'accuracy')} right ones"
        if kept["fixed"] is not None:
            text += f", {quantity(kept['fixed'], 'accuracy')} under the attack that does worst"
        if kept["certified"] is not None:
            text += f"; {quantity(kept['certified'], 'accuracy')} are right whatever liars do"
        text += "."
        for key, what in (
            ("fixed", "under the attack that does worst"),
            ("certified", "certified"),
        ):
            others = simpler(of.rules, kept, key)
            if others:
                text += f" Without learning, {' and '.join(others)} did as well or better {what}."
        return text

    def notes(self, of: Tried) -> list[str]:  # type: ignore[override]
        """What clients' data made one say."""
        return list(of.summary.get("notes", []))

    def tiles(self, of: Tried) -> list[Tile]:  # type: ignore[override]
        """Three figures of the rule that is kept, the clients alone, and the cost."""
        if not of.rules:
            return []
        kept, alone = of.kept, of.summary["alone"]
        tiles = [Tile("honest answers", quantity(kept["clean"], "accuracy"), kept["aggregator"])]
        named = {"fixed": "the same members lie", "worst": f"the worst lie, {kept['how']}"}
        for key, remark in named.items():
            if kept[key] is not None:
                tiles.append(Tile("worst attack", quantity(kept[key], "accuracy"), remark))
        if kept["certified"] is not None:
            share = quantity(kept["certified"], "accuracy")
            tiles.append(Tile("certified and right", share, f"at f = {of.summary['f']}"))
        low, high = (quantity(limit(alone), "accuracy") for limit in (min, max))
        mean = quantity(sum(alone) / len(alone), "accuracy")
        return [*tiles, Tile("clients alone, mean", mean, f"{low} to {high}")]

    def main_chart(self, of: Tried) -> list[Any]:  # type: ignore[override]
        """Accuracy against the number of liars."""
        return [charts.budget_chart(of.table)] if of.table else []

    def unfolded(self, of: Tried) -> list[Section]:  # type: ignore[override]
        """The heat map, the certificates and the costs."""
        note = "worst attack: the one that does worst on all queries; worst of each query: right "
        note += "only where no attack of the suite succeeds. Worst members: right under the fixed "
        note += "liars and under those whom a K-vote would choose for the query."
        beside = [charts.margin_chart(of.each, str(of.kept["aggregator"]))] if of.rules else []
        return [
            Section("Rules", grid=self.table(of)),
            Section("", [chart for chart in charts.heat_maps(of.table) if chart], note=note),
            Section("", [*(c for c in beside if c), charts.cost_chart(of.rules)]),
        ]

    def folded(self, of: Tried) -> list[Section]:  # type: ignore[override]
        """Every row."""
        return [Section("Every row", grid=attacks_grid(of.table), folded=True)]

    def others(self, of: Measured) -> list[Section]:
        """There are no curves over rounds."""
        return []

    def table(self, of: Tried, *, every: bool = False) -> Grid:  # type: ignore[override]
        """A line a rule, or a line for each of its rows."""
        if every:
            return attacks_grid(of.table)
        more = [key for key in of.rules[0] if key not in _KNOWN] if of.rules else []
        heads = ["", "honest", "fixed liars", "worst liars", "certified", *more, "learning", "ms"]
        rows = []
        for rule in sorted(of.rules, key=lambda rule: -(rule["fixed"] or rule["clean"] or 0)):
            shares = [_percent(rule[key]) for key in ("clean", "fixed", "worst")]
            asked = "certified" in of.config.get("identities", ())
            shares.append(_percent(rule["certified"]) or "no bound" * asked)
            name = rule["aggregator"] + (" *" if rule is of.kept else "")
            spent = quantity(rule["train_seconds"], "time") if rule["train_seconds"] else ""
            extra = [quantity(rule[key], key) for key in more]
            rows.append([name, *shares, *extra, spent, f"{rule['query_ms']:.3f}"])
        f = of.summary.get("f")
        title = f"Accuracy in percent, f = {f}, under the attack that does worst; * is kept"
        return Grid(title, heads, rows)


_KNOWN = {
    "aggregator", "clean", "fixed", "worst", "certified", "how", "train_seconds",
    "measure_seconds", "query_ms", "certify_ms",
}  # fmt: skip


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def attacks_grid(table: list[dict[str, Any]]) -> Grid:
    """Every row of the table."""
    rows = []
    for row in table:
        span = f"{_percent(row['low'])} to {_percent(row['high'])}" if row["seeds"] > 1 else ""
        words = [row["aggregator"], _ROWS.get(row["attack"], row["attack"]), row["identity"]]
        rows.append([*words, str(row["f"]), _percent(row["accuracy"]), span])
    heads = ["rule", "attack", "liars", "f", "accuracy, %", "over seeds"]
    return Grid("Accuracy under attack", heads, rows, words=3)
