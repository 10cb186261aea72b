"""One page for several runs: all curves in one chart, one table, the settings that differ."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hansa.base.errors import ConfigError
from hansa.base.lazy import polars as pl
from hansa.report import charts
from hansa.report.comparing import (
    Group,
    comparison,
    comparison_table,
    differing,
    groups_of,
    settings_table,
)
from hansa.report.curves import Curves, curves_chart
from hansa.report.folder import RunFolder
from hansa.report.html import Content, write_html
from hansa.report.joining import JoinedRun
from hansa.report.marks import mark_titles, marked, warning
from hansa.report.measured import Measured
from hansa.report.page import Page, Section, page_of
from hansa.report.run_page import RunPage
from hansa.report.scores import scores
from hansa.report.series import POINTS, is_constant, is_straight, thinned
from hansa.report.several.apart import choices
from hansa.report.several.difference_table import NOTE, differences_picture, differences_table
from hansa.report.several.leading import standings
from hansa.report.several.paired import paired_differences
from hansa.report.several.reaching import REACH_NOTE, Target, reach_table, target_of, to_reach
from hansa.report.several.seed_curves import beyond_all, over_seeds
from hansa.report.several.seeds_table import SEEDS_NOTE, not_ended, settings_of_seeds
from hansa.report.units import dimension

_NAMED, _LETTERS = 16, 320  # runs, and letters of their names, of which more are counted
_FOLDED = 12  # settings that differ, of which more are folded away
_BANDS = 6  # lines, of which more would hide each other's bands
_POINTS = 2400  # of all lines of a chart together


@dataclass(frozen=True)
class _Line:
    """A run by its page, ready to be drawn."""

    page: RunPage
    of: Measured


@charts.unchecked()
def write_comparison(
    folders: Sequence[RunFolder | str | Path],
    out: str | Path,
    *,
    baseline: str | None = None,
    reach: Sequence[str | Target] = (),
    groups: Sequence[Group] | None = None,
) -> Path:
    """Write one page that overlays the curves of several runs, and return its path.

    Runs that differ in their seed alone are one line: their mean, with a band from the lowest to
    the highest of them.

    Args:
        folders: the runs.
        out: the page.
        baseline: the setting from which differences are taken over the seeds that settings share,
            by its name or a run's of it; None: the first.
        reach: figures to be reached, such as ``accuracy=90%``.
        groups: which runs are one setting, and what it is called; None: by their settings.

    Raises:
        ConfigError: there is nothing to compare, or no such baseline or metric.
        CheckpointError: one is no run folder, or a file in it is corrupt.
    """
    runs = [item if isinstance(item, RunFolder) else RunFolder.open(item) for item in folders]
    if not runs:
        raise ConfigError("runs", None, "there is nothing to compare", "name at least one run")
    groups = groups or groups_of(runs)
    names = [group.name for group in groups]
    large, small = _charts([_line(run) for run in runs], groups)
    marks = next((run.marks for run in runs if run.marks), {})  # of one they are on all of it
    mark_titles((*large, *small), marks)
    rows, seeds = comparison(runs), len(groups) < len(runs)
    settings = settings_table([runs[group.runs[0]] for group in groups], names)
    kinds = {run.config.get("verb", "learn") for run in runs}
    note = "Only settings that all of these kinds of runs have." if len(kinds) > 1 else ""
    looks = zip(names, charts.palette(len(names)), charts.dashes(len(names)), strict=True)
    means = "±: the standard deviation over a run's nodes." * any(run["std"] for run in rows)
    if seeds:
        means = " ".join(filter(None, [SEEDS_NOTE, not_ended(rows)]))
    chosen, _ = choices(differing([runs[group.runs[0]] for group in groups]))
    rest = replace(settings, rows=[row for row in settings.rows if row[0] not in chosen])
    settings = replace(settings, rows=[row for row in settings.rows if row[0] in chosen])
    many = len(settings.rows) > _FOLDED
    sections = [
        Section("", large),
        Section("Runs", grid=settings_of_seeds(runs, rows, groups), note=means, swatches=True),
        *_paired(runs, baseline, rows, groups),
        *_reached(runs, reach, groups),
        Section("Settings that differ", grid=settings, note=note, folded=many),
        Section("Settings that follow from these", grid=rest, folded=True),
        Section("Each run", grid=comparison_table(runs, rows) if seeds else None, folded=True),
        Section("Other metrics", small, folded=True),
    ]
    content = Content(
        title=marked(f"{len(runs)} runs compared", marks) if len(runs) > 1 else names[0],
        sentence=_sentence(runs, groups, rows),
        subtitle=_named(runs),
        notes=[f"{_whose(run)}: {warning(run.marks)}" for run in runs if run.marks],
        sections=sections,
        legend=list(looks) if len(names) > 1 else [],
    )
    return write_html(Path(out).expanduser(), content)


def _paired(
    runs: Sequence[RunFolder],
    baseline: str | None,
    rows: list[dict[str, Any]],
    groups: Sequence[Group],
) -> list[Section]:
    """Differences over shared seeds: of the score a picture and a table, of the others tables."""
    frame = paired_differences(runs, None, baseline, rows, groups)
    if not (frame["n"] > 1).any():
        return []
    main, *others = dict.fromkeys(frame["metric"])
    picture = differences_picture(frame, main)
    grid = differences_table(frame, main)
    others = [m for m in others if (frame.filter(metric=m)["n"] > 0).any()]
    rest = [differences_table(frame, metric) for metric in others]
    return [
        Section("Differences over shared seeds", [picture] if picture else [], grid, note=NOTE),
        *(Section(table.title, grid=table, folded=True) for table in rest),
    ]


def _reached(
    runs: Sequence[RunFolder], reach: Sequence[str | Target], groups: Sequence[Group]
) -> list[Section]:
    """What it took to reach each target."""
    targets = [target_of(one) if isinstance(one, str) else one for one in reach]
    frame = to_reach(runs, targets, groups)
    tables = [reach_table(frame, target) for target in targets]
    return [Section(table.title, grid=table, note=REACH_NOTE) for table in tables]


def _named(runs: Sequence[RunFolder]) -> str:
    """The runs' names, of many the first."""
    names = list(map(_whose, runs))
    ends = list(itertools.accumulate(len(name) + 2 for name in names))
    kept = max(1, sum(end <= _LETTERS for end in ends[:_NAMED]))
    rest = f" and {len(names) - kept} more" if len(names) > kept else ""
    return ", ".join(names[:kept]) + rest


def _whose(run: RunFolder) -> str:
    """A run's name, and of which sites' folders it is put together."""
    if not isinstance(run, JoinedRun):
        return run.path.name
    names, of = [who["name"] for who in run.who], len(run.who[0]["sites"])
    count = f"{len(names)}" if len(names) == of else f"{len(names)} of {of}"
    return f"{run.path.name} (joined from the folders of {count} sites: {', '.join(names)})"


def _charts(lines: Sequence[_Line], groups: Sequence[Group]) -> tuple[list[Any], list[Any]]:
    """The large chart of the score, if there is one, and those of what else tells runs apart."""
    names = [group.name for group in groups]
    band = 0.12 if len(names) <= _BANDS else 0.0
    every = list(dict.fromkeys(f for line in lines for f in line.of.families))
    main = next(iter([*scores(every), *every]), None)
    drawn: tuple[list[Any], list[Any]] = ([], [])
    for family in every:
        if family != main and not _shared(family, lines):
            continue
        curves = _overlaid(lines, groups, family, band > 0)
        if family == main or _says_more(family, curves):
            large = family == main
            chart = curves_chart(curves, family, large=large, band=band, domain=names, legend=False)
            drawn[not large].extend([chart] if chart else [])
    return drawn


def comparison_chart(runs: Mapping[str, RunFolder], family: str) -> Any | None:
    """The curves of a metric in several runs, by the name that each has in the legend."""
    lines = [_line(run) for run in runs.values()]
    groups = [Group(name, (k,)) for k, name in enumerate(runs)]
    return curves_chart(
        _overlaid(lines, groups, family, False), family, band=0.0, domain=list(runs)
    )


def _line(run: RunFolder) -> _Line:
    page: Page = page_of(run)
    page = page if isinstance(page, RunPage) else RunPage()
    return _Line(page, page.read(run))


def _overlaid(lines: Sequence[_Line], groups: Sequence[Group], family: str, banded: bool) -> Curves:
    """A line a group of runs, and what all lines and bands are, in words."""
    frames: dict[str, pl.DataFrame] = {}
    thin: dict[str, pl.DataFrame] = {}
    dots, who, nodes, several = [], set(), False, []
    alone = all(len(group.runs) == 1 for group in groups)
    for group in groups:
        having = [lines[k] for k in group.runs if family in lines[k].of.families]
        overlaid = [line.page.compared(line.of, family) for line in having]
        own = [curves.lines[""] for curves in overlaid]
        own = [frame for frame in own if frame["mean"].is_finite().any()]
        if not own:
            continue
        nodes = nodes or any((frame["nodes"] > 1).any() for frame in own)
        if not alone:  # a band of nodes beside bands of seeds would be taken for one of these
            own = [frame.with_columns(low=pl.col("mean"), high=pl.col("mean")) for frame in own]
        frames[group.name] = own[0] if len(group.runs) == 1 else over_seeds(own)
        if len(later := beyond_all(own)):
            thin[group.name] = thinned(later)
        several += [len(own)] * (len(group.runs) > 1)
        dots += [
            c.dots.with_columns(line=pl.lit(group.name)) for c in overlaid if c.dots is not None
        ]
        who |= {curves.note for curves in overlaid} - {"server", "run", "mean", ""}
    most = max(60, min(POINTS, _POINTS // max(1, len(frames))))
    frames = {name: thinned(frame, most) for name, frame in frames.items()}
    mean = f"the mean of its {' or '.join(sorted(who))}" if who and nodes else ""
    many = f"{min(several)} to {max(several)}" if len(set(several)) > 1 else f"{several[:1]}"[1:-1]
    note = f"Line: mean of {many} seeds, each" if several else "Line: a run,"
    note = f"{note} {mean}" if mean else note.rpartition(",")[0]
    if banded and several:
        note += f"; band: min to max over {many} seeds"
    elif banded and mean:
        note += "; band: min to max over nodes, not over seeds"
    note += "."
    if thin:
        note += " Thin: the mean of those seeds that went on where others had stopped."
    ends = pl.concat(dots) if dots else None
    if ends is not None and len(ends):
        note += " Dot: what cohorts merged into."
    return Curves(frames, note, ends, thin=thin)


def _shared(family: str, lines: Sequence[_Line]) -> bool:
    """Whether there is something to compare, and not in the charts of single runs alone."""
    having = [line for line in lines if family in line.of.families]
    return len(having) > (len(lines) > 1) and all(line.page.comparable(family) for line in having)


def _says_more(family: str, curves: Curves) -> bool:
    """Whether curves say more than the table's figures."""
    frames = list(curves.frames.values())
    if not frames or is_constant([pl.concat(frames)]):
        return False
    amount = dimension(family) in ("B", "s", "J")
    return not (amount and all(is_straight(frame) or len(frame) < 2 for frame in frames))


def _sentence(
    runs: Sequence[RunFolder], groups: Sequence[Group], rows: list[dict[str, Any]]
) -> str:
    """How many were compared, which is best and which is cheapest."""
    counts = {len(group.runs) for group in groups}
    each = f" with {counts.pop()} seeds each" if len(counts) == 1 and max(counts) > 1 else ""
    if len(runs) == 1:
        alone = _line(runs[0])
        return alone.page.sentence(alone.of)
    begin = f"{len(runs)} runs"
    if each or max(counts, default=1) > 1:
        begin += f" of {len(groups)} settings{each}"
    return " ".join([f"{begin} are compared.", *standings(runs, rows, groups)])
