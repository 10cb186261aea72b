"""Signatures that vendors use, and nothing else: the one place where ``cryptography`` is called.

Keys are taken from SubjectPublicKeyInfo and signatures from their encodings by the own strict
reader; only points, numbers and digests are handed over.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from hansa.attest.der import INTEGER, Reader, context, read
from hansa.attest.refusals import BadSignature, Malformed
from hansa.base.lazy import Lazy

ec: Any = Lazy("cryptography.hazmat.primitives.asymmetric.ec")
rsa: Any = Lazy("cryptography.hazmat.primitives.asymmetric.rsa")
padding: Any = Lazy("cryptography.hazmat.primitives.asymmetric.padding")
utils: Any = Lazy("cryptography.hazmat.primitives.asymmetric.utils")
hashes: Any = Lazy("cryptography.hazmat.primitives.hashes")
exceptions: Any = Lazy("cryptography.exceptions")

P256, P384, RSA = "P-256", "P-384", "RSA"
ECDSA_SHA256, ECDSA_SHA384, PSS_SHA384 = "ECDSA-SHA256", "ECDSA-SHA384", "RSA-PSS-SHA384"

_EC_KEY, _RSA_KEY = "1.2.840.10045.2.1", "1.2.840.113549.1.1.1"
_CURVES = {"1.2.840.10045.3.1.7": P256, "1.3.132.0.34": P384}
_FIELD = {P256: 32, P384: 48}
_PSS, _MGF1, _SHA384 = "1.2.840.113549.1.1.10", "1.2.840.113549.1.1.8", "2.16.840.1.101.3.4.2.2"
_ECDSA = {"1.2.840.10045.4.3.2": ECDSA_SHA256, "1.2.840.10045.4.3.3": ECDSA_SHA384}
_RSA_BITS = range(2048, 4097)
_SALT = 48  # bytes, as long as the digest


class PublicKey:
    """A key that signatures are checked with.

    Attributes:
        kind: ``P-256``, ``P-384`` or ``RSA``.
    """

    def __init__(self, kind: str, key: Any) -> None:
        self.kind, self._key = kind, key

    @classmethod
    def of_point(cls, curve: str, point: bytes) -> PublicKey:
        """A key from its uncompressed point, x and y, big endian.

        Raises:
            Malformed: it is not on the curve.
        """
        if len(point) != 2 * _FIELD[curve]:
            raise Malformed(f"a point of {len(point)} bytes is none of {curve}")
        chosen = ec.SECP256R1() if curve == P256 else ec.SECP384R1()
        try:
            key = ec.EllipticCurvePublicKey.from_encoded_point(chosen, b"\x04" + point)
        except ValueError:
            raise Malformed(f"a key that is no point of {curve}") from None
        return cls(curve, key)

    def check(self, algorithm: str, message: bytes, signature: tuple[int, int] | bytes) -> None:
        """Check a signature: (r, s) of ECDSA, bytes of RSA.

        Raises:
            BadSignature: it does not hold, or is of another kind of key.
        """
        if (algorithm == PSS_SHA384) != (self.kind == RSA):
            raise BadSignature(f"a signature by {algorithm} and a key of {self.kind}")
        try:
            if self.kind == RSA:
                how = padding.PSS(padding.MGF1(hashes.SHA384()), _SALT)
                self._key.verify(signature, message, how, hashes.SHA384())
            else:
                digest = hashes.SHA256() if algorithm == ECDSA_SHA256 else hashes.SHA384()
                encoded = utils.encode_dss_signature(*signature)
                self._key.verify(encoded, message, ec.ECDSA(digest))
        except (exceptions.InvalidSignature, ValueError):
            raise BadSignature("a signature that does not hold") from None


@lru_cache(256)
def public_key(info: bytes) -> PublicKey:
    """The key in a SubjectPublicKeyInfo (RFC 5280, 4.1.2.7).

    Raises:
        Malformed: it is none, or of a kind that no vendor here uses.
    """
    reader = read(info, "a public key")
    algorithm = reader.inside()
    kind = algorithm.oid()
    if kind == _EC_KEY:
        curve = _CURVES.get(algorithm.oid())
        algorithm.end()
        point = reader.bits()
        reader.end()
        if curve is None or point[:1] != b"\x04":
            raise Malformed("a key on a curve or in a form that no vendor uses")
        return PublicKey.of_point(curve, point[1:])
    if kind != _RSA_KEY or algorithm.raw() != b"\x05\x00":
        raise Malformed("a key of a kind that no vendor uses")
    algorithm.end()
    numbers = read(reader.bits(), "an RSA key")
    reader.end()
    modulus, exponent = numbers.integer(), numbers.integer()
    numbers.end()
    if modulus.bit_length() not in _RSA_BITS or exponent < 3 or exponent.bit_length() > 32:
        raise Malformed(f"an RSA key of {modulus.bit_length()} bits, or of an odd exponent")
    try:
        return PublicKey(RSA, rsa.RSAPublicNumbers(exponent, modulus).public_key())
    except ValueError:
        raise Malformed("an RSA key that is none") from None


def algorithm_of(identifier: bytes) -> str:
    """Which signature an AlgorithmIdentifier (RFC 5280, 4.1.1.2) stands for.

    Raises:
        Malformed: one that no vendor uses; RSA-PSS with anything but SHA-384, twice, and 48 bytes
            of salt.
    """
    reader = read(identifier, "a signature algorithm")
    name = reader.oid()
    if name in _ECDSA:
        reader.end()
        return _ECDSA[name]
    if name != _PSS:
        raise Malformed(f"a signature algorithm that no vendor uses, {name}")
    parameters = reader.inside()
    reader.end()
    _sha384(parameters.inside(context(0)).inside())
    mask = parameters.inside(context(1)).inside()
    if mask.oid() != _MGF1:
        raise Malformed("RSA-PSS with an unknown mask")
    _sha384(mask.inside())
    mask.end()
    if parameters.inside(context(2)).integer() != _SALT:
        raise Malformed("RSA-PSS with another salt than 48 bytes")
    if (trailer := parameters.optional(context(3))) is not None and trailer != b"\x02\x01\x01":
        raise Malformed("RSA-PSS with an unknown trailer")
    parameters.end()
    return PSS_SHA384


def _sha384(reader: Reader) -> None:
    if reader.oid() != _SHA384 or reader.rest not in (b"", b"\x05\x00"):
        raise Malformed("RSA-PSS with another digest than SHA-384")


@lru_cache(256)
def check_signed(info: bytes, identifier: bytes, message: bytes, signature: bytes) -> None:
    """Check the signature of a certificate or of a revocation list; what held is remembered.

    Args:
        info: the signer's SubjectPublicKeyInfo.
        identifier: AlgorithmIdentifier.
        message: the signed bytes.
        signature: as in the BIT STRING.

    Raises:
        BadSignature: it does not hold.
        Malformed: key, algorithm or signature have no known form.
    """
    algorithm = algorithm_of(identifier)
    if algorithm == PSS_SHA384:
        public_key(info).check(algorithm, message, signature)
        return
    reader = read(signature, "a signature")
    numbers = reader.integer(INTEGER), reader.integer(INTEGER)
    reader.end()
    public_key(info).check(algorithm, message, numbers)
