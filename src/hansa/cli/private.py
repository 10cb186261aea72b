"""``hansa infer private``: inference where the client keeps its data and the server its weights."""

from __future__ import annotations

import typer

from hansa.cli import private_compile, private_serving
from hansa.cli.private_demo import demo

app = typer.Typer(
    help="Private inference: the client keeps its data, the server its weights.",
    no_args_is_help=True,
)
app.add_typer(private_serving.app)
app.add_typer(private_compile.app)
app.command("demo")(demo)
