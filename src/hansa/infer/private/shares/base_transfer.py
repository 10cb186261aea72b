"""128 oblivious transfers of random keys on P-256, from which all others are extended.

The protocol of Masny and Rindal (*Endemic Oblivious Transfer*, 2019, section 5): the receiver of
bit b draws t, sends points r_0 and r_1 with r_(1-b) random and r_b = t G - H(r_(1-b)), and holds
the key of t Y, where Y = y G is the sender's; the sender holds those of y (r_0 + H(r_1)) and
y (r_1 + H(r_0)). The points say nothing of b whatever the sender does: both are uniform. Products
of points are `cryptography`'s, which refuses what is not on the curve; sums are Python's integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha512
from typing import Any

from hansa.base.errors import WireError
from hansa.base.lazy import Lazy
from hansa.infer.private.shares.hashing import derive

curves = Lazy("cryptography.hazmat.primitives.asymmetric.ec")
serialization = Lazy("cryptography.hazmat.primitives.serialization")

COUNT = 128
"""Transfers of a session: columns of the extension."""
SIZE = 33
"""Bytes of a point."""

PRIME = 2**256 - 2**224 + 2**192 + 2**96 - 1
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

Point = tuple[int, int]


def _add(left: Point, right: Point) -> Point:
    """The sum of two points, neither of them zero; a sum that is zero is refused."""
    (x1, y1), (x2, y2) = left, right
    if x1 == x2:
        if (y1 + y2) % PRIME == 0:
            raise WireError("base transfer: points that cancel")
        slope = (3 * x1 * x1 - 3) * pow(2 * y1, -1, PRIME) % PRIME
    else:
        slope = (y2 - y1) * pow(x2 - x1, -1, PRIME) % PRIME
    x3 = (slope * slope - x1 - x2) % PRIME
    return x3, (slope * (x1 - x3) - y1) % PRIME


def _hashed(label: bytes) -> Point:
    """A point whose logarithm nobody knows: the first abscissa of a hash that is on the curve."""
    for counter in range(256):
        digest = sha512(b"hansa base transfer" + bytes([counter]) + label).digest()
        x = int.from_bytes(digest, "big") % PRIME
        square = (x * x * x - 3 * x + B) % PRIME
        y = pow(square, (PRIME + 1) // 4, PRIME)
        if y * y % PRIME == square:
            return x, y if y & 1 == digest[-1] & 1 else PRIME - y
    raise WireError("base transfer: no point found")  # once in 2^256


def _packed(point: Point) -> bytes:
    return bytes([2 + (point[1] & 1)]) + point[0].to_bytes(32, "big")


def _public(packed: bytes) -> Any:
    try:
        return curves.EllipticCurvePublicKey.from_encoded_point(curves.SECP256R1(), packed)
    except ValueError as error:
        raise WireError("base transfer: not a point of P-256") from error


def _point(public: Any) -> Point:
    numbers = public.public_numbers()
    return numbers.x, numbers.y


def _private(seed: bytes) -> Any:
    """The private key of 64 uniform bytes."""
    number = int.from_bytes(seed, "big") % (ORDER - 1) + 1
    return curves.derive_private_key(number, curves.SECP256R1())


def _key(place: int, which: int, transcript: bytes, shared: bytes) -> bytes:
    return derive(shared, "base transfer", place, which, transcript, size=16)


def _offset(session: bytes, place: int, other: int, packed: bytes) -> Point:
    return _hashed(derive(session, "offset", place, other, packed))


@dataclass(frozen=True)
class BaseSender:
    """Holds both keys of each transfer: the party that will receive extended ones.

    Args:
        session: public bytes of this session alone.
        seed: 32 secret bytes.
    """

    session: bytes
    seed: bytes

    def message(self) -> bytes:
        """Y, which does not depend on what the receiver sends."""
        public = _private(derive(self.seed, "base sender", size=64)).public_key()
        return _packed(_point(public))

    def keys(self, reply: bytes) -> list[tuple[bytes, bytes]]:
        """Two keys of 16 bytes of each transfer.

        Raises:
            WireError: the receiver's points are none.
        """
        if len(reply) != COUNT * 2 * SIZE:
            raise WireError(f"base transfer: {len(reply)} bytes of points")
        private = _private(derive(self.seed, "base sender", size=64))
        transcript = derive(self.session, self.message(), reply)
        keys = []
        for place in range(COUNT):
            at = 2 * SIZE * place
            packed = [reply[at : at + SIZE], reply[at + SIZE : at + 2 * SIZE]]
            pair = []
            for which in (0, 1):
                own = _point(_public(packed[which]))
                other = _offset(self.session, place, 1 - which, packed[1 - which])
                summed = curves.EllipticCurvePublicNumbers(*_add(own, other), curves.SECP256R1())
                shared = private.exchange(curves.ECDH(), summed.public_key())
                pair.append(_key(place, which, transcript, shared))
            keys.append((pair[0], pair[1]))
        return keys


@dataclass(frozen=True, eq=False)
class BaseReceiver:
    """Holds one key of each transfer: the party that will send extended ones.

    Args:
        seed: 32 secret bytes.
        choices: COUNT bits.
    """

    session: bytes
    seed: bytes
    choices: Sequence[int]

    @cached_property
    def _message(self) -> bytes:
        parts = []
        for place, choice in enumerate(self.choices):
            own = _point(_private(derive(self.seed, "base receiver", place, size=64)).public_key())
            free = _packed(_hashed(derive(self.seed, "free point", place, size=64)))
            x, y = _offset(self.session, place, 1 - choice, free)
            bound = _packed(_add(own, (x, PRIME - y)))
            parts += [free, bound] if choice else [bound, free]
        return b"".join(parts)

    def message(self) -> bytes:
        """The points r_0 and r_1 of each transfer."""
        return self._message

    def keys(self, sent: bytes) -> list[bytes]:
        """The chosen key of each transfer, 16 bytes.

        Raises:
            WireError: what the sender sent is no point.
        """
        if len(sent) != SIZE:
            raise WireError(f"base transfer: {len(sent)} bytes of a point")
        public = _public(sent)
        transcript = derive(self.session, sent, self.message())
        keys = []
        for place, choice in enumerate(self.choices):
            private = _private(derive(self.seed, "base receiver", place, size=64))
            shared = private.exchange(curves.ECDH(), public)
            keys.append(_key(place, choice, transcript, shared))
        return keys
