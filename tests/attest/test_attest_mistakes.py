"""Mistakes that public verifiers of evidence have made, each of which would be accepted by them.

One test a mistake; where the mistake has more than one way in, so has the test.
"""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from hansa.attest.evidence import Evidence
from hansa.attest.policy import STATUSES, Policy
from hansa.attest.refusals import AttestationError, PolicyError
from hansa.attest.verify import require, verify

from .certifying import NOW, octets, p256, pem, revocations, rsa_key
from .judging import judge, problems
from .vendor import REPORT_DATA, Amd, Intel, domain, enclave, snp_collateral

AMD, INTEL = Amd(), Intel()
ALL = [
    (AMD.evidence(), AMD.policy()), (INTEL.evidence(enclave()), INTEL.policy()),
    (INTEL.evidence(domain()), INTEL.policy()),
]  # fmt: skip
IDS = ["snp", "sgx", "tdx"]
each = pytest.mark.parametrize(("evidence", "policy"), ALL, ids=IDS)


@each
def test_report_data_that_differ_are_fatal(evidence: Evidence, policy: Policy) -> None:
    other = bytes(64)
    assert problems(evidence, policy, report_data=other) == ["report-data"]
    with pytest.raises(AttestationError, match="other data"):
        require(evidence, policy, at=NOW, report_data=other, roots=Amd.roots())


def test_nothing_is_verified_without_a_chain() -> None:
    bare = dataclasses.replace(AMD.evidence(), certificates=b"")
    assert problems(bare, AMD.policy()) == ["chain"]
    assert problems(INTEL.evidence(enclave(), chain=b""), INTEL.policy()) == ["chain"]


@each
def test_dates_are_checked(evidence: Evidence, policy: Policy) -> None:
    for days in (-4000, 4000):
        names = problems(evidence, policy, at=NOW + timedelta(days=days))
        assert set(names) == {"expired" if days > 0 else "not-yet-valid"}


def test_debugging_and_privilege_are_checked_by_both_ways_in() -> None:
    cases = [
        (AMD.evidence(policy=0xB0000), AMD.policy(), "debug"),
        (AMD.evidence(vmpl=1), AMD.policy(), "vmpl"),
        (INTEL.evidence(enclave(attributes=b"\x07" + bytes(15))), INTEL.policy(), "debug"),
        (INTEL.evidence(domain(attributes=b"\x01" + bytes(7))), INTEL.policy(), "debug"),
    ]
    for evidence, policy, name in cases:
        assert problems(evidence, policy) == [name]
        with pytest.raises(AttestationError) as told:
            require(evidence, policy, at=NOW, report_data=REPORT_DATA, roots=Amd.roots())
        assert told.value.name == name


def test_versions_are_compared_with_the_policys_and_not_only_with_themselves() -> None:
    old = Amd(versions={**AMD.versions, "snp": 3})
    assert problems(old.evidence(), AMD.policy()) == ["tcb"]


def test_the_chip_is_compared_for_every_vcek() -> None:
    """One verifier looked for "sev" in the name, and so never compared that of a SEV-VCEK."""
    assert problems(AMD.evidence(chip_id=bytes([1]) * 64), AMD.policy()) == ["hw-id"]
    assert problems(Amd(without=("1.3.6.1.4.1.3704.1.4",)).evidence(), AMD.policy()) == ["hw-id"]


@pytest.mark.parametrize("product", ["Milan", "Genoa", "Turin"])
@pytest.mark.parametrize("first", [0x02, 0x04])
def test_a_hwid_that_looks_like_der_is_raw(product: str, first: int) -> None:
    """Those that begin with 02 or 04 are chips too; one that is wrapped in DER is none."""
    size = 8 if product == "Turin" else 64
    chip = bytes([first, size - 2]) + bytes(range(1, size - 1))
    amd = Amd(product, hwid=chip)
    report = {"chip_id": chip.ljust(64, b"\0")}
    assert problems(amd.evidence(**report), amd.policy()) == []
    wrapped = Amd(product, hwid=octets(chip))
    assert problems(wrapped.evidence(**report), amd.policy()) == ["hw-id"]


def test_a_root_that_came_along_is_compared_with_the_pinned_one() -> None:
    evil = rsa_key("evil")
    ark = dataclasses.replace(AMD.ark, key=evil, issuer_key=evil)
    between = {"issuer_key": evil}
    other = Amd(between=between)
    evidence = dataclasses.replace(
        other.evidence(), certificates=pem(other.vek.der, other.ask.der, ark.der)
    )
    assert problems(evidence, AMD.policy()) == ["root"]
    evidence = dataclasses.replace(
        AMD.evidence(), certificates=pem(AMD.vek.der, AMD.ask.der, ark.der)
    )
    assert problems(evidence, AMD.policy()) == ["root"]
    named = dataclasses.replace(AMD.ark, subject="ARK-X", issuer="ARK-X", key=evil, issuer_key=evil)
    own = Amd(between={"issuer": "ARK-X", "issuer_key": evil})
    evidence = dataclasses.replace(
        own.evidence(), certificates=pem(own.vek.der, own.ask.der, named.der)
    )
    assert problems(evidence, AMD.policy()) == ["root"]


def test_revocation_lists_are_looked_at_and_missed() -> None:
    revoked = snp_collateral(revocations(AMD.ark.subject, AMD.ark.key, [AMD.ask.serial]))
    evidence = dataclasses.replace(AMD.evidence(), collateral=revoked)
    assert problems(evidence, AMD.policy()) == ["revoked"]
    assert problems(dataclasses.replace(evidence, collateral=b""), AMD.policy()) == ["collateral"]
    pck = revocations(INTEL.authority.subject, INTEL.authority.key, [INTEL.pck.serial])
    lists = INTEL.collateral(True, pck_crl=pck.hex())
    evidence = dataclasses.replace(INTEL.evidence(domain()), collateral=lists)
    assert problems(evidence, INTEL.policy()) == ["revoked"]


@pytest.mark.parametrize("status", [*STATUSES[1:], "Revoked", "", "uptodate", "Valid"])
def test_all_but_up_to_date_is_refused_unless_it_is_named(status: str) -> None:
    tcb = {"sgxtcbcomponents": [{"svn": 5}] * 16, "pcesvn": 11}
    lists = INTEL.collateral(False, tcb_info={"tcbLevels": [{"tcb": tcb, "tcbStatus": status}]})
    evidence = dataclasses.replace(INTEL.evidence(enclave()), collateral=lists)
    assert problems(evidence, INTEL.policy()) == ["tcb"]


def test_a_platform_that_is_revoked_is_never_taken() -> None:
    tcb = {"sgxtcbcomponents": [{"svn": 5}] * 16, "pcesvn": 11}
    lists = INTEL.collateral(False, tcb_info={"tcbLevels": [{"tcb": tcb, "tcbStatus": "Revoked"}]})
    evidence = dataclasses.replace(INTEL.evidence(enclave()), collateral=lists)
    assert problems(evidence, INTEL.policy(statuses=list(STATUSES))) == ["tcb"]
    with pytest.raises(PolicyError):
        INTEL.policy(statuses=["Revoked"])


def test_module_vendor_and_identity_of_the_quoting_enclave_are_checked() -> None:
    policy = INTEL.policy()
    module = INTEL.evidence(domain(svn=bytes([3, 7, 5]) + bytes(13)))
    assert problems(module, policy) == ["tdx-module"]
    assert problems(INTEL.evidence(domain(), vendor=bytes(16)), policy) == ["qe-identity"]
    assert problems(INTEL.evidence(domain(), qe={"signer": bytes(32)}), policy) == ["qe-identity"]


def test_lists_that_are_over_are_refused_and_the_verdict_says_when() -> None:
    """What held at the meeting need not hold at the next word: ``until`` is for asking again."""
    evidence, policy = ALL[2]
    verdict = judge(evidence, policy)
    assert verdict.until is not None
    assert verdict.until < NOW + timedelta(days=30)
    later = verdict.until + timedelta(seconds=1)
    assert set(problems(evidence, policy, at=later)) == {"expired"}


@each
def test_nothing_stands_in_for_hardware(evidence: Evidence, policy: Policy) -> None:
    for tests in (policy, Policy.parse({"simulated": True, "any_measurement": True})):
        shown = dataclasses.replace(evidence, tee="simulated")
        assert problems(shown, tests) == ["simulated"]
    simulated = Policy.parse({"simulated": True, "any_measurement": True})
    assert problems(evidence, simulated) == ["platform"]


def test_a_policy_that_says_little_takes_little() -> None:
    for empty in ({}, {"platforms": ["snp"]}, {"platforms": ["snp"], "products": ["Milan"]}):
        with pytest.raises(PolicyError):
            Policy.parse(empty)


@each
def test_the_roots_are_the_vendors_unless_a_test_says_otherwise(
    evidence: Evidence, policy: Policy
) -> None:
    verdict = verify(evidence, policy, at=NOW, report_data=REPORT_DATA)
    assert {"root", "chain"} & {name for name, _ in verdict.problems}


def test_the_key_of_another_quote_is_not_this_ones() -> None:
    """The quoting enclave stands for one key, by hash; a quote of another key is refused."""
    quote = bytearray(INTEL.quote(enclave()))
    at = 48 + 384 + 4
    other = p256("stranger")
    quote[at : at + 64] = other.raw(bytes(quote[: 48 + 384]))
    quote[at + 64 : at + 128] = other.point
    evidence = dataclasses.replace(INTEL.evidence(enclave()), report=bytes(quote))
    assert problems(evidence, INTEL.policy()) == ["qe-identity"]
