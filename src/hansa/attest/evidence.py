"""Evidence as it travels: a report with what is needed to check it, in one bounded container.

Layout: ``HANSA-EVIDENCE``, a version byte, a byte for the kind of hardware, three lengths (u32,
big endian), then the report, the certificates and the collateral.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from hansa.attest.refusals import Malformed, Oversized, Trailing, Truncated

Tee = Literal["snp", "tdx", "sgx", "simulated"]
TEES: tuple[Tee, ...] = get_args(Tee)

MAGIC = b"HANSA-EVIDENCE"
LARGEST = 256 << 10
"""Bytes of a whole container: a genuine one has some 5,000 to 50,000."""

_VERSION = 1
_HEAD = struct.Struct(f">{len(MAGIC)}sBB3I")


@dataclass(frozen=True)
class Evidence:
    """What one party shows of its hardware. Nothing in it is believed before it is verified.

    Attributes:
        tee: the kind of hardware it claims.
        report: an SNP report (1184 bytes), an SGX or TDX quote, or a simulated one, as the
            hardware gave it.
        certificates: PEM, or DER certificates one after the other, or the certificate table of
            the SNP firmware; may be empty where the report has its own.
        collateral: what the vendor signed about the platform, canonical JSON (see
            :mod:`hansa.attest.collateral`), or empty.

    Raises:
        Malformed: an unknown kind, or no report.
        Oversized: more than :data:`LARGEST` bytes together.
    """

    tee: Tee
    report: bytes
    certificates: bytes = b""
    collateral: bytes = b""

    def __post_init__(self) -> None:
        if self.tee not in TEES:
            raise Malformed(f"evidence of {self.tee!r}: one of {', '.join(TEES)}")
        if not self.report:
            raise Malformed("evidence without a report")
        if self.size > LARGEST:
            raise Oversized(f"evidence of {self.size:,} bytes: at most {LARGEST:,}")

    @property
    def size(self) -> int:
        """Bytes of :meth:`to_bytes`."""
        parts = (self.report, self.certificates, self.collateral)
        return _HEAD.size + sum(map(len, parts))

    def to_bytes(self) -> bytes:
        """The container."""
        parts = (self.report, self.certificates, self.collateral)
        head = _HEAD.pack(MAGIC, _VERSION, TEES.index(self.tee), *map(len, parts))
        return head + b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> Evidence:
        """What a container holds.

        Raises:
            Malformed: it is no container, or of another version.
            Truncated: it is shorter than it says.
            Trailing: it is longer than it says.
            Oversized: it is larger than any.
        """
        if len(data) > LARGEST:
            raise Oversized(f"evidence of {len(data):,} bytes: at most {LARGEST:,}")
        if data[: len(MAGIC)] != MAGIC[: len(data)]:
            raise Malformed("no evidence container: it does not begin with HANSA-EVIDENCE")
        if len(data) < _HEAD.size:
            raise Truncated(f"an evidence container of {len(data)} bytes: a head has {_HEAD.size}")
        _, version, kind, *lengths = _HEAD.unpack_from(data)
        if version != _VERSION:
            raise Malformed(f"an evidence container of version {version}: {_VERSION} is known")
        if kind >= len(TEES):
            raise Malformed(f"an evidence container of unknown hardware, number {kind}")
        missing = _HEAD.size + sum(lengths) - len(data)
        if missing > 0:
            raise Truncated(f"an evidence container that lacks {missing:,} bytes")
        if missing < 0:
            raise Trailing(f"{-missing:,} bytes behind an evidence container")
        ends = [_HEAD.size + sum(lengths[:k]) for k in range(4)]
        parts = [data[a:b] for a, b in pairwise(ends)]
        return cls(TEES[kind], *parts)
