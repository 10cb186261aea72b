"""An AMD SEV-SNP attestation report: 1184 bytes, little endian (AMD publication 56860, table 23).

Reading it believes nothing: see :mod:`hansa.attest.snp` for what makes it evidence.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hansa.attest.refusals import BadSignature, Malformed, Trailing, Truncated

SIZE = 1184
SIGNED = 0x2A0
"""Bytes that the signature covers, from the first."""

VERSIONS = (2, 3, 4, 5)
TCB_FIELDS = ("boot_loader", "tee", "snp", "microcode", "fmc")

_ECDSA_P384_SHA384 = 1
_NUMBER = 72  # bytes of r and of s, of which P-384 needs 48
_LAYOUT = {"Turin": (1, 2, 3, 7, 0), "Milan": (0, 1, 6, 7, None), "Genoa": (0, 1, 6, 7, None)}


@dataclass(frozen=True)
class SnpReport:
    """What a report says.

    Attributes:
        raw: the whole.
        version: of the layout; from 3 the report names its processor.
        guest_svn: the guest's own security version.
        policy: bits of the guest's policy.
        vmpl: the privilege level that asked, 0 the highest.
        platform_info: bits of the host's configuration.
        signing_key: 0 a chip's own (VCEK), 1 a provider's (VLEK), 7 none.
        report_data: 64 bytes of whoever asked.
        measurement: the launch digest, 48 bytes.
        host_data: 32 bytes of the host at launch.
        reported_tcb: versions that the signing key is derived from, 8 bytes.
        family: of the processor (CPUID), None in version 2.
        model: of the processor, likewise.
        chip_id: 64 bytes; all zero where it is masked.
        signature: (r, s).
    """

    raw: bytes
    version: int
    guest_svn: int
    policy: int
    vmpl: int
    platform_info: int
    signing_key: int
    report_data: bytes
    measurement: bytes
    host_data: bytes
    reported_tcb: bytes
    family: int | None
    model: int | None
    chip_id: bytes
    signature: tuple[int, int]

    @classmethod
    def parse(cls, data: bytes) -> SnpReport:
        """A report from its bytes.

        Raises:
            Truncated: it has too few.
            Trailing: it has too many.
            Malformed: its version or signature algorithm is unknown.
            BadSignature: it has no signature, or one with stray bytes.
        """
        if len(data) < SIZE:
            raise Truncated(f"an SNP report of {len(data)} bytes: one has {SIZE}")
        if len(data) > SIZE:
            raise Trailing(f"{len(data) - SIZE} bytes behind an SNP report")
        version, guest_svn, policy = struct.unpack_from("<IIQ", data, 0)
        vmpl, algorithm = struct.unpack_from("<II", data, 0x30)
        platform_info, flags = struct.unpack_from("<QI", data, 0x40)
        if version not in VERSIONS:
            raise Malformed(f"an SNP report of version {version}: {VERSIONS[0]} to {VERSIONS[-1]}")
        if algorithm != _ECDSA_P384_SHA384:
            raise Malformed(f"an SNP report signed by unknown algorithm {algorithm}")
        numbers = data[SIGNED : SIGNED + _NUMBER], data[SIGNED + _NUMBER : SIGNED + 2 * _NUMBER]
        if any(data[SIGNED + 2 * _NUMBER :]) or any(any(each[48:]) for each in numbers):
            raise BadSignature("stray bytes around the signature of an SNP report")
        r, s = (int.from_bytes(each, "little") for each in numbers)
        named = version >= 3
        return cls(
            data, version, guest_svn, policy, vmpl, platform_info, flags >> 2 & 7,
            data[0x50:0x90], data[0x90:0xC0], data[0xC0:0xE0], data[0x180:0x188],
            data[0x188] if named else None, data[0x189] if named else None,
            data[0x1A0:0x1E0], (r, s),
        )  # fmt: skip

    @property
    def debug(self) -> bool:
        """Whether the host may look into the guest."""
        return bool(self.policy >> 19 & 1)

    @property
    def migration(self) -> bool:
        """Whether a migration agent may be bound to the guest."""
        return bool(self.policy >> 18 & 1)

    @property
    def masked(self) -> bool:
        """Whether the report does not say of which chip it is."""
        return not any(self.chip_id)

    @property
    def product(self) -> str:
        """The product that its processor belongs to; "" where it does not say or is unknown."""
        if self.family is None or self.model is None:
            return ""
        high = self.model >> 4
        if self.family == 0x19:
            return {0x0: "Milan", 0x1: "Genoa", 0xA: "Genoa"}.get(high, "")
        return "Turin" if self.family == 0x1A and high in (0x0, 0x1) else ""

    def tcb(self, product: str) -> dict[str, int]:
        """The reported versions by name; each product has its own layout."""
        places = zip(TCB_FIELDS, _LAYOUT[product], strict=True)
        return {name: 0 if at is None else self.reported_tcb[at] for name, at in places}
