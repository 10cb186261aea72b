"""``hansa init``: a first file of one's own, of any verb, or an example's."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa.base.errors import ConfigError
from hansa.cli import completion
from hansa.cli.answer import Answer, Interrupted, answering
from hansa.cli.options import Debug, Json, Nodes, Rounds, Seed, Sets

if TYPE_CHECKING:
    from hansa.experiment.first_file import Wishes

What = Annotated[
    str | None,
    typer.Argument(
        metavar="VERB|EXAMPLE",
        help="A verb, such as learn, combine, infer, audit, sweep; or an example, see --list.",
        show_default="asks, on a terminal; else digits_dpsgd",
        autocompletion=completion.begun,
    ),
]
Where = Annotated[
    Path, typer.Option("--out", metavar="DIR|FILE", help="The folder or file to write it to.")
]
Listed = Annotated[bool, typer.Option("--list", help="Only list the verbs and the examples.")]
Method = Annotated[
    str | None,
    typer.Option(
        "--algorithm", metavar="NAME", help="What nodes do.", autocompletion=completion.algorithms
    ),
]
Data = Annotated[
    str | None,
    typer.Option("--data", metavar="FILE|NAME", help="Your own table, or a data set by its name."),
]
Label = Annotated[
    str | None,
    typer.Option(
        "--label",
        "--target",
        metavar="COLUMN",
        help="The column of the table to predict; of an audit, that of the decisions.",
    ),
]
Groups = Annotated[
    list[str] | None,
    typer.Option(
        "--group",
        metavar="COLUMN",
        help="The column that says whose a row is: a node each. Of an audit, a protected one; may "
        "be repeated.",
    ),
]


def init(
    what: What = None,
    algorithm: Method = None,
    data: Data = None,
    label: Label = None,
    group: Groups = None,
    nodes: Nodes = None,
    rounds: Rounds = None,
    seed: Seed = None,
    sets: Sets = None,
    out: Where = Path(),
    only_list: Listed = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a file of settings that runs as it stands, to run and to change.

    Of a verb: with a line above each setting that says what it is and what else it takes. Of an
    example: as it is. On a terminal, hansa init alone asks.
    """
    with answering(as_json, debug) as answer:
        from hansa.experiment.examples import write_example
        from hansa.experiment.first_file import Wishes, is_verb, kinds, write_first
        from hansa.experiment.settings_file import kind_of, read_yaml

        if only_list:
            _list(answer)
            return
        wishes = Wishes(
            algorithm, data, label, nodes, rounds, seed, tuple(sets or ()), tuple(group or ())
        )
        remarks: list[str] = []
        plain, out = wishes == Wishes(), out.expanduser()
        if what is None and plain and not as_json and sys.stdin.isatty() and sys.stdout.isatty():
            what, wishes = _asked()
        elif what is None:
            what = "digits_dpsgd" if plain else "learn"
        if is_verb(what):
            kind = kinds()[what]
            file, remarks = write_first(kind, wishes, out)
            files = [file]
        elif plain:
            files = write_example(what, out, besides=kinds())
            kind = kind_of(read_yaml(files[0]))
        else:
            fix = f"hansa init learn --algorithm ...; verbs: {', '.join(kinds())}"
            problem = "is an example, which is written as it is"
            raise ConfigError("what", what, problem, fix)
        written = [str(file) for file in files]
        answer.data = {"files": written, "command": kind.command, "remarks": remarks}
        for file in files:
            answer.line(f"wrote  {file}")
        for remark in remarks:
            answer.line(f"remark: {remark}")
        answer.line(f"hansa {kind.command} {shlex.quote(str(files[0]))}")


def _list(answer: Answer) -> None:
    from hansa.experiment.examples import examples
    from hansa.experiment.first_file import kinds
    from hansa.report.grid import Grid

    verbs = {name: f"a file of hansa {kind.command}" for name, kind in kinds().items()}
    answer.data = {"verbs": verbs, "examples": examples()}
    for title, said in (("Verbs", verbs), ("Examples", examples())):
        rows = [[name, remark] for name, remark in said.items()]
        answer.table(Grid(title, ["name", ""], rows, words=2))


def _asked() -> tuple[str, Wishes]:
    """What a person answers; Ctrl-C and the end of input leave nothing behind."""
    from hansa.experiment.first_file import Wishes, asks_for, choices, kinds

    def ask(text: str, default: str, known: list[str] | None = None) -> str:
        while True:
            said = str(typer.prompt(text, default=default, err=True))
            if not known or said in known:
                return said
            typer.echo(f"one of {', '.join(known)}", err=True)

    try:
        what = ask("What is it for (learn, combine, infer, audit, sweep ...)", "learn", [*kinds()])
        kind = kinds()[what]
        said: dict[str, str] = {}
        for field, text, default in asks_for(kind):
            said[field] = ask(text, default, choices(field))
        if said.get("data") and Path(said["data"]).expanduser().is_file():
            for field, text in kind.asks:
                said[field] = ask(text, "")
    except typer.Abort:
        raise Interrupted("interrupted; nothing was written") from None
    return what, Wishes.said(said)
