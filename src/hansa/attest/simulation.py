"""Evidence that nothing stands behind: for tests and for trying things out, and marked as such.

Its form is its own (never that of a vendor). A throw-away root, made for a run by who starts it,
certifies a key for each member, which signs what a vendor's hardware would::

    HANSA-SIMULATED-TEE, version (1 byte), chip id (32), measurement (48), report data (64),
    the member's key (32), the root's signature over key and chip id (64), the member's over all
    before it (64)

It does measure: the hash of the installed package and of what the run is configured to do. So a
member with other code is refused as one in an enclave would be. It protects nothing: whoever has
the root or a member's key says what he likes.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hansa.attest.evidence import Evidence
from hansa.attest.policy import Policy
from hansa.attest.refusals import (
    BadSignature,
    Malformed,
    Simulated,
    UnknownRoot,
    WrongReportData,
)
from hansa.attest.verdict import Verdict
from hansa.base.errors import ConfigError
from hansa.base.files import writing

VARIABLE = "HANSA_SIMULATED_TEE"
"""Has to be 1 where simulated evidence is to be made or taken: a policy alone is not enough."""
MAGIC = b"HANSA-SIMULATED-TEE"
_VERSION = 1
_BODY = struct.Struct(f">{len(MAGIC)}sB32s48s64s32s64s")
_SIGNATURE = 64
_MEMBER, _REPORT, _MEASURED, _SEALING = (
    b"hansa simulated member 1\0",
    b"hansa simulated report 1\0",
    b"hansa simulated measurement 1\0",
    b"hansa simulated sealing 1\0",
)
_FILE = b"hansa simulated root 1 "


def allowed() -> bool:
    """Whether the environment says that simulation is wanted here."""
    return os.environ.get(VARIABLE) == "1"


def check_allowed(field_name: str) -> None:
    """Refuse to simulate where the environment does not say so too.

    Raises:
        ConfigError: naming the setting that asks for it.
    """
    if not allowed():
        problem = f"is wanted by the settings alone, and {VARIABLE} is not 1 here"
        fix = f"{VARIABLE}=1 for tests; it protects nothing"
        raise ConfigError(field_name, "simulated", problem, fix)


def _private(seed: bytes) -> Any:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed)


def _public(seed: bytes) -> bytes:
    public: bytes = _private(seed).public_key().public_bytes_raw()
    return public


def _holds(key: bytes, signature: bytes, data: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


@dataclass(frozen=True)
class SimulatedMember:
    """What one member of a run simulates with.

    Attributes:
        seed: of its key.
        chip: 32 bytes, its chip's id.
        certificate: the root's signature over its key and chip.
        root: the root's public key, 32 bytes.
        sealing: 32 bytes that all members of the run have in common.
    """

    seed: bytes = field(repr=False)
    chip: bytes
    certificate: bytes
    root: bytes
    sealing: bytes = field(repr=False)

    def dump(self) -> dict[str, bytes]:
        """Plain data."""
        names = ("seed", "chip", "certificate", "root", "sealing")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> SimulatedMember:
        """From such data."""
        return cls(**{name: bytes(value) for name, value in data.items()})

    def report(self, measurement: bytes, report_data: bytes) -> bytes:
        """Evidence of 48 measured bytes about 64 bytes."""
        own = (_public(self.seed), self.certificate)
        body = _BODY.pack(MAGIC, _VERSION, self.chip, measurement, report_data, *own)
        return body + _private(self.seed).sign(_REPORT + body)


@dataclass(frozen=True)
class SimulatedRoot:
    """The root of a run, with its secret.

    Attributes:
        seed: 32 bytes.
    """

    seed: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> SimulatedRoot:
        """A new one."""
        return cls(secrets.token_bytes(32))

    @property
    def public(self) -> bytes:
        """What verifiers need."""
        return _public(self.seed)

    def member(self, chip: bytes | None = None) -> SimulatedMember:
        """A new member on a chip of its own, or on this one (32 bytes)."""
        seed, chip = secrets.token_bytes(32), chip or secrets.token_bytes(32)
        certificate = _private(self.seed).sign(_MEMBER + _public(seed) + chip)
        sealing = hashlib.sha256(_SEALING + self.seed).digest()
        return SimulatedMember(seed, chip, certificate, self.public, sealing)

    def save(self, path: Path) -> None:
        """Write a new file for those who simulate together.

        Raises:
            ConfigError: there is one already.
            DiskError: it cannot be written.
        """
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                raise ConfigError("root", str(path), "is there already", "another path") from None
            with os.fdopen(handle, "wb") as file:
                file.write(_FILE + self.seed.hex().encode() + b"\n")

    @classmethod
    def load(cls, path: Path, where: str = "root") -> SimulatedRoot:
        """Read such a file.

        Raises:
            ConfigError: it is none.
        """
        fix = "a file that `hansa attest root` has made"
        try:
            with path.open("rb") as file:
                text = file.read(256)
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
            raise ConfigError(where, str(path), problem, fix) from None
        digits = text.removeprefix(_FILE).strip()
        try:
            seed = bytes.fromhex(digits.decode("ascii"))
        except ValueError:
            seed = b""
        if not text.startswith(_FILE) or len(seed) != 32:
            raise ConfigError(where, str(path), "is no root of a simulation", fix)
        return cls(seed)


def measured(code: bytes, config: bytes) -> bytes:
    """48 bytes: what runs (48) and what it is configured to do (32)."""
    return hashlib.sha384(_MEASURED + code + config).digest()


def verify_simulated(
    evidence: Evidence, policy: Policy, root: bytes, report_data: bytes | None
) -> Verdict:
    """What there is to say of simulated evidence; never that hardware stands behind it.

    Args:
        root: the public key of the run's root, 32 bytes.
        report_data: what it has to be about, 64 bytes; None: anything.
    """
    verdict = Verdict("simulated", product="simulated")
    if not policy.simulated:
        verdict.note(Simulated("the policy takes no simulated evidence"))
    if not allowed():
        verdict.note(Simulated(f"{VARIABLE} is not 1 here"))
    data = evidence.report
    if evidence.tee != "simulated" or len(data) != _BODY.size + _SIGNATURE:
        text = f"{len(data)} bytes of {evidence.tee}, and simulated evidence has"
        verdict.note(Malformed(f"{text} {_BODY.size + _SIGNATURE}"))
        return verdict
    magic, version, chip, measurement, about, key, certificate = _BODY.unpack_from(data)
    verdict.measurement, verdict.chip_id = measurement.hex(), chip.hex()
    verdict.measured, verdict.report_data = {"measurement": verdict.measurement}, about
    if magic != MAGIC or version != _VERSION:
        verdict.note(Malformed("no simulated evidence of this version"))
    if evidence.certificates or evidence.collateral:
        verdict.note(Malformed("simulated evidence has no certificates and no collateral"))
    if not _holds(root, certificate, _MEMBER + key + chip):
        verdict.note(UnknownRoot("its key was certified by the root of another run"))
    if not _holds(key, data[_BODY.size :], _REPORT + data[: _BODY.size]):
        verdict.note(BadSignature("its signature does not hold"))
    if report_data is not None and about != report_data:
        verdict.note(WrongReportData("it is about another session"))
    return verdict
