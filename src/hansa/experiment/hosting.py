"""Runs in their folders: begun in a free one, held, kept whatever happens, and taken up again.

A verb with runs of its own has a file of settings and works within these, and says nothing else
of folders, locks, interrupts and status::

    with placed(chosen, out) as path:  # nobody else takes it
        ...  # read and check everything: what is refused leaves no folder
        with begun(path, chosen, describe_machine(chosen.seed)) as hosting:
            hosting.facts = lambda: {...}  # of the summary, as far as the work has come
            ...

    with reopened(path, File, changes) as again:
        ...  # read and check everything: what is refused changes nothing
        again.enter(done)
        with hosted(again.folder, "verb") as hosting:
            ...
"""

from __future__ import annotations

import contextlib
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from hansa.base.errors import (
    CheckpointError,
    ConfigError,
    DiskError,
    Diverged,
    HansaError,
    HansaWarning,
)
from hansa.base.telling import doing, say
from hansa.engine.runtimes.interrupts import never
from hansa.experiment.environment import describe_machine
from hansa.experiment.inputs import plugins_of
from hansa.experiment.places import default_folder, reserved
from hansa.experiment.settings_file import SettingsFile
from hansa.experiment.whose_run import command_of
from hansa.report import RunFolder
from hansa.report.folder import check_free, held
from hansa.report.marks import marks_of, warning
from hansa.report.sink import Sink
from hansa.report.sinking import Sinking

F = TypeVar("F", bound=SettingsFile)
T = TypeVar("T")


@dataclass
class Hosting:
    """A run under way.

    Attributes:
        facts: gives what the summary says beside ``run_dir``, ``verb`` and ``status``, as far as
            the run has come. ``final``, the figures measured last, makes a run that fails worth a
            page; ``diverged`` makes one that ends ``diverged``.
        passing: a folder with what an interrupted run goes on from; it goes at the end of the run.
    """

    folder: RunFolder
    verb: str
    facts: Callable[[], Mapping[str, Any]] = dict
    passing: Path | None = None

    def summary(self, status: str) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        run_dir = str(self.folder.path)
        return {"run_dir": run_dir, "verb": self.verb, **self.facts(), "status": status}


@contextlib.contextmanager
def placed(chosen: SettingsFile, out: str | Path | None) -> Iterator[Path]:
    """The folder of a new run: the one that was asked for, or a new name under ``runs/``.

    Raises:
        ConfigError: it holds something already, or cannot be made.
    """
    new = reserved(default_folder(chosen)) if out is None else contextlib.nullcontext(Path(out))
    with new as path:
        path = path.expanduser()
        check_free(path)
        yield path


@contextlib.contextmanager
def begun(
    path: Path, chosen: SettingsFile, environment: Mapping[str, Any], report: bool = True
) -> Iterator[Hosting]:
    """Begin a run in a free folder, and take it to its end as :func:`hosted` does.

    Args:
        environment: what it runs on and from (``experiment/environment.py``, ``inputs.py``).
        report: write its page at the end.

    Raises:
        CheckpointError: another process begins one there.
        ConfigError: the folder holds something already, or cannot be made.
        DiskError: nothing can be written there.
    """
    config = chosen.dump()
    config["plugins"] = sorted({*chosen.plugins} | plugins_of(chosen))
    with held(path):
        marks = marks_of(chosen)
        if marks:
            say(f"warning: {warning(marks)}")  # at once, not at the end
        folder = RunFolder.create(path, config, {**environment, **marks})
        sinks = getattr(chosen, "sinks", ())
        with hosted(folder, chosen.own_verb(), report, sinks) as hosting:
            yield hosting


@contextlib.contextmanager
def hosted(
    folder: RunFolder,
    verb: str,
    report: bool = True,
    sinks: Sequence[Sink] = (),
    round: int = 0,
) -> Iterator[Hosting]:
    """Take a run, whose folder is held, to its end, however its work ends.

    Args:
        report: write its page at the end.
        sinks: where its figures go beside the folder.
        round: after which it goes on.

    The summary says which: ``finished``, ``diverged``, ``interrupted`` (also by a request to end,
    such as SIGTERM) or ``failed``. hansa's own errors take folder and summary with them.
    """
    hosting = Hosting(folder, verb)
    with never().heard():
        sinking = Sinking(sinks, folder, round) if sinks else None
        try:
            yield hosting
            diverged = hosting.facts().get("diverged")
            folder.finish(hosting.summary("diverged" if diverged else "finished"))
        except BaseException as error:
            _keep(hosting, error)
            if sinking is not None:
                sinking.end(_status(error))
            # An interrupt is not kept waiting, and a disk that failed has no room for a page.
            disk = any(isinstance(one, DiskError) for one in (error, error.__cause__))
            quick = disk or not isinstance(error, Exception)
            if report and not quick and hosting.facts().get("final"):
                write_page(folder)
            raise
        if sinking is not None:
            sinking.end("diverged" if diverged else "finished")
        if hosting.passing is not None:
            shutil.rmtree(hosting.passing, ignore_errors=True)
        if report:
            write_page(folder)


def _keep(hosting: Hosting, error: BaseException) -> None:
    """Keep what can be kept of a run that ends before its time; its own error is what is told."""
    summary = hosting.summary(_status(error))
    folder = hosting.folder
    if isinstance(error, HansaError):
        error.folder, error.summary = folder, summary
        with contextlib.suppress(DiskError):
            folder.event("failed", error=str(error), type=type(error).__name__)
    with contextlib.suppress(DiskError):
        folder.finish(summary)


def _status(error: BaseException) -> str:
    """How a run ended that did so with an error, in a word."""
    if isinstance(error, Diverged):
        return "diverged"
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"


def write_page(folder: RunFolder, place: Path | None = None) -> None:
    """Write a page. Whatever is wrong with it becomes a warning: the results are there.

    Args:
        folder: the run, whose diary is told.
        place: a folder in it whose page it is; by default it is the run's own.
    """
    try:
        doing("drawing the page")
        from hansa.report.writing import write_report  # charts take long to import

        write_report(place or folder)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - see above
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
        text = f"there is no report: {why or type(error).__name__}"
        with contextlib.suppress(DiskError):
            folder.event("warning", text=text)
        text += f"\n  to write it: hansa report {place or folder.path}"
        warnings.warn(HansaWarning(text), stacklevel=3)


@contextlib.contextmanager
def opened(path: str | Path) -> Iterator[RunFolder]:
    """Open a run to change it, and hold its folder meanwhile.

    Raises:
        CheckpointError: it is no run, is damaged, or another process has it.
    """
    RunFolder.open(path)  # so that no lock is left in a folder that is no run
    with held(path):
        yield RunFolder.open(path)


def check_verb(folder: RunFolder, kind: type[SettingsFile]) -> None:
    """Refuse the folder of another verb's run.

    Raises:
        CheckpointError: it is one.
    """
    if folder.config.get("verb") != kind.own_verb():
        other, problem = command_of(folder.config), f"a run of hansa {kind.command}"
        if other != kind.command:
            problem += f" but of hansa {other}: hansa {other} --resume {folder.path}"
        raise CheckpointError(f"{folder.path}: is not the folder of {problem}")


@dataclass
class Reopened(Generic[F]):
    """A run to go on with; nothing in its folder has changed yet.

    Attributes:
        settings: as they are from now on.
        changed: some are others than before.
    """

    folder: RunFolder
    settings: F
    changed: bool

    def enter(self, done: int = 0) -> None:
        """Take the folder back to where the run goes on from: what came later is measured anew.

        Args:
            done: after how many rounds that is; after none, nothing that was measured is kept.
        """
        folder, marks = self.folder, marks_of(self.settings)
        if marks:
            folder.mark(marks)
            say(f"warning: {warning(marks)}")  # at once, not at the end
        if self.changed:  # workers, and whoever resumes next, read it there
            folder.reconfigure({**folder.config, **self.settings.dump()})
        moved = folder.set_aside()
        folder.withdraw()
        folder.truncate(done or -1)  # what is begun anew has no round 0
        folder.event("resumed", round=done)
        for name in moved:
            warnings.warn(HansaWarning(f"{name} is damaged and was set aside"), stacklevel=3)


@contextlib.contextmanager
def reopened(
    path: str | Path,
    kind: type[F],
    changes: Mapping[str, Any] | None = None,
    extensible: bool = False,
) -> Iterator[Reopened[F]]:
    """Hold a run's folder to go on with it.

    Args:
        changes: settings to replace, only among the kind's ``resumable``.
        extensible: one that has finished can go on, too.

    Raises:
        CheckpointError: it is no run of this kind, is damaged, or another process has it.
        ConfigError: it has finished, or a setting cannot change any more.
    """
    with opened(path) as folder:
        check_verb(folder, kind)
        if not extensible and (folder.summary or {}).get("status") == "finished":
            raise ConfigError("resume", str(path), "has finished", "begin a new run")
        config = {**folder.config, **(changes or {})}
        for key, value in config.items():
            if key not in kind.resumable and value != folder.config.get(key):
                problem = "cannot change when a run is resumed"
                raise ConfigError(key, None, problem, f"only {', '.join(kind.resumable) or 'none'}")
        yield Reopened(folder, kind.parse(config), config != folder.config)


@dataclass(frozen=True)
class HostedWork(Generic[F, T]):
    """How a verb's runs are begun and gone on with, where nothing more is to be said of it.

    Attributes:
        kind: of the run's settings, which have a ``seed``.
        prepare: checks everything and reads what the work needs, before any folder is made or
            changed; what it refuses leaves all as it is.
        work: does what is left to do.
    """

    kind: type[F]
    prepare: Callable[[F], T]
    work: Callable[[Hosting, F, T], None]

    def begin(
        self, settings: F | Mapping[str, Any], out: str | Path | None, report: bool
    ) -> RunFolder:
        """A run in a new folder, taken to its end.

        Raises:
            ConfigError: the settings or the folder cannot work; and what ``prepare`` raises.
        """
        chosen = settings if isinstance(settings, self.kind) else self.kind.parse(dict(settings))
        with placed(chosen, out) as path:
            prepared = self.prepare(chosen)
            environment = describe_machine(chosen.dump()["seed"])
            with begun(path, chosen, environment, report) as hosting:
                self.work(hosting, chosen, prepared)
            return hosting.folder

    def resume(
        self, run: str | Path, report: bool, changes: Mapping[str, Any] | None = None
    ) -> RunFolder:
        """A run that was interrupted, taken to its end.

        Raises:
            CheckpointError, ConfigError: see :func:`reopened`.
        """
        with reopened(run, self.kind, changes) as again:
            folder, chosen = again.folder, again.settings
            prepared = self.prepare(chosen)
            again.enter()
            with hosted(folder, chosen.own_verb(), report) as hosting:
                self.work(hosting, chosen, prepared)
            return folder
