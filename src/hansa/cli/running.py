"""What commands share that run something in a folder: the folder, SIGTERM, and going on."""

from __future__ import annotations

import contextlib
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.base.errors import ConfigError
from hansa.cli.answer import Answer, Interrupted

if TYPE_CHECKING:
    from hansa.experiment.settings_file import SettingsFile


def heed_sigterm() -> None:
    """To be asked to end is as Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def present(run: Path) -> None:
    """Refuse a run that is not there, before what opens one is imported.

    Raises:
        CheckpointError: there is nothing of that name.
    """
    if not run.exists():
        from hansa.report import RunFolder

        RunFolder.open(run)


def there(path: Path, field: str, forms: str) -> None:
    """Refuse a path at which there is nothing, before what reads it is imported.

    Args:
        forms: what could be there.

    Raises:
        ConfigError: there is neither a file nor a folder.
    """
    if not path.exists():
        raise ConfigError(field, str(path), "there is no such file or folder", forms)


def folder_for(chosen: SettingsFile, out: Path | None) -> AbstractContextManager[Path]:
    """The folder that was asked for, or a new name under ``runs/``, if nothing shows at a glance
    that the run cannot work."""
    from hansa.experiment.glance import glance
    from hansa.experiment.places import default_folder, reserved

    glance(chosen)
    return reserved(default_folder(chosen)) if out is None else contextlib.nullcontext(out)


def changed(path: Path, sets: list[str] | None, **more: Any) -> dict[str, Any]:
    """What ``--set`` and options make another in the settings of the run in a folder."""
    from hansa.experiment.settings_file import override
    from hansa.report import RunFolder

    config = RunFolder.open(path).config
    wanted = override(config, tuple(sets or ()), **more)
    return {key: value for key, value in wanted.items() if value != config.get(key)}


@contextlib.contextmanager
def going_on(
    answer: Answer, path: Path, command: str, kept: str = "what is finished"
) -> Iterator[None]:
    """Say how to go on with a run in a folder that does not come to its end.

    Args:
        command: that goes on, with the folder behind it.
        kept: what an interrupted run leaves.
    """
    fresh = not (path / "config.yaml").exists()
    answer.go_on = command
    try:
        yield
    except KeyboardInterrupt:
        if not (path / "config.yaml").exists():
            raise Interrupted("interrupted before anything started") from None
        text = f"interrupted; {kept} is kept in {path}"
        raise Interrupted(f"{text}\n  to go on: {command} {shlex.quote(str(path))}") from None
    finally:
        if not fresh or (path / "config.yaml").exists():
            answer.run_dir = str(path)


def run_or_resume(
    answer: Answer,
    kind: type[SettingsFile],
    chosen: Callable[[], SettingsFile],
    *,
    out: Path | None,
    resume: Path | None,
    alone: bool,
    report: bool,
    quiet: bool,
    changes: Callable[[Path], dict[str, Any]] | None = None,
) -> Path:
    """The folder of a run that such a command begins, or with ``--resume RUN`` goes on with.

    Args:
        kind: whose settings; names the command, and what begins one.
        chosen: reads the settings of a new run.
        alone: whether ``--resume`` stands alone.
        changes: what ``--set`` changes in a run that goes on; None: nothing may change.

    Raises:
        ConfigError: ``--resume`` does not stand alone; and what the run raises.
    """
    heed_sigterm()
    command = f"hansa {kind.command} --resume"
    if resume is not None and not (alone and out is None):
        problem, fix = "takes no FILE and no settings", "give --resume RUN alone"
        if changes is not None:
            problem = "takes no FILE, no --out and no other settings"
            fix += "; --set changes what may change"
        raise ConfigError("resume", str(resume), problem, fix)
    if resume is not None:
        present(resume)
    from hansa.experiment.beginning import begin, go_on
    from hansa.experiment.progress import Steps

    if resume is not None:
        with going_on(answer, resume, command), Steps(quiet) as steps:
            wanted = None if changes is None else changes(resume)
            return go_on(kind, resume, wanted, steps, report).path
    settings = chosen()
    with folder_for(settings, out) as path, going_on(answer, path, command), Steps(quiet) as steps:
        return begin(settings, path, steps, report).path
