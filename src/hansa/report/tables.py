"""Tables of one run and of several, for the terminal, for pages and as plain data."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hansa.base.lazy import polars as pl
from hansa.base.paths import short
from hansa.report.folder import RunFolder
from hansa.report.rounds import COUNTED, UNDER_WAY
from hansa.report.series import AXES, final, measurements, progress, without_moments
from hansa.report.units import dimension, label, quantity

if TYPE_CHECKING:
    from rich.table import Table

_SHOWN = ("accuracy", "rmse", "loss", "accuracy_average_model", "rmse_average_model")


_LINES, _OF_COSTS = 8, 3
_SCORES = ("accuracy", "rmse", "loss")
_COSTS = ("bytes_sent", "modelled_time", "energy", "compute_time", "transfer_time", "round_seconds")
_COUNTS = ("steps", "samples", "training_rounds", "messages_sent", "messages_received", "diverged")
_BETWEEN = 3  # characters that a terminal's table puts between two columns
_NUMBER = 24  # characters: what is longer is no number, and may be broken
_SETTINGS = 3  # columns of settings that fit beside the figures


_STAMPED = re.compile(r"-\d{8}-\d{6}(-\d+)?$")
"""How a folder's name ends that nobody gave."""


@dataclass(frozen=True)
class Grid:
    """A table of text: the first ``words`` columns are words, the others numbers."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    words: int = 1

    def rich(self) -> Table:
        """The table for a terminal; print it with a ``rich.console.Console``."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self.title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for index, column in enumerate(self.columns):
            side: Any = "left" if index < self.words else "right"
            heading = textwrap.fill(column, 10, break_long_words=False)
            least = self._least(index)
            whole = index >= self.words and all(len(row[index]) <= _NUMBER for row in self.rows)
            table.add_column(heading, justify=side, overflow="fold", min_width=least, no_wrap=whole)
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table

    def within(self, width: int) -> list[Grid]:
        """The table in parts that a terminal of this width shows without breaking a number.

        Each part begins with the words; what does not fit beside them goes into the next.
        """
        numbers = list(range(self.words, len(self.columns)))
        words = sum(self._least(index) + _BETWEEN for index in range(self.words))
        parts: list[list[int]] = [[]]
        room = width - words
        for index in numbers:
            need = self._least(index) + _BETWEEN
            if parts[-1] and need > room:
                parts.append([])
                room = width - words
            parts[-1].append(index)
            room -= need
        return [self._part(part, self.title if k == 0 else "") for k, part in enumerate(parts)]

    def _part(self, numbers: list[int], title: str) -> Grid:
        kept = [*range(self.words), *numbers]
        rows = [[row[index] for index in kept] for row in self.rows]
        return Grid(title, [self.columns[index] for index in kept], rows, self.words)

    def _least(self, index: int) -> int:
        """Characters that a column needs: a number whole, of words the longest up to some 20."""
        cells = [row[index] for row in self.rows]
        if index < self.words:
            return min(20, max((len(word) for cell in cells for word in cell.split()), default=0))
        heading = textwrap.wrap(self.columns[index], 10, break_long_words=False)
        numbers = (len(cell) for cell in cells if len(cell) <= _NUMBER)
        return max([*map(len, heading), *numbers], default=0)


def final_table(
    folder: RunFolder, metrics: pl.DataFrame | None = None, *, every: bool = False
) -> Grid:
    """Each metric where it was last measured: mean, std, min and max over nodes.

    Args:
        folder: the run.
        metrics: its measurements, where they are at hand.
        every: all of them by name, not only the eight lines that matter.
    """
    frame = final(without_moments(measurements(folder)) if metrics is None else metrics)
    served = "servers" in frame["who"]
    rows = []
    for row in frame.to_dicts() if every else _lines_that_matter(frame):
        name = row["name"]
        numbers = [quantity(row[column], name) for column in ("mean", "std", "min", "max")]
        who = str(row["nodes"] or "")
        if served and row["nodes"]:
            who += f" {row['who'][:-1] if row['nodes'] == 1 else row['who']}"
        rows.append([label(name), *numbers, who, str(row["round"])])
    columns = ["metric", "mean", "std", "min", "max", "nodes", "round"]
    return Grid("Last measured", columns, rows)


def _lines_that_matter(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """At most eight rows: how good the models are, then what that cost, where it cost anything."""
    every: dict[str, list[dict[str, Any]]] = {}
    for row in frame.to_dicts():
        every.setdefault(row["name"], []).append(row)
    clocks = every.get("modelled_time", [])  # who is late or away holds no server up
    every["modelled_time"] = [row for row in clocks if row["who"] == "servers"] or clocks
    costs = [[row for row in every.pop(name, ()) if row["mean"]] for name in _COSTS]
    costs = [rows for rows in costs if rows]
    main = next((name for name in _SCORES if name in every), "")
    first = [main, f"{main}_average_model", f"validation_{main}", "loss", "consensus_distance"]
    first += [name for name in every if not dimension(name) and name not in _COUNTS]
    good = [row for name in dict.fromkeys(first) for row in every.get(name, ())]
    room = _LINES - sum(map(len, costs[:_OF_COSTS]))
    return [*good[:room], *(row for rows in costs for row in rows)][:_LINES]


def totals(folder: RunFolder, metrics: pl.DataFrame | None = None) -> dict[str, float]:
    """What the run spent in all: bytes, time (s), modelled_time and device_time (s), energy (J)."""
    spent = progress(measurements(folder) if metrics is None else metrics)
    found = {name: spent[name].max() for name in spent.columns if name != "round"}
    summary = folder.summary or {}
    for name, key in (("bytes", "bytes_sent"), ("time", "seconds")):
        if isinstance(summary.get(key), int | float):
            found[name] = summary[key]
    return {name: float(value) for name, value in found.items() if value}  # type: ignore[arg-type]


def costs_table(found: Mapping[str, Any]) -> Grid:
    """What :func:`hansa.report.rounds.costs` found, in words."""
    rows = [
        [words, quantity(found[key], key), remark]
        for key, words, remark in (
            ("modelled_time", "modelled time", "from the first round to the end of the last"),
            ("device_time", "device time", "all clients' training, counted or not"),
            ("wasted_time", "wasted device time", "training of clients whose update did not count"),
            ("transfer_time", "transfer time", "all clients' links in use"),
            ("idle_time", "idle time", "between a client's last byte and the end of its round"),
        )
        if key in found
    ]
    for row in rows if found.get("device_time") else ():
        if row[0] == "wasted device time":
            row[2] += f": {100 * found['wasted_time'] / found['device_time']:.1f} % of it"
    remarks = {
        COUNTED: "the update counted",
        "late": "missed the deadline",
        "left": "became unavailable",
        "failed": "failed on the way",
        "surplus": "enough others were faster",
        "idle": "had no budget for a single step",
        UNDER_WAY: "the run ended before they were done",
    }
    if found:
        rows.append(["invitations", str(found["invited"]), "one a client and round"])
    rows += [[fate, str(found[fate]), remarks[fate]] for fate in remarks if found.get(fate)]
    if found.get("failed_rounds"):
        rows.append(["failed rounds", str(found["failed_rounds"]), "too few updates counted"])
    return Grid("Where the time went", ["", "", ""], [[a, c, b] for a, b, c in rows], words=2)


def flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted names; a component's own name stands under its field."""
    found: dict[str, Any] = {}
    if isinstance(settings, Mapping) and settings:
        for key, value in settings.items():
            found |= flat(value, prefix if key == "name" and prefix else _dotted(prefix, key))
    elif isinstance(settings, list) and any(isinstance(item, Mapping) for item in settings):
        for index, item in enumerate(settings):
            found |= flat(item, _dotted(prefix, index))
    else:
        found[prefix] = settings
    return found


def differing(folders: Sequence[RunFolder]) -> dict[str, list[Any]]:
    """The settings that are not the same in all runs, one value a run (None: not there)."""
    every = [flat(folder.config) for folder in folders]
    keys = dict.fromkeys(key for settings in every for key in settings)
    found = {key: [settings.get(key) for settings in every] for key in keys}
    return {key: values for key, values in found.items() if any(v != values[0] for v in values)}


def run_labels(folders: Sequence[RunFolder]) -> list[str]:
    """A short name for each run, all different.

    The name that its folder was given, or else the algorithm and what tells the runs apart.
    """
    given = [folder.path.resolve().name for folder in folders]
    if len(folders) > 1 and len(set(given)) == len(given) and not any(map(_STAMPED.search, given)):
        return given
    names = [algorithm(folder) for folder in folders]
    if len(set(names)) == 1 and len(names) > 1:
        names = [""] * len(folders)
    candidates = differing(folders)
    order = ["algorithm", "topology", "codec.0", "partition", "nodes"]
    keys = [key for key in order if key in candidates]
    keys += [key for key in candidates if key not in keys and key.rpartition(".")[2] != "seed"]
    keys += [key for key in candidates if key not in keys]
    for key in keys:
        if key == "algorithm" or len(set(names)) == len(names):
            continue
        added = [
            _joined(n, v, "" if isinstance(v, str) else key.rpartition(".")[2])
            for n, v in zip(names, candidates[key], strict=True)
        ]
        if len(set(added)) > len(set(names)):
            names = added
    if len(set(names)) < len(names) or not all(names):
        names = [_joined(n, folder.path.name) for n, folder in zip(names, folders, strict=True)]
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
    return [
        n if seen[n] == 1 else f"{n} ({folder.path})"
        for n, folder in zip(names, folders, strict=True)
    ]


def comparison(folders: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """One mapping a run, with plain numbers: run, path, settings, totals, final, status."""
    apart = differing(folders)
    rows = []
    for index, (folder, name) in enumerate(zip(folders, run_labels(folders), strict=True)):
        metrics = without_moments(measurements(folder))
        frame = final(metrics)
        frame = frame.sort(pl.col("who") == "servers", nulls_last=False)
        # Of what both spend, the clients' figure; of models, whoever has them.
        frame = frame.unique("name", keep="first", maintain_order=True)
        measured = dict(zip(frame["name"], frame["mean"], strict=True))
        deviation = dict(zip(frame["name"], frame["std"], strict=True))
        rows.append(
            {
                "run": name,
                "algorithm": algorithm(folder),
                "path": str(folder.path),
                "settings": {key: values[index] for key, values in apart.items()},
                "rounds": metrics["round"].max(),
                "final": measured,
                "std": {key: value for key, value in deviation.items() if value is not None},
                "totals": totals(folder, metrics),
                "status": (folder.summary or {}).get("status", "unfinished"),
            }
        )
    return rows


def comparison_table(folders: Sequence[RunFolder]) -> Grid:
    """One row a run: the settings that differ, if few, what it reached and what it spent."""
    runs = comparison(folders)
    settings = [k for k in differing(folders) if not k.endswith("seed") and not _in_label(k, runs)]
    settings = settings if len(settings) <= _SETTINGS else []  # settings_table has them all
    # What a name that was given does not tell.
    told = all(run["algorithm"] in run["run"] for run in runs)
    named = [] if told or len({run["algorithm"] for run in runs}) == 1 else ["algorithm"]
    settings = [key for key in settings if key not in named]
    scores = [name for name in _SHOWN if any(name in run["final"] for run in runs)]
    spent = [k for k in AXES if _any(runs, k)]
    titles = {"bytes": "sent", "time": "wall time"}
    columns = ["run", *named, *settings, "rounds", *map(label, scores)]
    columns += [titles.get(key, label(key)) for key in spent]
    unfinished = any(run["status"] != "finished" for run in runs)
    columns += ["status"] if unfinished else []
    rows = []
    for run in runs:
        row = [run["run"], *(run[key] for key in named)]
        row += [*(_text(run["settings"][key]) for key in settings), str(run["rounds"])]
        for name in scores:
            mean, std = run["final"].get(name), run["std"].get(name)
            spread = f" ± {_brief(std, name)}" if std is not None else ""
            row.append(quantity(mean, name).removesuffix(" %" if spread else "") + spread)
        row += [quantity(run["totals"].get(key), key) for key in spent]
        rows.append([*row, run["status"]] if unfinished else row)
    return Grid("Runs", columns, rows, words=1 + len(named) + len(settings))


def settings_table(folders: Sequence[RunFolder]) -> Grid:
    """One row a setting that differs, one column a run."""
    names = run_labels(folders)
    found = list(differing(folders).items())
    if len({folder.config.get("verb", "learn") for folder in folders}) > 1:
        # Of runs of two kinds, most settings are there in one kind alone: that says nothing.
        every = [flat(folder.config) for folder in folders]
        found = [(k, v) for k, v in found if all(k in settings for settings in every)]
    rows = [[key, *("" if v is None else _text(v) for v in values)] for key, values in found]
    return Grid("Settings that differ", ["setting", *names], rows, words=1 + len(names))


def divergence(folder: RunFolder) -> str:
    """That a run diverged, where and what to do; nothing if it did not."""
    summary = folder.summary
    found = (summary or {}).get("diverged")
    if summary is None:  # it goes on, or was killed: its diary knows
        found = next((e for e in folder.events() if e["kind"] == "diverged"), None)
    if found is None:
        return ""
    nodes = ", ".join(map(str, found["nodes"][:8]))
    where = f"in round {found['round']}" + (f" at node(s) {nodes}" if nodes else "")
    return f"training diverged, first {where}; lower train.optimizer.lr or set train.clip_norm"


def algorithm(folder: RunFolder) -> str:
    """The name of the run's algorithm, or else its verb, or else its folder."""
    chosen = folder.config.get("algorithm")
    name = chosen.get("name") if isinstance(chosen, Mapping) else chosen
    rule = (folder.summary or {}).get("chosen")  # of an ensemble
    kept = f"ensemble by {rule}" if rule else folder.config.get("verb")
    return short(str(name or kept or folder.path.name))


def _brief(deviation: float, name: str) -> str:
    """Two digits: more of a standard deviation says nothing."""
    return f"{100 * deviation:.1f} %" if dimension(name) == "share" else f"{deviation:.2g}"


def _joined(name: str, value: Any, key: str = "") -> str:
    words = f"{key} {_text(value)}" if key and value is not None else _text(value)
    return ", ".join(part for part in (name, words) if part)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _in_label(key: str, runs: list[dict[str, Any]]) -> bool:
    """Whether every run's label says this setting already."""
    return all(
        _text(run["settings"][key]) in run["run"].replace(",", "").split()
        for run in runs
        if run["settings"][key] is not None
    ) and any(run["settings"][key] is not None for run in runs)


def _any(runs: list[dict[str, Any]], key: str) -> bool:
    return any(key in run["totals"] for run in runs)


def _dotted(prefix: str, key: Any) -> str:
    return f"{prefix}.{key}" if prefix else str(key)
