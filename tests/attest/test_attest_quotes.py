"""SGX and TDX of a vendor of our own: genuine quotes, and each way to be refused."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.attest.evidence import Evidence
from hansa.attest.quote import Quote
from hansa.attest.refusals import Malformed

from .certifying import NOW, basic, p256, pem, usage
from .judging import judge, problems
from .vendor import FMSPC, PPID, QE_SIGNER, REPORT_DATA, Amd, Intel, domain, enclave

FORMS = [
    (enclave(), 3), (enclave(), 4), (enclave(), 5), (domain(), 4), (domain(), 5),
    (domain(648), 5),
]  # fmt: skip
INTEL = Intel()


@pytest.mark.parametrize(("body", "version"), FORMS)
def test_genuine_quotes_are_accepted(body: bytes, version: int) -> None:
    verdict = judge(INTEL.evidence(body, version), INTEL.policy())
    assert verdict.problems == ()
    assert (verdict.status, verdict.product, verdict.chip_id) == ("UpToDate", FMSPC, PPID.hex())
    assert verdict.report_data == REPORT_DATA
    assert verdict.tcb["pcesvn"] == 11
    assert ("tdx_00" in verdict.tcb) == (len(body) != 384)


def changed(body: bytes, **changes: Any) -> Evidence:
    return INTEL.evidence(body, **changes)


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (changed(enclave(report_data=bytes(64))), "report-data"),
        (changed(domain(report_data=bytes(64))), "report-data"),
        (changed(enclave(attributes=b"\x07" + bytes(15))), "debug"),
        (changed(enclave(attributes=b"\x04" + bytes(15))), "measurement"),
        (changed(domain(attributes=b"\x01" + bytes(7))), "debug"),
        (changed(domain(attributes=b"\0\0\0\x30" + bytes(4))), "migration"),
        (changed(enclave(code=bytes(32))), "measurement"),
        (changed(domain(mrtd=bytes(48))), "measurement"),
        (changed(domain(rtmr=bytes(48))), "measurement"),
        (changed(enclave(), vendor=bytes(16)), "qe-identity"),
        (changed(enclave(), qe={"report_data": bytes(64)}), "qe-identity"),
        (changed(enclave(), qe={"product": 7}), "qe-identity"),
        (changed(domain(), qe={"signer": bytes(32)}), "qe-identity"),
        (changed(domain(), qe={"misc": 1}), "qe-identity"),
        (changed(domain(), qe={"attributes": b"\x15" + bytes(15)}), None),  # 0x04 is masked
        (changed(domain(), qe={"attributes": b"\x31" + bytes(15)}), "qe-identity"),
        (changed(domain(), qe={"svn": 5}), "qe-identity"),
        (changed(domain(), qe={"svn": 7}), "tcb"),
        (changed(domain(svn=bytes([3, 2, 5]) + bytes(13))), "tdx-module"),
        (changed(domain(svn=bytes([1, 1, 5]) + bytes(13))), "tdx-module"),
        (changed(domain(svn=bytes([2, 1, 5]) + bytes(13))), "tcb"),
        (changed(domain(svn=bytes([3, 1, 3]) + bytes(13))), "tcb"),
        (changed(domain(module_attributes=b"\x01" + bytes(7))), "tdx-module"),
        (changed(enclave(), key_type=3), "malformed"),
        (changed(enclave(), certification=1), "malformed"),
        (changed(enclave(), trailing=b"\0"), "trailing"),
        (changed(domain(648), trailing=bytes(70)), "trailing"),
        (changed(enclave(), chain=b""), "chain"),
        (changed(enclave(), chain=pem(INTEL.pck.der)), "chain"),
        (changed(enclave(), chain=pem(INTEL.pck.der, INTEL.authority.der) + b"\0"), None),
        (changed(enclave(), chain=pem(Amd().ark.der)), "root"),
        (changed(enclave(), chain=pem(INTEL.tcb_signer.der, INTEL.root.der)), "chain"),
    ],
)
def test_what_is_wrong_is_named(evidence: Evidence, expected: str | None) -> None:
    assert problems(evidence, INTEL.policy()) == ([expected] if expected else [])


@pytest.mark.parametrize(("body", "version"), FORMS)
def test_what_is_signed_is_the_head_and_the_body(body: bytes, version: int) -> None:
    """A byte of either, of the signature, of what the processor signs of the quoting enclave."""
    evidence = INTEL.evidence(body, version)
    start = 48 + (6 if version == 5 else 0)
    end = start + len(body)
    enclave_at = end + 4 + 128 + (6 if version >= 4 else 0)
    for at in (8, 40, start + 16 * 20, end - 1, end + 4, enclave_at, enclave_at + 384):
        quote = bytearray(evidence.report)
        quote[at] ^= 1
        names = problems(dataclasses.replace(evidence, report=bytes(quote)), INTEL.policy())
        assert "signature" in names


def test_a_module_that_intel_did_not_sign_is_refused_without_lists_too() -> None:
    evidence = changed(domain(module_signer=bytes([1]) * 48))
    assert problems(evidence, INTEL.policy()) == ["tdx-module"]
    bare = dataclasses.replace(evidence, collateral=b"")
    assert problems(bare, INTEL.policy(collateral="if-given")) == ["tdx-module"]


def test_a_quoting_enclave_that_can_be_debugged_is_refused_without_lists_too() -> None:
    bare = dataclasses.replace(changed(enclave(), qe={"attributes": b"\x13" + bytes(15)}),
                               collateral=b"")  # fmt: skip
    assert problems(bare, INTEL.policy(collateral="if-given")) == ["qe-identity"]


@pytest.mark.parametrize(
    ("pck", "expected"),
    [
        ({"end": NOW - timedelta(1)}, ["expired"]),
        ({"begin": NOW + timedelta(1)}, ["not-yet-valid"]),
        ({"key": p256("other")}, ["signature"]),
        ({"issuer_key": p256("other")}, ["chain"]),
        ({"subject": "Somebody"}, ["chain"]),
        ({"extensions": (basic(False), usage(0x80))}, ["malformed"]),
        ({"serial": 5}, ["revoked"]),
    ],
)
def test_the_processors_certificate_is_checked(pck: Mapping[str, Any], expected: list[str]) -> None:
    intel = Intel(pck_changes=pck)
    assert problems(intel.evidence(domain()), intel.policy()) == expected


def test_a_look_alike_of_the_root_is_refused() -> None:
    own = dataclasses.replace(INTEL.root, key=p256("evil"), issuer_key=p256("evil"))
    between = dataclasses.replace(INTEL.authority, issuer_key=p256("evil"))
    evidence = changed(enclave(), chain=pem(INTEL.pck.der, between.der, own.der))
    assert problems(evidence, INTEL.policy()) == ["root"]
    only_root = changed(enclave(), chain=pem(INTEL.pck.der, INTEL.authority.der, own.der))
    assert problems(only_root, INTEL.policy()) == ["root"]


def test_a_policy_may_be_weakened_by_name() -> None:
    policy = INTEL.policy(
        debug=True, migration=True, allow_trailing=True, any_measurement=True, measurements=[]
    )
    attributes = b"\x01\0\0\x20" + bytes(4)
    evidence = changed(domain(attributes=attributes, mrtd=bytes(48)), trailing=bytes(70))
    assert problems(evidence, policy) == []


def test_what_the_policy_does_not_take_is_named() -> None:
    evidence = INTEL.evidence(domain())
    snp = Amd().policy()
    assert problems(evidence, snp) == ["platform"]
    sgx = INTEL.policy(platforms=["sgx"], measurements=[{"mrenclave": "01" * 32}])
    assert problems(evidence, sgx) == ["platform"]
    assert problems(evidence, INTEL.policy(products=["00A067110000"])) == ["product"]
    assert problems(evidence, INTEL.policy(products=[FMSPC.lower()])) == []
    assert problems(evidence, INTEL.policy(revoked_chips=[PPID.hex()])) == ["revoked"]


def test_a_quote_is_shown_as_what_it_is() -> None:
    evidence = dataclasses.replace(INTEL.evidence(domain()), tee="sgx")
    assert problems(evidence, INTEL.policy()) == ["platform"]
    report = dataclasses.replace(Amd().evidence(), tee="tdx")
    assert problems(report, INTEL.policy()) == ["malformed"]


@pytest.mark.parametrize(("body", "version"), FORMS)
def test_every_cut_is_named(body: bytes, version: int) -> None:
    quote = INTEL.quote(body, version)
    for cut in [*range(60), *range(400, len(quote), 37), len(quote) - 1]:
        with pytest.raises(Malformed):
            Quote.parse(quote[:cut])


@pytest.mark.parametrize(("body", "version"), FORMS)
def test_lengths_agree_with_each_other(body: bytes, version: int) -> None:
    quote = bytearray(INTEL.quote(body, version))
    at = 48 + (6 if version == 5 else 0) + len(body)
    (length,) = struct.unpack_from("<I", quote, at)
    for other in (length - 1, length + 1, 0, 0xFFFFFFFF):
        struct.pack_into("<I", quote, at, other)
        with pytest.raises(Malformed):
            Quote.parse(bytes(quote))


def test_certification_data_are_a_report_with_a_chain_and_no_more() -> None:
    quote = bytearray(INTEL.quote(domain()))
    at = 48 + 584 + 4 + 128
    other = bytes(quote[:at]) + struct.pack("<H", 5) + bytes(quote[at + 2 :])
    with pytest.raises(Malformed, match="type 5: 6 is needed"):
        Quote.parse(other)
    (length,) = struct.unpack_from("<I", quote, at - 132)
    struct.pack_into("<I", quote, at - 132, length + 1)
    with pytest.raises(Malformed, match="1 bytes too many"):
        Quote.parse(bytes(quote) + b"\0")


def test_a_body_has_the_size_of_its_type() -> None:
    quote = bytearray(INTEL.quote(domain(648)))
    for kind in (0, 1, 2, 4):
        struct.pack_into("<H", quote, 48, kind)
        with pytest.raises(Malformed, match="body"):
            Quote.parse(bytes(quote))
    for version in (0, 2, 6):
        struct.pack_into("<H", quote, 0, version)
        with pytest.raises(Malformed, match="version"):
            Quote.parse(bytes(quote))
    sgx3 = bytearray(INTEL.quote(enclave()))
    struct.pack_into("<I", sgx3, 4, 0x81)
    with pytest.raises(Malformed, match="hardware"):
        Quote.parse(bytes(sgx3))


_EVIDENCE = {len(body): INTEL.evidence(body) for body in (enclave(), domain(), domain(648))}


@settings(max_examples=150)
@given(st.sampled_from(sorted(_EVIDENCE)), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_a_changed_byte_anywhere_is_refused_by_name(size: int, where: float, change: int) -> None:
    """White space between the certificates' letters is all that may differ."""
    evidence = _EVIDENCE[size]
    quote = bytearray(evidence.report)
    at = int(where * len(quote))
    quote[at] ^= change
    space = bytes(quote[at : at + 1]) in b" \t\r\n"
    names = problems(dataclasses.replace(evidence, report=bytes(quote)), INTEL.policy())
    assert names or (space and evidence.report[at : at + 1] == b"\n")


def test_quoting_enclaves_are_told_apart() -> None:
    assert QE_SIGNER.hex() in INTEL.collateral(True).decode().lower()
    sgx_lists = dataclasses.replace(INTEL.evidence(domain()), collateral=INTEL.collateral(False))
    assert problems(sgx_lists, INTEL.policy()) == ["collateral"]
