"""What a command says: its answer on stdout, everything else on stderr, errors in both forms."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shlex
import sys
import textwrap
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hansa.base.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    DiskError,
    Diverged,
    HansaError,
    HansaWarning,
    RunError,
)
from hansa.base.telling import say

if TYPE_CHECKING:
    from rich.console import Console

    from hansa.report.grid import Grid

DIVERGED = 3
"""The exit status where training diverged: what came of it is there, but it is no result."""
UNEQUAL = 4
"""The exit status where a run that was done again came to something else."""
REFUSED = 5
"""The exit status where evidence was looked at and is refused."""
_WIDTH = 120  # of a table that goes to a file or a pipe


class Interrupted(HansaError):
    """Ctrl-C: says what was kept."""


class Unheard(OSError):
    """The answer cannot be written: who read it is gone, or a disk is full."""


class Answer:
    """Collects the one object of ``--json`` and prints tables and lines for people.

    Attributes:
        data: the object; a command sets it.
        run_dir: the run folder, once there is one: errors name it.
        go_on: the command that takes it up again.
        warnings: what to know beside the result, said after it.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.data: dict[str, Any] = {}
        self.run_dir: str | None = None
        self.go_on = "hansa learn --resume"
        self.warnings: list[str] = []

    def table(self, grid: Grid) -> None:
        """Print a table, unless only the object is wanted."""
        if not self.as_json:
            screen = console()
            for part in grid.within(screen.width):
                with _written():
                    screen.print(part.rich())

    def warn(self) -> None:
        """Say the warnings, each once."""
        for text in dict.fromkeys(self.warnings):
            say(f"warning: {text}")
        self.warnings = []

    def line(self, text: str = "") -> None:
        """Print a line, unless only the object is wanted."""
        if not self.as_json:
            with _written():
                print(text)  # noqa: T201 - this is the command's answer

    def note(self, text: str) -> None:
        """Print sentences, broken at words where the screen ends."""
        for line in textwrap.wrap(text, console().width):
            self.line(line)

    def places(self, run: Path) -> None:
        """Print where a run's folder is, and its page if it has one."""
        for text in places(run):
            self.line(text)


def places(run: Path) -> list[str]:
    """Lines that say where a run's folder is, and its page if it has one."""
    report = run / "report.html"
    return [f"run     {run}"] + [f"report  {report}"] * report.exists()


@contextlib.contextmanager
def answering(as_json: bool, debug: bool = False) -> Iterator[Answer]:
    """Run the body of a command, then print its object or explain its error and exit."""
    answer = Answer(as_json)
    try:
        # Whatever a plugin or a library prints must not mix with the object.
        with (
            contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext(),
            _warned(answer),
        ):
            yield answer
    except typer.Exit:
        raise
    except KeyboardInterrupt:
        _fail(answer, Interrupted("interrupted"), 130, debug)
    except Interrupted as error:
        _fail(answer, error, 130, debug)
    except HansaError as error:
        refused = isinstance(error, ConfigError | DataError | CheckpointError)
        status = DIVERGED if isinstance(error, Diverged) else 2 if refused else 1
        _fail(answer, error, status, debug)
    except Unheard:
        raise
    except Exception as error:  # noqa: BLE001 - the last line of defence
        _fail(answer, error, 1, debug)
    answer.warn()
    if as_json:
        say_json(answer.data)


@contextlib.contextmanager
def _written() -> Iterator[None]:
    """Tell an answer that cannot be written from whatever else goes wrong with files."""
    try:
        yield
    except OSError as error:
        raise Unheard(error.errno, error.strerror) from error


@contextlib.contextmanager
def _warned(answer: Answer) -> Iterator[None]:
    """Keep hansa's own warnings for the end; others are told as ever."""
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, HansaWarning):
                answer.warnings.append(str(message))
            else:
                others(message, category, *where, **more)

        warnings.simplefilter("always", HansaWarning)
        warnings.showwarning = show
        yield


def say_error(text: str) -> None:
    """An error for people."""
    say(f"error: {text}")


def say_json(value: Any) -> None:
    """The object for programs: one line, numbers that are not finite as null."""
    print(json.dumps(finite(value), allow_nan=False, default=str), flush=True)  # noqa: T201


def finite(value: Any) -> Any:
    """``value`` with null for numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def console() -> Console:
    """A console on stdout."""
    from rich.console import Console

    class Screen(Console):
        def on_broken_pipe(self) -> None:  # rich would end the process
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    width = None if (sys.stdout and sys.stdout.isatty()) or "COLUMNS" in os.environ else _WIDTH
    return Screen(width=width, markup=False, highlight=False, emoji=False)


def _fail(answer: Answer, error: BaseException, status: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    expected = isinstance(error, HansaError)
    message = str(error) if expected else f"{type(error).__name__}: {error}"
    text = message if expected else f"{message}\n  this was not expected; --debug shows where"
    if answer.run_dir and isinstance(error, RunError | DiskError):
        text += f"\n  kept: what was measured and saved so far, in {answer.run_dir}"
        if not getattr(error, "repeats", False):
            text += f"\n  to go on: {answer.go_on} {shlex.quote(answer.run_dir)}"
    answer.warn()
    say_error(text) if not isinstance(error, Interrupted) else say(text)
    if answer.as_json:
        fields = {"type": type(error).__name__, "message": message}
        for name in ("field", "value", "problem", "fix", "node", "round", "phase", "path"):
            if getattr(error, name, None) not in (None, ""):
                fields[name] = getattr(error, name)
        if answer.run_dir:
            fields["run_dir"] = answer.run_dir
        if summary := getattr(error, "summary", None):
            fields["summary"] = summary
        say_json({"error": fields})
    raise typer.Exit(status)
