"""Real evidence of three generations of EPYC, of SGX and of TDX: what is genuine, and what not."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta

import pytest

from hansa.attest.refusals import AttestationError
from hansa.attest.verdict import Verdict
from hansa.attest.verify import require, verify

from .real import NAMES, SNP, evidence_of, folder, policy

pytestmark = pytest.mark.data

DEBUGGED = ("milan-debug", "tdx-debug", "sgx-debug")
TRAILING = {"tdx": 70, "tdx-6": 70, "tdx-prod": 39}
OUTDATED = "tdx-outdated"
GENUINE = [name for name in NAMES if name not in (*DEBUGGED, OUTDATED)]


def judged(name: str, **changes: object) -> Verdict:
    evidence, at = evidence_of(name)
    return verify(evidence, policy(**changes), at=at, report_data=None)


def names(verdict: Verdict) -> list[str]:
    return [name for name, _ in verdict.problems]


@pytest.mark.parametrize("name", GENUINE)
def test_genuine_evidence_is_accepted(name: str) -> None:
    verdict = judged(name)
    assert not verdict.problems
    assert verdict.accepted
    assert verdict.is_hardware
    evidence, at = evidence_of(name)
    assert verdict.until is not None
    assert verdict.until > at
    assert require(evidence, policy(), at=at, report_data=None) == verdict
    again = verify(evidence, policy(), at=verdict.until, report_data=verdict.report_data)
    assert again.accepted
    late = verify(evidence, policy(), at=verdict.until + timedelta(seconds=1), report_data=None)
    assert "expired" in names(late)


def test_what_it_says_is_read() -> None:
    milan, turin, tdx, sgx = map(judged, ("milan", "turin", "tdx", "sgx"))
    assert (milan.product, milan.tcb["snp"], milan.tcb["microcode"]) == ("Milan", 0x18, 0xDB)
    assert turin.tcb == {"boot_loader": 1, "tee": 1, "snp": 4, "microcode": 0x51, "fmc": 1}
    assert turin.chip_id.startswith("59790fb1c39f35c100")
    assert (tdx.product, tdx.status, tdx.advisories) == ("B0C06F000000", "UpToDate", ())
    assert (sgx.product, sgx.status) == ("00A067110000", "ConfigurationAndSWHardeningNeeded")
    assert sgx.advisories == ("INTEL-SA-00289", "INTEL-SA-00615")


@pytest.mark.parametrize("name", DEBUGGED)
def test_what_its_host_can_debug_is_genuine_and_refused(name: str) -> None:
    assert names(judged(name)) == ["debug"]
    assert judged(name, debug=True).accepted


def test_a_platform_that_reaches_no_level_is_refused() -> None:
    verdict = judged(OUTDATED)
    assert verdict.problems == (("tcb", "no TCB level of Intel's list is reached"),)


@pytest.mark.parametrize("kind", ["legacy", "new"])
def test_certificates_that_amd_did_not_sign_are_refused(kind: str) -> None:
    evidence, at = evidence_of("milan-2")
    wrong = (folder() / f"snp/trustee_test-vcek-invalid-{kind}.der").read_bytes()
    evidence = dataclasses.replace(evidence, certificates=wrong)
    assert names(verify(evidence, policy(), at=at, report_data=None)) == ["chain"]


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("milan-vlek", {"vmpl": 0}, "vmpl"),
        ("milan-vlek", {"key_kinds": ["vcek"]}, "key-kind"),
        ("milan-vlek", {"masked_chip_id": False}, "hw-id"),
        ("milan-2", {"minimum_tcb": {name: {"snp": 0x18} for name in ("Milan", "Genoa", "Turin")}},
         "tcb"),
        ("genoa", {"products": ["Turin", "Intel"], "minimum_tcb": {"Turin": {"snp": 0}}},
         "product"),
        ("genoa", {"collateral": "required"}, "collateral"),
        ("tdx-5", {"collateral": "required"}, "collateral"),
        ("tdx-6", {"allow_trailing": False}, "trailing"),
        ("tdx-prod", {"allow_trailing": False}, "trailing"),
        ("tdx", {"allow_trailing": False}, "trailing"),
        ("tdx", {"collateral_age_s": 3600}, "expired"),
        ("tdx", {"minimum_evaluation": 18}, "tcb"),
        ("tdx", {"products": ["Milan", "Genoa", "Turin", "00A067110000"]}, "product"),
        ("tdx", {"revoked_chips": ["811dca2a26b952e85bb6448b097ba4fd"]}, "revoked"),
        ("sgx", {"statuses": ["UpToDate"]}, "tcb"),
        ("sgx", {"advisories": ["INTEL-SA-00615"]}, "advisory"),
        ("sgx", {"platforms": ["tdx", "snp"]}, "platform"),
        ("sgx", {"any_measurement": False, "measurements": [{"mrenclave": "00" * 32}]},
         "measurement"),
    ],
)  # fmt: skip
def test_a_stricter_policy_refuses_by_name(name: str, change: dict, problem: str) -> None:
    assert problem in names(judged(name, **change))


@pytest.mark.parametrize("name", GENUINE)
def test_other_report_data_is_refused(name: str) -> None:
    evidence, at = evidence_of(name)
    verdict = verify(evidence, policy(), at=at, report_data=bytes(63) + b"\1")
    assert names(verdict) == ["report-data"]


@pytest.mark.parametrize("name", GENUINE)
def test_its_own_measurement_is_taken(name: str) -> None:
    known = {"snp": ("launch_digest", "host_data"), "sgx": ("mrenclave", "mrsigner"),
             "tdx": ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3")}  # fmt: skip
    verdict = judged(name)
    own = {key: verdict.measured[key] for key in known[verdict.platform]}
    assert judged(name, any_measurement=False, measurements=[own]).accepted


@pytest.mark.parametrize("name", GENUINE)
def test_every_part_is_covered_by_a_signature(name: str) -> None:
    """Every 17th byte of a report or quote, and every 97th of what its vendor signed beside it."""
    evidence, at = evidence_of(name)
    data = evidence.report
    trailing = TRAILING.get(name, 0)
    for k in range(0, len(data) - trailing, 17):
        turned = data[:k] + bytes([data[k] ^ 0x40]) + data[k + 1 :]
        with pytest.raises(AttestationError):
            require(dataclasses.replace(evidence, report=turned), policy(), at=at, report_data=None)
    whole = json.loads(evidence.collateral or b"{}")
    for field, text in whole.items():
        for k in range(0, len(text), 97):
            turned_text = text[:k] + chr(ord(text[k]) ^ 1) + text[k + 1 :]
            collateral = json.dumps({**whole, field: turned_text}).encode()
            other = dataclasses.replace(evidence, collateral=collateral)
            with pytest.raises(AttestationError):
                require(other, policy(), at=at, report_data=None)


@pytest.mark.parametrize("name", list(SNP))
def test_certificates_of_another_chip_are_refused(name: str) -> None:
    evidence, at = evidence_of(name)
    other, _ = evidence_of("genoa" if name != "genoa" else "turin")
    swapped = dataclasses.replace(evidence, certificates=other.certificates)
    assert {"signature", "tcb"} <= set(names(verify(swapped, policy(), at=at, report_data=None)))
