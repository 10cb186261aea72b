"""Writes DER, certificates, revocation lists and PEM, also such as nobody should.

An encoder of the tests' own: it shares nothing with the reader that it tests.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
BEGIN, END = NOW - timedelta(days=365), NOW + timedelta(days=365)


def der(tag: int, *parts: bytes) -> bytes:
    """A value in DER."""
    content = b"".join(parts)
    length = len(content)
    size = (length.bit_length() + 7) // 8
    head = bytes([length]) if length < 0x80 else bytes([0x80 | size]) + length.to_bytes(size, "big")
    return bytes([tag]) + head + content


def seq(*parts: bytes) -> bytes:
    return der(0x30, *parts)


def integer(value: int, tag: int = 0x02) -> bytes:
    return der(tag, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    content = b""
    for arc in (40 * first + second, *rest):
        septets = [arc & 0x7F]
        while arc := arc >> 7:
            septets.append(arc & 0x7F | 0x80)
        content += bytes(reversed(septets))
    return der(0x06, content)


def octets(value: bytes) -> bytes:
    return der(0x04, value)


def bits(value: bytes) -> bytes:
    return der(0x03, b"\0", value)


def time(moment: datetime) -> bytes:
    return der(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())


def name(common: str) -> bytes:
    return seq(der(0x31, seq(oid("2.5.4.3"), der(0x0C, common.encode()))))


_SHA384 = seq(oid("2.16.840.1.101.3.4.2.2"), der(0x05))
PSS = seq(
    oid("1.2.840.113549.1.1.10"),
    seq(
        der(0xA0, _SHA384),
        der(0xA1, seq(oid("1.2.840.113549.1.1.8"), _SHA384)),
        der(0xA2, integer(48)),
    ),
)
ECDSA = seq(oid("1.2.840.10045.4.3.2"))


@dataclass(frozen=True)
class Key:
    """A private key."""

    private: Any

    @property
    def info(self) -> bytes:
        return self.private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def point(self) -> bytes:
        return self.private.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )[1:]

    @property
    def algorithm(self) -> bytes:
        return PSS if isinstance(self.private, rsa.RSAPrivateKey) else ECDSA

    @cache  # noqa: B019 - few keys; so that a certificate is the same each time it is made
    def sign(self, message: bytes) -> bytes:
        """As certificates have it."""
        if isinstance(self.private, rsa.RSAPrivateKey):
            how = padding.PSS(padding.MGF1(hashes.SHA384()), 48)
            return self.private.sign(message, how, hashes.SHA384())
        return self.private.sign(message, ec.ECDSA(hashes.SHA256()))

    def numbers(self, message: bytes, digest: Any = None) -> tuple[int, int]:
        signature = self.private.sign(message, ec.ECDSA(digest or hashes.SHA256()))
        return utils.decode_dss_signature(signature)

    def raw(self, message: bytes) -> bytes:
        """As quotes have it: r and s, 32 bytes each."""
        return b"".join(each.to_bytes(32, "big") for each in self.numbers(message))


@cache
def rsa_key(which: str) -> Key:
    return Key(rsa.generate_private_key(65537, 2048))


@cache
def p256(which: str) -> Key:
    return Key(ec.generate_private_key(ec.SECP256R1()))


@cache
def p384(which: str) -> Key:
    return Key(ec.generate_private_key(ec.SECP384R1()))


CERT_SIGN, CRL_SIGN = 0x04, 0x02  # of the first byte of key usage


def basic(ca: bool, path: int | None = None) -> tuple[str, bool, bytes]:
    inside = der(0x01, b"\xff") if ca else b""
    return "2.5.29.19", True, seq(inside + (integer(path) if path is not None else b""))


def usage(flags: int) -> tuple[str, bool, bytes]:
    unused = (flags & -flags).bit_length() - 1
    return "2.5.29.15", True, der(0x03, bytes([unused, flags]))


@dataclass(frozen=True)
class Issue:
    """What is to be certified; ``der`` does it."""

    subject: str
    key: Key
    issuer: str
    issuer_key: Key
    serial: int = 1
    begin: datetime = BEGIN
    end: datetime = END
    extensions: Sequence[tuple[str, bool, bytes]] = ()
    algorithm: bytes | None = None

    @property
    def der(self) -> bytes:
        algorithm = self.algorithm or self.issuer_key.algorithm
        extensions = [
            seq(oid(which), der(0x01, b"\xff") if critical else b"", octets(value))
            for which, critical, value in self.extensions
        ]
        tbs = seq(
            der(0xA0, integer(2)), integer(self.serial), algorithm, name(self.issuer),
            seq(time(self.begin), time(self.end)), name(self.subject), self.key.info,
            der(0xA3, seq(*extensions)) if extensions else b"",
        )  # fmt: skip
        return seq(tbs, algorithm, bits(self.issuer_key.sign(tbs)))


def revocations(
    issuer: str,
    key: Key,
    serials: Sequence[int] = (),
    begin: datetime = BEGIN,
    end: datetime = END,
    extensions: Sequence[tuple[str, bool, bytes]] = (),
) -> bytes:
    """A revocation list."""
    entries = [seq(integer(each), time(begin)) for each in serials]
    more = [
        seq(oid(which), der(0x01, b"\xff") if critical else b"", octets(value))
        for which, critical, value in (("2.5.29.20", False, integer(1)), *extensions)
    ]
    tbs = seq(
        integer(1), key.algorithm, name(issuer), time(begin), time(end),
        seq(*entries) if entries else b"", der(0xA0, seq(*more)),
    )  # fmt: skip
    return seq(tbs, key.algorithm, bits(key.sign(tbs)))


def pem(*certificates: bytes) -> bytes:
    """A bundle in PEM."""
    blocks = []
    for each in certificates:
        text = base64.encodebytes(each).decode()
        blocks.append(f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n")
    return "".join(blocks).encode()
