"""FedScale's device traces (Lai et al., ICML 2022): pickle files, read without running them.

Two files are known, both dictionaries by device id (benchmark/dataset/data/device_info/README.md of
the FedScale repository):

* capacity: ``{'computation': ms an example, 'communication': kbit/s}``;
* availability: ``{'duration', 'finish_time', 'active': [s], 'inactive': [s], 'model'}``.

A pickle is a program. :class:`PlainUnpickler` runs only the part of it that builds dictionaries,
lists, tuples, numbers, text and None, and refuses by name anything that it wants to import.
"""

from __future__ import annotations

import math
import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn

import numpy as np

from hansa.base.errors import ConfigError, DataError
from hansa.engine.time.intervals import Intervals

_MIB = 2**20
_BROKEN = (  # what the unpickler raises on bytes that are no pickle
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    RecursionError,
    struct.error,
)
_INSTRUCTIONS = (
    *(
        pickle.PROTO,
        pickle.FRAME,
        pickle.STOP,
        pickle.MARK,
        pickle.POP,
        pickle.POP_MARK,
        pickle.DUP,
    ),
    *(pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE),
    *(pickle.GET, pickle.BINGET, pickle.LONG_BINGET),
    *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE),
    *(pickle.INT, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG, pickle.LONG1),
    *(pickle.LONG4, pickle.FLOAT, pickle.BINFLOAT),
    *(pickle.STRING, pickle.BINSTRING, pickle.SHORT_BINSTRING),
    *(pickle.UNICODE, pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE8),
    *(pickle.EMPTY_LIST, pickle.LIST, pickle.APPEND, pickle.APPENDS),
    *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
    *(pickle.EMPTY_DICT, pickle.DICT, pickle.SETITEM, pickle.SETITEMS),
    *(pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.INST),  # kept so that what they want has a name
)
_PLAIN = "convert it to plain Python dicts, lists and floats, or to CSV (name: file)"


class _Instructions(dict[int, Callable[..., None]]):
    """What an instruction does, for those that plain data need."""

    def __missing__(self, code: int) -> NoReturn:
        raise pickle.UnpicklingError(f"plain data need no instruction {code:#04x}")


class PlainUnpickler(pickle._Unpickler):
    """Builds plain data and nothing else.

    It is the one of Python's two unpicklers that is written in Python: its instructions can be
    chosen, and no instruction of a few bytes makes it set aside gigabytes, as in the other.
    """

    dispatch: ClassVar[dict[int, Callable[..., None]]] = _Instructions(
        {code[0]: pickle._Unpickler.dispatch[code[0]] for code in _INSTRUCTIONS}
    )

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it wants to import {module}.{name}")


def read_pickle(path: Path, limit_mib: float) -> dict[Any, Any]:
    """The dictionary of plain data in a pickle file.

    Raises:
        ConfigError: there is no such file.
        DataError: it is too large, damaged, not a dictionary, or wants to import something.
    """
    try:
        size = path.stat().st_size
        if size > limit_mib * _MIB:
            problem = f"has {size / _MIB:.1f} MiB, over the limit of {limit_mib:g} (limit_mib)"
            raise DataError(f"{path}: {problem}")
        with path.open("rb") as file:
            content = PlainUnpickler(file).load()
    except FileNotFoundError:
        raise ConfigError("file", str(path), "there is no such file", "check the path") from None
    except OSError as error:
        raise ConfigError("file", str(path), f"cannot be read: {error}") from None
    except pickle.UnpicklingError as error:
        raise DataError(f"{path}: not a plain pickle: {error}; {_PLAIN}") from None
    except _BROKEN as error:
        raise DataError(f"{path}: not a pickle: {type(error).__name__}: {error}") from None
    if not isinstance(content, dict) or not content:
        raise DataError(f"{path}: not a dictionary of devices")
    return content


def read_capacity(path: Path, limit_mib: float) -> tuple[list[Any], np.ndarray, np.ndarray]:
    """(device ids, ms an example, kbit/s) of a capacity trace, in its order.

    Raises:
        ConfigError: there is no such file.
        DataError: see :func:`read_pickle`; or a device's figures make no sense.
    """
    devices = read_pickle(path, limit_mib)
    values = np.empty((len(devices), 2))
    for k, (device, entry) in enumerate(devices.items()):
        for column, name in enumerate(("computation", "communication")):
            values[k, column] = _number(path, device, entry, name, positive=True)
    return list(devices), values[:, 0].copy(), values[:, 1].copy()


def read_availability(
    path: Path, limit_mib: float, bad: Literal["refuse", "skip"] = "refuse"
) -> Intervals:
    """When each device of an availability trace is there, repeating after its finish time.

    Raises:
        ConfigError: there is no such file.
        DataError: see :func:`read_pickle`; or a device's times make no sense and are not to be
            skipped, or no device is left.
    """
    begins, ends, periods, counts = [], [], [], []
    for device, entry in read_pickle(path, limit_mib).items():
        try:
            period = _number(path, device, entry, "finish_time", positive=True)
            active, inactive = (_times(path, device, entry, n) for n in ("active", "inactive"))
            _check_order(path, device, active, inactive)
        except DataError:
            if bad == "skip":
                continue
            raise
        keep = active < period  # what begins after the end of the trace never happens
        begins.append(active[keep])
        ends.append(np.minimum(inactive[keep], period))
        periods.append(period)
        counts.append(int(keep.sum()))
    if not periods:
        raise DataError(f"{path}: no device of it makes sense")
    return Intervals.of(counts, np.concatenate(begins), np.concatenate(ends), np.array(periods))


def _fail(path: Path, device: Any, problem: str) -> NoReturn:
    raise DataError(
        f"{path}: device {device!r}: {problem}; repair it, or leave out such devices "
        "(availability: bad: skip)"
    )


def _number(path: Path, device: Any, entry: Any, name: str, *, positive: bool) -> float:
    if not isinstance(entry, Mapping) or name not in entry:
        _fail(path, device, f"has no {name!r}")
    return _finite(entry[name], lambda text: _fail(path, device, f"{name} {text}"), positive)


def _finite(value: Any, fail: Callable[[str], NoReturn], positive: bool) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        fail(f"= {value!r:.60} is no number")
    try:
        number = float(value)
    except OverflowError:
        fail("is too large")
    if not math.isfinite(number) or number < 0 or (positive and number == 0):
        fail(f"= {number!r} is not {'above' if positive else 'at least'} 0 and finite")
    return number


def _times(path: Path, device: Any, entry: Any, name: str) -> np.ndarray:
    if not isinstance(entry, Mapping) or not isinstance(entry.get(name), list | tuple):
        _fail(path, device, f"has no list {name!r}")
    values = [
        _finite(v, lambda text: _fail(path, device, f"{name}[{k}] {text}"), False)  # noqa: B023
        for k, v in enumerate(entry[name])
    ]
    return np.array(values, dtype=np.float64)


def _check_order(path: Path, device: Any, active: np.ndarray, inactive: np.ndarray) -> None:
    if len(active) != len(inactive):
        _fail(path, device, f"{len(active)} times in 'active', {len(inactive)} in 'inactive'")
    if not len(active):
        _fail(path, device, "is never active")
    wrong = np.flatnonzero(active > inactive)
    if len(wrong):
        k = wrong[0]
        _fail(path, device, f"active[{k}] = {active[k]:g} is after inactive[{k}] = {inactive[k]:g}")
    wrong = np.flatnonzero(active[1:] < inactive[:-1])
    if len(wrong):
        k = wrong[0]
        _fail(
            path,
            device,
            f"active[{k + 1}] = {active[k + 1]:g} is before inactive[{k}] = {inactive[k]:g}",
        )
