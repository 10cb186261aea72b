"""Accuracy against epsilon: what the benchmarks of single data sets share."""

from __future__ import annotations

import itertools
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Goals, Notes, markdown, options, publish

from hansa.experiment import run

TUNING_SEED = 101


@dataclass(frozen=True)
class Case:
    """A way of protecting, on some algorithm.

    Attributes:
        privacy: its settings without noise; None: there is no privacy.
        settings: of the run.
        epsilons: what is asked for; None: clipping alone.
        rates, clips: what is tuned, the same for all of a table's cases.
    """

    label: str
    privacy: dict[str, Any] | None
    settings: dict[str, Any]
    epsilons: tuple[float | None, ...]
    rates: tuple[float, ...]
    clips: tuple[float, ...]

    def of(self, epsilon: float | None, rate: float, clip: float, seed: int) -> dict[str, Any]:
        """The settings of one run."""
        train = self.settings["train"] | {"optimizer": {"name": "sgd", "lr": rate}}
        chosen = self.settings | {"train": train, "seed": seed}
        if self.privacy is not None:
            noise = {"noise": 0} if epsilon is None else {"epsilon": epsilon}
            chosen["privacy"] = self.privacy | {"clip": clip} | noise
        return chosen


def measured(settings: dict[str, Any]) -> dict[str, float]:
    """Figures of one run: of the mean node and the worst, in percent."""
    settings = settings | {"evaluate": {"every": settings["rounds"], "dense_start": False}}
    with tempfile.TemporaryDirectory() as folder:
        done = run(settings, out=Path(folder) / "run", report=False)
        table, summary = done.metrics(), done.summary or {}
    last = table.filter(
        (polars.col("round") == polars.col("round").max()) & polars.col("node").is_not_null()
    )
    figures = {name: of["value"].to_numpy() for (name,), of in last.group_by("name")}
    spent = summary.get("privacy", {}).get("epsilon")
    return {
        "mean": 100 * float(figures["accuracy"].mean()),
        "worst": 100 * float(figures["accuracy"].min()),
        "validation": 100 * float(figures["validation_accuracy"].mean()),
        "epsilon": float("nan") if spent is None else float(spent),
    }


def tuned(case: Case, epsilon: float | None, notes: Notes, smoke: bool) -> tuple[float, float]:
    """The learning rate and clip that are best on validation examples, with a seed of their own."""
    clips = case.clips if case.privacy is not None else case.clips[:1]
    grid = list(itertools.product(case.rates, clips))[: 1 if smoke else None]
    scores = []
    for rate, clip in grid:
        settings = case.of(epsilon, rate, clip, TUNING_SEED)
        name = f"tune {case.label}, {epsilon}, {rate}, {clip}"
        scores.append(notes.get(name, partial(measured, settings))["validation"])
    return grid[int(np.argmax(scores))]


def main(name: str, title: str, command: str, cases: list[Case], remark: str) -> None:
    """Run all cases and publish their table."""
    arguments = options(title, "one seed, a round, one epsilon each").parse_args()
    smoke, notes = arguments.smoke, Notes(arguments.notes)
    rows, best, over = [], {}, [0.0]
    for case in cases:
        if smoke:
            case.settings["rounds"] = 1
        for epsilon in case.epsilons[-1:] if smoke else case.epsilons:
            rate, clip = tuned(case, epsilon, notes, smoke)
            found = [
                notes.get(
                    f"{case.label}, {epsilon}, {seed}",
                    partial(measured, case.of(epsilon, rate, clip, seed)),
                )
                for seed in range(1, 2 if smoke else 1 + arguments.seeds)
            ]
            mean = np.array([one["mean"] for one in found])
            spread = f" ± {mean.std(ddof=1):.1f}" if len(mean) > 1 else ""
            worst = min(one["worst"] for one in found)
            spent = max(one["epsilon"] for one in found)
            shown = "none" if case.privacy is None else "clipping alone"
            asked = shown if epsilon is None else f"{epsilon:g}"
            best[case.label, epsilon] = float(mean.mean())
            if epsilon is not None:
                over.append(spent / epsilon)
            used = "–" if np.isnan(spent) else f"{spent:.2f}"
            cut = f"{clip:g}" if case.privacy is not None else "–"
            accuracy = [f"{mean.mean():.1f}{spread}", f"{worst:.1f}"]
            rows.append([case.label, asked, used, *accuracy, f"{rate:g}", cut])
            print(" | ".join(rows[-1]), flush=True)
    header = ["protected", "epsilon asked for", "spent", "mean, %", "worst node, %", "rate", "clip"]
    text = markdown(title, command, header, rows)
    text += f"\n{remark}\n\n" + goals_of(cases, float(np.max(over)), best)
    publish(name, text, smoke)


def goals_of(cases: list[Case], worst: float, best: dict[Any, float]) -> str:
    """What a table of accuracy against epsilon has to show.

    Args:
        worst: the highest epsilon that was spent, as a share of what was asked for.
    """
    goals = Goals()
    goals.add("epsilon spent over epsilon asked for, highest", f"{worst:.3f}", "<= 1", worst <= 1)
    for case in cases:
        asked = [e for e in case.epsilons if e is not None and (case.label, e) in best]
        if len(asked) > 1:
            high, low = best[case.label, max(asked)], best[case.label, min(asked)]
            what = f"{case.label}: accuracy at epsilon {max(asked):g} and {min(asked):g}"
            goals.add(what, f"{high:.1f} and {low:.1f}", "not lower with more", high >= low - 1)
    lines = [Goals.HEADER, ["---"] * len(Goals.HEADER), *goals.rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
