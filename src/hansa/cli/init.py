"""``hansa init``: an example's run file, to begin with."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from hansa.cli.answer import answering
from hansa.cli.options import Debug, Json

Name = Annotated[str, typer.Argument(metavar="EXAMPLE", help="Which one; --list shows them.")]
Where = Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write it to.")]
Listed = Annotated[bool, typer.Option("--list", help="Only list the examples.")]


def init(
    example: Name = "digits_dpsgd",
    out: Where = Path(),
    only_list: Listed = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write an example's run file here, to run and to change."""
    with answering(as_json, debug) as answer:
        from hansa.experiment.examples import examples, write_example
        from hansa.experiment.settings_file import kind_of, read_yaml
        from hansa.report.grid import Grid

        if only_list:
            answer.data = {"examples": examples()}
            rows = [[name, remark] for name, remark in examples().items()]
            answer.table(Grid("Examples", ["name", ""], rows, words=2))
            return
        files = write_example(example, out.expanduser())
        answer.data = {"files": [str(file) for file in files]}
        for file in files:
            answer.line(f"wrote  {file}")
        command = kind_of(read_yaml(files[0])).command
        answer.line(f"hansa {command} {shlex.quote(str(files[0]))}")
