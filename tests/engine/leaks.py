"""Whether something secret lies about: in files, arguments, environments or text."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from ..toy.warm import cold


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


class Seen(set[bytes]):
    """Arguments and environments of processes."""

    def shows(self, secrets: Iterable[bytes]) -> bool:
        """Whether one of the secrets is among them."""
        return any(form in text for s in secrets for form in forms(s) for text in self)


@contextmanager
def watching() -> Iterator[Seen]:
    """Look meanwhile at all processes that this one starts."""
    seen, over = Seen(), threading.Event()

    def watch() -> None:
        own = psutil.Process()
        while not over.wait(0.02):
            for process in own.children(recursive=True):
                try:
                    seen.add("\0".join(process.cmdline()).encode())
                    seen.add("\0".join(process.environ().values()).encode())
                except (psutil.Error, OSError):
                    continue  # it has ended

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        with cold():  # a process that is forked shows the arguments of another
            yield seen
    finally:
        over.set()
        thread.join()
