"""The page of a merge: accuracy against size, who shares what, what the bytes are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from hansa.base.component import register
from hansa.combine.merge import merge_charts as charts
from hansa.combine.merge.crossings import by_algorithm, crossings
from hansa.report.folder import RunFolder
from hansa.report.grid import Grid
from hansa.report.measured import Measured
from hansa.report.page import Figure, Section, Tile
from hansa.report.run_page import RunPage
from hansa.report.units import number, quantity

EXPLAINED = "merge.json"
"""What a run notes of blocks, groups and bytes."""
_TREES = 2  # blocks whose trees are drawn beside the whole models'


class Merges(Measured):
    """A merge, as far as its run has come."""

    @cached_property
    def final(self) -> dict[str, Any]:
        """``curve`` and ``references``."""
        return self.summary.get("final") or {}

    @property
    def points(self) -> list[dict[str, Any]]:
        """A row an algorithm and size."""
        return list(self.final.get("curve", []))

    @property
    def references(self) -> dict[str, Any]:
        """``fine_tuned`` and ``zero_shot``: accuracy, and accuracy by task."""
        return dict(self.final.get("references", {}))

    @cached_property
    def explained(self) -> dict[str, Any]:
        """Blocks, trees, groups, bytes and the forecast; empty of a run that was cut short."""
        return self.run.read_json(EXPLAINED) or {}

    @property
    def first(self) -> list[float]:
        """The two smallest sizes that were asked."""
        return sorted({row["size"] for row in self.points if not row.get("least")})[:2]

    @property
    def floors(self) -> tuple[float, float]:
        """What the base keeps of the fine-tuned accuracy: on average, and at its worst task."""
        base, tuned = (self.references[key]["by_task"] for key in ("zero_shot", "fine_tuned"))
        shares = [base[task] / tuned[task] for task in base if tuned[task]]
        return sum(shares) / len(shares), min(shares)

    def best(self, size: float) -> dict[str, Any] | None:
        """The row of the best algorithm at a size."""
        rows = [row for row in self.points if row["size"] == size]
        return max(rows, key=lambda row: row["accuracy"], default=None)


@register("merge")
class MergePage(RunPage):
    """Models that became one of any size."""

    def claim(self, path: Path, config: Mapping[str, Any] | None) -> int:
        """A run of ``hansa combine merge``."""
        return 3 * ((config or {}).get("verb") == "merge")

    def read(self, folder: RunFolder | Path) -> Merges:
        """The folder with its curve."""
        return Merges(folder)

    def called(self, folder: RunFolder) -> str:
        """What was merged."""
        tasks = folder.config.get("tasks") or {}
        return f"merge of {str(tasks.get('name', 'models')).rpartition(':')[2]}"

    def figures(self, of: Merges) -> dict[str, Figure]:
        """The accuracy of every algorithm at every size that was asked."""
        return {
            f"{row['algorithm']} at size {row['size']:g}": Figure(row["accuracy"], share=True)
            for row in of.points
            if not row.get("least")
        }

    def who(self, of: Measured) -> str:
        """They are models."""
        return "models"

    def headline(self, of: Merges) -> str:  # type: ignore[override]
        """How many, into what."""
        models = of.summary.get("models")
        return f"{models} models as one of any size" if models else "A merge"

    def sentence(self, of: Merges) -> str:  # type: ignore[override]
        """What was merged and what came of it."""
        about = of.summary
        if not about.get("models"):
            return "Nothing was merged yet."
        text = f"{number(about['models'])} models of {quantity(about['model_bytes'], 'bytes')} "
        text += f"travelled once, {quantity(about['uploaded_bytes'], 'bytes')} in all. "
        if not of.points or not of.references:
            return text + "Nobody judged what became of them."
        tuned, base = (of.references[key]["accuracy"] for key in ("fine_tuned", "zero_shot"))
        text += f"Each at its own task they are right in {quantity(tuned, 'accuracy')}, "
        text += f"the model that all began from in {quantity(base, 'accuracy')}. "
        for size in of.first:
            row = of.best(size)
            if row is not None:
                share = quantity(row["normalised"], "accuracy")
                text += f"At {size:g} times one model {row['algorithm']} is best and keeps {share}"
                text += f" of that, {quantity(row['worst'], 'accuracy')} at {row['worst_task']}. "
        return text + self._control(of)

    def _control(self, of: Merges) -> str:
        """Where the base, which nobody fine-tuned, does as well."""
        floor = of.floors[0]
        text = f"The base alone keeps {quantity(floor, 'accuracy')}"
        asked = sorted({row["size"] for row in of.points if not row.get("least")})
        best = {size: max(row["normalised"] for row in of.points if row["size"] == size)
                for size in asked}  # fmt: skip
        beaten = [size for size in asked if best[size] <= floor]
        if beaten:
            sizes = " and ".join(f"{size:.3g}x" for size in beaten)
            text += f": at {sizes} no merge is worth more"
        below = {row["algorithm"] for row in of.points if row["normalised"] <= floor}
        if below and not beaten:
            text += f", more than {', '.join(sorted(below))} at the smallest sizes"
        return text + ". It is one seed."

    def notes(self, of: Merges) -> list[str]:  # type: ignore[override]
        """What the tasks made one say, and what tuning cost."""
        notes = list(of.summary.get("notes", []))
        if tried := of.summary.get("tuning_evaluations"):
            scales = ", ".join(f"{scale:g}" for scale in of.config["tune"])
            notes.append(f"Scales were chosen on validation examples, size by size, of {scales}: "
                         f"{number(tried)} merges were evaluated for it.")  # fmt: skip
        return notes

    def tiles(self, of: Merges) -> list[Tile]:  # type: ignore[override]
        """The ends of the curve, the best at the smallest sizes, and what keeps 99 %."""
        if not of.points or not of.references:
            return []
        tiles = []
        for key, words in (("fine_tuned", "fine-tuned"), ("zero_shot", "the base")):
            share = quantity(of.references[key]["accuracy"], "accuracy")
            tiles.append(Tile(words, share, "mean over tasks"))
        for size in of.first:
            row = of.best(size)
            if row is not None:
                words = f"kept at {size:g}x"
                tiles.append(Tile(words, quantity(row["normalised"], "accuracy"), row["algorithm"]))
        near = [row for row in of.points if row["normalised"] >= 0.99]
        least = min(near, key=lambda row: row["bytes"], default=None)
        if least is not None:
            tiles.append(Tile("99 % from", f"{least['reached']:.2f}x", least["algorithm"]))
        return tiles

    def main_chart(self, of: Merges) -> list[Any]:  # type: ignore[override]
        """Accuracy against size."""
        if not of.points or not of.references:
            return []
        return charts.curve_charts(of.points, *of.floors)

    def unfolded(self, of: Merges) -> list[Section]:  # type: ignore[override]
        """The table, who is ahead, who shares what, and what the bytes are."""
        sections = [Section("By size", grid=self.table(of))] if of.points else []
        if of.references and len(by_algorithm(of.points)) > 1:
            sections.append(
                Section("Who is ahead", [charts.rank_chart(of.points)], text=self._crossed(of))
            )
        sections += self._shared(of)
        ledger = of.explained.get("ledger")
        if ledger:
            note = "Masks are one bit a number; the base stands beside them once a block."
            chart = charts.ledger_chart(ledger, of.summary["model_bytes"])
            sections.append(Section("What the bytes are", [chart], note=note))
        if forecast := of.explained.get("forecast"):
            sections.append(Section("Forecast", grid=forecast_grid(forecast),
                                    note=forecast.get("words", "")))  # fmt: skip
        return sections

    def _crossed(self, of: Merges) -> str:
        margin = float(of.summary.get("margin", 0.0))
        crossed = crossings(of.points, margin)
        if not crossed:
            return f"No two algorithms change places by more than {100 * margin:.1f} points."
        words = [
            f"{one.ahead} passes {one.behind} at about {one.size:.1f}x"
            + (f" (measured at {one.between[0]:g}x and {one.between[1]:g}x)")
            for one in crossed
        ]
        rule = f"Counted where both sides are more than {100 * margin:.1f} points apart, "
        rule += "the standard error of a mean over the test images: "
        return f"{rule}{'; '.join(words)}."

    def _shared(self, of: Merges) -> list[Section]:
        about = of.explained
        if not about.get("trees"):
            return []
        tasks = about["tasks"]
        drawn = [charts.dendrogram_chart(tasks, about["whole"], "Whole models")]
        blocks = sorted(about["trees"], key=lambda name: -about["bytes"][name])[:_TREES]
        drawn += [
            charts.dendrogram_chart(about["leaves"][name], about["trees"][name], name)
            for name in blocks
            if about["trees"][name]
        ]
        sections = [Section("How alike the models are", drawn)]
        shown = about.get("groups") or {}
        maps = [
            charts.group_chart(tasks, list(groups), list(groups.values()), f"Groups at {size}x")
            for size, groups in shown.items()
        ]
        if maps:
            note = f"By {about['algorithm']}, in the order {about['order']}."
            sections.append(Section("Who shares which block", maps[:2], note=note))
        return sections

    def folded(self, of: Merges) -> list[Section]:  # type: ignore[override]
        """Every row, task by task."""
        if not of.points or not of.references:
            return []
        return [Section("Every task", grid=tasks_grid(of), folded=True)]

    def others(self, of: Measured) -> list[Section]:
        """There are no curves over rounds."""
        return []

    def table(self, of: Merges, *, every: bool = False) -> Grid:  # type: ignore[override]
        """A line an algorithm, a column a size."""
        if not of.references:
            return sizes_grid(of)
        if every:
            return tasks_grid(of)
        sizes = sorted({row["size"] for row in of.points if not row.get("least")})
        least = any(row.get("least") for row in of.points)
        rows = []
        for name, own in by_algorithm(of.points).items():
            cells = [f"{100 * own[s]['normalised']:.1f}" if s in own else "" for s in sizes]
            low = next((row for row in own.values() if row.get("least")), None)
            if least:
                words = f"{100 * low['normalised']:.1f} at {low['reached']:.2f}x" if low else ""
                cells.insert(0, words)
            rows.append([name, *cells])
        title = "Accuracy in percent of the fine-tuned models', by size in models"
        return Grid(title, ["", *["least"] * least, *(f"{size:.4g}x" for size in sizes)], rows)


def sizes_grid(of: Merges) -> Grid:
    """What each size takes, where nobody judges."""
    rows = [
        [row["algorithm"], f"{row['reached']:.3f}x", f"{row['bytes']:,}",
         "" if row.get("loss") is None else f"{100 * row['loss']:.2f}"]
        for row in of.points
    ]  # fmt: skip
    return Grid("Sizes", ["", "size", "bytes", "lost in blocks, %"], rows)


def forecast_grid(forecast: Mapping[str, Any]) -> Grid:
    """What each size was forecast to lose, beside what it lost."""
    rows = [
        [f"{row['size']:.3g}x", f"{100 * row['loss']:.2f}", f"{100 * row['forecast']:.1f}",
         "" if row.get("measured") is None else f"{100 * row['measured']:.1f}"]
        for row in forecast["rows"]
    ]  # fmt: skip
    heads = ["size", "block-wise loss, %", "forecast, % lost", "measured, % lost"]
    return Grid(f"Lost accuracy by size, {forecast['algorithm']}", heads, rows)


def tasks_grid(of: Merges) -> Grid:
    """Accuracy of every task at every size."""
    tasks = list(of.references.get("fine_tuned", {}).get("by_task", {}))
    rows = []
    for key, words in (("fine_tuned", "fine-tuned"), ("zero_shot", "the base")):
        if own := of.references.get(key):
            cells = [f"{100 * own['by_task'][task]:.1f}" for task in tasks]
            rows.append([words, "", "", f"{100 * own['accuracy']:.1f}", *cells])
    for row in of.points:
        cells = [f"{100 * row['by_task'][task]:.1f}" for task in tasks]
        size, amount = f"{row['reached']:.2f}x", quantity(row["bytes"], "bytes")
        rows.append([row["algorithm"], size, amount, f"{100 * row['accuracy']:.1f}", *cells])
    return Grid("Accuracy in percent", ["", "size", "bytes", "mean", *tasks], rows)
