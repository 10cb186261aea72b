"""Reports as single HTML files that work without a network: charts, tables, settings."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from hansa.base.errors import ConfigError
from hansa.base.files import atomic_write
from hansa.report import charts, pictures, tables
from hansa.report.folder import RunFolder
from hansa.report.series import families, final, score
from hansa.report.units import label, quantity

MAX_EVENTS = 200


@dataclass
class Section:
    """A part of a page; parts with nothing to show are left out."""

    title: str
    charts: list[Any] = field(default_factory=list)
    grid: tables.Grid | None = None
    text: str = ""
    note: str = ""
    folded: bool = False

    def __bool__(self) -> bool:
        return bool(self.charts or (self.grid and self.grid.rows) or self.text)


def write_report(folder: RunFolder | str | Path) -> Path:
    """Write ``report.html`` into a run folder and return its path.

    Raises:
        CheckpointError: it is no run folder, or a file in it is corrupt.
    """
    run = folder if isinstance(folder, RunFolder) else RunFolder.open(folder)
    metrics = run.metrics()
    settings = yaml.safe_dump(run.config, sort_keys=False)
    machine = [[label(key), _shown(value)] for key, value in run.environment.items()]
    sections = [
        Section("Curves", _curves(metrics)),
        Section("Exchange", _exchange(metrics)),
        Section("Nodes and data", _pictures(run, metrics)),
        Section("Last measured", grid=tables.final_table(run, metrics)),
        Section("Events", grid=_events(run), note=_events_note(run)),
        Section("Settings", text=settings, folded=True),
        Section("Environment", grid=tables.Grid("", ["", ""], machine, words=2), folded=True),
    ]
    return _write(
        run.path / "report.html",
        title=_headline(run),
        subtitle=_subtitle(run),
        status=str((run.summary or {}).get("status", "unfinished")),
        tiles=_tiles(run, metrics),
        sections=sections,
    )


def _subtitle(run: RunFolder) -> str:
    """What was run, where it is, and when in a round its models were measured."""
    parts = [str((run.summary or {}).get("verb", "run")), run.path.name]
    evaluate = run.config.get("evaluate")
    if isinstance(evaluate, dict) and "when" in evaluate:
        parts.append(f"models measured {str(evaluate['when']).replace('_', ' the ')}")
    return " · ".join(parts)


def write_comparison(folders: Sequence[RunFolder | str | Path], out: str | Path) -> Path:
    """Write one page that overlays the curves of several runs, and return its path.

    Raises:
        ConfigError: there is nothing to compare.
        CheckpointError: one is no run folder, or a file in it is corrupt.
    """
    runs = [item if isinstance(item, RunFolder) else RunFolder.open(item) for item in folders]
    if not runs:
        raise ConfigError("runs", None, "there is nothing to compare", "name at least one run")
    names = tables.run_labels(runs)
    measured = {name: run.metrics() for name, run in zip(names, runs, strict=True)}
    every = list(dict.fromkeys(f for metrics in measured.values() for f in families(metrics)))
    main = next((f for f in ("accuracy", "rmse", "loss", *every) if f in every), None)
    known = {axis for metrics in measured.values() for axis in charts.axes(metrics)}
    drawn = [(main, axis) for axis in charts.AXES if axis in known and main]
    drawn += [(family, "round") for family in every if family != main]
    pictures_ = [charts.comparison_chart(measured, f, a, legend=False) for f, a in drawn]
    settings = tables.settings_table(runs)
    legend = list(zip(names, charts.palette(len(names)), strict=True)) if len(names) > 1 else []
    sections = [
        Section("Runs", grid=tables.comparison_table(runs)),
        Section("Curves", [chart for chart in pictures_ if chart]),
        *([Section("Settings that differ", grid=settings)] if settings.rows else []),
    ]
    return _write(
        Path(out),
        title=f"{len(runs)} runs compared" if len(runs) > 1 else names[0],
        subtitle=", ".join(run.path.name for run in runs),
        status="",
        tiles=[],
        sections=sections,
        legend=legend,
    )


def _curves(metrics: pl.DataFrame) -> list[Any]:
    main = score(metrics)
    if main is None:
        return []
    drawn = [charts.metric_chart(metrics, main, axis) for axis in charts.axes(metrics)]
    others = [f for f in families(metrics) if f != main and not _is_exchange(f)]
    first = [family for family in others if family in ("loss", "rmse")]
    drawn[1:1] = [charts.metric_chart(metrics, family) for family in first]
    drawn += [charts.metric_chart(metrics, family) for family in others if family not in first]
    return [chart for chart in drawn if chart]


def _exchange(metrics: pl.DataFrame) -> list[Any]:
    names = [family for family in families(metrics) if _is_exchange(family)]
    drawn = [charts.metric_chart(metrics, family) for family in names]
    return [chart for chart in drawn if chart]


def _is_exchange(family: str) -> bool:
    return bool({"bytes", "messages"} & set(family.split("_")))


def _pictures(run: RunFolder, metrics: pl.DataFrame) -> list[Any]:
    found: list[Any] = []
    main = score(metrics)
    last = metrics.filter((pl.col("name") == (main or "")) & pl.col("node").is_not_null())
    last = last.filter(pl.col("round") == pl.col("round").max())
    values = dict(zip(last["node"].to_list(), last["value"].to_list(), strict=True))
    topology = run.read_json("topology.json")
    if topology and topology.get("nodes"):
        found.append(pictures.topology_picture(topology, values, main or ""))
    if main and last["value"].is_finite().sum() > 1:
        found.append(pictures.final_picture(last["value"].to_numpy(), main))
    partition = run.read_json("partition.json") or {}
    if partition.get("histogram"):
        found.append(pictures.label_picture(partition))
    if len(set(partition.get("sizes") or ())) > 1:
        found.append(pictures.sizes_picture(partition["sizes"]))
    return found


def _headline(run: RunFolder) -> str:
    topology = run.config.get("topology")
    name = topology.get("name") if isinstance(topology, Mapping) else topology
    nodes = run.config.get("nodes") or (run.summary or {}).get("nodes")
    words = [tables.algorithm(run), f"on {name}" if name else ""]
    return " ".join(filter(None, words)) + (f", {nodes} nodes" if nodes else "")


def _tiles(run: RunFolder, metrics: pl.DataFrame) -> list[tuple[str, str, str]]:
    """(name, number, remark) of what matters most."""
    found = []
    rows = {(row["name"], row["nodes"] is None): row for row in final(metrics).to_dicts()}
    main = score(metrics)
    wanted = [main, f"{main}_average_model", "loss", "consensus_distance"]
    for name in dict.fromkeys(wanted):
        row = rows.get((name, False)) or rows.get((name, True))
        if row and name:
            low, high = quantity(row["min"], name), quantity(row["max"], name)
            remark = f"{low} to {high} over nodes" if row["nodes"] else f"round {row['round']}"
            found.append((label(name), quantity(row["mean"], name), remark))
    spent = tables.totals(run, metrics)
    nodes = run.config.get("nodes") or (run.summary or {}).get("nodes")
    if "bytes" in spent:
        each = f"{quantity(spent['bytes'] / nodes, 'bytes')} a node" if nodes else ""
        found.append(("sent by all nodes", quantity(spent["bytes"], "bytes"), each))
    rounds = max(metrics["round"].to_list(), default=0)
    if "time" in spent:
        found.append(("wall time", quantity(spent["time"], "time"), f"{rounds} rounds"))
    for name in ("modelled_time", "energy"):
        if name in spent:
            remark = "the slowest node" if name == "modelled_time" else "all nodes"
            found.append((label(name), quantity(spent[name], name), remark))
    return found


def _events(run: RunFolder) -> tables.Grid:
    rows = []
    for event in run.events()[-MAX_EVENTS:]:
        rest = [f"{key}: {_shown(v)}" for key, v in event.items() if key not in ("time", "kind")]
        time = str(event.get("time", ""))[:19].replace("T", " ")
        rows.append([time, label(str(event.get("kind", ""))), ", ".join(rest)])
    return tables.Grid("", ["time (UTC)", "event", ""], rows, words=3)


def _events_note(run: RunFolder) -> str:
    count = len(run.events())
    return f"The last {MAX_EVENTS} of {count}." if count > MAX_EVENTS else ""


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _write(path: Path, *, sections: list[Section], **given: Any) -> Path:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    kept = [section for section in sections if section]
    script = _library() if any(section.charts for section in kept) else ""
    text = environment.get_template("template.html").render(
        sections=kept, script=script, spec=_spec, legend=given.pop("legend", []), **given
    )
    with atomic_write(path, "w") as file:
        file.write(text)
    return path


def _spec(chart: Any) -> str:
    """A chart as JSON that may stand inside a script element."""
    text = json.dumps(chart.to_dict(), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


@functools.cache
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script without outside parts."""
    import vl_convert

    snippet = "window.vegaEmbed = vegaEmbed;"
    text = vl_convert.javascript_bundle(snippet, vl_version=charts.vega_lite_version())
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")
