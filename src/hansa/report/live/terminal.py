"""Watched runs in a terminal, drawn anew as they go on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hansa.report.live.follower import Follower
from hansa.report.live.shown import node_rows, shown
from hansa.report.live.sparks import round_bar, spark
from hansa.report.live.watched import RUNNING, Watched
from hansa.report.scores import higher_is_better
from hansa.report.units import number, quantity

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_COLOURS = {RUNNING: "cyan", "finished": "green", "interrupted": "yellow", "stale": "yellow"}
_EVENTS, _NODES, _BAR = 5, 12, 60


def follow(follower: Follower, console: Console) -> None:
    """Draw until every run has ended, or Ctrl-C; the follower is not started.

    Anywhere but on a terminal a line is printed when a round is over.
    """
    from rich.live import Live

    if not console.is_terminal:
        told: dict[str, str] = {}
        for every in _looks(follower):
            for run in every["runs"]:
                if (text := line(run)) != told.get(run["folder"]):
                    told[run["folder"]] = text
                    console.print(text, highlight=False, markup=False, soft_wrap=True)
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
        for every in _looks(follower):
            live.update(screen(follower.runs, every, console.height), refresh=True)


def _looks(follower: Follower) -> Iterator[dict[str, Any]]:
    """What is shown, now and then, and at last when every run has ended."""
    while True:
        follower.look()
        every = shown(follower.runs)
        yield every
        if every["over"]:
            return
        time.sleep(follower.every)


def line(run: Mapping[str, Any]) -> str:
    """A run in a line."""
    of = f"/{number(run['rounds'])}" if run["rounds"] else ""
    parts = [f"{run['name']}: {run['state']}, round {number(run['round'])}{of}"]
    parts += [f"{t['name']} {t['number']}" for t in run["tiles"][:3]]
    parts += [f"{number(count)} {name}" for name, count in run["faults"].items()]
    if run["seconds_left"]:
        parts.append(f"{quantity(run['seconds_left'], 'time')} left")
    return ", ".join(parts)


def screen(runs: Sequence[Watched], every: Mapping[str, Any], height: int) -> RenderableType:
    """All runs, one below the other, in about so many lines; ``every`` is what is shown of them."""
    from rich.console import Group

    room = max(4, height // len(runs) - 10)
    parts: list[RenderableType] = []
    for run, data in zip(runs, every["runs"], strict=True):
        parts += _run(run, data, min(_NODES, room) if len(runs) > 1 else room - _EVENTS)
    return Group(*parts)


def _run(run: Watched, data: Mapping[str, Any], most: int) -> list[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    colour = _COLOURS.get(data["state"], "red")
    title = Text.assemble((data["name"], "bold"), "  ", (data["state"], f"bold {colour}"))
    title.append(f" {_ago(data)}  {data['folder']}", "dim")
    of = f" of {number(data['rounds'])}" if data["rounds"] else ""
    progress = Text(f"round {number(data['round'])}{of}")
    if data["seconds_a_round"]:
        progress.append(f"   {quantity(data['seconds_a_round'], 'time')} a round")
    if data["seconds_left"]:
        progress.append(f"   {quantity(data['seconds_left'], 'time')} left")
    parts: list[RenderableType] = [title, progress]
    if data["rounds"]:
        parts.append(round_bar(data["round"], data["rounds"], _BAR, colour))
    for text in (data["error"], *data["problems"]):
        if text:
            parts.append(Text(text, "red"))
    figures = Table.grid(padding=(0, 3))
    drawn = {chart["title"]: chart for chart in data["charts"]}
    for tile in data["tiles"]:
        chart = drawn.get(tile["name"])
        sparks = spark(chart["lines"][0]["mean"]) if chart and chart["lines"] else ""
        figures.add_row(
            Text(tile["name"], "dim"),
            Text(tile["number"], "bold"),
            Text(tile["remark"], "dim"),
            sparks,
        )
    parts.append(figures)
    if data["faults"]:
        told = ", ".join(f"{number(count)} {name}" for name, count in data["faults"].items())
        parts.append(Text(f"faults: {told}", "yellow"))
    parts.append(_nodes(run, data, max(3, most)))
    for event in data["events"][:_EVENTS]:
        stamp, style = event["time"][11:19], "yellow" if event["fault"] else "dim"
        text = Text(f"{stamp} {event['kind']}  {event['text']}", style)
        text.truncate(160, overflow="ellipsis")
        parts.append(text)
    parts.append(Text(""))
    return parts


def _nodes(run: Watched, data: Mapping[str, Any], most: int) -> RenderableType:
    """A table of nodes: those with faults first, then those that do worst."""
    from rich.table import Table
    from rich.text import Text

    rows = node_rows(run, data["main"])
    table = Table(box=None, padding=(0, 2), header_style="dim")
    table.add_column("node", justify="right")
    table.add_column("round", justify="right")
    for figure in rows["figures"]:
        table.add_column(figure["label"], justify="right")
    for fault in rows["faults"]:
        table.add_column(fault["name"], justify="right")
    ids = range(len(rows["node"]))
    trouble = [sum(fault["values"][i] for fault in rows["faults"]) for i in ids]
    order = sorted(ids, key=lambda i: (-trouble[i], *_worst(rows, data, i), i))
    for i in order[:most]:
        gone = rows["node"][i] in rows["gone"]
        cells = [str(rows["node"][i]), number(rows["round"][i]) if rows["round"][i] >= 0 else "–"]
        for figure in rows["figures"]:
            unit = "bytes" if figure["dimension"] == "B" else figure["name"]
            cells.append(quantity(figure["values"][i], unit) or "–")
        cells += [number(fault["values"][i]) for fault in rows["faults"]]
        table.add_row(*cells, style="red" if gone else "yellow" if trouble[i] else "")
    if len(order) > most:
        table.add_row(Text("…", "dim"), Text(f"{number(rows['of'])} nodes", "dim"))
    return table


def _worst(rows: Mapping[str, Any], data: Mapping[str, Any], i: int) -> tuple[bool, float]:
    """By which nodes are ordered, the worst first and those without a figure last."""
    value = rows["figures"][0]["values"][i] if rows["figures"] else None
    sign = 1 if higher_is_better(data["main"] or "") else -1
    return value is None, sign * (value or 0.0)


def _ago(data: Mapping[str, Any]) -> str:
    """How long the run has been in its state."""
    words = quantity(round(max(0.0, time.time() - data["since"])), "time")
    return f"for {words}" if data["state"] in (RUNNING, "stale") else f"{words} ago"
