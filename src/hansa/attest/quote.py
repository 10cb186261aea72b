"""Intel's quotes: SGX version 3, TDX versions 4 and 5, little endian.

Layouts are Intel's (SGX DCAP ECDSA quote library API, appendix A; TDX DCAP quote generation,
appendix A). Reading believes nothing: see :mod:`hansa.attest.dcap`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from hansa.attest.refusals import Malformed, Trailing, Truncated

HEADER = 48
SGX, TDX = 0x00, 0x81
ENCLAVE_SIZE, TD10_SIZE, TD15_SIZE = 384, 584, 648
INTEL_QE = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
"""The vendor id of Intel's quoting enclave, the only one."""

_ECDSA_P256 = 2
_QE_REPORT, _PCK_CHAIN = 6, 5  # types of certification data
_BODIES = {1: (SGX, ENCLAVE_SIZE), 2: (TDX, TD10_SIZE), 3: (TDX, TD15_SIZE)}  # version 5


@dataclass(frozen=True)
class EnclaveReport:
    """What the processor says of an enclave, 384 bytes: of the one that is attested (SGX), and of
    the quoting enclave.

    Attributes:
        raw: the whole.
        misc_select: extended features.
        attributes: flags (8 bytes) and XFRM (8 bytes).
        mrenclave: its code, 32 bytes.
        mrsigner: who signed it, 32 bytes.
        isv_prod_id: the signer's number of the product.
        isv_svn: its security version.
        report_data: 64 bytes of the enclave's own.
    """

    raw: bytes
    misc_select: int
    attributes: bytes
    mrenclave: bytes
    mrsigner: bytes
    isv_prod_id: int
    isv_svn: int
    report_data: bytes

    @classmethod
    def parse(cls, raw: bytes) -> EnclaveReport:
        """From exactly 384 bytes."""
        (misc_select,) = struct.unpack_from("<I", raw, 16)
        isv_prod_id, isv_svn = struct.unpack_from("<HH", raw, 256)
        return cls(
            raw, misc_select, raw[48:64], raw[64:96], raw[128:160], isv_prod_id, isv_svn,
            raw[320:384],
        )  # fmt: skip

    @property
    def debug(self) -> bool:
        """Whether its host may look into it."""
        return bool(self.attributes[0] & 0x02)

    @property
    def initialised(self) -> bool:
        """Whether it was completely built."""
        return bool(self.attributes[0] & 0x01)

    @property
    def measured(self) -> dict[str, str | int]:
        """What a policy's measurements are compared with."""
        return {
            "mrenclave": self.mrenclave.hex(), "mrsigner": self.mrsigner.hex(),
            "isv_prod_id": self.isv_prod_id, "isv_svn": self.isv_svn,
        }  # fmt: skip


@dataclass(frozen=True)
class TdReport:
    """What the TDX module says of a trust domain: 584 bytes (TDX 1.0) or 648 (1.5).

    Attributes:
        raw: the whole.
        tcb_svns: versions of the module and what it stands on, 16 bytes: as the domain was
            launched, and (TDX 1.5) as they are now, for a module can be changed beneath a
            domain. Byte 1 is the module's major version, byte 0 its security version.
        mrseam: the module's code, 48 bytes.
        mrsignerseam: who signed the module; zero is Intel.
        seam_attributes: of the module, 8 bytes.
        attributes: of the domain, 8 bytes; the first byte is not zero in one that is debugged.
        xfam: extended features, 8 bytes.
        report_data: 64 bytes of the domain's own.
    """

    raw: bytes
    tcb_svns: tuple[bytes, ...]
    mrseam: bytes
    mrsignerseam: bytes
    seam_attributes: bytes
    attributes: bytes
    xfam: bytes
    report_data: bytes

    @classmethod
    def parse(cls, raw: bytes) -> TdReport:
        """From exactly 584 or 648 bytes."""
        svns = (raw[:16], raw[584:600]) if len(raw) == TD15_SIZE else (raw[:16],)
        return cls(
            raw, svns, raw[16:64], raw[64:112], raw[112:120], raw[120:128], raw[128:136],
            raw[520:584],
        )  # fmt: skip

    @property
    def debug(self) -> bool:
        """Whether its host may look into it."""
        return self.attributes[0] != 0

    @property
    def migration(self) -> bool:
        """Whether it may be moved to another machine while it runs."""
        return bool(self.attributes[3] & 0x20)

    @property
    def measured(self) -> dict[str, str | int]:
        """What a policy's measurements are compared with."""
        names = ("mrtd", "mrconfigid", "mrowner", "mrownerconfig",
                 "rtmr0", "rtmr1", "rtmr2", "rtmr3")  # fmt: skip
        return {
            name: self.raw[136 + 48 * k : 184 + 48 * k].hex() for k, name in enumerate(names)
        }  # fmt: skip


@dataclass(frozen=True)
class Quote:
    """What a quote consists of.

    Attributes:
        version: 3, 4 or 5.
        tee: what it is of.
        signed: header and body, which the attestation key has signed.
        body: the enclave or the domain.
        signature: of the attestation key, (r, s).
        attestation_key: its point on P-256, 64 bytes.
        qe_vendor: who made the quoting enclave, 16 bytes.
        qe_report: what the processor says of the quoting enclave.
        qe_signature: of the PCK over that, (r, s).
        qe_authentication: what the quoting enclave's report data hashes beside the key.
        pck_chain: PEM.
        trailing: bytes behind the quote.
    """

    version: int
    tee: Literal["sgx", "tdx"]
    signed: bytes
    body: EnclaveReport | TdReport
    signature: tuple[int, int]
    attestation_key: bytes
    qe_vendor: bytes
    qe_report: EnclaveReport
    qe_signature: tuple[int, int]
    qe_authentication: bytes
    pck_chain: bytes
    trailing: bytes

    @classmethod
    def parse(cls, data: bytes, allow_trailing: bool = False) -> Quote:
        """A quote from its bytes.

        Args:
            data: the bytes.
            allow_trailing: take bytes behind the end, which are not signed: some hosts hand out
                their whole buffer.

        Raises:
            Malformed: version, key or certification data are of no known kind, or lengths
                contradict each other.
            Truncated: it is shorter than it says.
            Trailing: it is longer than it says.
        """
        version, key_type, tee = struct.unpack_from("<HHI", _exactly(data[:HEADER], HEADER))
        if version not in (3, 4, 5):
            raise Malformed(f"a quote of version {version}: 3, 4 or 5")
        if key_type != _ECDSA_P256:
            raise Malformed(f"a quote signed by a key of unknown type {key_type}")
        if tee not in (SGX, TDX) or (version == 3 and tee != SGX):
            raise Malformed(f"a quote of version {version} of unknown hardware 0x{tee:x}")
        rest = _Cursor(data, HEADER)
        if version == 5:
            kind, size = rest.unpack("<HI")
            if _BODIES.get(kind) != (tee, size):
                raise Malformed(f"a quote's body of type {kind} with {size} bytes")
        else:
            size = ENCLAVE_SIZE if tee == SGX else TD10_SIZE
        raw = rest.take(size)
        signed = data[: rest.at]
        (length,) = rest.unpack("<I")
        parts = _Cursor(rest.take(length))
        trailing = rest.left()
        if trailing and not allow_trailing:
            raise Trailing(f"{len(trailing)} bytes behind the end of a quote")
        signature, attestation_key = _numbers(parts.take(64)), parts.take(64)
        if version >= 4:
            kind, size = parts.unpack("<HI")
            if kind != _QE_REPORT:
                raise Malformed(f"certification data of type {kind}: {_QE_REPORT} is needed")
            inner = _Cursor(parts.take(size))
            parts.end()
            parts = inner
        qe_report, qe_signature = parts.take(ENCLAVE_SIZE), _numbers(parts.take(64))
        (size,) = parts.unpack("<H")
        authentication = parts.take(size)
        kind, size = parts.unpack("<HI")
        if kind != _PCK_CHAIN:
            raise Malformed(f"certification data of type {kind}: a chain, type {_PCK_CHAIN}")
        chain = parts.take(size)
        parts.end()
        return cls(
            version, "sgx" if tee == SGX else "tdx", signed,
            EnclaveReport.parse(raw) if tee == SGX else TdReport.parse(raw),
            signature, attestation_key, data[12:28], EnclaveReport.parse(qe_report),
            qe_signature, authentication, chain, trailing,
        )  # fmt: skip


class _Cursor:
    """Takes bytes one after the other, and says what is missing."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def take(self, size: int) -> bytes:
        part = _exactly(self.data[self.at : self.at + size], size)
        self.at += size
        return part

    def unpack(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def left(self) -> bytes:
        return self.data[self.at :]

    def end(self) -> None:
        if self.left():
            raise Malformed(f"{len(self.left())} bytes too many in a quote's signature data")


def _exactly(part: bytes, size: int) -> bytes:
    if len(part) < size:
        raise Truncated(f"a quote that lacks {size - len(part):,} bytes")
    return part


def _numbers(raw: bytes) -> tuple[int, int]:
    return int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
