"""SEV-SNP of a vendor of our own: genuine reports of all products, and each way to be refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.attest.refusals import AttestationError
from hansa.attest.verify import require

from .certifying import (
    END,
    NOW,
    basic,
    der,
    integer,
    octets,
    p256,
    p384,
    pem,
    revocations,
    rsa_key,
    usage,
)
from .judging import judge, problems
from .vendor import REPORT_DATA, Amd, Intel, snp_collateral

PRODUCTS = ("Milan", "Genoa", "Turin")


@pytest.mark.parametrize("kind", ["vcek", "vlek"])
@pytest.mark.parametrize("product", PRODUCTS)
def test_genuine_reports_are_accepted(product: str, kind: str) -> None:
    amd = Amd(product, kind)
    verdict = judge(amd.evidence(), amd.policy())
    assert verdict.problems == ()
    assert verdict.product == product
    assert verdict.tcb["snp"] == 0x18
    assert verdict.tcb.get("fmc") == (2 if product == "Turin" else None)
    assert verdict.chip_id == amd.chip.hex()
    assert verdict.until == END
    assert verdict.to_json()["measured"]["launch_digest"] == "07" * 48


@pytest.mark.parametrize(
    ("change", "weakened", "problem"),
    [
        ({"policy": 0xB0000}, {"debug": True}, "debug"),
        ({"policy": 0x70000}, {"migration": True}, "migration"),
        ({"vmpl": 1}, {"vmpl": 1}, "vmpl"),
        ({"chip_id": bytes(64)}, {"masked_chip_id": True}, "hw-id"),
        ({"measurement": bytes(48)}, {"measurements": [], "any_measurement": True}, "measurement"),
    ],
)
def test_a_policy_may_be_weakened_by_name(
    change: Mapping[str, Any], weakened: Mapping[str, Any], problem: str
) -> None:
    amd = Amd()
    assert problems(amd.evidence(**change), amd.policy()) == [problem]
    assert problems(amd.evidence(**change), amd.policy(**weakened)) == []


@pytest.mark.parametrize(
    ("amd", "change", "expected"),
    [
        (Amd(), {"report_data": bytes(64)}, "report-data"),
        (Amd(), {"version": 1}, "malformed"),
        (Amd(), {"version": 6}, "malformed"),
        (Amd(), {"algorithm": 2}, "malformed"),
        (Amd(), {"signing_key": 1}, "key-kind"),
        (Amd(), {"signing_key": 7}, "key-kind"),
        (Amd(kind="vlek"), {"signing_key": 0}, "key-kind"),
        (Amd(), {"chip_id": bytes([1]) * 64}, "hw-id"),
        (Amd("Turin"), {"chip_id": Amd("Turin").chip[:8] + bytes([1]) * 56}, "hw-id"),
        (Amd(), {"model": 0x11}, "product"),
        (Amd(), {"family": 0x1A}, "product"),
        (Amd(), {"tcb": bytes([4, 1, 0, 0, 0, 0, 0x19, 0xDB])}, "tcb"),
        (Amd(without=("1.3.6.1.4.1.3704.1.4",)), {}, "hw-id"),
        (Amd(without=("1.3.6.1.4.1.3704.1.3.3",)), {}, "malformed"),
        (Amd(without=("1.3.6.1.4.1.3704.1.2",)), {}, "malformed"),
        (Amd(hwid=octets(Amd().chip)), {}, "hw-id"),
        (Amd("Turin", hwid=Amd("Turin").chip), {}, "hw-id"),
        (Amd(extra={"1.3.6.1.4.1.3704.1.2": der(0x16, b"Rome-B0")}), {}, "product"),
        (Amd(extra={"1.3.6.1.4.1.3704.1.2": der(0x16, b"Milan") + b"\0"}), {}, "trailing"),
        (Amd(extra={"1.3.6.1.4.1.3704.1.3.1": integer(4) + b"\0"}), {}, "trailing"),
        (Amd(leaf={"key": p384("other")}), {}, "signature"),
        (Amd(leaf={"key": p256("other")}), {}, "signature"),
        (Amd(leaf={"end": NOW - timedelta(seconds=1)}), {}, "expired"),
        (Amd(leaf={"begin": NOW + timedelta(seconds=1)}), {}, "not-yet-valid"),
        (Amd(between={"end": NOW - timedelta(days=1)}), {}, "expired"),
        (Amd(leaf={"subject": "SEV-XYZK"}), {}, "chain"),
        (Amd(leaf={"issuer_key": rsa_key("other")}), {}, "chain"),
        (Amd(between={"issuer_key": rsa_key("other")}), {}, "root"),
        (Amd(between={"issuer": "ARK-Rome"}), {}, "chain"),
        (Amd(between={"extensions": (basic(False), usage(4))}), {}, "chain"),
        (Amd(between={"subject": "SEV-Other"}), {}, "chain"),
        (Amd(versions={**Amd().versions, "snp": 0x17}), {}, "tcb"),
    ],
)
def test_what_is_wrong_is_named(amd: Amd, change: Mapping[str, Any], expected: str) -> None:
    assert problems(amd.evidence(**change), amd.policy()) == [expected]


def test_the_versions_of_a_policy_are_each_a_floor() -> None:
    amd = Amd("Turin")
    own = {**amd.versions}
    assert problems(amd.evidence(), amd.policy(minimum_tcb={"Turin": own})) == []
    for name in own:
        higher = {**own, name: own[name] + 1}
        assert problems(amd.evidence(), amd.policy(minimum_tcb={"Turin": higher})) == ["tcb"]


def test_version_2_does_not_name_its_processor() -> None:
    amd = Amd()
    assert problems(amd.evidence(version=2, family=0, model=0), amd.policy()) == []


def test_a_chain_of_another_product_is_refused() -> None:
    milan, genoa = Amd("Milan"), Amd("Genoa")
    evidence = dataclasses.replace(milan.evidence(), certificates=genoa.evidence().certificates,
                                   collateral=genoa.evidence().collateral)  # fmt: skip
    both = milan.policy(products=["Milan", "Genoa"],
                        minimum_tcb={"Milan": {"snp": 0}, "Genoa": {"snp": 0}})  # fmt: skip
    assert problems(evidence, both) == ["product"]
    assert problems(genoa.evidence(), milan.policy()) == ["product"]


def test_a_vcek_under_the_authority_of_vleks_is_refused() -> None:
    vlek = Amd(kind="vlek")
    mixed = Amd(between={"subject": vlek.ask.subject}, leaf={"issuer": vlek.ask.subject})
    assert problems(mixed.evidence(), mixed.policy()) == ["chain"]


def test_amds_siblings_of_genoa_are_genoa() -> None:
    siena = Amd("Genoa", extra={"1.3.6.1.4.1.3704.1.2": der(0x16, b"Siena-A0")})
    assert problems(siena.evidence(model=0xA0), siena.policy()) == []


def test_a_providers_key_is_taken_only_where_the_policy_says_so() -> None:
    vlek = Amd(kind="vlek")
    assert problems(vlek.evidence(), vlek.policy(key_kinds=["vcek"])) == ["key-kind"]
    assert problems(vlek.evidence(), vlek.policy(key_kinds=["vcek", "vlek"])) == []


def test_revocations_are_looked_at() -> None:
    amd = Amd()
    ark = amd.ark

    def under(*lists: bytes, **changes: Any) -> list[str]:
        evidence = dataclasses.replace(amd.evidence(), collateral=snp_collateral(*lists))
        return problems(evidence, amd.policy(**changes))

    assert under(revocations(ark.subject, ark.key, [1, 2])) == []
    assert under(revocations(ark.subject, ark.key, [amd.ask.serial])) == ["revoked"]
    assert under() == ["collateral"]
    assert under(collateral="if-given") == []
    revoked = revocations(ark.subject, ark.key, [amd.ask.serial])
    assert under(revoked, collateral="if-given") == ["revoked"]
    assert under(revocations(ark.subject, ark.key, end=NOW - timedelta(1))) == ["expired"]
    assert under(revocations(ark.subject, ark.key, begin=NOW + timedelta(1))) == ["not-yet-valid"]
    assert under(revocations(ark.subject, rsa_key("other"))) == ["collateral"]
    assert under(revocations("ARK-Genoa", ark.key)) == ["collateral"]
    assert under(b"\x30\x00") == ["collateral"]
    assert under(*[revocations(ark.subject, ark.key)] * 9) == ["collateral"]


@pytest.mark.parametrize(
    "data", [b"[]", b"{", b"\xff", b'{"a": 1}', b'{"revocation_lists": [3]}', b"[" * 100_000,
             b'{"revocation_lists": ["0g"]}', b'{"revocation_lists": [], "revocation_lists": []}',
             b"1" * 5000],
)  # fmt: skip
def test_collateral_that_is_none_is_refused(data: bytes) -> None:
    amd = Amd()
    evidence = dataclasses.replace(amd.evidence(), collateral=data)
    assert problems(evidence, amd.policy()) == ["collateral"]


def test_a_verdict_lasts_until_the_first_end() -> None:
    soon = NOW + timedelta(days=3)
    assert judge(Amd(leaf={"end": soon}).evidence(), Amd().policy()).until == soon
    ark = Amd().ark
    lists = snp_collateral(revocations(ark.subject, ark.key, end=soon))
    evidence = dataclasses.replace(Amd().evidence(), collateral=lists)
    assert judge(evidence, Amd().policy()).until == soon


def test_a_chip_may_be_revoked_by_the_policy() -> None:
    amd = Amd()
    assert problems(amd.evidence(), amd.policy(revoked_chips=[amd.chip.hex()])) == ["revoked"]


def test_certificates_are_needed_and_are_of_one_key() -> None:
    amd = Amd()
    twice = amd.vek.der * 2 + amd.ask.der
    for certificates in (b"", pem(amd.ask.der), twice, pem(Intel().pck.der)):
        evidence = dataclasses.replace(amd.evidence(), certificates=certificates)
        assert problems(evidence, amd.policy()) == ["chain"]
    evidence = dataclasses.replace(amd.evidence(), certificates=b"\x30\x03abc")
    assert problems(evidence, amd.policy()) == ["malformed"]


@pytest.mark.parametrize(("cut", "name"), [(slice(1183), "truncated"), (slice(10), "truncated")])
def test_a_report_has_one_length(cut: slice, name: str) -> None:
    amd = Amd()
    evidence = dataclasses.replace(amd.evidence(), report=amd.report()[cut])
    assert problems(evidence, amd.policy()) == [name]
    longer = dataclasses.replace(amd.evidence(), report=amd.report() + b"\0")
    assert problems(longer, amd.policy()) == ["trailing"]


@settings(max_examples=150)
@given(st.integers(0, 1183), st.integers(1, 255))
def test_a_changed_byte_anywhere_is_refused_by_name(at: int, change: int) -> None:
    amd = Amd()
    report = bytearray(_REPORT)
    report[at] ^= change
    evidence = dataclasses.replace(_EVIDENCE, report=bytes(report))
    names = problems(evidence, amd.policy())
    assert set(names) & {"signature", "malformed"}


_EVIDENCE = Amd().evidence()
_REPORT = _EVIDENCE.report


def test_every_problem_is_told_and_the_first_is_raised() -> None:
    amd = Amd(leaf={"key": p384("other")})
    evidence, policy = amd.evidence(policy=0xB0000, vmpl=2), amd.policy()
    assert problems(evidence, policy, report_data=bytes(64)) == [
        "signature", "debug", "vmpl", "report-data",
    ]  # fmt: skip
    with pytest.raises(AttestationError) as told:
        require(evidence, policy, at=NOW, report_data=REPORT_DATA, roots=Amd.roots())
    assert told.value.name == "signature"


def test_the_clock_and_the_report_data_are_asked_for() -> None:
    amd = Amd()
    with pytest.raises(ValueError, match="time zone"):
        judge(amd.evidence(), amd.policy(), at=datetime(2026, 6, 1))
    with pytest.raises(ValueError, match="64"):
        judge(amd.evidence(), amd.policy(), report_data=b"short")
    elsewhere = datetime(2026, 6, 1, tzinfo=UTC).astimezone()
    assert judge(amd.evidence(), amd.policy(), at=elsewhere).accepted


def test_versions_of_two_bytes_are_numbers() -> None:
    """0xDB is 02 02 00 DB in a certificate, and no number in 02 01 DB."""
    assert problems(Amd().evidence(), Amd().policy()) == []
    wrong = Amd(extra={"1.3.6.1.4.1.3704.1.3.8": b"\x02\x01\xdb"})
    assert problems(wrong.evidence(), wrong.policy()) == ["malformed"]
