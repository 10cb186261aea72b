"""What differential privacy came to in a run, in words and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hansa.report.grid import Grid
from hansa.report.page import Tile

_WAYS = {
    "example": "in the gradients of every local step",
    "local": "in all that a node sends, by the node",
    "central": "in the sum of the clients' updates, by the server",
    "distributed": "in masked sums, a share by each sender",
}


def _figure(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{value['min']:.4g} to {value['max']:.4g}"
    return "infinite" if value is None else f"{value:.4g}"


def privacy_tile(said: Mapping[str, Any]) -> Tile:
    """The highest epsilon, with its delta."""
    return Tile("epsilon", _figure(said.get("epsilon")), f"delta {said['delta']:g}, the highest")


def privacy_grid(said: Mapping[str, Any]) -> Grid:
    """The guarantee and all that it rests on, a line each."""
    rows = [
        ["epsilon", _figure(said.get("epsilon"))],
        ["delta", f"{said['delta']:g}"],
        ["nobody can tell apart", str(said["unit"])],
        ["noise comes in", _WAYS.get(str(said["way"]), str(said["way"]))],
        ["noise multiplier", _figure(said.get("noise"))],
        ["clip", _figure(said["clip"])],
        ["accountant", str(said["accountant"])],
    ]
    if "sampling_rate" in said:
        rows.append(["chance to be drawn, each by itself", _figure(said["sampling_rate"])])
    if said.get("limit") is not None:
        rows.append(["not to be passed", f"epsilon {said['limit']:g}"])
    return Grid("", ["", ""], rows)


def privacy_note(said: Mapping[str, Any]) -> str:
    """How to read it."""
    if said.get("epsilon") is None:
        return "Without noise there is no guarantee: this is a run with clipping alone."
    return (
        "With what leaves the nodes nobody can tell two such data sets apart, but for a factor "
        f"e^{said['epsilon']:.3g} in the odds and a chance of {said['delta']:g}."
    )
