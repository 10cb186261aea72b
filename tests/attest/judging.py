"""Judge what the vendor of the tests has made, as of its own time and under its own roots."""

from __future__ import annotations

from datetime import datetime

from hansa.attest.evidence import Evidence
from hansa.attest.policy import Policy
from hansa.attest.verdict import Verdict
from hansa.attest.verify import verify

from .certifying import NOW
from .vendor import REPORT_DATA, Amd


def judge(
    evidence: Evidence,
    policy: Policy,
    at: datetime = NOW,
    report_data: bytes | None = REPORT_DATA,
) -> Verdict:
    return verify(evidence, policy, at=at, report_data=report_data, roots=Amd.roots())


def problems(
    evidence: Evidence,
    policy: Policy,
    at: datetime = NOW,
    report_data: bytes | None = REPORT_DATA,
) -> list[str]:
    return [name for name, _ in judge(evidence, policy, at, report_data).problems]
