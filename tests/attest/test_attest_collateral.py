"""What Intel's lists say: levels, modules, enclaves, signatures, dates and revocations."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from hansa.attest.collateral import canonical
from hansa.attest.policy import STATUSES
from hansa.attest.tcb_levels import Level

from .certifying import NOW, p256, pem, revocations
from .judging import judge, problems
from .vendor import Intel, domain, enclave

INTEL = Intel()
TDX = INTEL.evidence(domain())


def with_lists(tdx: bool = True, intel: Intel = INTEL, **changes: Any) -> list[str]:
    evidence = intel.evidence(domain() if tdx else enclave())
    evidence = dataclasses.replace(evidence, collateral=intel.collateral(tdx, **changes))
    return problems(evidence, intel.policy())


def level(status: str = "UpToDate", **changes: Any) -> dict[str, Any]:
    tcb = {"sgxtcbcomponents": [{"svn": 5}] * 16, "pcesvn": 11,
           "tdxtcbcomponents": [{"svn": 0}] * 16}  # fmt: skip
    return {"tcb": {**tcb, **changes}, "tcbStatus": status}


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"tcbLevels": [level("Revoked")]}, "tcb"),
        ({"tcbLevels": [level("Marvellous")]}, "tcb"),
        ({"tcbLevels": []}, "tcb"),
        ({"tcbLevels": [level(pcesvn=12)]}, "tcb"),
        ({"tcbLevels": [level(sgxtcbcomponents=[{"svn": 5}] * 15 + [{"svn": 6}])]}, "tcb"),
        ({"tcbLevels": [level(tdxtcbcomponents=[{"svn": 0}] * 15 + [{"svn": 1}])]}, "tcb"),
        ({"tcbLevels": [level(tdxtcbcomponents=[{"svn": 9}] * 2 + [{"svn": 0}] * 14)]}, None),
        ({"tcbLevels": [level(sgxtcbcomponents=[{"svn": 5}] * 15)]}, "collateral"),
        ({"tcbLevels": [level(sgxtcbcomponents=[{"svn": "5"}] * 16)]}, "collateral"),
        ({"tcbLevels": [level(pcesvn=True)]}, "collateral"),
        ({"tcbLevels": "all"}, "collateral"),
        ({"tcbLevels": [{}] * 1025}, "collateral"),
        ({"tcbLevels": [3]}, "collateral"),
        ({"tcbLevels": [{}]}, "collateral"),
        ({"id": "SGX"}, "collateral"),
        ({"version": 2}, "collateral"),
        ({"tcbType": 1}, "collateral"),
        ({"fmspc": "00906ED50001"}, "collateral"),
        ({"pceId": "0001"}, "collateral"),
        ({"tdxModuleIdentities": []}, "tdx-module"),
        ({"issueDate": "2026-06-02T00:00:00Z"}, "not-yet-valid"),
        ({"nextUpdate": "2026-05-31T00:00:00Z"}, "expired"),
        ({"issueDate": "2026-04-01T00:00:00Z"}, "expired"),
        ({"nextUpdate": "soon"}, "collateral"),
        ({"nextUpdate": "9999-12-31T23:59:59Z"}, "collateral"),
        ({"tcbEvaluationDataNumber": "17"}, "collateral"),
    ],
)
def test_tcb_info_is_read_by_intels_rules(info: Mapping[str, Any], expected: str | None) -> None:
    assert with_lists(tcb_info=info) == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("identity", "expected"),
    [
        ({"id": "QE"}, "collateral"),
        ({"version": 1}, "collateral"),
        ({"mrsigner": "00" * 32}, "qe-identity"),
        ({"mrsigner": "00"}, "collateral"),
        ({"isvprodid": 9}, "qe-identity"),
        ({"miscselect": "00000001"}, "qe-identity"),
        ({"attributes": "31" + "00" * 15}, "qe-identity"),
        ({"tcbLevels": [{"tcb": {"isvsvn": 9}, "tcbStatus": "UpToDate"}]}, "qe-identity"),
        ({"tcbLevels": [{"tcb": {"isvsvn": 1}, "tcbStatus": "Revoked"}]}, "tcb"),
        ({"tcbLevels": [{"tcb": {"isvsvn": 1}, "tcbStatus": "OutOfDate"}]}, "tcb"),
        ({"tcbLevels": [{"tcb": {"isvsvn": 1}, "tcbStatus": "SWHardeningNeeded"}]}, "collateral"),
        ({"nextUpdate": "2026-05-31T00:00:00Z"}, "expired"),
    ],
)
def test_the_quoting_enclave_is_who_intel_says(identity: Mapping[str, Any], expected: str) -> None:
    assert with_lists(qe_identity=identity) == [expected]


@pytest.mark.parametrize("part", ["UpToDate", "OutOfDate", "Revoked"])
@pytest.mark.parametrize("status", STATUSES)
def test_a_part_never_makes_a_status_better(status: str, part: str) -> None:
    """As ``convergeTcbStatus...`` of Intel's quote verification library."""
    whole = Level(status, ("b",)).with_part(Level(part, ("a",)))
    assert whole.advisories == ("a", "b")
    if part == "Revoked":
        assert whole.status == "Revoked"
    elif part == "UpToDate":
        assert whole.status == status
    else:
        assert whole.status.startswith("OutOfDate")
        assert ("ConfigurationNeeded" in whole.status) == ("Configuration" in status)


@pytest.mark.parametrize("status", STATUSES)
def test_only_the_statuses_of_the_policy_are_taken(status: str) -> None:
    lists = INTEL.collateral(True, tcb_info={"tcbLevels": [level(status)]})
    evidence = dataclasses.replace(TDX, collateral=lists)
    for taken in STATUSES:
        names = problems(evidence, INTEL.policy(statuses=[taken]))
        assert names == ([] if taken == status else ["tcb"])
    assert judge(evidence, INTEL.policy()).status == status


def test_the_first_level_that_is_reached_counts() -> None:
    old = Intel(components=(5,) * 15 + (4,))
    verdict = judge(old.evidence(enclave()), old.policy())
    assert (verdict.status, verdict.advisories) == ("OutOfDate", ("INTEL-SA-00001",))
    assert [name for name, _ in verdict.problems] == ["tcb", "advisory"]
    tolerant = old.policy(statuses=["OutOfDate"], advisories=["INTEL-SA-00001"])
    assert judge(old.evidence(enclave()), tolerant).accepted
    assert problems(Intel(pcesvn=10).evidence(enclave()), INTEL.policy()) == ["tcb"]


def test_a_processor_that_is_revoked_is_so_whatever_its_module_reaches() -> None:
    levels = [
        level("Revoked", tdxtcbcomponents=[{"svn": 0}] * 15 + [{"svn": 1}]),
        level("UpToDate", sgxtcbcomponents=[{"svn": 4}] * 16),
    ]
    assert with_lists(tcb_info={"tcbLevels": levels}) == ["tcb"]


def test_a_module_of_version_0_is_in_the_list_by_its_signer() -> None:
    evidence = INTEL.evidence(domain(svn=bytes([9, 0, 5]) + bytes(13)))
    assert problems(evidence, INTEL.policy()) == ["tcb"]  # component 1 is compared, 0 < 9
    lists = INTEL.collateral(True, tcb_info={"tcbLevels": [level()]})
    assert problems(dataclasses.replace(evidence, collateral=lists), INTEL.policy()) == []
    other = {"mrsigner": "01" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
    lists = INTEL.collateral(True, tcb_info={"tcbLevels": [level()], "tdxModule": other})
    evidence = dataclasses.replace(evidence, collateral=lists)
    assert problems(evidence, INTEL.policy()) == ["tdx-module"]


@pytest.mark.parametrize("which", ["tcb_info", "qe_identity"])
def test_signed_texts_are_compared_to_the_byte(which: str) -> None:
    whole = json.loads(TDX.collateral)
    spaced = whole[which].replace('":', '" :')
    assert with_lists(**{which + "_signature": whole[which + "_signature"]}) == []
    changed = dataclasses.replace(TDX, collateral=json.dumps({**whole, which: spaced}).encode())
    assert problems(changed, INTEL.policy()) == ["signature"]


def test_who_signs_lists_is_intels_signer() -> None:
    assert with_lists(intel=Intel(signer={"subject": "Somebody"})) == ["chain"]
    assert with_lists(intel=Intel(signer={"issuer_key": p256("other")})) == ["root"]
    assert with_lists(intel=Intel(signer={"end": NOW - timedelta(1)})) == ["expired"]
    under_ca = {"issuer": INTEL.authority.subject, "issuer_key": INTEL.authority.key}
    lower = Intel(signer=under_ca)
    chain = pem(lower.tcb_signer.der, lower.authority.der).decode()
    names = with_lists(intel=lower, tcb_info_issuer_chain=chain, qe_identity_issuer_chain=chain)
    assert names == ["chain"]


def test_revocations_are_looked_at() -> None:
    root, authority = INTEL.root, INTEL.authority

    def under(**changes: bytes) -> list[str]:
        return with_lists(**{name: each.hex() for name, each in changes.items()})

    def of_root(*serials: int, **more: Any) -> bytes:
        return revocations(root.subject, root.key, serials, **more)

    def of_authority(*serials: int, **more: Any) -> bytes:
        return revocations(authority.subject, authority.key, serials, **more)

    assert under(pck_crl=of_authority(INTEL.pck.serial)) == ["revoked"]
    assert under(root_ca_crl=of_root(INTEL.authority.serial)) == ["revoked"]
    assert under(root_ca_crl=of_root(INTEL.tcb_signer.serial)) == ["revoked"]
    assert under(pck_crl=of_authority(end=NOW - timedelta(1))) == ["expired"]
    assert set(under(root_ca_crl=of_root(end=NOW - timedelta(1)))) == {"expired"}
    assert set(under(root_ca_crl=of_root(begin=NOW + timedelta(1)))) == {"not-yet-valid"}
    assert under(pck_crl=revocations(authority.subject, p256("other"))) == ["collateral"]
    assert under(pck_crl=revocations("Another CA", authority.key)) == ["collateral"]
    assert under(pck_crl=of_root()) == ["collateral"]
    other = dataclasses.replace(authority, subject="Intel SGX PCK Processor CA")
    chain = pem(other.der, root.der).decode()
    assert with_lists(pck_crl_issuer_chain=chain) == ["collateral"]


@pytest.mark.parametrize(
    "change",
    [{"tcb_info": None}, {"tcb_info": "{}"}, {"tcb_info": "["}, {"qe_identity": '{"a":NaN}'},
     {"tcb_info_signature": "00"}, {"tcb_info_signature": "zz"}, {"pck_crl": "3000"},
     {"tcb_info_issuer_chain": ""}, {"tcb_info_issuer_chain": "x"}, {"extra": 1},
     {"root_ca_crl": ""}],
)  # fmt: skip
def test_what_is_no_collateral_is_refused(change: Mapping[str, Any]) -> None:
    lists = json.dumps({**json.loads(TDX.collateral), **change}).encode()
    names = problems(dataclasses.replace(TDX, collateral=lists), INTEL.policy())
    assert names
    assert set(names) <= {"collateral", "signature"}


def test_lists_are_required_unless_the_policy_says_so() -> None:
    bare = dataclasses.replace(TDX, collateral=b"")
    assert problems(bare, INTEL.policy()) == ["collateral"]
    verdict = judge(bare, INTEL.policy(collateral="if-given"))
    assert (verdict.verdict, verdict.status) == ("accepted", "Unchecked")
    lists = INTEL.collateral(True, tcb_info={"tcbLevels": [level("Revoked")]})
    given = dataclasses.replace(TDX, collateral=lists)
    assert problems(given, INTEL.policy(collateral="if-given")) == ["tcb"]


def test_it_says_until_when_it_holds() -> None:
    verdict = judge(TDX, INTEL.policy())
    assert verdict.until is not None
    assert judge(TDX, INTEL.policy(), at=verdict.until).accepted
    assert problems(TDX, INTEL.policy(), at=verdict.until + timedelta(seconds=1)) == [
        "expired", "expired",
    ]  # fmt: skip
    short = INTEL.policy(collateral_age_s=14 * 86_400)
    until = judge(TDX, short).until
    assert until is not None
    assert until < verdict.until
    assert judge(TDX, short, at=until).accepted
    assert "expired" in problems(TDX, short, at=until + timedelta(seconds=1))


def test_a_newer_evaluation_may_be_demanded() -> None:
    assert problems(TDX, INTEL.policy(minimum_evaluation=17)) == []
    assert problems(TDX, INTEL.policy(minimum_evaluation=18)) == ["tcb", "tcb"]


def test_one_form_stands_for_all() -> None:
    whole = json.loads(TDX.collateral)
    spaced = json.dumps(dict(reversed(whole.items())), indent=2).encode()
    assert canonical(spaced) == canonical(TDX.collateral)
    assert judge(dataclasses.replace(TDX, collateral=canonical(spaced)), INTEL.policy()).accepted
