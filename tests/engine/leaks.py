"""Whether something secret lies about: in files, arguments, environments or text."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import psutil


def forms(secret: bytes) -> list[bytes]:
    """As it is, as hex, as base64, and as Python shows bytes."""
    return [
        secret,
        secret.hex().encode(),
        base64.b64encode(secret)[:-4],
        repr(secret)[2:-1].encode(),
    ]


def leaks(folder: Path, secrets: Iterable[bytes], allowed: Iterable[str] = ()) -> list[str]:
    """Files below a folder in which one of the secrets stands, but those with an allowed name."""
    looked_for = [form for secret in secrets for form in forms(secret)]
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in allowed
        for content in [path.read_bytes()]
        if any(form in content for form in looked_for)
    ]


class Watched:
    """Looks at arguments and environments of all processes that this one starts, meanwhile.

    Attributes:
        seen: what they were.
    """

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        own = psutil.Process()
        while not self._over.wait(0.02):
            for process in own.children(recursive=True):
                try:
                    self.seen.add("\0".join(process.cmdline()).encode())
                    self.seen.add("\0".join(process.environ().values()).encode())
                except (psutil.Error, OSError):
                    continue  # it has ended

    def __enter__(self) -> Watched:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def shows(self, secrets: Iterable[bytes]) -> bool:
        """Whether one of the secrets was among them."""
        return any(form in text for s in secrets for form in forms(s) for text in self.seen)
