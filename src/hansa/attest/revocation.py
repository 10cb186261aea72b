"""Revocation lists (RFC 5280, section 5), read strictly and checked by their issuer's key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from hansa.attest.certificates import Certificate, read_extensions
from hansa.attest.der import INTEGER, SEQUENCE, context
from hansa.attest.refusals import BadCollateral, BadSignature, Malformed
from hansa.attest.signed import Signed

_LARGEST = 1 << 17  # bytes; Intel's for its platforms has 3,400
_CRL_NUMBER, _AUTHORITY_KEY = "2.5.29.20", "2.5.29.35"


@dataclass(frozen=True)
class RevocationList:
    """The numbers of certificates that their issuer has taken back.

    Attributes:
        signed: its fields, as its issuer signed them.
        issuer: whose list it is, a Name in DER.
        this_update: when it was made.
        next_update: when it is over.
        serials: the numbers.
    """

    signed: Signed
    issuer: bytes
    this_update: datetime
    next_update: datetime
    serials: frozenset[int]

    @classmethod
    def parse(cls, data: bytes) -> RevocationList:
        """A list from DER.

        Raises:
            Malformed: it is none, has no end in time, or tells only a part.
        """
        signed = Signed.parse(data, "a revocation list", _LARGEST)
        fields = signed.fields()
        if fields.integer(INTEGER) != 1:
            raise Malformed("a revocation list of another version than 2")
        signed.read_algorithm(fields)
        issuer = fields.raw(SEQUENCE)
        this_update, next_update = fields.time(), fields.time()
        serials = set()
        if fields.peek() == SEQUENCE:
            entries = fields.inside()
            while not entries.at_end:
                entry = entries.inside()
                serials.add(entry.integer())
                entry.time()
                entry.optional(SEQUENCE)
                entry.end()
        extensions = read_extensions(fields.optional(context(0)), signed.what)
        fields.end()
        for name, (critical, _) in extensions.items():
            if critical and name not in (_CRL_NUMBER, _AUTHORITY_KEY):
                raise Malformed(f"a revocation list that tells only a part (extension {name})")
        return cls(signed, issuer, this_update, next_update, frozenset(serials))

    def check_signed_by(self, issuer: Certificate) -> None:
        """Check that its issuer's key has signed it.

        Raises:
            BadCollateral: it has not, or may not.
        """
        if not issuer.may_sign(lists=True):
            raise BadCollateral(f"{issuer.name} may sign no revocation lists")
        try:
            self.signed.check_by(issuer.key_info)
        except BadSignature:
            raise BadCollateral(f"a revocation list that {issuer.name} did not sign") from None
