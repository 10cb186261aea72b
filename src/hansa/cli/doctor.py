"""``hansa doctor``: whether hansa can work here, and the way out where it cannot."""

from __future__ import annotations

from dataclasses import asdict

import typer

from hansa.cli.answer import answering
from hansa.cli.options import Debug, Json


def doctor(as_json: Json = False, debug: Debug = False) -> None:
    """Say what is installed, what this machine has, and where data is looked for.

    Each line is ok, missing (what one can do without), problem (what will hinder some runs) or
    broken (what no run can do without); all but ok with the way out. The exit status is 1 if
    something is broken.
    """
    with answering(as_json, debug) as answer:
        from hansa.experiment.health import examine
        from hansa.report.grid import Grid

        found = examine()
        broken = any(one.state == "broken" for one in found)
        answer.data = {"works": not broken, "findings": [asdict(one) for one in found]}
        for about in dict.fromkeys(one.about for one in found):
            rows = [
                [one.state, one.name, " → ".join(filter(None, (one.value, one.fix)))]
                for one in found
                if one.about == about
            ]
            answer.table(Grid(about.capitalize(), ["", "", ""], rows, words=3))
    if broken:
        raise typer.Exit(1)
