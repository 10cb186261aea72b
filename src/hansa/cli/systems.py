"""``hansa list systems``: the published systems, and what of their claims was seen here."""

from __future__ import annotations

import difflib
from dataclasses import asdict
from typing import TYPE_CHECKING

from hansa.base.errors import ConfigError

if TYPE_CHECKING:
    from hansa.base.systems import System
    from hansa.cli.answer import Answer

PAGE = """# Systems

Made by `hansa list systems --markdown`. Thirteen published systems, each on the one engine. What
their papers claim is held against the tables of [benchmarks/results](../benchmarks/results):
`python benchmarks/claims.py` reads those and prints each claim with yes (it holds here in its size,
or better), differs (its direction holds, or one table of two), NO, or not measured. The command
beside a claim makes its table anew. All of it is of two cores and small data: where a paper had a
GPU, a yes is one of direction and ratio, not of its absolute figures.
"""


def show_systems(answer: Answer, name: str | None, markdown: bool) -> None:
    """All systems, or one with its claims.

    Raises:
        ConfigError: there is none of that name.
    """
    from hansa.base.systems import systems

    known = {system.name: system for system in systems()}
    if name is None:
        (page if markdown else _all)(answer, list(known.values()))
        return
    folded = {key.lower(): key for key in known}
    if name.lower() not in folded:
        near = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.4)
        hint = f"did you mean {folded[near[0]]!r}? " if near else ""
        raise ConfigError("name", name, "no such system", f"{hint}known: {', '.join(known)}")
    system = known[folded[name.lower()]]
    if markdown:
        _print(answer, _section(system))
    else:
        _one(answer, system)


def _all(answer: Answer, systems: list[System]) -> None:
    from hansa.report.grid import Grid

    answer.data = {"systems": [{**asdict(system), "tally": system.tally} for system in systems]}
    rows = [[s.name, f"{s.venue} {s.year}", s.command, tallied(s)] for s in systems]
    answer.table(Grid("Systems", ["system", "paper", "command", "claims"], rows, words=4))
    answer.line("hansa list systems NAME shows each claim beside what was measured.")


def _one(answer: Answer, system: System) -> None:
    from hansa.report.grid import Grid

    answer.data = {**asdict(system), "tally": system.tally}
    answer.line(f"{system.name}: {system.does}")
    answer.line(f"{system.authors}: {system.title}. {system.venue} {system.year}. {system.url}")
    answer.line(f"{system.command}   (example {system.example}, docs/{system.docs}.md)")
    rows = [[c.published, c.measured, c.verdict] for c in system.claims]
    answer.table(Grid("Claims", ["the paper says", "seen here", ""], rows, words=3))
    for word, lines in (("beyond it", system.beyond), ("behind it", system.behind)):
        for line in lines:
            answer.line(f"{word}: {line}")


def tallied(system: System) -> str:
    """Its claims by verdict, in words."""
    return ", ".join(f"{n} {verdict}" for verdict, n in system.tally.items())


def page(answer: Answer, systems: list[System]) -> None:
    """Everything as a page in Markdown, for ``docs/``."""
    lines = [*PAGE.splitlines(), "", "| system | command | example | claims |", "|---|---|---|---|"]
    for s in systems:
        example = f"[{s.example}](../examples/{s.example}.yaml)"
        lines.append(
            f"| [{s.name}]({s.docs}.md) ([{s.venue} {s.year}]({s.url})) | `{s.command}` | "
            f"{example} | {tallied(s)} |"
        )
    for s in systems:
        lines += ["", *_section(s)]
    _print(answer, lines)


def _section(system: System) -> list[str]:
    """One system's part of the page: its paper, its claims, and what goes beyond it or does not."""
    s = system
    lines = [
        f"## {s.name}", "", f"{s.authors}, *{s.title}*, [{s.venue} {s.year}]({s.url}).",
        f"It {s.does}.", "", "| the paper says | seen here | | table |", "|---|---|---|---|",
    ]  # fmt: skip
    for claim in s.claims:
        table = ""
        if claim.table:
            at = f"[{claim.table}](../benchmarks/results/{claim.table}.md)"
            table = f"{at}, `{claim.command}`, {claim.commit}"
        lines.append(f"| {claim.published} | {claim.measured} | {claim.verdict} | {table} |")
    lines += ["", "Beyond the paper: " + "; ".join(s.beyond) + "."]
    return [*lines, "", "Behind it: " + "; ".join(s.behind) + "."]


def _print(answer: Answer, lines: list[str]) -> None:
    for line in lines:
        answer.line(line)
    answer.data = {"text": "\n".join(lines) + "\n"}
