"""What Intel's certificate of a processor (PCK) says of it: extension 1.2.840.113741.1.13.1.

Intel SGX PCK certificate and revocation list profile specification, section 1.3.5.
"""

from __future__ import annotations

from dataclasses import dataclass

from hansa.attest.certificates import Certificate
from hansa.attest.der import ENUMERATED, OCTET_STRING, SEQUENCE, Reader, read
from hansa.attest.refusals import Malformed

_OID = "1.2.840.113741.1.13.1"
_PPID, _TCB, _PCEID, _FMSPC = (f"{_OID}.{k}" for k in (1, 2, 3, 4))
_COMPONENTS = 16


@dataclass(frozen=True)
class Platform:
    """A processor and the versions of what it trusts.

    Attributes:
        ppid: which one it is, 16 bytes.
        components: 16 security versions.
        pcesvn: of the provisioning certification enclave.
        pceid: which such enclave, 4 hex digits.
        fmspc: which product, 12 hex digits.
    """

    ppid: bytes
    components: tuple[int, ...]
    pcesvn: int
    pceid: str
    fmspc: str

    @classmethod
    def of(cls, certificate: Certificate) -> Platform:
        """What a PCK certificate says.

        Raises:
            Malformed: it lacks the extension, or a part of it.
        """
        if _OID not in certificate.extensions:
            raise Malformed(f"the certificate {certificate.name} says nothing of its processor")
        whole = _pairs(read(certificate.extensions[_OID][1], "what a PCK says"))
        ppid = _octets(whole, _PPID, 16)
        pceid, fmspc = _octets(whole, _PCEID, 2), _octets(whole, _FMSPC, 6)
        tcb = _pairs(_value(whole, _TCB).inside(SEQUENCE))
        components = []
        for k in range(1, _COMPONENTS + 1):
            components.append(_value(tcb, f"{_TCB}.{k}").integer())
        pcesvn = _value(tcb, f"{_TCB}.{_COMPONENTS + 1}").integer()
        return cls(ppid, tuple(components), pcesvn, pceid.hex().upper(), fmspc.hex().upper())


def _pairs(reader: Reader) -> dict[str, bytes]:
    """The encoded values by their object identifiers, each once."""
    found: dict[str, bytes] = {}
    while not reader.at_end:
        pair = reader.inside()
        name = pair.oid()
        if name in found:
            raise Malformed(f"a PCK says {name} twice")
        found[name] = pair.raw(SEQUENCE, OCTET_STRING, 0x02, ENUMERATED, 0x01)
        pair.end()
    return found


def _value(pairs: dict[str, bytes], name: str) -> Reader:
    if name not in pairs:
        raise Malformed(f"a PCK does not say {name}")
    return Reader(pairs[name], "what a PCK says")


def _octets(pairs: dict[str, bytes], name: str, size: int) -> bytes:
    value = _value(pairs, name).content(OCTET_STRING)
    if len(value) != size:
        raise Malformed(f"a PCK says {name} in {len(value)} bytes: {size}")
    return value
