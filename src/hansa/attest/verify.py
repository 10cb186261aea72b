"""Whether evidence is genuine and a policy takes it.

The clock is an argument: evidence is judged as of a moment, never by the machine's own clock, and
nothing is fetched. Evidence of a simulation is always refused here.
"""

from __future__ import annotations

from datetime import UTC, datetime

from hansa.attest import dcap, snp
from hansa.attest.evidence import Evidence
from hansa.attest.judging import REPORT_DATA
from hansa.attest.policy import Policy
from hansa.attest.refusals import AttestationError, Simulated, WrongPlatform
from hansa.attest.roots import Roots, pinned
from hansa.attest.verdict import Verdict


def verify(
    evidence: Evidence,
    policy: Policy,
    *,
    at: datetime,
    report_data: bytes | None,
    roots: Roots | None = None,
) -> Verdict:
    """Judge evidence, and give every reason to refuse it.

    Args:
        evidence: what the other side shows.
        policy: what has to hold.
        at: the moment as of which it is judged, with a time zone.
        report_data: the 64 bytes that it has to be about. None leaves that open: then whoever has
            seen such a report can show it again.
        roots: where trust begins; by default the vendors' pinned roots. Others are for tests.

    Returns:
        The verdict; no exception for evidence, whatever it is.

    Raises:
        ValueError: ``at`` has no time zone, or ``report_data`` are not 64 bytes.
    """
    if at.tzinfo is None:
        raise ValueError("at: a moment without a time zone is none; datetime.now(UTC) is one")
    if report_data is not None and len(report_data) != REPORT_DATA:
        raise ValueError(f"report_data: {len(report_data)} bytes, {REPORT_DATA} are needed")
    verdict = Verdict(evidence.tee)
    try:
        if evidence.tee == "simulated":
            raise Simulated("no hardware stands behind it")
        if evidence.tee not in policy.platforms:
            taken = ", ".join(policy.platforms) or "no hardware"
            raise WrongPlatform(f"{evidence.tee} is not taken: the policy says {taken}")
        room = snp if evidence.tee == "snp" else dcap
        room.examine(evidence, policy, at.astimezone(UTC), report_data, roots or pinned(), verdict)
    except AttestationError as problem:
        verdict.note(problem)
    return verdict


def require(
    evidence: Evidence,
    policy: Policy,
    *,
    at: datetime,
    report_data: bytes | None,
    roots: Roots | None = None,
) -> Verdict:
    """Judge evidence (arguments as of :func:`verify`), and raise the first reason to refuse it.

    Raises:
        AttestationError: the class of the reason.
    """
    verdict = verify(evidence, policy, at=at, report_data=report_data, roots=roots)
    if verdict.reasons:
        raise verdict.reasons[0]
    return verdict
