"""JSON that somebody else wrote: every key once, no numbers that are none, fields by their type."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from hansa.attest.refusals import BadCollateral

_LARGEST = 1 << 20


def loads(text: str | bytes, what: str) -> dict[str, Any]:
    """The object that a text is.

    Raises:
        BadCollateral: it is no JSON, no object, or says something twice.
    """
    if len(text) > _LARGEST:
        raise BadCollateral(f"{what} of {len(text):,} bytes: at most {_LARGEST:,}")
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        text = "" if isinstance(error, UnicodeDecodeError) else f" ({str(error)[:80]})"
        raise BadCollateral(f"{what} is no JSON{text}") from None
    if not isinstance(value, dict):
        raise BadCollateral(f"{what} is no JSON object")
    return value


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number")


class Fields:
    """Fields of an object, asked for by name and type.

    Args:
        values: the object.
        what: what it is, for errors.
    """

    def __init__(self, values: Any, what: str) -> None:
        if not isinstance(values, dict):
            raise BadCollateral(f"{what} is no object")
        self._values, self._what = values, what

    def only(self, *names: str) -> None:
        """Refuse fields of any other name."""
        if odd := sorted(set(self._values) - set(names)):
            raise BadCollateral(f"{self._what} has a field {odd[0][:40]!r} that nobody knows")

    def text(self, name: str) -> str:
        """A text."""
        return str(self._typed(name, str, "a text"))

    def number(self, name: str, most: int = 0xFFFF) -> int:
        """A whole number from 0."""
        value = self._typed(name, int, "a number")
        if isinstance(value, bool) or not 0 <= value <= most:
            raise BadCollateral(f"{self._what}: {name} is no number from 0 to {most}")
        return int(value)

    def octets(self, name: str, size: int | None = None) -> bytes:
        """Bytes, written in hex digits."""
        try:
            value = bytes.fromhex(self.text(name))
        except ValueError:
            raise BadCollateral(f"{self._what}: {name} is not made of hex digits") from None
        if size is not None and len(value) != size:
            raise BadCollateral(f"{self._what}: {name} has {len(value)} bytes and needs {size}")
        return value

    def moment(self, name: str) -> datetime:
        """A time in UTC, such as ``2025-06-19T10:56:11Z``, of this millennium."""
        text = self.text(name)
        try:
            moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        except ValueError:
            moment = None
        if moment is None or not 2000 <= moment.year < 3000:
            raise BadCollateral(f"{self._what}: {name} is no time")
        return moment

    def group(self, name: str) -> Fields:
        """An object."""
        return Fields(self._typed(name, dict, "an object"), f"{self._what}, {name}")

    def listed(self, name: str, most: int = 1024) -> list[Any]:
        """A list; none where there is no such field."""
        values = self._typed(name, list, "a list") if name in self._values else []
        if len(values) > most:
            raise BadCollateral(f"{self._what}: {name} has {len(values)} entries, at most {most}")
        return list(values)

    def groups(self, name: str) -> list[Fields]:
        """A list of objects."""
        return [Fields(each, f"{self._what}, {name}") for each in self.listed(name)]

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        values = self.listed(name)
        if not all(isinstance(each, str) for each in values):
            raise BadCollateral(f"{self._what}: {name} is no list of texts")
        return tuple(values)

    def _typed(self, name: str, kind: type, called: str) -> Any:
        if name not in self._values:
            raise BadCollateral(f"{self._what} lacks {name}")
        value = self._values[name]
        if not isinstance(value, kind):
            raise BadCollateral(f"{self._what}: {name} is not {called}")
        return value
