"""Evidence in files, in the forms in which people have it, told apart by what they begin with.

Our container; a report or quote as the hardware gave it; the same as hex digits; and an SNP report
in the wrapping of Azure's paravisor (``HCLA``, the report from byte 32).
"""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

from hansa.attest.collateral import canonical
from hansa.attest.evidence import LARGEST, MAGIC, Evidence, Tee
from hansa.attest.quote import SGX, TDX
from hansa.attest.refusals import Malformed, Oversized
from hansa.attest.snp_report import SIZE, VERSIONS
from hansa.base.errors import ConfigError

_SIMULATED = b"HANSA-SIMULATED-TEE"
_AZURE, _AZURE_HEAD = b"HCLA", 32
_HEX = frozenset(b"0123456789abcdefABCDEF \t\r\n")
_FORMS = "an evidence container, an SNP report, an SGX or TDX quote, or one of them as hex digits"


def read_file(path: Path, field: str, most: int = LARGEST) -> bytes:
    """A file's bytes.

    Raises:
        ConfigError: it cannot be read; names ``field``.
        Oversized: it has more than ``most`` bytes.
    """
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise ConfigError(field, str(path), problem, "the path of a file") from None
    if len(data) > most:
        raise Oversized(f"{path}: more than {most:,} bytes")
    return data


def recognise(data: bytes, certificates: bytes = b"", collateral: bytes = b"") -> Evidence:
    """The evidence that some bytes are.

    Args:
        data: the bytes of a file.
        certificates: take the place of those that are in it.
        collateral: likewise; JSON.

    Raises:
        Malformed: they are nothing that is known.
        Oversized: they are too many.
    """
    if data and not set(data) - _HEX:
        digits = b"".join(data.split()).decode("ascii")
        if len(digits) % 2:
            raise Malformed("hex digits that are no pairs")
        data = bytes.fromhex(digits)
    evidence = Evidence.from_bytes(data) if data.startswith(MAGIC) else _bare(data)
    if certificates:
        evidence = replace(evidence, certificates=certificates)
    if collateral:
        evidence = replace(evidence, collateral=canonical(collateral))
    return evidence


def _bare(data: bytes) -> Evidence:
    if data.startswith(_SIMULATED):
        return Evidence("simulated", data)
    if data.startswith(_AZURE):
        data = data[_AZURE_HEAD : _AZURE_HEAD + SIZE]
    tee = _kind(data)
    if tee is None:
        raise Malformed(f"no evidence that is known: {_FORMS}")
    return Evidence(tee, data)


def _kind(data: bytes) -> Tee | None:
    if len(data) < 8:
        return None
    version, key_type, tee = struct.unpack_from("<HHI", data)
    if key_type == 0 and version in VERSIONS:  # the version of an SNP report has four bytes
        return "snp"
    if version in (3, 4, 5) and tee in (SGX, TDX):
        return "sgx" if tee == SGX else "tdx"
    return None
