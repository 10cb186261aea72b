"""Follows a file of JSON lines that somebody else appends to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20
_LONGEST = 1 << 26  # bytes of a line, beyond which it is nobody's diary


class Tail:
    """The lines of a file that were not there when it was last asked.

    A last line that is still being written waits until it is whole; one that is no JSON object is
    counted and left out.

    Attributes:
        torn: lines that were left out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn = 0
        self._at = 0
        self._rest = b""

    def read(self) -> Iterator[dict[str, Any]]:
        """What was appended since, in order; all of it anew where the file became shorter."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            size = file.seek(0, 2)
            if size < self._at:
                self._at, self._rest = 0, b""
            file.seek(self._at)
            while chunk := file.read(min(_CHUNK, size - self._at)):
                self._at += len(chunk)
                *lines, self._rest = (self._rest + chunk).split(b"\n")
                if len(self._rest) > _LONGEST:
                    self.torn += 1
                    self._rest = b""
                for line in lines:
                    yield from self._entry(line)

    def rewind(self) -> None:
        """Begin again at the start."""
        self._at, self._rest = 0, b""

    def _entry(self, line: bytes) -> Iterator[dict[str, Any]]:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if isinstance(entry, dict):
            yield entry
        else:
            self.torn += 1
