"""What all evidence is asked: whether it is the code that is meant, and of this session."""

from __future__ import annotations

import hmac

from hansa.attest.policy import Policy
from hansa.attest.refusals import WrongMeasurement, WrongReportData
from hansa.attest.verdict import Verdict

REPORT_DATA = 64
"""Bytes of report data, of every vendor."""


def check_measurement(verdict: Verdict, policy: Policy) -> None:
    """Note code that no entry of the policy names."""
    if policy.any_measurement:
        return
    if not any(each.holds(verdict.measured) for each in policy.measurements):
        short = verdict.measurement[:16]
        verdict.note(WrongMeasurement(f"{short}... and what goes with it is in no entry"))


def check_report_data(verdict: Verdict, expected: bytes | None) -> None:
    """Note a report about other data than was asked for; None: nobody asked."""
    if expected is not None and not hmac.compare_digest(verdict.report_data, expected):
        verdict.note(WrongReportData("the report is about other data than was asked for"))
