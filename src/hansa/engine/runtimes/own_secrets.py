"""Secrets from which workers or sites draw what is their own, kept until their run is over.

Who resumes a run has to draw as before, so they are kept in the run's folder, where only the user
may read.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from hansa.base.files import writing

SECRETS = "secrets.bin"
"""Where in a run's folder they are until it ends."""
_BYTES = 32


def drawn_secrets(run: Path, count: int) -> list[bytes]:
    """So many secrets: those that an interrupted run left, or else random ones.

    Where it left another number of them, all are new.
    """
    file = run / SECRETS
    kept = file.read_bytes() if file.is_file() else b""
    if len(kept) != count * _BYTES:
        kept = secrets.token_bytes(count * _BYTES)
    return [kept[k : k + _BYTES] for k in range(0, len(kept), _BYTES)]


def keep_secrets(run: Path, drawn: list[bytes]) -> None:
    """Leave secrets for who goes on with the run.

    Raises:
        DiskError: the disk is full or fails.
    """
    file = run / SECRETS
    if file.is_file() and file.read_bytes() == b"".join(drawn):
        return
    remove_secrets(run)
    with writing(file):
        file.touch(0o600, exist_ok=False)
        file.write_bytes(b"".join(drawn))


def own_secrets(run: Path, count: int) -> list[bytes]:
    """So many secrets, and keep them: see :func:`drawn_secrets` and :func:`keep_secrets`."""
    drawn = drawn_secrets(run, count)
    keep_secrets(run, drawn)
    return drawn


def remove_secrets(run: Path) -> None:
    """Forget them, if there are any."""
    (run / SECRETS).unlink(missing_ok=True)
