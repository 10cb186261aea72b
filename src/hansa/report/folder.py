"""The run folder: what a run was, what it measured and what happened to it.

::

    config.yaml       resolved settings, enough to run again
    environment.json  versions, machine, seed
    metrics/          measurements in long format (see hansa.report.store)
    checkpoints/      written by the engine
    events.jsonl      one line for each thing that happened
    topology.json, partition.json, summary.json, report.html   when there is one
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import json
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import yaml

from hansa.base.errors import CheckpointError, ConfigError, DiskError, HansaWarning
from hansa.base.files import atomic_write, lock, writing
from hansa.base.files import write_json as write_whole
from hansa.base.forms import config_today
from hansa.base.yamltext import dump_yaml
from hansa.report.marks import marks_in
from hansa.report.scores import declare
from hansa.report.store import MetricStore
from hansa.report.using import Usable

if TYPE_CHECKING:
    import polars

CONFIG, ENVIRONMENT, EVENTS, SUMMARY = (
    "config.yaml",
    "environment.json",
    "events.jsonl",
    "summary.json",
)
DERIVED = {
    SUMMARY: dict,
    "sinks.json": dict,
    "partition.json": dict,
    "topology.json": dict,
    "remarks.json": list,
    "signature.json": dict,
}
"""What a run can do without, and what each of these files holds."""
LOCK = ".lock"
_TRIES, _PAUSE = 4, 0.03  # s
END = "..."  # YAML's end of document: a file without it was cut short


def is_run(path: Path) -> bool:
    """Whether a folder is that of a run, of whichever verb."""
    return path.is_dir() and (path / CONFIG).is_file()


class Listener(Protocol):
    """Hears what a run records, as it is recorded. It must be quick and must not raise."""

    def recorded(self, round: int, name: str, value: Any, node: Any, time: Any, bytes: Any) -> None:
        """One measurement, or one for each item of an array (see :meth:`RunFolder.record`)."""

    def round_over(self, round: int) -> None:
        """All is recorded of a round."""

    def happened(self, event: dict[str, Any]) -> None:
        """A line of the diary."""


class RunFolder(Usable):
    """A run on disk. Make one with :meth:`create` or :meth:`open`; ``hansa.run`` returns one.

    Attributes:
        path: the folder.
        config: the resolved settings.
        environment: what the run ran on.
        listeners: are told of all that is recorded, in the thread that records it.
    """

    def __init__(self, path: Path, config: dict[str, Any], environment: dict[str, Any]) -> None:
        self.path, self.config, self.environment = path, config, environment
        declare(environment.get("metrics") or {})
        self._metrics = MetricStore(path / "metrics", marks=self.marks)
        self._told: set[Path] = set()
        self.listeners: list[Listener] = []

    @property
    def marks(self) -> dict[str, Any]:
        """What has to stand on all that comes of the run (``report/marks.py``); often nothing."""
        return marks_in(self.environment)

    def mark(self, marks: Mapping[str, Any]) -> None:
        """Have these marks on all that comes of the run from now on."""
        if not marks.items() <= self.environment.items():
            self.environment = {**self.environment, **marks}
            write_whole(self.path / ENVIRONMENT, self.environment)
        self._metrics.marks = self.marks

    @classmethod
    def create(
        cls, path: str | Path, config: Mapping[str, Any], environment: Mapping[str, Any]
    ) -> RunFolder:
        """Begin a run in a new or empty folder.

        Raises:
            ConfigError: the folder holds something already, or cannot be made.
            DiskError: nothing can be written there.
        """
        path = Path(path).expanduser()
        check_free(path)
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)
        folder = cls(path, {}, plain(environment))
        try:
            write_whole(path / ENVIRONMENT, folder.environment)
            folder.reconfigure(config)  # last: it makes this a run folder
        except BaseException:
            (path / ENVIRONMENT).unlink(missing_ok=True)
            raise
        return folder

    def reconfigure(self, config: Mapping[str, Any]) -> None:
        """Replace the resolved settings."""
        self.config = plain(config)
        with atomic_write(self.path / CONFIG, "w") as file:
            dump_yaml(self.config, file, sort_keys=False, explicit_end=True)

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Open a run to read it or to continue it; settings of an earlier form are read as today's.

        Raises:
            CheckpointError: it is no run folder, a file in it is corrupt, or it is of a newer form.
        """
        path = Path(path).expanduser()
        if not path.is_dir():
            raise CheckpointError(f"{path}: there is no such run folder")
        if not (path / CONFIG).is_file():
            raise CheckpointError(f"{path}: is not a run folder, it has no {CONFIG}")
        try:
            text = (path / CONFIG).read_text(encoding="utf-8")
            config = yaml.safe_load(text)
        except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
            raise CheckpointError(f"{path / CONFIG}: cannot be read ({error})") from error
        if text.rstrip().rpartition("\n")[2] != END:
            raise CheckpointError(f"{path / CONFIG}: is cut short, its last line is not {END!r}")
        if not isinstance(config, dict):
            raise CheckpointError(f"{path / CONFIG}: does not hold settings")
        try:
            environment = _read_json(path / ENVIRONMENT)
        except CheckpointError as error:
            fix = "write {} into it to do without what it said of the machine and the data"
            raise CheckpointError(f"{error}; {fix}") from error
        if not isinstance(environment, dict):
            raise CheckpointError(f"{path / ENVIRONMENT}: does not hold a mapping")
        config = config_today(path / CONFIG, config, environment.get("hansa"))
        return cls(path, config, environment)

    def record(
        self,
        round: int,
        name: str,
        value: Any,
        *,
        node: Any = None,
        step: Any = None,
        time: Any = None,
        bytes: Any = None,
    ) -> None:
        """Note one measurement, or one for each item of an array.

        Args:
            round: the round it was made in.
            name: what was measured.
            value: scalar or array [k].
            node: scalar or array [k]; None means the whole run.
            step: optimizer steps so far, scalar or array [k].
            time: seconds since the start, scalar or array [k].
            bytes: bytes sent so far, scalar or array [k].

        Raises:
            ValueError: arrays of different lengths.
            DiskError: rows were due to be written and the disk failed; they are kept in memory.
        """
        if self._metrics.record(round, name, value, node, step, time, bytes):
            self.flush()
        for listener in self.listeners:
            listener.recorded(round, name, value, node, time, bytes)

    def round_over(self, round: int) -> None:
        """Note that all is recorded of a round, so that whoever watches the run sees it soon.

        Raises:
            DiskError: rows were due to be written and the disk failed; they are kept in memory.
        """
        if self._metrics.round_over():
            self.flush()
        for listener in self.listeners:
            listener.round_over(round)

    def flush(self) -> None:
        """Write the measurements that are still in memory.

        Raises:
            DiskError: the disk is full or fails; nothing is lost, flush again when it is mended.
        """
        with writing(self._metrics.path):
            self._metrics.flush()

    def compact(self) -> None:
        """Merge the files of measurements into one."""
        with writing(self._metrics.path):
            self._metrics.compact()

    def truncate(self, after_round: int) -> None:
        """Forget the measurements of rounds later than ``after_round``, to resume from there."""
        with writing(self._metrics.path):
            dropped = self._metrics.truncate(after_round)
        self.event("truncated", after_round=after_round, rows=dropped)

    def metrics(self) -> polars.DataFrame:
        """Every measurement in long format: round, node, name, value, step, time, bytes.

        What a damaged file held is left out, with a warning that names it and the way out.
        """
        measurements = self._metrics.read()
        for path, problem in self._metrics.damaged.items():
            if path not in self._told:
                self._told.add(path)
                text = f"{problem}; what it held is left out\n  to measure it anew: hansa learn "
                text += f"--resume {self.path} sets it aside and goes on before it"
                warnings.warn(HansaWarning(text), stacklevel=2)
        return measurements

    @property
    def damaged(self) -> list[str]:
        """Files of measurements that cannot be read, as far as they were read so far."""
        return sorted(path.name for path in self._metrics.damaged)

    @property
    def parts(self) -> int:
        """How many files of measurements were written so far."""
        return self._metrics.last

    def find_damage(self) -> int | None:
        """The number of the first file of measurements that is damaged, or None.

        It is 0 for the merged file.
        """
        return min(self._metrics.find_damage().values(), default=None)

    def set_aside(self) -> list[Path]:
        """Rename files of measurements that are damaged, and say what they are called now."""
        with writing(self._metrics.path):
            moved = self._metrics.set_aside()
        for path in moved:
            self.event("damaged", file=str(path.relative_to(self.path)))
        return moved

    def first_missing(self, done: int) -> int | None:
        """The first of the rounds 1 to ``done`` of which nothing was measured, or None."""
        measured = set(self.metrics()["round"].to_list())
        return next((t for t in range(1, done + 1) if t not in measured), None)

    def event(self, kind: str, **fields: Any) -> None:
        """Append one line to the run's diary, with the time in UTC."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        entry = {"time": now, "kind": kind, **self.marks, **plain(fields)}
        line = json.dumps(entry) + "\n"
        with writing(self.path / EVENTS), (self.path / EVENTS).open("a+b", buffering=0) as file:
            end = _whole_lines(file)
            file.truncate(end)
            written = file.write(line.encode())
            if written != len(line):  # json escapes all but ASCII, so characters are bytes
                file.truncate(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for listener in self.listeners:
            listener.happened(entry)

    def events(self) -> list[dict[str, Any]]:
        """The diary. A last line that a crash cut short is left out.

        Raises:
            CheckpointError: another line is corrupt.
        """
        path = self.path / EVENTS
        if not path.exists():
            return []
        lines = path.read_bytes().split(b"\n")
        entries = []
        for number, line in enumerate(lines[:-1], start=1):
            try:
                entries.append(json.loads(line))
            except ValueError as error:
                raise CheckpointError(f"{path}: line {number} is not JSON ({error})") from error
        return entries

    def write_json(self, name: str, value: Any) -> None:
        """Write ``value`` as the file ``name`` (such as ``topology.json``), whole or not at all."""
        write_whole(self._file(name), plain(value))

    def read_json(self, name: str) -> Any:
        """What :meth:`write_json` wrote, or None if there is no such file.

        A damaged file that the run can do without is none, with a warning that names it.

        Raises:
            CheckpointError: the file is corrupt.
        """
        path = self._file(name)
        if not path.exists():
            return None
        try:
            content = _read_json(path)
        except CheckpointError as error:
            if name not in DERIVED:
                raise
            problem = str(error)
        else:
            if isinstance(content, DERIVED.get(name, object)):
                return content
            problem = f"{path}: holds a {type(content).__name__}, which is not what was written"
        if path not in self._told:
            self._told.add(path)
            text = f"{problem}; what it said is left out"
            if name == SUMMARY:
                text += ", until the run is resumed"
            warnings.warn(HansaWarning(text), stacklevel=2)
        return None

    @property
    def summary(self) -> dict[str, Any] | None:
        """What the run came to, or None if it never ended."""
        return self.read_json(SUMMARY)

    def withdraw(self) -> None:
        """Take back what was said of the run at its end: it goes on."""
        with writing(self.path):
            for name in (SUMMARY, "report.html"):
                (self.path / name).unlink(missing_ok=True)
            shutil.rmtree(self.path / "pictures", ignore_errors=True)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write and merge all measurements, then the summary.

        Raises:
            DiskError: the measurements or the summary could not be written.
        """
        self.flush()
        with contextlib.suppress(DiskError):  # the parts hold everything; merging takes more room
            self.compact()
        self.write_json(SUMMARY, {**summary, **self.marks})
        self.event("ended", status=summary.get("status"))

    def _file(self, name: str) -> Path:
        if Path(name).name != name or not name.endswith(".json"):
            raise ValueError(f"{name!r} is not the name of a JSON file")
        return self.path / name


def check_free(path: Path) -> None:
    """Refuse a folder for a new run that holds something, or is none.

    Raises:
        ConfigError: says so.
    """
    fix = "choose another --out, or continue the run in it with --resume"
    existing = next(one for one in (path, *path.absolute().parents) if one.exists())
    problem = ""
    if not existing.is_dir():
        problem = "is a file" if existing == path else f"cannot be made: {existing} is a file"
    elif not os.access(existing, os.W_OK | os.X_OK):
        problem, fix = f"{existing} cannot be written to", "choose another --out"
    elif existing == path and any(inside.name != LOCK for inside in path.iterdir()):
        problem = "the folder is not empty"
    if problem:
        raise ConfigError("out", str(path), problem, fix)


@contextlib.contextmanager
def held(path: str | Path) -> Iterator[None]:
    """Hold a run folder, so that no other process writes in it meanwhile.

    Raises:
        CheckpointError: another process has it.
    """
    with contextlib.ExitStack() as stack:
        for left in reversed(range(_TRIES)):  # who watches looks at the lock for a microsecond
            try:
                stack.enter_context(lock(Path(path).expanduser() / LOCK, wait=False))
                break
            except BlockingIOError:
                if not left:
                    problem = f"{path}: another process is running in this folder"
                    raise CheckpointError(problem) from None
                time.sleep(_PAUSE)
        yield


def is_held(path: Path) -> bool:
    """Whether a process, of whatever machine whose locks reach here, holds a run folder."""
    try:
        with (path / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is none, or its file system has no locks
        return False
    return False


def plain(value: Any) -> Any:
    """``value`` with mappings, sequences, arrays and paths as what JSON and YAML can hold."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping):
        return {
            k if type(k) in (str, int, bool) else str(k): plain(item) for k, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in (sorted(value) if isinstance(value, set) else value)]
    if hasattr(value, "tolist"):  # NumPy and torch, scalars too
        return plain(value.tolist())
    for kind in (bool, int, float):
        if isinstance(value, kind):  # a subclass, such as an IntEnum
            return kind(value)
    return str(value.value) if hasattr(value, "value") else str(value)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is missing or not whole ({error})") from error


def _whole_lines(file: Any) -> int:
    """Bytes up to the end of the last line that ends; looks at the tail only."""
    end = file.seek(0, os.SEEK_END)
    tail = b""
    while end - len(tail) > 0:
        start = max(0, end - len(tail) - 4096)
        file.seek(start)
        tail = file.read(end - start)
        cut = tail.rfind(b"\n")
        if cut >= 0:
            return start + cut + 1
    return 0
