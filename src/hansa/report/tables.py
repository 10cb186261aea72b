"""Tables of one run: what was measured last, what was spent, what happened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hansa.base.lazy import polars as pl
from hansa.report.folder import RunFolder
from hansa.report.grid import Grid
from hansa.report.scores import scores
from hansa.report.series import final, measurements, progress, without_moments
from hansa.report.units import dimension, label, quantity

MAX_EVENTS = 200
MAX_ENTRIES = 12  # of a list in an event
_LINES, _OF_COSTS = 8, 3
_COSTS = ("bytes_sent", "modelled_time", "energy", "compute_time", "transfer_time", "round_seconds")
_COUNTS = ("steps", "samples", "training_rounds", "messages_sent", "messages_received", "diverged")


def final_table(
    folder: RunFolder, metrics: pl.DataFrame | None = None, *, every: bool = False
) -> Grid:
    """Each metric where it was last measured: mean, min and max over nodes.

    Args:
        folder: the run.
        metrics: its measurements, where they are at hand.
        every: all of them by name, with their standard deviations, not only the eight lines that
            matter, which stand on a terminal of 80 columns.
    """
    frame = final(without_moments(measurements(folder)) if metrics is None else metrics)
    served = "servers" in frame["who"]
    moments, rows = ["mean", *(["std"] if every else []), "min", "max"], []
    for row in frame.to_dicts() if every else _lines_that_matter(frame):
        name = row["name"]
        numbers = [quantity(row[column], name) for column in moments]
        who = str(row["nodes"] or "")
        if served and row["nodes"]:
            who += f" {row['who'][:-1] if row['nodes'] == 1 else row['who']}"
        rows.append([label(name), *numbers, who, str(row["round"])])
    return Grid("Last measured", ["metric", *moments, "nodes", "round"], rows)


def _lines_that_matter(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """At most eight rows: how good the models are, then what that cost, where it cost anything."""
    every: dict[str, list[dict[str, Any]]] = {}
    for row in frame.to_dicts():
        every.setdefault(row["name"], []).append(row)
    clocks = every.get("modelled_time", [])  # who is late or away holds no server up
    every["modelled_time"] = [row for row in clocks if row["who"] == "servers"] or clocks
    costs = [[row for row in every.pop(name, ()) if row["mean"]] for name in _COSTS]
    costs = [rows for rows in costs if rows]
    main = next(iter(scores(every)), "")
    first = [main, f"{main}_average_model", f"{main}_per_client", f"validation_{main}", "loss"]
    first.append("consensus_distance")
    first += [name for name in every if not dimension(name) and name not in _COUNTS]
    good = [row for name in dict.fromkeys(first) for row in every.get(name, ())]
    room = _LINES - sum(map(len, costs[:_OF_COSTS]))
    return [*good[:room], *(row for rows in costs for row in rows)][:_LINES]


def totals(folder: RunFolder, metrics: pl.DataFrame | None = None) -> dict[str, float]:
    """What the run spent in all: bytes, time (s), modelled_time and device_time (s), energy (J)."""
    spent = progress(measurements(folder) if metrics is None else metrics)
    spent_of = {name: spent[name].max() for name in spent.columns if name != "round"}
    summary = folder.summary or {}
    for name, key in (("bytes", "bytes_sent"), ("time", "seconds")):
        if isinstance(summary.get(key), int | float):
            spent_of[name] = summary[key]
    return {name: float(value) for name, value in spent_of.items() if value}  # type: ignore[arg-type]


def diverged(folder: RunFolder) -> Mapping[str, Any] | None:
    """The round in which a run diverged first, and the nodes, if it did."""
    summary = folder.summary
    if summary is not None:
        return summary.get("diverged")
    # It goes on, or was killed: its diary knows.
    return next((e for e in folder.events() if e["kind"] == "diverged"), None)


def divergence(folder: RunFolder) -> str:
    """That a run diverged, where and what to do; nothing if it did not."""
    event = diverged(folder)
    if event is None:
        return ""
    nodes = ", ".join(map(str, event["nodes"][:8]))
    where = f"in round {event['round']}" + (f" at node(s) {nodes}" if nodes else "")
    return f"training diverged, first {where}; lower train.optimizer.lr or set train.clip_norm"


def events_table(folder: RunFolder) -> Grid:
    """The last lines of a run's diary."""
    every = folder.events()
    rows = []
    for event in every[-MAX_EVENTS:]:
        rest = [f"{key}: {_short(v)}" for key, v in event.items() if key not in ("time", "kind")]
        time = str(event.get("time", ""))[:19].replace("T", " ")
        rows.append([time, label(str(event.get("kind", ""))), ", ".join(rest)])
    head = f"event (the last {MAX_EVENTS} of {len(every)})" if len(every) > MAX_EVENTS else "event"
    return Grid("", ["time (UTC)", head, ""], rows, words=3)


def environment_table(folder: RunFolder) -> Grid:
    """What a run ran on."""
    rows = [[label(key), _plain(value)] for key, value in folder.environment.items()]
    return Grid("", ["", ""], rows, words=2)


def _short(value: Any) -> str:
    """As :func:`_plain`, of a long list its first entries."""
    if isinstance(value, list) and len(value) > MAX_ENTRIES:
        return f"{_plain(value[:MAX_ENTRIES])[:-1]}, ... {len(value)} in all]"
    return _plain(value)


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
