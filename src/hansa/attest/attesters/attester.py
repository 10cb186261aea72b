"""What every way of getting evidence promises. Outside of trusted hardware each of them raises."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from hansa.attest.evidence import LARGEST, Evidence, Tee
from hansa.attest.refusals import AttestationError
from hansa.base.component import Component

REPORT_DATA = 64
"""Bytes that evidence is about."""


class NoEvidence(AttestationError):
    """There is no evidence to be had here: no trusted hardware, or one that is not set up."""

    name = "no-evidence"


class NoSealing(AttestationError):
    """This hardware gives no key that only the same code on the same chip can have."""

    name = "no-sealing"


class Attester(Component, kind="attester"):
    """Produces evidence about 64 bytes of the caller's."""

    is_hardware: ClassVar[bool] = True

    @property
    @abstractmethod
    def tee(self) -> Tee:
        """What its evidence is of.

        Raises:
            NoEvidence: there is none here.
        """

    @abstractmethod
    def evidence(self, report_data: bytes) -> Evidence:
        """Evidence about these 64 bytes.

        Raises:
            NoEvidence: there is none here.
        """

    def told(self, member: Mapping[str, Any]) -> Attester:
        """The same with what who starts a run tells a member of it."""
        return self

    def sealing_key(self) -> bytes:
        """At least 16 bytes that only the same code on the same chip can have.

        Raises:
            NoSealing: there is no such key.
        """
        raise NoSealing(f"{type(self).name} gives no key to seal with")


class HardwareAttester(Attester):
    """One whose evidence may need certificates and lists that the hardware does not give."""

    certificates: Path | None = Field(
        None, description="certificates of the chip's key and its issuers (PEM or DER), if the "
        "host does not hand them over"
    )  # fmt: skip
    collateral: Path | None = Field(
        None, description="the vendor's signed lists for this platform, saved beforehand"
    )

    def completed(self, tee: Tee, report: bytes, certificates: bytes = b"") -> Evidence:
        """Evidence with what was saved beforehand."""
        shown = certificates or _saved(self.certificates, "certificates")
        return Evidence(tee, report, shown, _saved(self.collateral, "collateral"))


def check_report_data(report_data: bytes) -> None:
    """Refuse what is not 64 bytes."""
    if len(report_data) != REPORT_DATA:
        raise ValueError(f"evidence is about {REPORT_DATA} bytes, not {len(report_data)}")


def check_about(report: bytes, at: int, report_data: bytes, what: str) -> None:
    """Refuse a report that is not about what was asked: another process may have come between.

    Args:
        at: where in it the 64 bytes are.

    Raises:
        NoEvidence: they are others.
    """
    if report[at : at + REPORT_DATA] != report_data:
        raise NoEvidence(f"{what} is about other data than was asked for")


def read_whole(path: Path, what: str, most: int = LARGEST) -> bytes:
    """All bytes of a file that may give fewer at a time than are asked for.

    Raises:
        NoEvidence: it is not there, empty, or longer than any.
    """
    pieces, size = [], 0
    try:
        with path.open("rb", buffering=0) as file:
            while piece := file.read(1 << 14):
                pieces.append(piece)
                size += len(piece)
                if size > most:
                    raise NoEvidence(f"{path}: {what} of more than {most:,} bytes")
    except OSError as error:
        raise NoEvidence(f"{path}: no {what} ({error.strerror or error})") from None
    if not size:
        raise NoEvidence(f"{path}: an empty {what}")
    return b"".join(pieces)


def _saved(path: Path | None, what: str) -> bytes:
    return b"" if path is None else read_whole(path, what)
