"""The command line as a whole: its verbs, and the errors of those who mistype them."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import hansa
from hansa.cli.answer import say_error, say_json
from hansa.cli.verbs import Verbs

app = typer.Typer(
    name="hansa",
    cls=Verbs,
    help="Collaborative machine learning: many parties learn together without pooling their data.",
    epilog="Start with: hansa learn, or hansa init. Every setting: hansa list settings.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _hansa(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"hansa {hansa.__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (by default the process's own) and return its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):  # a name that a terminal cannot show is no error
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        status = app(words, prog_name="hansa", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except SystemExit as error:  # so libraries end where a pipe is broken
        if getattr(error.__context__, "errno", None) == errno.EPIPE:
            return 128 + signal.SIGPIPE
        raise
    except OSError as error:
        # What is left of the answer is not tried again when the process ends.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno == errno.EPIPE:  # whoever read it, such as head, has seen enough
            return 128 + signal.SIGPIPE
        say_error(f"the answer cannot be written: {error.strerror or error}")
        return 1
    except Exception as error:
        # typer may bring its own copy of click, so its usage errors are known by what they can do.
        if not hasattr(error, "format_message"):
            raise
        message = error.format_message()
        context = getattr(error, "ctx", None)
        where = context.command_path if context else "hansa"
        if not message and context:  # its help has been printed
            commands = ", ".join(context.command.list_commands(context))
            message = f"{where} is not a command alone: one of {commands}"
        say_error(f"{message}\n  fix: see {where} --help")
        if "--json" in words:
            say_json({"error": {"type": "UsageError", "message": message}})
        return 2
    return status if isinstance(status, int) else 0
