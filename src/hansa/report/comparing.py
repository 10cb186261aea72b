"""Several runs side by side: their names, what differs between them, what each came to."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hansa.base.lazy import polars as pl
from hansa.report.folder import RunFolder
from hansa.report.grid import Grid
from hansa.report.marks import marked
from hansa.report.page import Page, called, page_of
from hansa.report.scores import declare, scores
from hansa.report.series import AXES, final, measurements, without_moments
from hansa.report.tables import totals
from hansa.report.units import dimension, label, quantity, spread_out

SPENT = {"bytes": "sent", "time": "wall time"}
"""What columns of what was spent are called, where not by their names."""
_SETTINGS = 3  # columns of settings that fit beside the figures
_PATHS = ("path", "test_path")
_STAMPED = re.compile(r"-\d{8}-\d{6}(-\d+)?$")
"""How a folder's name ends that nobody gave."""


def flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted names; a component's own name stands under its field."""
    dotted: dict[str, Any] = {}
    if isinstance(settings, Mapping) and settings:
        for key, value in settings.items():
            dotted |= flat(value, prefix if key == "name" and prefix else _dotted(prefix, key))
    elif isinstance(settings, list) and any(isinstance(item, Mapping) for item in settings):
        for index, item in enumerate(settings):
            dotted |= flat(item, _dotted(prefix, index))
    else:
        dotted[prefix] = settings
    return dotted


def differing(folders: Sequence[RunFolder]) -> dict[str, list[Any]]:
    """The settings that are not the same in all runs, one value a run (None: not there)."""
    every = [flat(folder.config) for folder in folders]
    keys = dict.fromkeys(key for settings in every for key in settings)
    values_of = {key: [settings.get(key) for settings in every] for key in keys}
    return {key: values for key, values in values_of.items() if any(v != values[0] for v in values)}


def run_labels(folders: Sequence[RunFolder]) -> list[str]:
    """A short name for each run, all different, with the run's marks behind it.

    The name that its folder was given, or else the algorithm and what tells the runs apart.
    """
    names = _unmarked(folders)
    return [marked(name, folder.marks) for name, folder in zip(names, folders, strict=True)]


def _unmarked(folders: Sequence[RunFolder]) -> list[str]:
    given = [folder.path.resolve().name for folder in folders]
    if len(folders) > 1 and len(set(given)) == len(given) and not any(map(_STAMPED.search, given)):
        return given
    names = _by_settings(folders)
    if len(set(names)) < len(names) or not all(names):
        names = [_joined(n, folder.path.name) for n, folder in zip(names, folders, strict=True)]
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
    return [
        n if seen[n] == 1 else f"{n} ({folder.path})"
        for n, folder in zip(names, folders, strict=True)
    ]


def _by_settings(folders: Sequence[RunFolder], names: Sequence[str] = ()) -> list[str]:
    """The runs' algorithms, or names, and of what differs as much as tells them apart, if that is
    enough."""
    names = list(names) or [called(folder) for folder in folders]
    if len(set(names)) == 1 and len(names) > 1:
        names = [""] * len(folders)
    candidates = differing(folders)
    order = ["algorithm", "topology", "codec.0", "partition", "nodes"]
    keys = [key for key in order if key in candidates]
    keys += [key for key in candidates if key not in keys and not is_seed(key)]
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
    return names


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone, by their places among all that are compared."""

    name: str
    runs: tuple[int, ...]


def groups_of(folders: Sequence[RunFolder]) -> list[Group]:
    """The runs by settings, in the order of the first of each; a run alone keeps its name."""
    places: dict[str, list[int]] = {}
    seeds = []
    for k, folder in enumerate(folders):
        settings = sorted(flat(folder.config).items())
        seeds.append(repr([item for item in settings if is_seed(item[0])]))
        own = repr([item for item in settings if not is_seed(item[0])])
        if any(seeds[other] == seeds[k] for other in places.get(own, ())):
            own += f" once more: {k}"  # the same seed again is another run of it, not another seed
        places.setdefault(own, []).append(k)
    groups = [tuple(group) for group in places.values()]
    names = _unmarked(folders)
    if len(groups) < len(folders):
        first = [folders[group[0]] for group in groups]
        each = [_of_all([called(folders[k]) for k in group]) for group in groups]
        if not {"algorithm", "verb"} & set(differing(first)):
            each = [each[0] if len(set(each)) == 1 else ""] * len(groups)  # it came of the runs
        named = _by_settings(first, each)
        if len(set(named)) == len(named) and all(named):
            for group, name in zip(groups, named, strict=True):
                names[group[0]] = name
    return [Group(marked(names[group[0]], folders[group[0]].marks), group) for group in groups]


def _of_all(each: Sequence[str]) -> str:
    """What all runs of a setting are called; what they chose may differ by their seed."""
    if len(set(each)) == 1:
        return each[0]
    words = [text.split() for text in each]
    same = itertools.takewhile(lambda at: len(set(at)) == 1, zip(*words, strict=False))
    return f"{' '.join(at[0] for at in same)} …".strip()


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
        measured = dict(zip(frame["name"], frame["mean"], strict=True)) | _own_figures(folder)
        deviation = dict(zip(frame["name"], frame["std"], strict=True))
        rows.append(
            {
                "run": name,
                "algorithm": called(folder),
                "path": str(folder.path),
                **folder.marks,
                "settings": {key: values[index] for key, values in apart.items()},
                "rounds": metrics["round"].max(),
                "final": measured,
                "std": {key: value for key, value in deviation.items() if value is not None},
                "totals": totals(folder, metrics),
                "status": (folder.summary or {}).get("status", "unfinished"),
            }
        )
    return rows


def _own_figures(folder: RunFolder) -> dict[str, float]:
    """What the run's page has beside metrics; these are scores from now on."""
    page = page_of(folder)
    if type(page).figures is Page.figures:
        return {}
    every = page.figures(page.read(folder))
    declare(
        {
            name: {"better": one.better, "share": one.share, "label": "", "rank": k}
            for k, (name, one) in enumerate(every.items())
        }
    )
    return {name: one.value for name, one in every.items()}


def comparison_table(
    folders: Sequence[RunFolder], runs: list[dict[str, Any]] | None = None
) -> Grid:
    """One row a run: the settings that differ, if few, what it reached and what it spent.

    A figure is the mean over the run's nodes; ± is their standard deviation.

    Args:
        folders: the runs.
        runs: what :func:`comparison` found, where it is at hand.
    """
    runs = runs or comparison(folders)
    settings = [k for k in differing(folders) if not is_seed(k) and not _in_label(k, runs)]
    settings = settings if len(settings) <= _SETTINGS else []  # settings_table has them all
    # What a name that was given does not tell.
    in_names = all(run["algorithm"] in run["run"] for run in runs)
    named = [] if in_names or len({run["algorithm"] for run in runs}) == 1 else ["algorithm"]
    settings = [key for key in settings if key not in named]
    shown = shown_scores(runs)
    spent = [k for k in AXES if _any(runs, k)]
    over = {name for name in shown for run in runs if _has_spread(run, name)}
    heads = [f"{label(name)}{', ± over nodes' if name in over else ''}" for name in shown]
    columns = ["run", *named, *_heads(settings), "rounds", *heads]
    columns += [SPENT.get(key, label(key)) for key in spent]
    unfinished = any(run["status"] != "finished" for run in runs)
    columns += ["status"] if unfinished else []
    rows = []
    for run in runs:
        row = [run["run"], *(run[key] for key in named)]
        row += [*(_text(run["settings"][key]) for key in settings), quantity(run["rounds"], "")]
        for name in shown:
            std = run["std"][name] if _has_spread(run, name) else None
            row.append(spread_out(run["final"].get(name), std, dimension(name)))
        row += [quantity(run["totals"].get(key), key) for key in spent]
        rows.append([*row, run["status"]] if unfinished else row)
    return Grid("Runs", columns, rows, words=1 + len(named) + len(settings))


def data_name(folder: RunFolder) -> str:
    """What a run was measured on, as far as its settings say: ``digits``, ``local wine.csv``."""
    data = folder.config.get("data")
    if not isinstance(data, Mapping):
        return str(data or "")
    parts = [data.get("name"), *(Path(str(data[k])).name for k in _PATHS if data.get(k))]
    return " ".join(str(part) for part in parts if part)


def shown_scores(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The scores that some run has, and that of the averaged model by which runs are judged."""
    every = list(dict.fromkeys(name for run in runs for name in run["final"]))
    judged = scores(every)
    return judged + [
        name for name in (f"{one}_average_model" for one in judged[:1]) if name in every
    ]


def settings_table(folders: Sequence[RunFolder], names: Sequence[str] | None = None) -> Grid:
    """One row a setting that differs, one column a run.

    Args:
        folders: the runs.
        names: what they are called; None: their labels.
    """
    names = run_labels(folders) if names is None else names
    differences = list(differing(folders).items())
    if len({folder.config.get("verb", "learn") for folder in folders}) > 1:
        # Of runs of two kinds, most settings are there in one kind alone: that says nothing.
        every = [flat(folder.config) for folder in folders]
        differences = [(k, v) for k, v in differences if all(k in settings for settings in every)]
    rows = [[key, *("" if v is None else _text(v) for v in values)] for key, values in differences]
    return Grid("Settings that differ", ["setting", *names], rows, words=1 + len(names))


def _has_spread(run: Mapping[str, Any], name: str) -> bool:
    std = run["std"].get(name)
    return std is not None and math.isfinite(std)


def _heads(keys: Sequence[str]) -> list[str]:
    """Settings by the ends of their dotted names, where these tell them apart."""
    ends = [key.rpartition(".")[2] for key in keys]
    return ends if len(set(ends)) == len(ends) and not any(map(str.isdigit, ends)) else list(keys)


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


def seeds_in(folder: RunFolder) -> dict[str, Any]:
    """A run's seeds by their dotted names: its own, and that of the data where they have one."""
    return {key: value for key, value in flat(folder.config).items() if is_seed(key)}


def is_seed(key: str) -> bool:
    """Whether a setting, by its dotted name, is a seed."""
    return key.rpartition(".")[2] == "seed"
