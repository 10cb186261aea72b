"""Certificates and revocation lists: what cryptography reads is read alike, the rest is refused."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.attest.certificates import MOST, common_name, parse, read_bundle
from hansa.attest.chain import build
from hansa.attest.pck import Platform
from hansa.attest.refusals import (
    AttestationError,
    BadCollateral,
    BadSignature,
    BrokenChain,
    Malformed,
    Oversized,
    UnknownRoot,
)
from hansa.attest.revocation import RevocationList
from hansa.attest.roots import pinned
from hansa.attest.signatures import PublicKey, algorithm_of, public_key

from .certifying import (
    BEGIN,
    ECDSA,
    END,
    PSS,
    Key,
    basic,
    der,
    integer,
    octets,
    oid,
    pem,
    revocations,
    rsa_key,
    seq,
    usage,
)
from .vendor import Amd, Intel

ALL = [
    *pinned().snp.values(), *pinned().snp_between, pinned().intel,
    parse(Intel().pck.der), parse(Intel().authority.der), parse(Amd().ask.der),
]  # fmt: skip


@pytest.mark.parametrize("own", ALL, ids=lambda each: each.name)
def test_what_cryptography_reads_is_read_alike(own) -> None:
    other = x509.load_der_x509_certificate(own.raw)
    assert own.serial == other.serial_number
    assert own.signed.tbs == other.tbs_certificate_bytes
    assert own.signed.signature == other.signature
    assert own.issuer == other.issuer.public_bytes()
    assert own.subject == other.subject.public_bytes()
    # not_valid_before_utc is of 42 and later, not_valid_before is deprecated there
    first, last = (
        getattr(other, f"{each}_utc", None) or getattr(other, each).replace(tzinfo=UTC)
        for each in ("not_valid_before", "not_valid_after")
    )
    assert (own.not_before, own.not_after) == (first, last)
    assert own.key_info == other.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    constraints = other.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (own.path_length is not None) == constraints.ca
    if constraints.path_length is not None:
        assert own.path_length == constraints.path_length
    flags = other.extensions.get_extension_for_class(x509.KeyUsage).value
    assert own.may_sign() == flags.key_cert_sign
    assert own.may_sign(lists=True) == flags.crl_sign
    known = {each.oid.dotted_string: each.critical for each in other.extensions}
    assert {which: critical for which, (critical, _) in own.extensions.items()} == known


def test_the_pinned_roots_are_the_vendors_and_sign_themselves() -> None:
    roots = pinned()
    for root in (*roots.snp.values(), roots.intel):
        root.check_signed_by(root)
        assert root.self_issued
    assert {product: root.name for product, root in roots.snp.items()} == {
        product: f"ARK-{product}" for product in ("Milan", "Genoa", "Turin")
    }
    for each in roots.snp_between:
        build(each, (), tuple(roots.snp.values()))
    fingerprint = hashes.Hash(hashes.SHA256())
    fingerprint.update(roots.intel.raw)
    # as Intel's documents give it
    assert fingerprint.finalize().hex().startswith("44a0196b2b99f889b8e149e95b807a35")


def test_serial_number_zero_is_a_number() -> None:
    assert parse(Amd().vek.der).serial == 0


@settings(max_examples=150)
@given(st.data())
def test_a_turned_bit_is_refused_or_breaks_the_signature(data: st.DataObject) -> None:
    issuer, whole = parse(Amd().ask.der), bytearray(Amd().vek.der)
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(AttestationError):
        parse(bytes(whole)).check_signed_by(issuer)


def test_an_extension_stands_once() -> None:
    with pytest.raises(Malformed, match="twice"):
        parse(replace(Intel().root, extensions=(basic(True), basic(True, 1))).der)


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "x" * 65])
def test_a_name_that_would_harm_a_terminal_is_refused(name: str) -> None:
    with pytest.raises(Malformed, match="cannot be shown"):
        parse(replace(Intel().pck, subject=name).der)


def test_two_algorithms_in_one_are_refused() -> None:
    whole = bytearray(Intel().root.der)
    outer = whole.rindex(b"\x2a\x86\x48\xce\x3d\x04\x03\x02")
    whole[outer + 7] = 3
    with pytest.raises(Malformed, match="two signature algorithms"):
        parse(bytes(whole))


def test_bundles_come_in_three_forms() -> None:
    leaf, between = Amd().vek.der, Amd().ask.der
    expected = [parse(leaf), parse(between)]
    guids = [bytes([k]) * 16 for k in (1, 2)]
    begin = 3 * 24
    table = struct.pack("<16s2I", guids[0], begin, len(leaf))
    table += struct.pack("<16s2I", guids[1], begin + len(leaf), len(between)) + bytes(24)
    for bundle in (pem(leaf, between), pem(leaf, between) + b"\0", leaf + between,
                   table + leaf + between, table + leaf + between + bytes(4000)):  # fmt: skip
        assert read_bundle(bundle) == expected
    assert read_bundle(b"") == read_bundle(b"\0") == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda good: b"text\n" + good,
        lambda good: good + b"-----BEGIN X-----",
        lambda good: good.replace(b"CERTIFICATE", b"CERT"),
        lambda good: good.replace(b"M", b"!", 1),
        lambda good: b"\x01" * 30,
        lambda good: b"\x01" * 16 + b"\xff" * 8 + bytes(24),
        lambda good: bytes(range(1, 25)) * (MOST + 2),
    ],
)
def test_a_bundle_of_something_else_is_refused(spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(Malformed):
        read_bundle(spoil(pem(Amd().vek.der)))


def test_there_is_an_end_to_bundles_and_certificates() -> None:
    with pytest.raises(Oversized):
        read_bundle(Amd().vek.der * (MOST + 1))
    with pytest.raises(Oversized):
        parse(seq(bytes(1 << 15)))


def test_certificates_of_another_form_are_refused() -> None:
    intel = Intel()
    old = intel.root.der.replace(der(0xA0, integer(2)), der(0xA0, integer(1)), 1)
    with pytest.raises(Malformed, match="version"):
        parse(old)
    two = seq(*[der(0x31, seq(oid("2.5.4.3"), der(0x0C, b"x")))] * 2)
    with pytest.raises(Malformed, match="two common names"):
        common_name(two)
    with pytest.raises(Malformed, match="base64"):
        read_bundle(b"-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----\n")
    whole = revocations(intel.root.subject, intel.root.key)
    with pytest.raises(Malformed, match="version"):
        RevocationList.parse(whole.replace(integer(1), integer(0), 1))
    with pytest.raises(Malformed, match="two signature algorithms"):
        RevocationList.parse(whole.replace(ECDSA, seq(oid("1.2.840.10045.4.3.3")), 1))
    with pytest.raises(Oversized):
        RevocationList.parse(seq(bytes(1 << 18)))


SHA256 = seq(oid("2.16.840.1.101.3.4.2.1"))


@pytest.mark.parametrize(
    ("algorithm", "told"),
    [
        (seq(oid("1.2.840.113549.1.1.11"), b"\x05\0"), "no vendor uses"),
        (PSS.replace(der(0xA2, integer(48)), der(0xA2, integer(32))), "salt"),
        (seq(oid("1.2.840.113549.1.1.10"), seq(der(0xA0, SHA256))), "digest"),
        (seq(oid("1.2.840.113549.1.1.10"), seq()), "ends where"),
        (PSS.replace(oid("1.2.840.113549.1.1.8"), oid("1.2.840.113549.1.1.9")), "mask"),
    ],
)
def test_signatures_by_other_algorithms_are_refused(algorithm: bytes, told: str) -> None:
    with pytest.raises(Malformed, match=told):
        algorithm_of(algorithm)


def test_a_key_signs_by_its_own_kind() -> None:
    intel = Intel()
    mixed = parse(replace(intel.authority, issuer=Amd().ark.subject, issuer_key=rsa_key("ark")).der)
    with pytest.raises(BadSignature, match="a key of P-256"):
        mixed.check_signed_by(parse(intel.root.der))
    with pytest.raises(Malformed, match="32 bytes is none"):
        PublicKey.of_point("P-256", bytes(32))


@pytest.mark.parametrize("drop", ["1", "3", "4"])
def test_a_processors_certificate_says_all_of_it(drop: str) -> None:
    pck = "1.2.840.113741.1.13.1"
    said = {"1": octets(bytes(16)), "2": seq(), "3": octets(bytes(2)), "4": octets(bytes(6))}
    whole = {name: seq(oid(f"{pck}.{name}"), value) for name, value in said.items()}

    def platform(*parts: bytes) -> Platform:
        extensions = ((pck, False, seq(*parts)),)
        return Platform.of(parse(replace(Intel().pck, extensions=extensions).der))

    with pytest.raises(Malformed, match="does not say"):
        platform(*(part for name, part in whole.items() if name != drop))
    with pytest.raises(Malformed, match="twice"):
        platform(*whole.values(), whole[drop])
    with pytest.raises(Malformed, match="in 3 bytes"):
        platform(*{**whole, drop: seq(oid(f"{pck}.{drop}"), octets(b"abc"))}.values())


def test_keys_of_other_kinds_are_refused() -> None:
    weak = Key(rsa.generate_private_key(65537, 1024))
    other = Key(ec.generate_private_key(ec.SECP521R1()))
    for key in (weak, other):
        with pytest.raises(Malformed):
            public_key(key.info)
    off = bytearray(Intel().root.key.info)
    off[-1] ^= 1
    with pytest.raises(Malformed, match="no point"):
        public_key(bytes(off))


def test_a_chain_ends_at_a_pinned_root_and_nowhere_else() -> None:
    intel = Intel()
    leaf, between, root = (parse(each.der) for each in (intel.pck, intel.authority, intel.root))
    assert build(leaf, [root, between], [root]).certificates == (leaf, between, root)
    with pytest.raises(BrokenChain, match="missing"):
        build(leaf, [], [root])
    with pytest.raises(UnknownRoot, match="not pinned"):
        build(leaf, [between, root], [parse(Amd().ark.der)])
    again = parse(replace(intel.root, serial=12).der)
    with pytest.raises(UnknownRoot):
        build(leaf, [between, again], [root])
    with pytest.raises(BrokenChain, match="not of the chain"):
        build(leaf, [between, parse(intel.tcb_signer.der)], [root])


@pytest.mark.parametrize(
    "extensions",
    [(), (basic(False), usage(0x06)), (basic(True, 0), usage(0x02)),
     (basic(True, 0), usage(0x06), ("1.2.3", True, b"\x05\x00"))],
)  # fmt: skip
def test_who_may_not_sign_is_no_issuer(extensions) -> None:
    intel = Intel()
    between = parse(replace(intel.authority, extensions=extensions).der)
    with pytest.raises(BrokenChain):
        build(parse(intel.pck.der), [between], [parse(intel.root.der)])


def test_a_root_that_may_not_sign_is_none_and_chains_have_an_end() -> None:
    intel = Intel()
    root = parse(replace(intel.root, extensions=(basic(False), usage(0x06))).der)
    with pytest.raises(BrokenChain, match="may sign no"):
        build(parse(intel.authority.der), [], [root])
    between = [intel.root]
    for k in range(5):
        above = between[-1]
        below = replace(intel.authority, subject=f"CA {k}", issuer=above.subject,
                        issuer_key=above.key, extensions=(basic(True), usage(0x06)))  # fmt: skip
        between.append(below)
    root = parse(replace(intel.root, extensions=(basic(True), usage(0x06))).der)
    chain = [parse(each.der) for each in reversed(between[1:])]
    assert len(build(chain[2], chain[3:], [root]).certificates) == 4
    with pytest.raises(BrokenChain, match="more than 4"):
        build(chain[0], chain[1:], [root])


def test_an_authority_stands_no_higher_than_it_may() -> None:
    intel = Intel()
    lower = replace(intel.authority, subject="Lower CA", issuer=intel.authority.subject,
                    issuer_key=intel.authority.key)  # fmt: skip
    leaf = replace(intel.pck, issuer="Lower CA")
    with pytest.raises(BrokenChain, match="so far above"):
        build(parse(leaf.der), [parse(lower.der), parse(intel.authority.der)],
              [parse(intel.root.der)])  # fmt: skip


def test_a_revocation_list_is_read_and_checked() -> None:
    ark = Amd().ark
    one = RevocationList.parse(revocations(ark.subject, ark.key, [3, 1 << 150]))
    assert one.serials == {3, 1 << 150}
    assert (one.this_update, one.next_update) == (BEGIN, END)
    one.check_signed_by(parse(ark.der))
    with pytest.raises(BadCollateral, match="did not sign"):
        one.check_signed_by(parse(replace(ark, key=rsa_key("other")).der))
    with pytest.raises(BadCollateral, match="may sign no"):
        one.check_signed_by(parse(Amd().ask.der))


def test_a_revocation_list_that_tells_a_part_is_none() -> None:
    ark = Amd().ark
    partial = revocations(ark.subject, ark.key, extensions=[("2.5.29.28", True, seq())])
    with pytest.raises(Malformed, match="only a part"):
        RevocationList.parse(partial)


@settings(max_examples=100)
@given(st.data())
def test_a_turned_bit_of_a_revocation_list_is_refused(data: st.DataObject) -> None:
    root = Intel().root
    whole = bytearray(revocations(root.subject, root.key, [5, 6]))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(AttestationError):
        RevocationList.parse(bytes(whole)).check_signed_by(parse(root.der))
