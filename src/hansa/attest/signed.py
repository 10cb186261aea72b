"""What certificates and revocation lists have in common: fields that somebody has signed."""

from __future__ import annotations

from dataclasses import dataclass

from hansa.attest.der import SEQUENCE, Reader, read
from hansa.attest.refusals import Malformed, Oversized
from hansa.attest.signatures import check_signed


@dataclass(frozen=True)
class Signed:
    """A sequence of fields, an algorithm and a signature (RFC 5280, sections 4.1.1 and 5.1.1).

    Attributes:
        tbs: the fields, as they were signed.
        algorithm: AlgorithmIdentifier of the signature.
        signature: over ``tbs``.
        what: what it is, for errors.
    """

    tbs: bytes
    algorithm: bytes
    signature: bytes
    what: str

    @classmethod
    def parse(cls, data: bytes, what: str, largest: int) -> Signed:
        """Such a thing from DER, of so many bytes at most.

        Raises:
            Malformed: it is none.
        """
        if len(data) > largest:
            raise Oversized(f"{what} of {len(data):,} bytes: at most {largest:,}")
        outer = read(data, what)
        signed = cls(outer.raw(SEQUENCE), outer.raw(SEQUENCE), outer.bits(), what)
        outer.end()
        return signed

    def fields(self) -> Reader:
        """Reads what was signed."""
        return read(self.tbs, self.what)

    def read_algorithm(self, fields: Reader) -> None:
        """Read the algorithm that stands among the fields too.

        Raises:
            Malformed: it is another.
        """
        if fields.raw(SEQUENCE) != self.algorithm:
            raise Malformed(f"{self.what} that names two signature algorithms")

    def check_by(self, key_info: bytes) -> None:
        """Check that a key, SubjectPublicKeyInfo, has signed it.

        Raises:
            BadSignature: it has not.
            Malformed: key, algorithm or signature have no known form.
        """
        check_signed(key_info, self.algorithm, self.tbs, self.signature)
