"""What a merge did: who shares which block, what each step lost, and what a size costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from hansa.combine.merge.artefact import Artefact
from hansa.combine.merge.cut import relative_loss
from hansa.combine.merge.dendrogram import Partition, dendrogram
from hansa.combine.merge.forecast import calibrated
from hansa.combine.merge.orders import Order
from hansa.combine.merge.similarity import cosines
from hansa.combine.merge.spectrum import Spectrum

Row = Mapping[str, Any]
_FORECASTS = 12


def explained(
    artefact: Artefact, label: str, order: str, curve: Sequence[Row] = (), seed: int = 0
) -> dict[str, Any]:
    """All that the page and ``hansa combine explain`` say of an algorithm's merges, as plain data.

    Args:
        label: the algorithm's in the artefact.
        order: of merges; the knapsack's groups are told as the greedy ones.
        curve: rows that were measured.
    """
    by = cast(Order, "greedy" if order == "knapsack" else order)
    spectrum = artefact.spectrum(label, by, seed=seed)
    names = [layout.name for layout in artefact.layouts]
    trees = [artefact.dendrogram(label, block) for block in range(len(names))]
    sizes = sorted({row["size"] for row in curve if row["algorithm"] == _named(label, curve)})
    between = [size for size in sizes if artefact.unit * size < spectrum.bytes[0]]
    return {
        "algorithm": label,
        "order": by,
        "linkage": artefact.linkage,
        "tasks": [member.name for member in artefact.members],
        "unit": artefact.unit,
        "most": spectrum.bytes[0] / artefact.unit,
        "least": spectrum.least / artefact.unit,
        "bytes": {layout.name: layout.size.bytes for layout in artefact.layouts},
        "leaves": dict(zip(names, (_leaves(artefact, k) for k in range(len(names))), strict=True)),
        "trees": {
            name: [[m.first, m.second, m.height] for m in tree.merges]
            for name, tree in zip(names, trees, strict=True)
        },
        "whole": whole_tree(artefact, label),
        "groups": {
            f"{size:g}": dict(zip(names, groups_at(artefact, spectrum, size), strict=True))
            for size in between
            if size > max(1.0, spectrum.least / artefact.unit)
        },
        "ledger": ledgers(curve, artefact),
        "steps": steps(artefact, label, spectrum),
        "forecast": forecast(artefact, label, spectrum, curve),
    }


def _named(label: str, curve: Sequence[Row]) -> str:
    """The name under which a label's rows stand: a scale that was tried is no part of it."""
    names = {row["algorithm"] for row in curve}
    return label if label in names else label.rpartition(" at ")[0]


def _leaves(artefact: Artefact, block: int) -> list[str]:
    """What the versions of a block are called: by the models that have them."""
    versions = artefact.versions[block]
    names = [member.name for member in artefact.members]
    held = [[n for n, v in zip(names, versions, strict=True) if v == k]
            for k in range(max(versions) + 1)]  # fmt: skip
    return [", ".join(each) if len(each) < 4 else f"{each[0]} and {len(each) - 1} more"
            for each in held]  # fmt: skip


def whole_tree(artefact: Artefact, label: str) -> list[list[float]]:
    """The dendrogram of whole models, from their inner products over all blocks."""
    models = len(artefact.members)
    whole = np.zeros((models, models))
    for block, of in enumerate(artefact.versions):
        whole += artefact.gram(label, block)[np.ix_(of, of)]
    tree = dendrogram(cosines(whole), artefact.linkage)
    return [[m.first, m.second, m.height] for m in tree.merges]


def _at(artefact: Artefact, spectrum: Spectrum, size: float) -> list[Partition]:
    stages = spectrum.at(spectrum.steps_within(size * artefact.unit))
    return [own[k] for own, k in zip(spectrum.stages, stages, strict=True)]


def groups_at(artefact: Artefact, spectrum: Spectrum, size: float) -> list[list[int]]:
    """Of each block the number of every task's group, at a size."""
    numbers = []
    for partition, versions in zip(_at(artefact, spectrum, size), artefact.versions, strict=True):
        home = {version: k for k, group in enumerate(partition) for version in group}
        numbers.append([home[version] for version in versions])
    return numbers


def ledgers(curve: Sequence[Row], artefact: Artefact) -> list[dict[str, Any]]:
    """What the bytes of measured sizes are, of the first algorithm with masks and without."""
    kinds: dict[str, str] = {}
    rows = []
    for row in curve:
        masked = any(
            algorithm.masked
            for label, algorithm in artefact.algorithms.items()
            if label == row["algorithm"] or label.startswith(f"{row['algorithm']} at ")
        )
        kind = "with masks" if masked else "without masks"
        if kinds.setdefault(kind, row["algorithm"]) == row["algorithm"] and "ledger" in row:
            rows.append({"kind": f"{kind}: {row['algorithm']}", "size": row["reached"],
                         **row["ledger"]})  # fmt: skip
    return rows


def steps(artefact: Artefact, label: str, spectrum: Spectrum) -> list[dict[str, Any]]:
    """Every merge in its order: block, groups, and what it lost; the losses only where measured."""
    energy = sum(artefact.energy(block) for block in range(len(artefact.layouts))) or 1.0
    at = [0] * len(artefact.layouts)
    rows = []
    leaves = [_leaves(artefact, block) for block in range(len(artefact.layouts))]
    errors = [_errors(artefact, label, block) for block in range(len(artefact.layouts))]
    for number, block in enumerate(spectrum.order):
        before, after = (set(spectrum.stages[block][at[block] + k]) for k in (0, 1))
        at[block] += 1
        lost, of_block = None, errors[block]
        if after <= set(of_block):
            lost = sum(of_block[g] for g in after - before) - sum(
                of_block[g] for g in before - after
            )
        rows.append({
            "block": artefact.layouts[block].name,
            "merged": [[leaves[block][v] for v in group] for group in sorted(before - after)],
            "lost": None if lost is None else lost / energy,
            "size": spectrum.bytes[number + 1] / artefact.unit,
        })  # fmt: skip
    return rows


def _errors(artefact: Artefact, label: str, block: int) -> dict[Any, float]:
    return artefact.errors(label, block) if artefact.facts["losses"] else {}


def forecast(
    artefact: Artefact, label: str, spectrum: Spectrum, curve: Sequence[Row]
) -> dict[str, Any]:
    """What sizes are expected to lose, calibrated on measured ones; empty without any."""
    name = _named(label, curve)
    rows = [row for row in curve if row["algorithm"] == name and row.get("loss") is not None]
    rows = [row for row in rows if "normalised" in row]
    if len(rows) < 2:
        return {}
    fitted = calibrated(
        [row["loss"] for row in rows],
        [1 - row["normalised"] for row in rows],
        [row["reached"] for row in rows],
    )
    if fitted is None:
        return {}
    low, high = spectrum.least / artefact.unit, spectrum.bytes[0] / artefact.unit
    measured = {row["size"]: 1 - row["normalised"] for row in rows}
    sizes = []
    for size in sorted({*np.linspace(low, high, _FORECASTS).round(2), *measured}):
        if not low <= size <= high:
            continue
        loss = relative_loss(artefact, label, _at(artefact, spectrum, float(size)))
        if loss is not None:
            ahead = {"size": float(size), "loss": loss, "forecast": fitted.lost(loss)}
            sizes.append({**ahead, "measured": measured.get(size)})
    return {
        "algorithm": name, "scale": fitted.scale, "power": fitted.power, "off": fitted.off,
        "off_by_size": fitted.off_by_size, "rows": sizes, "words": _words(fitted),
    }  # fmt: skip


def _words(fitted: Any) -> str:
    text = "Forecast from what merging changes in the blocks, fitted to the measured sizes."
    if fitted.off is None:
        return f"{text} Too few were measured to say how far it is off."
    text += f" A size that it had not seen it missed by {100 * fitted.off:.1f} points on average; "
    text += f"a straight line over the size alone by {100 * fitted.off_by_size:.1f}."
    return text
