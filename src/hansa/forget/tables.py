"""What a request to forget came to, in tables and remarks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hansa.report.grid import Grid
from hansa.report.scores import declare, scores
from hansa.report.units import label, number, quantity

MARKERS = {
    "backdoor": "test examples of other classes that get the planted class once they show the "
    "pattern",
    "canaries": "planted wrong labels that the model gives",
}
"""What the figures of data.markers mean, by name."""
_PARTS = ("forget", "retain", "test")
LOST = 0.05
"""Loss of accuracy on what remains from which on it is remarked."""


def figures_table(receipt: Mapping[str, Any], title: str = "Models") -> Grid:
    """Accuracies of the model at each stage, of the oracle and of the controls; markers.

    Also what the metrics of the run's file say of all three parts.
    """
    declare(receipt.get("metrics", {}))
    stages = list(receipt["figures"].items())
    for control, figures in receipt.get("controls", {}).items():
        stages += [
            (f"control {control}, {stage}", figures_of) for stage, figures_of in figures.items()
        ]
    planted = [name for name in MARKERS if name in receipt["figures"]["before"]]
    whole = [name.removesuffix("_test") for name in receipt["figures"]["before"]]
    asked = [f"{name}_{part}" for name in scores(whole) for part in _PARTS]
    rows = []
    for stage, figures_of in stages:
        shown = [_share(figures_of[name]) for name in _PARTS]
        shown += [_marked(receipt, name, _share(figures_of[name])) for name in planted]
        shown += [f"{figures_of['membership_auc']:.2f}"]
        shown += [quantity(figures_of.get(name), name) for name in asked]
        rows.append([stage.replace("_", " "), *shown])
    heads = ["model", "forget", "retain", "test set", *planted, "membership AUC"]
    return Grid(title, [*heads, *map(label, asked)], rows)


def distance_table(receipt: Mapping[str, Any], title: str = "Distance to the oracle") -> Grid:
    """How far the model is from one that never saw the data: no rows where nobody looked."""
    distance = receipt.get("distance_to_oracle") or {}
    rows = []
    for name in ("forget", "retain", "test", *MARKERS):
        if (gap := distance.get(f"{name}_gap")) is None:
            continue
        agree, varies = (distance.get(f"{name}_{of}") for of in ("agreement", "total_variation"))
        shown = [_share(agree)]
        shown.append("" if varies is None else f"{varies:.3f}")
        gap_text = _marked(receipt, name, f"{100 * gap:+.2f} points")
        rows.append(["test set" if name == "test" else name, gap_text, *shown])
    if "parameters_l2" in distance:
        rows.append(["parameters, L2", f"{distance['parameters_l2']:.2f}", "", ""])
    return Grid(title, ["", "gap", "same prediction", "total variation"], rows)


def goal_table(receipt: Mapping[str, Any], title: str = "Goal") -> Grid:
    """What was to be forgotten, and how far it is: no rows where retraining made that certain."""
    rows = []
    for level, goals in receipt.get("goal", {}).items():
        if level == "exact":
            continue
        parts = goals.items() if level in ("class", "past") else [("", goals)]
        for name, part in parts:
            most, least = part.get("at_most"), part.get("at_least", part.get("foretold"))
            rows.append([
                f"class {name}, gone before" if level == "past" else f"{level} {name}".strip(),
                _share(part["right"]),
                _share(most),
                f"{part['loss']:.2f}" if "loss" in part else "",
                "" if least is None else f"{least:.2f}",
            ])  # fmt: skip
    return Grid(title, ["", "still right", "at most", "loss", "at least"], rows)


def _share(value: float | None) -> str:
    return quantity(value, "accuracy")


def _marked(receipt: Mapping[str, Any], name: str, figure: str) -> str:
    """A figure, unless it is that of a marker that the model never learned."""
    powerless = not receipt.get("markers", {}).get(name, {"power": True})["power"]
    return "no power" if powerless else figure


def cost(receipt: Mapping[str, Any], of: str = "cost") -> str:
    """What it took in all, or what the oracle took (``oracle_cost``), in a line."""
    total = receipt[of]["total"]
    return (
        f"{number(total['sample_gradients'])} sample gradients, {number(total['rounds'])} rounds, "
        f"{quantity(total['bytes'], 'bytes')}, {quantity(total['seconds'], 'seconds')}"
    )


def cost_table(receipt: Mapping[str, Any]) -> Grid:
    """What each phase took, and what the oracle took."""
    costs = [(name, cost) for name, cost in receipt["cost"].items() if name != "total"]
    costs.append(("in all", receipt["cost"]["total"]))
    if "oracle_cost" in receipt:
        costs.append(("the oracle", receipt["oracle_cost"]["total"]))
    rows = [
        [
            name,
            *(number(c.get(key, 0)) for key in ("sample_gradients", "sample_checks", "rounds")),
            quantity(c["bytes"], "bytes"),
            quantity(c["seconds"], "time"),
        ]
        for name, c in costs
    ]
    header = ["phase", "sample gradients", "sample losses", "rounds", "bytes", "time"]
    return Grid("Cost", header, rows)


def remarks(receipt: Mapping[str, Any]) -> list[str]:
    """What else there is to know, a line each."""
    lines = []
    if receipt.get("status") == "incomplete":
        lines += [f"incomplete: {what}" for what in receipt["missing"]]
        lines.append(
            "kept, as the goal is not reached: the synthetic images and the old checkpoint; asking "
            "again goes on from here, --method retrain forgets for sure"
        )
    before, after = (receipt["figures"][of]["retain"] for of in ("before", "after"))
    if before - after > LOST:
        lines.append(
            f"warning: what remains has lost {100 * (before - after):.2f} points; more "
            "recovery.rounds, or recovery on originals (--method quickdrop_originals, sga)"
        )
    if "membership_attack" in receipt:
        lines.append(f"membership attack: {receipt['membership_attack']}")
    for name, meaning in MARKERS.items():
        if name in receipt["figures"]["before"]:
            remark = receipt.get("markers", {}).get(name, {}).get("remark")
            lines.append(f"{name}: {remark or f'{meaning}; the aim is the figure of the oracle'}")
    lines += receipt.get("caveats", [])
    if "trained_again" in (story := receipt.get("story", {})):
        again = ", ".join(map(str, story["trained_again"])) or "none"
        remark = f"cohorts trained again: {again} of {story['cohorts']}, {story['clients']} clients"
        if gone := ", ".join(map(str, story["dissolved"])):
            remark += f"; dissolved: {gone}"
        lines.append(remark + "; that is retraining" * bool(story.get("all")))
    if receipt.get("story", {}).get("recovery", {}).get("shortened"):
        lines.append(
            "the last round of recovery was cut short, as it would have brought back what is "
            "forgotten"
        )
    near = receipt.get("images", {}).get("nearest_example", {})
    if near.get("median") is not None:
        lines.append(
            f"synthetic images left: {number(receipt['images']['left'])}, "
            f"{_share(near['copies'])} of them copies of an example, median distance to the "
            f"nearest {near['median']:.2f}"
        )
    return lines
