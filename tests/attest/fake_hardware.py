"""Folders and devices that behave as those of trusted hardware do, as far as a process can see."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

VERITY = "BOOT_IMAGE=/vmlinuz ro roothash=" + "ab" * 32 + "\n"


def sgx_quote(report_data: bytes, size: int = 1200) -> bytes:
    """As long as one, with the data where a quote has them."""
    return bytes(368) + report_data + bytes(size - 368 - 64)


def snp_report(report_data: bytes) -> bytes:
    """As long as one, with the data where a report has them."""
    return bytes(0x50) + report_data + bytes(1184 - 0x50 - 64)


class FakeGramine:
    """Gramine's pseudo-files: what is written decides what the quote is about.

    The quote is a pipe: it is made when it is read, and comes in pieces.
    """

    def __init__(self, folder: Path, kind: str = "dcap", *, other: bytes = b"") -> None:
        self.folder, self._other = folder, other
        (folder / "keys").mkdir(parents=True)
        (folder / "attestation_type").write_text(kind)
        (folder / "user_report_data").write_bytes(bytes(64))
        (folder / "keys" / "_sgx_mrenclave").write_bytes(bytes(range(16)))

    def quoting(self) -> None:
        """Answer one reader, in pieces of 100 bytes."""
        path = self.folder / "quote"
        os.mkfifo(path)

        def answer() -> None:
            with path.open("wb", buffering=0) as file:
                about = self._other or (self.folder / "user_report_data").read_bytes()
                quote = sgx_quote(about)
                for at in range(0, len(quote), 100):
                    file.write(quote[at : at + 100])
            path.unlink()

        threading.Thread(target=answer, daemon=True).start()


def configfs(
    monkeypatch: Any,
    folder: Path,
    *,
    provider: str = "sev_guest",
    report: Callable[[bytes], bytes] = snp_report,
    races: int = 0,
    auxiliary: bytes | None = b"",
    busy: bool = False,
) -> list[str]:
    """Make ``Path.mkdir`` and ``open`` under a folder do what configfs does; returns a diary.

    Args:
        races: how many requests another process writes to in between.
        auxiliary: what ``auxblob`` holds; None: there is none.
        busy: such a race makes reading the report fail, as the kernel may.
    """
    folder.mkdir(parents=True)
    diary: list[str] = []
    left = [races]
    make, remove, read = Path.mkdir, Path.rmdir, Path.open
    state: dict[Path, dict[str, Any]] = {}

    def mkdir(self: Path, *args: Any, **more: Any) -> None:
        make(self, *args, **more)
        if self.parent == folder:
            diary.append("mkdir")
            state[self] = {"generation": 0, "inblob": b"", "raced": left[0] > 0}
            left[0] -= 1
            for name in ("inblob", "privlevel"):
                (self / name).touch()
            (self / "provider").write_text(provider + "\n")
            if auxiliary is not None:
                (self / "auxblob").write_bytes(auxiliary)

    def rmdir(self: Path) -> None:
        if self.parent == folder:
            diary.append("rmdir")
            for file in self.iterdir():
                file.unlink()
        remove(self)

    class Written:
        def __init__(self, path: Path) -> None:
            self.path = path

        def __enter__(self) -> Written:
            return self

        def __exit__(self, *_: object) -> None:
            """Nothing to close."""

        def write(self, data: bytes) -> int:
            known = state[self.path.parent]
            known["generation"] += 1
            known[self.path.name] = data
            diary.append(f"{self.path.name} {len(data)}")
            return len(data)

    def opened(self: Path, mode: str = "r", *args: Any, **more: Any) -> Any:
        known = state.get(self.parent)
        if known is None or self.name in ("provider", "auxblob"):
            return read(self, mode, *args, **more)
        if "+" in mode:
            return Written(self)
        if self.name == "generation":
            read(self, "w").write(f"{known['generation']}\n")
        elif self.name == "outblob":
            if known["raced"]:
                known["generation"] += 1
                if busy:
                    raise OSError(errno.EWOULDBLOCK, "Resource temporarily unavailable")
            with read(self, "wb") as file:
                file.write(report(known["inblob"]))
        return read(self, mode, *args, **more)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(Path, "rmdir", rmdir)
    monkeypatch.setattr(Path, "open", opened)
    return diary


class FakeSevGuest:
    """What the kernel does behind the ioctls of /dev/sev-guest, through the caller's pointers."""

    def __init__(self, certificates: bytes = b"", *, extended: bool = True) -> None:
        self.certificates, self.extended = certificates, extended
        self.asked: list[int] = []

    def __call__(self, handle: int, number: int, call: bytearray) -> int:
        self.asked.append(number & 0xFF)
        version, question, answer, _ = struct.unpack("<B7xQQQ", call)
        assert version == 1
        assert number >> 30 == 3
        assert (number >> 16) & 0x3FFF == 32
        if number & 0xFF == 1:
            ctypes.memmove(answer + 32, bytes(range(32)), 32)
            return 0
        data = ctypes.string_at(question, 64)
        if number & 0xFF == 2:
            if not self.extended:
                call[24:32] = (1 << 32).to_bytes(8, "little")
                raise OSError(errno.EIO, "Input/output error")
            room, length = struct.unpack("<QI", ctypes.string_at(question + 96, 12))
            assert length == 1 << 14
            ctypes.memmove(room, self.certificates, len(self.certificates))
        ctypes.memmove(answer, struct.pack("<II", 0, 1184), 8)
        ctypes.memmove(answer + 32, snp_report(data), 1184)
        return 0
