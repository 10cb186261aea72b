"""Reports as single HTML files that work without a network: charts, tables, settings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hansa.base.errors import ConfigError
from hansa.base.files import atomic_write
from hansa.base.lazy import polars as pl
from hansa.base.yamltext import dump_yaml
from hansa.report import charts, ensembles, tables
from hansa.report.folder import RunFolder
from hansa.report.library import library
from hansa.report.rounds import COUNTED, invitations
from hansa.report.sections import Section, drawn_sections
from hansa.report.series import families, final, measurements, score, servers, without_moments
from hansa.report.units import label, quantity

MAX_EVENTS = 200


@charts.unchecked()
def write_report(folder: RunFolder | str | Path) -> Path:
    """Write ``report.html`` into a run folder and return its path.

    Raises:
        CheckpointError: it is no run folder, or a file in it is corrupt.
    """
    run = folder if isinstance(folder, RunFolder) else RunFolder.open(folder)
    metrics = measurements(run)
    invited, metrics = invitations(metrics), without_moments(metrics)
    settings = dump_yaml(run.config, sort_keys=False)
    machine = [[label(key), _shown(value)] for key, value in run.environment.items()]
    ensemble = ensembles.is_ensemble(run)
    said = [[remark] for remark in run.read_json("remarks.json") or []]
    last = tables.final_table(run, metrics, every=True)
    sections = [
        Section("Remarks", grid=tables.Grid("", [""], said, words=1)),
        *drawn_sections(run, metrics, invited),
        *([] if ensemble else [Section("Last measured", grid=last)]),
        Section("Events", grid=_events(run), note=_events_note(run)),
        Section("Settings", text=settings, folded=True),
        Section("Environment", grid=tables.Grid("", ["", ""], machine, words=2), folded=True),
    ]
    return _write(
        run.path / "report.html",
        title=ensembles.headline(run) if ensemble else _headline(run, metrics),
        subtitle=_subtitle(run),
        status=str((run.summary or {}).get("status", "unfinished")),
        notes=_notes(run),
        tiles=ensembles.tiles(run) if ensemble else _tiles(run, metrics, invited),
        sections=sections,
    )


def _notes(run: RunFolder) -> list[str]:
    """What a reader must know before any figure."""
    found = [text[0].upper() + text[1:] + "." for text in [tables.divergence(run)] if text]
    lost = [f"metrics/{name} is damaged: what it held is missing here." for name in run.damaged]
    return found + lost


def _subtitle(run: RunFolder) -> str:
    """What was run, where it is, and when in a round its models were measured."""
    parts = [str((run.summary or {}).get("verb", "run")), run.path.name]
    evaluate = run.config.get("evaluate")
    if isinstance(evaluate, dict) and "when" in evaluate:
        parts.append(f"models measured {str(evaluate['when']).replace('_', ' the ')}")
    return " · ".join(parts)


@charts.unchecked()
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
    measured = {
        name: without_moments(measurements(run)) for name, run in zip(names, runs, strict=True)
    }
    every = list(dict.fromkeys(f for metrics in measured.values() for f in families(metrics)))
    main = next((f for f in ("accuracy", "rmse", "loss", *every) if f in every), None)
    known = {axis for metrics in measured.values() for axis in charts.axes(metrics)}
    drawn = [(main, axis) for axis in charts.AXES if axis in known and main]
    drawn += [(f, "round") for f in every if f != main and _is_compared(f, measured)]
    pictures_ = [charts.comparison_chart(measured, f, a, legend=False) for f, a in drawn]
    settings = tables.settings_table(runs)
    kinds = {run.config.get("verb", "learn") for run in runs}
    note = "Only settings that all of these kinds of runs have." if len(kinds) > 1 else ""
    looks = zip(names, charts.palette(len(names)), charts.dashes(len(names)), strict=True)
    legend = list(looks) if len(names) > 1 else []
    sections = [
        Section("Runs", grid=tables.comparison_table(runs)),
        Section("Curves", [chart for chart in pictures_ if chart]),
        *([Section("Settings that differ", grid=settings, note=note)] if settings.rows else []),
    ]
    return _write(
        Path(out).expanduser(),
        title=f"{len(runs)} runs compared" if len(runs) > 1 else names[0],
        subtitle=", ".join(run.path.name for run in runs),
        status="",
        tiles=[],
        sections=sections,
        legend=legend,
    )


@charts.unchecked()
def write_pictures(folder: RunFolder | str | Path) -> list[Path]:
    """Write every chart of a run's report as a PNG under ``pictures`` and return their paths."""
    run = folder if isinstance(folder, RunFolder) else RunFolder.open(folder)
    found = []
    metrics = measurements(run)
    for section in drawn_sections(run, without_moments(metrics), invitations(metrics)):
        for chart in section.charts:
            title = chart.title if isinstance(chart.title, str) else chart.title.text
            name = re.sub(r"\W+", "_", title.lower()).strip("_")
            found.append(charts.save_png(chart, run.path / "pictures" / f"{name}.png"))
    return found


def _is_compared(family: str, measured: Mapping[str, pl.DataFrame]) -> bool:
    """Whether there is something to compare, and not in the charts of single runs alone."""
    having = sum(family in families(metrics) for metrics in measured.values())
    told = family.startswith("cohort_") or family in ("invited", "participants")
    return not told and having > (len(measured) > 1)


def _headline(run: RunFolder, metrics: pl.DataFrame) -> str:
    topology = run.config.get("topology")
    name = topology.get("name") if isinstance(topology, Mapping) else topology
    nodes = run.config.get("nodes") or (run.summary or {}).get("nodes")
    hosts = len(servers(metrics))
    words = [tables.algorithm(run), f"on {name}" if name and not hosts else ""]
    many = f", {nodes} {'clients' if hosts else 'nodes'}" if nodes else ""
    return " ".join(filter(None, words)) + many + (f", {hosts} servers" if hosts > 1 else "")


def _tiles(
    run: RunFolder, metrics: pl.DataFrame, invited: pl.DataFrame
) -> list[tuple[str, str, str]]:
    """(name, number, remark) of what matters most."""
    found = []
    rows = {(row["name"], row["nodes"] is None): row for row in final(metrics).to_dicts()}
    hosts = len(servers(metrics))
    main = score(metrics)
    wanted = [main, f"{main}_average_model", "loss", "consensus_distance"]
    wanted = [main, "loss"] if hosts else wanted  # cohorts do not seek a model between theirs
    for name in dict.fromkeys(wanted):
        row = rows.get((name, False)) or rows.get((name, True))
        if row and name:
            remark = f"round {row['round']}"
            if row["min"] is not None:
                low, high = quantity(row["min"], name), quantity(row["max"], name)
                remark = f"{low} to {high} over {row['who']}"
            found.append((label(name), quantity(row["mean"], name), remark))
    spent = tables.totals(run, metrics)
    nodes = run.config.get("nodes") or (run.summary or {}).get("nodes")
    if "bytes" in spent:
        each = f"{quantity(spent['bytes'] / nodes, 'bytes')} a node" if nodes else ""
        each = each.replace("a node", "a client, up and down") if hosts else each
        found.append(("sent by all nodes", quantity(spent["bytes"], "bytes"), each))
    rounds = max(metrics["round"].to_list(), default=0)
    if "time" in spent:
        found.append(("wall time", quantity(spent["time"], "time"), f"{rounds} rounds"))
    slowest = "the slowest server" if hosts > 1 else "the server" if hosts else "the slowest node"
    everyone = "all clients" if hosts else "all nodes"
    remarks = {"modelled_time": slowest, "device_time": everyone, "energy": everyone}
    for name in ("modelled_time", *(["device_time"] if hosts else []), "energy"):
        if name in spent:
            found.append((label(name), quantity(spent[name], name), remarks[name]))
    if asked := len(invited):
        done = int((invited["fate"] == COUNTED).sum())
        found.append(("updates that counted", f"{100 * done / asked:.1f} %", f"of {asked} invited"))
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
    script = library(charts.vega_lite_version()) if any(section.charts for section in kept) else ""
    text = environment.get_template("template.html").render(
        sections=kept,
        script=script,
        spec=_spec,
        is_wide=_is_wide,
        legend=given.pop("legend", []),
        notes=given.pop("notes", []),
        **given,
    )
    with atomic_write(path, "w") as file:
        file.write(text)
    return path


def _spec(chart: Any) -> str:
    """A chart as JSON that may stand inside a script element."""
    text = json.dumps(charts.spec_of(chart), separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _is_wide(chart: Any) -> bool:
    """Whether a chart takes a line of the page for itself."""
    return float(chart.width) > 2 * charts.WIDTH
