"""What is shown of watched runs, as plain data: for the page, the terminal and ``--json``."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from hansa.report.live.nodes import FAULTS
from hansa.report.live.track import Point, Track, columns, short
from hansa.report.live.watched import Watched
from hansa.report.scores import higher_is_better, scores
from hansa.report.units import dimension, label, number, quantity

MOST_NODES = 2_000
"""Rows of nodes that are shown of a run: beyond them, those with faults and the worst."""
_PARTS = ("{}", "validation_{}", "{}_average_model", "{}_per_client")
_OTHERS = 3  # charts of a run without any score


def shown(runs: Sequence[Watched]) -> dict[str, Any]:
    """All of several runs but their nodes."""
    return {"now": time.time(), "over": all(run.over for run in runs), "runs": [*map(_run, runs)]}


def _run(run: Watched) -> dict[str, Any]:
    main = main_of(run)
    return {
        "name": run.name,
        "folder": str(run.path),
        "verb": str(run.folder.config.get("verb", "")),
        "state": run.state,
        "since": run.since,
        "heard": run.heard,
        "held": run.held,
        "error": run.error,
        "problems": run.problems,
        "round": run.round,
        "rounds": run.rounds,
        "seconds_a_round": run.rate,
        "seconds_left": run.left,
        "nodes": run.clients or len(run.nodes) or None,
        "main": main,
        "tiles": tiles(run, main),
        "charts": charts(run, main),
        "faults": run.faults,
        "marks": [{"round": round, "kind": kind} for round, kind in run.marks],
        "events": run.events,
    }


def main_of(run: Watched) -> str | None:
    """The figure by which the run is judged, as far as any was measured."""
    names = [name for name, _ in run.tracks]
    return next(iter([*scores(names), *(n for n in ("loss", "train_loss") if n in names)]), None)


def tiles(run: Watched, main: str | None) -> list[dict[str, str]]:
    """The few figures that matter most: what, how much, a remark."""
    found = []
    track = run.track(main) if main else None
    if main and track and track.last:
        point, remark = track.last, f"round {number(track.last.round)}"
        if point.count > 1:
            low, high = quantity(point.low, main), quantity(point.high, main)
            remark = f"{low} to {high}, {remark}"
        found.append((label(main), quantity(point.mean, main), remark))
    loss = run.track("train_loss")
    if loss and loss.last and main != "train_loss":
        value = quantity(loss.last.mean, "train_loss")
        found.append(("training loss", value, f"round {number(loss.last.round)}"))
    sent = run.bytes.last.whole if run.bytes.last else run.summary.get("bytes_sent")
    if isinstance(sent, int | float):
        remark = ""
        if run.overhead:
            more = f" ({100 * run.overhead / sent:.3g} %)" if sent else ""
            remark = f"+ {quantity(run.overhead, 'bytes')} overhead{more}"
        elif run.round:
            remark = f"{quantity(sent / run.round, 'bytes')} a round"
        found.append(("sent", quantity(sent, "bytes"), remark))
    if run.time.last:
        remark = "" if run.rate is None else f"{quantity(run.rate, 'time')} a round"
        found.append(("wall time", quantity(run.time.last.whole, "time"), remark))
    modelled = run.tracks.get(("modelled_time", True)) or run.track("modelled_time")
    if modelled and modelled.last and modelled.last.mean > 0:
        slowest = modelled.last.high if modelled.last.count else modelled.last.mean
        of = "slowest, " if modelled.last.count > 1 else ""
        remark = f"{of}round {number(modelled.last.round)}"
        found.append(("modelled time", quantity(slowest, "time"), remark))
    return [{"name": a, "number": b, "remark": c} for a, b, c in found]


def charts(run: Watched, main: str | None) -> list[dict[str, Any]]:
    """What is drawn over rounds: title, dimension, and lines of round, mean, low and high."""
    found = []
    if main:
        found.append(_scores(run, main, "training" if main == "loss" else ""))
    if main != "loss" and (run.track("loss") or run.track("train_loss")):
        found.append(_scores(run, "loss", "training"))
    sent = [("sent", run.bytes), ("overhead", run.track("overhead_bytes"))]
    found.append(_chart("bytes sent", "bytes", "B", sent))
    modelled = run.tracks.get(("modelled_time", True)) or run.track("modelled_time")
    found.append(_chart("modelled time", "modelled_time", "s", [("mean", modelled)]))
    wall = [("wall time", run.track("round_seconds"))]
    found.append(_chart("wall time of a round", "round_seconds", "s", wall))
    found.append(_missed(run))
    if main is None:
        names = dict.fromkeys(name for name, _ in run.tracks if name != "round_seconds")
        for name in [*names][:_OTHERS]:
            found.append(_chart(label(name), name, dimension(name), [("", run.track(name))]))
    return [chart for chart in found if chart["lines"]]


def _missed(run: Watched) -> dict[str, Any]:
    """Messages that had not come so far, by cause: from the round before the first to the last."""
    lines = []
    for cause, track in run.missed.items():
        points = track.points
        before = Point(max(0, points[0].round - 1), whole=0.0)
        now = Point(max(run.round, points[-1].round), whole=points[-1].whole)
        lines.append({"label": cause, **columns([before, *points, now])})
    title = "messages missing so far"
    return {"title": title, "name": "missing", "dimension": "", "lines": lines}


def _scores(run: Watched, name: str, training: str) -> dict[str, Any]:
    words = ("mean", "validation", "averaged model", "on clients' own")
    lines = [(word, run.track(of.format(name))) for word, of in zip(words, _PARTS, strict=True)]
    if training:
        lines.append((training, run.track(f"train_{name}")))
    chart = _chart(label(name), name, dimension(name), lines)
    chart["better"] = "higher" if higher_is_better(name) else "lower"
    return chart


def _chart(
    title: str, name: str, dimension: str, lines: Iterable[tuple[str, Track | None]]
) -> dict[str, Any]:
    kept = [(word, track.points) for word, track in lines if track is not None and track.last]
    drawn = [{"label": word, **columns(points)} for word, points in kept if points]
    return {"title": title, "name": name, "dimension": dimension, "lines": drawn}


def node_rows(run: Watched, main: str | None = None) -> dict[str, Any]:
    """The nodes of a run as columns: number, last round, figures, faults; the troubled first kept.

    ``of`` says how many there are, where not all are shown.
    """
    nodes, main = run.nodes, main or main_of(run)
    nodes.reach(run.clients or 0)
    chosen = np.arange(len(nodes))
    if len(chosen) > MOST_NODES:
        score = nodes.figures.get(main or "", np.full(len(nodes), np.nan))
        worst = np.nan_to_num(score if higher_is_better(main or "") else -score, nan=np.inf)
        order = np.lexsort((chosen, worst, -nodes.trouble))
        chosen = np.sort(order[:MOST_NODES])
    figures = [main, *(n for n in ("loss", "train_loss") if n != main), "bytes"]
    kept = [name for name in figures if name and _says(nodes.figures.get(name))][:3]
    if "bytes" not in kept and _says(nodes.figures.get("bytes")):
        kept.append("bytes")
    faults = [name for name in FAULTS if nodes.faults[name].any()]
    clients = run.clients if run.clients is not None else len(nodes)
    return {
        "of": len(nodes),
        "node": chosen.tolist(),
        "server": [int(i) for i in chosen if i >= clients],
        "gone": [int(i) for i in chosen if nodes.gone[i]],
        "round": nodes.round[chosen].tolist(),
        "figures": [
            {
                "name": name,
                "label": "sent" if name == "bytes" else label(name),
                "dimension": "B" if name == "bytes" else dimension(name),
                "values": [short(float(v)) for v in nodes.figures[name][chosen]],
            }
            for name in kept
        ],
        "faults": [{"name": n, "values": nodes.faults[n][chosen].tolist()} for n in faults],
    }


def _says(figure: np.ndarray | None) -> bool:
    return figure is not None and bool(np.isfinite(figure).any())
