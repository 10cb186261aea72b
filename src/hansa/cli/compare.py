"""``hansa compare``: several runs in tables, on one page, and in pictures for a paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hansa.cli import completion
from hansa.cli.answer import answering, console
from hansa.cli.options import Debug, Json, Plugins

Runs = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUN...",
        help="Run folders, or folders of them.",
        autocompletion=completion.runs,
    ),
]
_PAGE = Path("comparison.html")
Out = Annotated[
    list[Path] | None,
    typer.Option(
        "--out",
        help="What to write, by its ending: .html a page, .svg .pdf .png a chart, .tex .md tables, "
        ".csv .parquet the figures; may be repeated [default: comparison.html]",
        metavar="FILE",
    ),
]
Reach = Annotated[
    list[str] | None,
    typer.Option(
        help="Also say what it took to reach a figure, such as accuracy=90%; may be repeated.",
        metavar="METRIC=FIGURE",
    ),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        help="The setting, or a run of it, from which differences over shared seeds are taken "
        "[default: the first].",
        metavar="NAME",
    ),
]
X = Annotated[
    str,
    typer.Option(
        "--x",
        help="Of a chart: against round, bytes, time, modelled_time, device_time or energy.",
        metavar="AXIS",
    ),
]
Y = Annotated[
    str | None,
    typer.Option("--y", help="Of a chart: which metric [default: the score].", metavar="METRIC"),
]
Band = Annotated[
    str,
    typer.Option(
        help="Of a chart, around the mean over seeds: std, range or none.", metavar="BAND"
    ),
]
Every = Annotated[
    bool, typer.Option("--all", help="Print the whole tables, not only what fits a screen.")
]
Width = Annotated[float, typer.Option(help="Of a chart: millimetres.", metavar="MM")]


def compare(
    runs: Runs,
    out: Out = None,
    reach: Reach = None,
    baseline: Baseline = None,
    x: X = "round",
    y: Y = None,
    band: Band = "std",
    width: Width = 88.0,
    every: Every = False,
    plugin: Plugins = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare runs: what differs between them, what each reached and what it spent.

    Runs that differ in their seed alone are one line: mean, standard deviation and worst seed.
    The folders of several sites of one run (hansa node) are put together first.
    """
    with answering(as_json, debug) as answer:
        from hansa.base.modules import load_module
        from hansa.report.several.result import check_files
        from hansa.report.several.result import compare as compared

        files = out or [_PAGE]
        check_files(files, x, band, width)
        for module in plugin or ():
            load_module(module)
        found = compared(runs, baseline=baseline, reach=reach or ())
        written = [found.write(path, x=x, y=y, band=band, width=width) for path in files]
        pages = [str(path) for path in written if path.suffix.lower() == ".html"]
        caption = found.caption(files, x=x, y=y, band=band, width=width)
        if as_json:
            places = {"page": pages[0] if pages else None, "files": [str(p) for p in written]}
            answer.data = {**found.to_dict(), **places, "caption": caption or None}
        answer.note(" ".join(found.sentences))
        for line in found.lines:
            answer.note(line)
        short = found.overview(console().width)
        for grid in found.grids() if every else [short.grid]:
            answer.table(grid)
        for note in found.notes if every else short.notes:
            answer.note(note)
        for path in written:
            form = path.suffix.lower()
            answer.line(f"{'page' if form == '.html' else form[1:]:<6}{path}")
        if caption:
            answer.note(f"The chart: {caption}")
