"""SEV-SNP and TDX through configfs: one folder a request (Linux 6.7 and later).

Linux, Documentation/ABI/testing/configfs-tsm-report. A folder of one's own is made, the data are
written to ``inblob``, the report is read from ``outblob``; ``generation`` counts the writes, so
that somebody else's between one's own two looks is noticed.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from hansa.attest.attesters.attester import (
    HardwareAttester,
    NoEvidence,
    check_about,
    check_report_data,
    read_whole,
)
from hansa.attest.attesters.covering import Covered, check_covered
from hansa.attest.evidence import Evidence, Tee
from hansa.base.component import register

_PROVIDERS: dict[str, Tee] = {"sev_guest": "snp", "tdx_guest": "tdx"}
_TRIES = 3
_SNP_DATA = 0x50
_TDX_DATA = {4: 48 + 520, 5: 48 + 6 + 520}
"""Where the report's data are in a TDX quote, by its version: version 5 names its body first."""


@register("tsm")
class Tsm(HardwareAttester):
    """A confidential virtual machine (SEV-SNP, TDX) through configfs-tsm."""

    folder: Path = Field(
        Path("/sys/kernel/config/tsm/report"), description="where reports are asked for"
    )
    privlevel: int | None = Field(
        None, ge=0, le=3, description="VMPL that an SNP report is asked for; null: the guest's own"
    )
    covered: Covered = Field(
        "dm-verity", description="what measures the code: a verified root file system, whose hash "
        "is in the measured command line, or RTMR3 of a TD"
    )  # fmt: skip

    @property
    def tee(self) -> Tee:
        with self._request() as folder:
            return self._provider(folder)

    def evidence(self, report_data: bytes) -> Evidence:
        check_report_data(report_data)
        check_covered(self.covered)
        for _ in range(_TRIES):
            with self._request() as folder:
                tee = self._provider(folder)
                report = self._report(folder, tee, report_data)
                if report is None:
                    continue
                certificates = _auxiliary(folder)
            at = _SNP_DATA if tee == "snp" else _TDX_DATA.get(int.from_bytes(report[:2], "little"))
            if at is None:
                raise NoEvidence("a TDX quote of an unknown version")
            check_about(report, at, report_data, "the report")
            return self.completed(tee, report, certificates)
        raise NoEvidence(f"{self.folder}: others wrote in between, {_TRIES} times")

    @contextlib.contextmanager
    def _request(self) -> Iterator[Path]:
        """A folder of this request's own, which is gone afterwards."""
        folder = self.folder / f"hansa-{secrets.token_hex(8)}"
        try:
            folder.mkdir()
        except OSError as error:
            raise NoEvidence(f"{self.folder}: {error.strerror or error}") from None
        try:
            yield folder
        finally:
            with contextlib.suppress(OSError):  # nobody is helped by a second error
                folder.rmdir()

    def _provider(self, folder: Path) -> Tee:
        word = read_whole(folder / "provider", "provider", 64).decode(errors="replace").strip()
        if word not in _PROVIDERS:
            raise NoEvidence(f"provider {word!r}: known are {', '.join(_PROVIDERS)}")
        return _PROVIDERS[word]

    def _report(self, folder: Path, tee: Tee, report_data: bytes) -> bytes | None:
        """The report; None: somebody else wrote meanwhile."""
        before, writes = _generation(folder), 1
        if self.privlevel is not None:
            if tee != "snp":
                raise NoEvidence(f"privlevel {self.privlevel}: {tee} has none")
            _write(folder / "privlevel", str(self.privlevel).encode())
            writes += 1
        _write(folder / "inblob", report_data)
        try:
            report = read_whole(folder / "outblob", "report")
        except NoEvidence:
            if _generation(folder) != before + writes:
                return None
            raise
        return report if _generation(folder) == before + writes else None


def _generation(folder: Path) -> int:
    text = read_whole(folder / "generation", "generation", 64).decode(errors="replace").strip()
    if not text.isdecimal():
        raise NoEvidence(f"{folder / 'generation'}: {text!r} is no number")
    return int(text)


def _write(path: Path, data: bytes) -> None:
    try:
        with path.open("r+b", buffering=0) as file:
            written = file.write(data)
    except OSError as error:
        raise NoEvidence(f"{path}: {error.strerror or error}") from None
    if written != len(data):
        raise NoEvidence(f"{path}: took {written} of {len(data)} bytes")


def _auxiliary(folder: Path) -> bytes:
    """Certificates that the host has handed over, if it has any."""
    path = folder / "auxblob"
    try:
        with path.open("rb", buffering=0) as file:
            if not file.read(1):
                return b""
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENXIO, errno.EOPNOTSUPP):
            return b""
        raise NoEvidence(f"{path}: {error.strerror or error}") from None
    return read_whole(path, "certificates")
