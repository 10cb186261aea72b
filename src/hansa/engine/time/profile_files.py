"""Devices from files: tables in CSV, JSON or YAML, and FedScale's capacity trace."""

from __future__ import annotations

import csv
import functools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError, DataError
from hansa.base.streams import Streams
from hansa.base.yamltext import load_yaml
from hansa.engine.time.fedscale import read_capacity
from hansa.engine.time.profiles import Common, Devices

_COLUMNS = ("sample_ms", "up_kbps", "down_kbps", "latency", "watts", "battery_wh")
_ABOVE_ZERO = {"up_kbps", "down_kbps", "battery_wh"}
Draw = Literal["order", "random"]


class FromFile(Common):
    """Lines of a file, dealt to clients."""

    file: Path = Field(description="the file")

    def choose(self, streams: Streams, count: int, clients: int, draw: Draw) -> np.ndarray:
        """Which of ``count`` devices each client is, int64 [clients], none of them twice.

        Raises:
            ConfigError: there are too few.
        """
        if clients > count:
            problem = f"has {count} devices for {clients} clients"
            raise ConfigError("file", str(self.file), problem, f"at most {count} nodes")
        if draw == "order":
            return np.arange(clients)
        return streams.numpy("devices").permutation(count)[:clients]


@register("file")
class FileProfiles(FromFile):
    """A table: id, sample_ms, up_kbps, down_kbps, latency, watts, battery_wh.

    Only sample_ms and up_kbps are needed. A line without down_kbps has the same both ways, one
    without latency, watts or battery_wh has that of the settings.
    """

    file: Path = Field(description="a .csv with a header, or a list of mappings in .json or .yaml")
    draw: Draw = Field(
        "order", description="order: line i is client i; random: by the run's seed, none twice"
    )

    def deal(self, streams: Streams, clients: int) -> Devices:
        lines = read_table(self.file)
        chosen = self.choose(streams, len(lines), clients, self.draw)
        values = np.array([self._line(lines[k]) for k in chosen]).reshape(clients, len(_COLUMNS))
        return Devices(*values.T.copy())

    def _line(self, line: Mapping[str, Any]) -> list[float]:
        """The columns of a line."""
        who = f"{self.file}: device {line['id']!r}"
        values = {name: _number(who, name, line.get(name)) for name in _COLUMNS}
        for name in ("sample_ms", "up_kbps"):
            if values[name] is None:
                raise DataError(f"{who} has no {name}; every line needs one")
        missing = {
            "down_kbps": values["up_kbps"],
            "latency": self.latency,
            "watts": self.watts,
            "battery_wh": self.battery_wh,
        }
        return [missing[n] if values[n] is None else values[n] for n in _COLUMNS]  # type: ignore[misc]


@register("fedscale", paper="Lai et al.", year=2022, url="https://arxiv.org/abs/2105.11367")
class FedScaleProfiles(FromFile):
    """FedScale's capacity trace: compute in ms an example, and one bandwidth for both directions.

    Both are those of one and the same device.
    """

    file: Path = Field(description="the pickle client_device_capacity; nothing in it is run")
    draw: Draw = Field(
        "random", description="random: by the run's seed, none twice; order: as in the file"
    )
    limit_mib: float = Field(512.0, gt=0, description="largest file that is read, MiB")

    def deal(self, streams: Streams, clients: int) -> Devices:
        stamp = self.file.stat().st_mtime_ns if self.file.is_file() else 0
        sample_ms, link = _capacity(self.file, stamp, self.limit_mib)
        chosen = self.choose(streams, len(link), clients, self.draw)
        return self.table(sample_ms[chosen], link[chosen], link[chosen])


@functools.lru_cache(maxsize=2)
def _capacity(path: Path, stamp: int, limit_mib: float) -> tuple[np.ndarray, np.ndarray]:
    return read_capacity(path, limit_mib)[1:]


def read_table(path: Path) -> list[dict[str, Any]]:
    """Lines of a table of devices, each with an ``id`` (by default its number from 0 on).

    Raises:
        ConfigError: the file cannot be read or is of no known form.
        DataError: it is damaged, or no table of devices.
    """
    readers: dict[str, Callable[[str], Any]] = {
        ".csv": _csv,
        ".json": json.loads,
        ".yaml": load_yaml,
        ".yml": load_yaml,
    }
    if path.suffix.lower() not in readers:
        raise ConfigError("file", str(path), "is of no known form", ".csv, .json or .yaml")
    try:
        lines = readers[path.suffix.lower()](path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
        raise ConfigError("file", str(path), problem, "check the path") from None
    except (UnicodeDecodeError, csv.Error, json.JSONDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    if not isinstance(lines, list) or not lines or not all(isinstance(x, dict) for x in lines):
        raise DataError(f"{path}: not a list of devices; see docs/devices.md")
    for k, line in enumerate(lines):
        unknown = [str(name) for name in line if name not in (*_COLUMNS, "id")]
        if unknown:
            problem = f"line {k}: there is no column {unknown[0]!r}"
            raise DataError(f"{path}: {problem}; known: id, {', '.join(_COLUMNS)}")
        line.setdefault("id", k)
    return lines


def _csv(text: str) -> list[dict[str, Any]]:
    return list(csv.DictReader(text.splitlines()))


def _number(who: str, name: str, value: Any) -> float | None:
    """A figure of a device; None where it is missing or empty."""
    if value is None or value == "":
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    least = "above" if name in _ABOVE_ZERO else "at least"
    fine = number > 0 if name in _ABOVE_ZERO else number >= 0
    if not fine or (math.isinf(number) and name != "down_kbps"):
        raise DataError(f"{who}: {name} = {value!r} is no number {least} 0")
    return number
