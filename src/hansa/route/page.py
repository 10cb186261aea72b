"""The page of routing: which methods answer best, what they had, and what the router knows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from hansa.base.bundle import read_facts
from hansa.base.component import register
from hansa.report.folder import RunFolder
from hansa.report.grid import Grid
from hansa.report.measured import Measured
from hansa.report.page import Figure, Section, Tile
from hansa.report.run_page import RunPage
from hansa.report.units import number, quantity
from hansa.route import route_charts as charts
from hansa.route.summing_up import CLEAN, NOISY, oracle_of

LITTLE = 0.05
"""What adapters have to gain over the base for a table to say anything."""


class Tried(Measured):
    """Pools that were tried, as far as a run has come."""

    @cached_property
    def final(self) -> dict[str, Any]:
        """``table``, ``pools`` and ``peers``."""
        return self.summary.get("final") or {"table": [], "pools": [], "peers": []}

    @property
    def table(self) -> list[dict[str, Any]]:
        """A row for each regime and method."""
        return list(self.final["table"])

    def score(self, regime: str, method: str) -> float | None:
        """What a method came to, by the oracle's."""
        for row in self.table:
            if (row["regime"], row["method"]) == (regime, method):
                score: float | None = row["score"]
                return score
        return None

    @cached_property
    def each(self) -> dict[str, dict[str, Any]]:
        """What was measured of the first seed, by pool."""
        places = (self.run.path / "measured").glob("*.json")
        facts = [read_facts(place) for place in places]
        first = min((one["seed"] for one in facts), default=0)
        return {one["pool"]: one for one in facts if one["seed"] == first}


@register("routing")
class RoutePage(RunPage):
    """A pool of adapters, and the queries that it answered."""

    def claim(self, path: Path, config: Mapping[str, Any] | None) -> int:
        """A run of ``hansa route run`` that has measured something."""
        mine = (config or {}).get("verb") == "route"
        return 3 * (mine and any((path / "measured").glob("*.json")))

    def read(self, folder: RunFolder | Path) -> Tried:
        """The folder with its table."""
        return Tried(folder)

    def called(self, folder: RunFolder) -> str:
        """Routing among so many adapters."""
        count = (folder.summary or {}).get("adapters")
        return f"routing over {count} adapters" if count else "routing"

    def figures(self, of: Tried) -> dict[str, Figure]:
        """The score of every method in every regime, of the oracle's."""
        return {
            f"{row['method']}, {row['regime']}": Figure(row["score"], share=True)
            for row in of.table
            if row["score"] is not None
        }

    def headline(self, of: Tried) -> str:  # type: ignore[override]
        """How many adapters answer how many tasks."""
        adapters, tasks = of.summary.get("adapters"), of.summary.get("tasks") or []
        if not adapters:
            return "Routing"
        return f"{number(adapters)} adapters on one model, {number(len(tasks))} tasks"

    def sentence(self, of: Tried) -> str:  # type: ignore[override]
        """What was tried and what came of it."""
        clean = of.each.get(CLEAN)
        if clean is None or "fit" not in clean:
            return "Nothing was measured yet."
        text = f"{number(of.summary['test_queries'])} test queries were answered. "
        text += "Each task takes the adapter that does best on its validation examples; "
        cost = clean["association"]
        text += f"to find those took {number(cost['answers'])} answers "
        text += f"of {number(cost['exhaustive'])}. "
        shown = {"id": "with everything there", "ood": "without its task and its adapter"}
        shares = [
            f"{quantity(of.score(regime, 'lorauter'), 'accuracy')} {words}"
            for regime, words in shown.items()
            if of.score(regime, "lorauter") is not None
        ]
        if shares:
            text += (
                f"LORAUTER comes to {' and '.join(shares)}, where each task's own adapter is 100 %."
            )
        better = self._better(of)
        if better:
            text += f" With everything there, {better} did as well or better."
        spoilt = of.score("noisy_id", "lorauter")
        if spoilt is not None:
            text += f" In the spoilt pool it comes to {quantity(spoilt, 'accuracy')} of what the "
            text += "tasks' own adapters do there."
        return text

    def _better(self, of: Tried) -> str:
        """Methods other than the oracle that did at least as well in the first regime."""
        ours = of.score("id", "lorauter")
        if ours is None:
            return ""
        rows = [
            row["method"] for row in of.table
            if row["regime"] == "id" and row["score"] is not None and row["score"] >= ours
            and not row["method"].startswith(("lorauter", "oracle"))
        ]  # fmt: skip
        return " and ".join([", ".join(rows[:-1]), rows[-1]] if len(rows) > 1 else rows)

    def notes(self, of: Tried) -> list[str]:  # type: ignore[override]
        """What the world made one say, and domains without an oracle."""
        notes = list(of.summary.get("notes", []))
        for name, one in of.each.items():
            oracle = oracle_of(one)
            if silent := [domain for domain, score in oracle.items() if not score > 0]:
                text = f"{name} pool: the oracle gets nothing right in {', '.join(silent)}"
                notes.append(f"{text}; left out of all scores.")
            base = next((r["raw"] for r in one["rows"] if r["method"] == "base"), None)
            top = next((r["raw"] for r in one["rows"] if r["method"] == "oracle"), None)
            if base is not None and top is not None and top - base < LITTLE:
                text = f"{name} pool: the tasks' own adapters gain {100 * (top - base):.1f} points "
                notes.append(f"{text}over the base: these scores say nothing of routing.")
            if refused := one.get("refused"):
                first = ", ".join(f"{k} ({'; '.join(v)})" for k, v in list(refused.items())[:5])
                more = f" and {len(refused) - 5} more" if len(refused) > 5 else ""
                notes.append(f"{name} pool: not let in: {first}{more}.")
        return notes

    def tiles(self, of: Tried) -> list[Tile]:  # type: ignore[override]
        """LORAUTER with and without the task, the nearest task, the cost, and the spoilt pool."""
        clean = of.each.get(CLEAN)
        if clean is None or "retrieval" not in clean:
            return []
        tiles = []
        for regime, remark in (("id", "everything is there"), ("ood", "neither task nor adapter")):
            score = of.score(regime, "lorauter")
            if score is not None:
                tiles.append(Tile("of the oracle", quantity(score, "accuracy"), remark))
        spoilt = of.score("noisy_id", "lorauter")
        if spoilt is not None:
            tiles.append(Tile("of the oracle", quantity(spoilt, "accuracy"), "spoilt pool"))
        near = clean["retrieval"]
        remark = f"{quantity(near['top3'], 'accuracy')} among three"
        tiles.append(Tile("own task is nearest", quantity(near["top1"], "accuracy"), remark))
        cost = clean["association"]
        share = cost["answers"] / max(1, cost["exhaustive"])
        tiles.append(Tile("association", quantity(share, "accuracy"), "of all cells' answers"))
        return tiles

    def main_chart(self, of: Tried) -> list[Any]:  # type: ignore[override]
        """Methods by regimes."""
        return [charts.score_map(of.table)] if of.table else []

    def unfolded(self, of: Tried) -> list[Section]:  # type: ignore[override]
        """The score matrix, the fit, abstention, peers."""
        alpha = float(of.config.get("alpha", 0))
        sections = []
        for name in (CLEAN, NOISY):
            one = of.each.get(name)
            if one and "matrix" in one:
                sections.append(Section("", [charts.matrix_map(one["matrix"], _pool(name))]))
        clean = of.each.get(CLEAN) or {}
        beside = []
        if "abstention" in clean:
            beside.append(charts.coverage_chart(clean["abstention"], alpha))
        if "fit" in clean:
            beside.append(charts.fit_chart(clean["fit"]))
        sections.append(Section("", [chart for chart in beside if chart is not None]))
        if of.final["peers"]:
            grid = peers_grid(of.final["peers"])
            sections.append(Section("Peers", grid=grid, note=f"{grid.title}."))
        sections.append(Section("Association and routing", grid=pools_grid(of.final["pools"])))
        return sections

    def folded(self, of: Tried) -> list[Section]:  # type: ignore[override]
        """Scores by domain."""
        return [Section("By domain", grid=domains_grid(of.table), folded=True)]

    def others(self, of: Measured) -> list[Section]:
        """There are no curves over rounds."""
        return []

    def table(self, of: Tried, *, every: bool = False) -> Grid:  # type: ignore[override]
        """A line a method, a column a regime; or every row."""
        if every:
            return domains_grid(of.table)
        regimes = list(dict.fromkeys(row["regime"] for row in of.table))
        methods = list(dict.fromkeys(row["method"] for row in of.table))
        rows = [[m, *(_percent(of.score(r, m)) for r in regimes)] for m in methods]
        heads = ["", *(charts.regime_name(regime) for regime in regimes)]
        return Grid("Percent of the oracle of the same pool", heads, rows)


def _pool(name: str) -> str:
    return "spoilt" if name == NOISY else name


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def domains_grid(table: list[dict[str, Any]]) -> Grid:
    """Every row: normalised, over seeds, right answers by domain, adapters a query."""
    domains = list(dict.fromkeys(domain for row in table for domain in row["domains"]))
    rows = []
    for row in table:
        span = f"{_percent(row['low'])} to {_percent(row['high'])}" if row["seeds"] > 1 else ""
        words = [charts.regime_name(row["regime"]), row["method"]]
        each = [_percent(row["domains"].get(domain)) for domain in domains]
        rows.append([*words, _percent(row["score"]), span, _percent(row["raw"]), *each,
                     f"{row['touched']:.1f}"])  # fmt: skip
    heads = ["regime", "method", "% of oracle", "over seeds", "right, %", *domains, "adapters"]
    return Grid("Scores by domain", heads, rows, words=2)


def peers_grid(peers: list[dict[str, Any]]) -> Grid:
    """Rules by liars, in percent of the oracle with everything there; of the first seed."""
    first = peers[0]
    counts = list(dict.fromkeys(row["liars"] for row in first["rows"]))
    rules = list(dict.fromkeys(row["aggregator"] for row in first["rows"]))
    at = {(row["aggregator"], row["liars"]): row for row in first["rows"]}
    columns = [(count, regime) for regime in ("id", "semi") for count in counts]
    rows = [[rule, *(_percent(at[rule, n][regime]) for n, regime in columns)] for rule in rules]
    heads = ["rule"]
    for count, regime in columns:
        who = f"{count} liars" if count else "all honest"
        heads.append(f"{charts.regime_name(regime)}, {who}")
    sent = f"{number(first['peers'])} peers send {number(first['bytes_each'])} bytes each, "
    sent += f"{number(first['texts_kept'])} bytes of texts stay"
    return Grid(f"Percent of the oracle; {sent}", heads, rows)


def pools_grid(pools: list[dict[str, Any]]) -> Grid:
    """What association cost, and what was fitted."""
    rows = []
    for one in pools:
        if "fit" not in one or "retrieval" not in one:
            continue
        cost, fit, near = one["association"], one["fit"], one["retrieval"]
        abstained = one.get("abstention") or {}
        rows.append(
            [_pool(one["pool"]), str(one["seed"]), str(one["adapters"]), number(cost["answers"]),
             number(cost["exhaustive"]), number(fit["answers"]), str(fit["k"]),
             f"{fit['temperature']:g}", _percent(near["top1"]), _percent(near["top3"]),
             "" if abstained.get("auroc") is None else f"{abstained['auroc']:.2f}"]
        )  # fmt: skip
    heads = ["pool", "seed", "adapters", "answers", "of all", "to fit", "K", "temperature",
             "nearest, %", "in three, %", "AUROC"]  # fmt: skip
    return Grid("What it took, and what the router is", heads, rows)
