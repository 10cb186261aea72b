"""Why evidence is refused: one class a reason, each with a name that programs may rely on."""

from __future__ import annotations

from typing import ClassVar

from hansa.base.errors import ConfigError, HansaError


class AttestationError(HansaError, ValueError):
    """Evidence that cannot be accepted.

    Attributes:
        name: the reason in kebab case, as it stands in ``problems`` of a verdict.
    """

    name: ClassVar[str] = "attestation"


class PolicyError(ConfigError, AttestationError):
    """A policy that cannot be used: names the field, its value and the way out."""

    name = "policy"


class Malformed(AttestationError):
    """Bytes that are not of the form they have to have."""

    name = "malformed"


class Truncated(Malformed):
    """Bytes that end before what they announce."""

    name = "truncated"


class Oversized(Malformed):
    """More bytes than any genuine evidence has."""

    name = "oversized"


class Trailing(Malformed):
    """Bytes after the end of what is signed."""

    name = "trailing"


class WrongPlatform(AttestationError):
    """Another kind of hardware than the policy takes."""

    name = "platform"


class WrongProduct(AttestationError):
    """Another product than the policy takes, or certificates of another product than the report."""

    name = "product"


class Simulated(AttestationError):
    """Evidence that no hardware stands behind."""

    name = "simulated"


class UnknownRoot(AttestationError):
    """A chain of certificates that does not end at a pinned root."""

    name = "root"


class BrokenChain(AttestationError):
    """A certificate that its issuer did not sign, may not sign, or that is missing."""

    name = "chain"


class Expired(AttestationError):
    """A certificate or a signed list whose time is over."""

    name = "expired"


class NotYetValid(AttestationError):
    """A certificate or a signed list whose time has not come."""

    name = "not-yet-valid"


class Revoked(AttestationError):
    """A certificate or chip that its vendor, or the policy, has revoked."""

    name = "revoked"


class BadSignature(AttestationError):
    """A report, quote or signed list whose signature does not hold."""

    name = "signature"


class WrongKeyKind(AttestationError):
    """A report signed by another kind of key than it says, or than the policy takes."""

    name = "key-kind"


class WrongChip(AttestationError):
    """A certificate of another chip than the report's, or a chip that does not say which it is."""

    name = "hw-id"


class DebugAllowed(AttestationError):
    """An enclave or guest into which its host can look."""

    name = "debug"


class MigrationAllowed(AttestationError):
    """A guest that may be taken elsewhere while it runs."""

    name = "migration"


class WrongVmpl(AttestationError):
    """A report that was asked for at a less privileged level than the policy takes."""

    name = "vmpl"


class WrongMeasurement(AttestationError):
    """Code that stands in no entry of the policy."""

    name = "measurement"


class LowTcb(AttestationError):
    """Firmware or microcode that is too old, or of a status that the policy does not take."""

    name = "tcb"


class UnwantedAdvisory(AttestationError):
    """A platform with a known weakness that the policy does not tolerate."""

    name = "advisory"


class WrongReportData(AttestationError):
    """A report about other data than was asked for: of another session, or replayed."""

    name = "report-data"


class BadCollateral(AttestationError):
    """Signed lists of the vendor that are missing, of another platform, or too old."""

    name = "collateral"


class WrongQuotingEnclave(AttestationError):
    """A quoting enclave that is not Intel's, or did not certify the key of the quote."""

    name = "qe-identity"


class WrongTdxModule(AttestationError):
    """A TDX module that Intel's list does not know."""

    name = "tdx-module"
