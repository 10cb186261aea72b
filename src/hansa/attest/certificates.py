"""Certificates (RFC 5280), read strictly: to the last byte, every field where it has to be.

AMD's leaves have the serial number 0, which general readers refuse or will refuse
(pyca/cryptography #13287).
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from hansa.attest.der import OCTET_STRING, SEQUENCE, SET, Reader, context, read
from hansa.attest.refusals import Malformed, Oversized, Truncated
from hansa.attest.signatures import PublicKey, public_key
from hansa.attest.signed import Signed

MOST = 16
"""Certificates that are read from one bundle."""

_BASIC_CONSTRAINTS, _KEY_USAGE, _COMMON_NAME = "2.5.29.19", "2.5.29.15", "2.5.4.3"
_KNOWN = {_BASIC_CONSTRAINTS, _KEY_USAGE}
_CERT_SIGN, _CRL_SIGN = 1 << 5, 1 << 6
_LONGEST_NAME = 64  # characters (X.520, ub-common-name)
_LARGEST = 1 << 14  # bytes of one certificate; AMD's largest has 1,800
_PEM = re.compile(
    rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/= \t\r\n]*)-----END CERTIFICATE-----[ \t\r\n]*"
)
_TABLE = struct.Struct("<16s2I")  # GHCB specification, section 4.1.8.1


@dataclass(frozen=True)
class Certificate:
    """What a certificate says.

    Attributes:
        raw: the whole, as it was read; two are the same where these are.
        signed: its fields, as its issuer signed them.
        serial: its number.
        issuer: who signed it, a Name in DER.
        subject: whose it is, a Name in DER.
        name: the subject's common name.
        not_before: its first second.
        not_after: its last second.
        key_info: SubjectPublicKeyInfo.
        extensions: (critical, value) by object identifier.
    """

    raw: bytes
    signed: Signed
    serial: int
    issuer: bytes
    subject: bytes
    name: str
    not_before: datetime
    not_after: datetime
    key_info: bytes
    extensions: Mapping[str, tuple[bool, bytes]]

    def __hash__(self) -> int:
        return hash(self.raw)

    @property
    def key(self) -> PublicKey:
        """Its key."""
        return public_key(self.key_info)

    @property
    def self_issued(self) -> bool:
        """Whether it names itself as its issuer, as a root does."""
        return self.issuer == self.subject

    @property
    def path_length(self) -> int | None:
        """How many authorities may stand between it and a leaf; None: it is no authority.

        Raises:
            Malformed: its basic constraints are none.
        """
        if _BASIC_CONSTRAINTS not in self.extensions:
            return None
        reader = read(self.extensions[_BASIC_CONSTRAINTS][1], "basic constraints")
        authority = reader.boolean() if reader.peek() == 0x01 else False
        length = MOST if reader.at_end else reader.integer()
        reader.end()
        return length if authority else None

    def may_sign(self, lists: bool = False) -> bool:
        """Whether its key is for certificates, or for revocation lists."""
        if _KEY_USAGE not in self.extensions:
            return True
        reader = Reader(self.extensions[_KEY_USAGE][1], "key usage")
        flags = reader.flags()
        reader.end()
        return bool(flags & (_CRL_SIGN if lists else _CERT_SIGN))

    @property
    def unknown_critical(self) -> list[str]:
        """Extensions that must be understood and are not."""
        return [name for name, (critical, _) in self.extensions.items()
                if critical and name not in _KNOWN]  # fmt: skip

    def check_signed_by(self, issuer: Certificate) -> None:
        """Check that its issuer's key has signed it.

        Raises:
            BadSignature: it has not.
        """
        self.signed.check_by(issuer.key_info)


@lru_cache(256)
def parse(data: bytes) -> Certificate:
    """A certificate from DER.

    Raises:
        Malformed: it is none.
    """
    signed = Signed.parse(data, "a certificate", _LARGEST)
    fields = signed.fields()
    if fields.content(context(0)) != b"\x02\x01\x02":
        raise Malformed("a certificate of another version than 3")
    serial = fields.integer()
    signed.read_algorithm(fields)
    issuer = fields.raw(SEQUENCE)
    dates = fields.inside()
    not_before, not_after = dates.time(), dates.time()
    dates.end()
    subject, key_info = fields.raw(SEQUENCE), fields.raw(SEQUENCE)
    extensions = read_extensions(fields.optional(context(3)), signed.what)
    fields.end()
    common_name(issuer)
    return Certificate(
        data, signed, serial, issuer, subject, common_name(subject), not_before, not_after,
        key_info, extensions,
    )  # fmt: skip


def read_extensions(content: bytes | None, what: str) -> dict[str, tuple[bool, bytes]]:
    """(critical, value) of each extension.

    Args:
        content: of the tagged field; None where there is none.
        what: whose they are, for errors.

    Raises:
        Malformed: they are none, or one stands twice.
    """
    found: dict[str, tuple[bool, bytes]] = {}
    if content is None:
        return found
    listed = read(content, what)
    while not listed.at_end:
        one = listed.inside()
        name = one.oid()
        critical = one.boolean() if one.peek() == 0x01 else False
        value = one.content(OCTET_STRING)
        one.end()
        if name in found:
            raise Malformed(f"{what} has extension {name} twice")
        found[name] = critical, value
    return found


def common_name(name: bytes) -> str:
    """The common name in a Name, "" where it has none.

    Raises:
        Malformed: it is no Name, has two, or one that cannot be shown.
    """
    parts = read(name, "a name")
    names = []
    while not parts.at_end:
        pair = parts.inside(SET).inside()
        kind, value = pair.oid(), pair.text()
        pair.end()
        if kind == _COMMON_NAME:
            names.append(value)
    if len(names) > 1:
        raise Malformed("a name with two common names")
    if names and (len(names[0]) > _LONGEST_NAME or not names[0].isprintable()):
        raise Malformed("a common name that cannot be shown")
    return names[0] if names else ""


def read_bundle(data: bytes) -> list[Certificate]:
    """The certificates in PEM (which may end in NUL bytes), in DER, or in SNP firmware's table.

    Raises:
        Malformed: there is something else.
    """
    stripped = data.rstrip(b"\0")
    if not stripped:
        return []
    if stripped.startswith(b"-----"):
        encoded = _from_pem(stripped)
    elif data[0] == SEQUENCE:
        encoded = _one_after_the_other(data)
    else:
        encoded = _from_table(data)
    if len(encoded) > MOST:
        raise Oversized(f"{len(encoded)} certificates: at most {MOST}")
    return [parse(each) for each in encoded]


def _from_pem(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        block = _PEM.match(data, at)
        if block is None:
            raise Malformed("PEM with something that is no certificate")
        try:
            found.append(base64.b64decode(b"".join(block[1].split()), validate=True))
        except binascii.Error:
            raise Malformed("PEM that is no base64") from None
        at = block.end()
    return found


def _one_after_the_other(data: bytes) -> list[bytes]:
    reader, found = Reader(data, "certificates"), []
    while not reader.at_end:
        found.append(reader.raw(SEQUENCE))
        if len(found) > MOST:
            break
    return found


def _from_table(data: bytes) -> list[bytes]:
    """The certificates of ``SNP_GET_EXT_REPORT``: (GUID, offset, length), the last all zero."""
    found: list[bytes] = []
    for at in range(0, _TABLE.size * (MOST + 1), _TABLE.size):
        if at + _TABLE.size > len(data):
            raise Truncated("certificates that are neither PEM, DER nor a whole table")
        guid, offset, length = _TABLE.unpack_from(data, at)
        if not any(guid):
            return found
        if length == 0 or offset + length > len(data):
            raise Truncated("a table of certificates that points beyond its end")
        found.append(data[offset : offset + length])
    raise Oversized(f"a table of more than {MOST} certificates")
