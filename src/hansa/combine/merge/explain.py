"""``hansa combine explain``: tables of what was merged, of a run, an artefact or a cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hansa.combine.merge.cutting import Merged
from hansa.combine.merge.explaining import explained
from hansa.combine.merge.merged_models import MergedModels
from hansa.combine.merge.page import forecast_grid
from hansa.report.grid import Grid
from hansa.report.units import quantity

_WORST = 12


def explain(merged: Path, algorithm: str | None = None) -> dict[str, Any]:
    """What the page says of an algorithm, with tables for a terminal under ``grids``.

    Args:
        merged: a cut, a run, or an artefact.
        algorithm: by its label; None: the first.

    Raises:
        ConfigError, CheckpointError: there is nothing such, or it was changed.
    """
    if merged.is_file():
        models = MergedModels.open(merged)
        shared = models.shared()
        return {
            "algorithm": models.plan.facts["algorithm"]["label"],
            "tasks": list(models.names),
            "blocks": shared,
            "grids": [_blocks_grid(shared)],
        }
    opened = Merged.open(merged)
    summary = (opened.run.summary if opened.run is not None else None) or {}
    curve = (summary.get("final") or {}).get("curve", [])
    chosen = opened.settings
    order, seed = (chosen.order, chosen.seed) if chosen is not None else ("greedy", 0)
    merges = explained(opened.artefact, opened.label(algorithm), order, curve, seed)
    grids = [_groups_grid(merges), _steps_grid(merges)]
    if merges["forecast"]:
        grids.append(forecast_grid(merges["forecast"]))
    return {**merges, "grids": grids}


def _blocks_grid(shared: list[dict[str, Any]]) -> Grid:
    rows = []
    for block in shared:
        groups = [
            "+".join(names) + (" (masks)" if masked else "")
            for names, masked in zip(block["groups"], block["masked"], strict=True)
        ]
        rows.append([block["block"], quantity(block["bytes"], "bytes"), str(len(groups)),
                     "  ".join(groups)])  # fmt: skip
    return Grid("Which tasks share which block", ["block", "bytes", "groups", "who"], rows,
                remark=True)  # fmt: skip


def _groups_grid(merges: dict[str, Any]) -> Grid:
    sizes = list(merges["groups"])
    rows = [
        [name, quantity(amount, "bytes"), str(len(merges["leaves"][name])),
         *(str(len(set(merges["groups"][size][name]))) for size in sizes)]
        for name, amount in merges["bytes"].items()
    ]  # fmt: skip
    heads = ["block", "bytes", "versions", *(f"groups at {size}x" for size in sizes)]
    return Grid(f"How many groups, {merges['algorithm']}, {merges['order']}", heads, rows)


def _steps_grid(merges: dict[str, Any]) -> Grid:
    """The merges that lost most; without losses the first ones."""
    order = list(enumerate(merges["steps"], 1))
    if any(step["lost"] is not None for step in merges["steps"]):
        order.sort(key=lambda pair: -(pair[1]["lost"] or 0.0))
    rows = [
        [step["block"], " | ".join("+".join(group) for group in step["merged"]), str(number),
         f"{step['size']:.2f}x", "" if step["lost"] is None else f"{100 * step['lost']:.2f}"]
        for number, step in order[:_WORST]
    ]  # fmt: skip
    heads = ["block", "became one", "step", "size then", "lost, %"]
    title = f"The {len(rows)} of {len(order)} merges that lost most, of the squared task vectors"
    return Grid(title, heads, rows, words=2)
