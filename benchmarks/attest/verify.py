"""What it costs to verify evidence: CPU time of one verification, chains new and known.

    python benchmarks/attest/verify.py

SNP is the real report of examples/attest; quotes are of the tests' own vendor, with keys of the
kinds that Intel's are. New: nothing is remembered of certificates. Known: their chain has been
checked before, as that of a peer that shows fresh evidence. Of many rounds the median counts.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))

import measure
from tests.attest.certifying import NOW
from tests.attest.vendor import REPORT_DATA, Amd, Intel, domain, enclave

from hansa.attest import certificates, signatures
from hansa.attest.evidence_files import recognise
from hansa.attest.policy import Policy
from hansa.attest.verify import require

EXAMPLE = Path(__file__).parents[2] / "examples" / "attest"
GOAL = 5.0
"""Milliseconds of one SNP verification."""

Work = Callable[[], object]


def works() -> dict[str, tuple[Work, float | None]]:
    """What is timed, by name, with its goal in milliseconds."""
    real = recognise((EXAMPLE / "genoa.hex").read_bytes())
    policy = Policy.load(EXAMPLE / "genoa.yaml")
    at = datetime(2026, 3, 1, tzinfo=UTC)
    made: dict[str, tuple[Work, float | None]] = {
        "SNP, Genoa (real)": (lambda: require(real, policy, at=at, report_data=None), GOAL)
    }
    intel, roots = Intel(), Amd.roots()
    for name, body in (("SGX, quote 3", enclave()), ("TDX, quote 4", domain()),
                       ("TDX 1.5, quote 5", domain(648))):  # fmt: skip
        evidence, strict = intel.evidence(body), intel.policy()
        made[name] = (
            lambda evidence=evidence, strict=strict: require(
                evidence, strict, at=NOW, report_data=REPORT_DATA, roots=roots
            ),
            None,
        )
    return made


def forget() -> None:
    """Forget every certificate, key and signature."""
    for kept in (certificates.parse, signatures.public_key, signatures.check_signed):
        kept.cache_clear()


def milliseconds(work: Work, rounds: int, new: bool) -> float:
    """CPU time of one call."""
    work()
    spent = []
    for _ in range(rounds):
        if new:
            forget()
        began = time.process_time_ns()
        work()
        spent.append((time.process_time_ns() - began) / 1e6)
    return statistics.median(spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="the smallest size, not to be judged")
    smoke = parser.parse_args().smoke
    rounds = 3 if smoke else 400
    rows = []
    for name, (work, goal) in works().items():
        new, known = (milliseconds(work, rounds, each) for each in (True, False))
        met = "" if goal is None else "yes" if max(new, known) <= goal else "NO"
        rows.append([name, f"{new:.2f}", f"{known:.2f}", f"≤ {goal:.0f}" if goal else "", met])
    text = measure.markdown(
        "What it costs to verify evidence",
        "python benchmarks/attest/verify.py",
        ["evidence", "ms CPU, chain new", "ms CPU, chain known", "goal", "met"],
        rows,
    )
    measure.publish("attest_verify", text, smoke)


if __name__ == "__main__":
    main()
