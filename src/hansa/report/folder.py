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
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hansa.base.errors import CheckpointError, ConfigError, HansaError
from hansa.base.files import atomic_write
from hansa.base.files import write_json as write_whole
from hansa.report.store import MetricStore

if TYPE_CHECKING:
    import polars

CONFIG, ENVIRONMENT, EVENTS, SUMMARY = (
    "config.yaml",
    "environment.json",
    "events.jsonl",
    "summary.json",
)
END = "..."  # YAML's end of document: a file without it was cut short


class RunFolder:
    """A run on disk. Make one with :meth:`create` or :meth:`open`.

    Attributes:
        path: the folder.
        config: the resolved settings.
        environment: what the run ran on.
    """

    def __init__(self, path: Path, config: dict[str, Any], environment: dict[str, Any]) -> None:
        self.path, self.config, self.environment = path, config, environment
        self._metrics = MetricStore(path / "metrics")

    @classmethod
    def create(
        cls, path: str | Path, config: Mapping[str, Any], environment: Mapping[str, Any]
    ) -> RunFolder:
        """Begin a run in a new or empty folder.

        Raises:
            ConfigError: the folder holds something already, or cannot be made.
        """
        path = Path(path)
        fix = "choose another --out, or continue the run in it with --resume"
        try:
            path.mkdir(parents=True, exist_ok=True)
            taken = any(path.iterdir())
        except (FileExistsError, NotADirectoryError):
            raise ConfigError("out", str(path), "is a file", fix) from None
        except OSError as error:
            problem = f"cannot be made ({error.strerror})"
            raise ConfigError("out", str(path), problem, "choose another --out") from error
        if taken:
            raise ConfigError("out", str(path), "the folder is not empty", fix)
        folder = cls(path, {}, plain(environment))
        with _writing(path):
            write_whole(path / ENVIRONMENT, folder.environment)
        folder.reconfigure(config)  # last: it makes this a run folder
        return folder

    def reconfigure(self, config: Mapping[str, Any]) -> None:
        """Replace the resolved settings."""
        self.config = plain(config)
        with _writing(self.path), atomic_write(self.path / CONFIG, "w") as file:
            yaml.safe_dump(self.config, file, sort_keys=False, explicit_end=True)

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Open a run to read it or to continue it.

        Raises:
            CheckpointError: it is no run folder, or a file in it is corrupt.
        """
        path = Path(path)
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
        environment = _read_json(path / ENVIRONMENT)
        if not isinstance(environment, dict):
            raise CheckpointError(f"{path / ENVIRONMENT}: does not hold a mapping")
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
            HansaError: rows were due to be written and the disk failed; they are kept in memory.
        """
        if self._metrics.record(round, name, value, node, step, time, bytes):
            self.flush()

    def flush(self) -> None:
        """Write the measurements that are still in memory.

        Raises:
            HansaError: the disk is full or fails; nothing is lost, flush again when it is mended.
        """
        with _writing(self.path):
            self._metrics.flush()

    def compact(self) -> None:
        """Merge the files of measurements into one."""
        with _writing(self.path):
            self._metrics.compact()

    def truncate(self, after_round: int) -> None:
        """Forget the measurements of rounds later than ``after_round``, to resume from there."""
        with _writing(self.path):
            dropped = self._metrics.truncate(after_round)
        self.event("truncated", after_round=after_round, rows=dropped)

    def metrics(self) -> polars.DataFrame:
        """Every measurement in long format: round, node, name, value, step, time, bytes.

        Raises:
            CheckpointError: a file is corrupt; it is named.
        """
        return self._metrics.read()

    def event(self, kind: str, **fields: Any) -> None:
        """Append one line to the run's diary, with the time in UTC."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"time": now, "kind": kind, **plain(fields)}) + "\n"
        with _writing(self.path), (self.path / EVENTS).open("a+b", buffering=0) as file:
            end = _whole_lines(file)
            file.truncate(end)
            written = file.write(line.encode())
            if written != len(line):  # json escapes all but ASCII, so characters are bytes
                file.truncate(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def events(self) -> list[dict[str, Any]]:
        """The diary. A last line that a crash cut short is left out.

        Raises:
            CheckpointError: another line is corrupt.
        """
        path = self.path / EVENTS
        if not path.exists():
            return []
        lines = path.read_bytes().split(b"\n")
        found = []
        for number, line in enumerate(lines[:-1], start=1):
            try:
                found.append(json.loads(line))
            except ValueError as error:
                raise CheckpointError(f"{path}: line {number} is not JSON ({error})") from error
        return found

    def write_json(self, name: str, value: Any) -> None:
        """Write ``value`` as the file ``name`` (such as ``topology.json``), whole or not at all."""
        with _writing(self.path):
            write_whole(self._file(name), plain(value))

    def read_json(self, name: str) -> Any:
        """What :meth:`write_json` wrote, or None if there is no such file.

        Raises:
            CheckpointError: the file is corrupt.
        """
        path = self._file(name)
        return _read_json(path) if path.exists() else None

    @property
    def summary(self) -> dict[str, Any] | None:
        """What the run came to, or None if it never ended."""
        return self.read_json(SUMMARY)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write and merge all measurements, then the summary."""
        self.compact()
        self.write_json(SUMMARY, summary)
        self.event("ended", status=summary.get("status"))

    def _file(self, name: str) -> Path:
        if Path(name).name != name or not name.endswith(".json"):
            raise ValueError(f"{name!r} is not the name of a JSON file")
        return self.path / name


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


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Say which folder could not be written to, and what to do."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fix = "free some space" if full else "check the disk and its permissions"
        raise HansaError(
            f"{path}: cannot be written ({error.strerror or error}); {fix} and try again,"
            " what was measured is still in memory"
        ) from error
