"""What comes of looking at evidence: accepted or refused, what was found, and every reason.

A verifier fills it in on its way, and goes on behind what is a reason to refuse.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from hansa.attest.evidence import Tee
from hansa.attest.refusals import AttestationError


@dataclass
class Verdict:
    """What a verifier found. Of evidence that is refused, nothing here is to be believed.

    Attributes:
        platform: the kind of hardware, as the evidence has it.
        product: ``Milan``, ``Genoa`` or ``Turin``; of Intel the FMSPC, 12 hex digits; "" where it
            is not known.
        measurement: the code: SNP launch digest, MRENCLAVE or MRTD, hex.
        measured: all that was measured, by the names that a policy's measurements have.
        tcb: versions of firmware and microcode.
        status: what Intel says of the platform (``UpToDate`` ...), ``Unchecked`` where its lists
            were neither given nor required, "" for SNP.
        chip_id: hex; chip id of SNP, PPID of Intel; "" where it is masked.
        advisories: known weaknesses of an Intel platform.
        report_data: the 64 bytes that the report is about.
        until: when the first certificate or list ends on which this rests.
        reasons: every reason to refuse, the first first; empty where accepted.
    """

    platform: Tee
    product: str = ""
    measurement: str = ""
    measured: Mapping[str, str | int] = field(default_factory=dict)
    tcb: Mapping[str, int | str] = field(default_factory=dict)
    status: str = ""
    chip_id: str = ""
    advisories: tuple[str, ...] = ()
    report_data: bytes = b""
    until: datetime | None = None
    reasons: list[AttestationError] = field(default_factory=list)

    def note(self, reason: AttestationError) -> None:
        """Take down a reason to refuse, once."""
        if all((type(each), str(each)) != (type(reason), str(reason)) for each in self.reasons):
            self.reasons.append(reason)

    @contextlib.contextmanager
    def noting(self) -> Iterator[None]:
        """Take down what is raised within, and go on behind it."""
        try:
            yield
        except AttestationError as reason:
            self.note(reason)

    def lasts_until(self, moment: datetime) -> None:
        """Take down when something ends on which this rests."""
        self.until = moment if self.until is None else min(self.until, moment)

    @property
    def accepted(self) -> bool:
        """Whether everything held."""
        return not self.reasons

    @property
    def verdict(self) -> Literal["accepted", "refused"]:
        """The same as a word."""
        return "accepted" if self.accepted else "refused"

    @property
    def problems(self) -> tuple[tuple[str, str], ...]:
        """(name, text) of each reason to refuse."""
        return tuple((each.name, str(each)) for each in self.reasons)

    @property
    def is_hardware(self) -> bool:
        """Whether hardware is what it claims to come from."""
        return self.platform != "simulated"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "verdict": self.verdict, "platform": self.platform, "product": self.product,
            "is_hardware": self.is_hardware, "measurement": self.measurement,
            "measured": dict(self.measured), "tcb": dict(self.tcb), "status": self.status,
            "chip_id": self.chip_id, "advisories": list(self.advisories),
            "report_data": self.report_data.hex(),
            "until": self.until.isoformat() if self.until else None,
            "problems": [{"name": name, "text": text} for name, text in self.problems],
        }  # fmt: skip
