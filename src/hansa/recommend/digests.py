"""Digests of what a node has, by which another sends it only what it lacks.

A digest covers a part of all ratings: those whose number, hashed with a salt of its own, falls into
a range that is so long that about ``entries`` of the node's ratings are in it. It is these hashes,
rounded to 8 places an entry and coded as the gaps between them (a Golomb-coded set; Putze, Sanders,
Singler, 2007): 4 to 5 bits each. What is in the range and not in the digest its sender lacks for
certain, so that nothing is sent in vain; of what it lacks one rating in eight or so is taken for
another and not sent. Salts are drawn anew each round, so that none is for good.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from hansa.base.errors import WireError
from hansa.codec.bits import rice_decode, rice_encode, rice_parameter

_HEAD = struct.Struct("<IHB")  # length of the range, entries, the code's parameter
_SPACE = 1 << 32
_PLACES = 8


@dataclass(frozen=True)
class Digest:
    """A part of all ratings, and what somebody has of it.

    Attributes:
        salt: uint64.
        begin: where its range of hashes begins, below 2^32.
        length: of the range.
        size: places that the range is rounded to.
        filled: int64, ascending: those where something is.
    """

    salt: int
    begin: int
    length: int
    size: int
    filled: np.ndarray

    def lacked(self, keys: np.ndarray) -> np.ndarray:
        """Which of these ratings, int64 [m] by number, its sender lacks for certain, bool [m]."""
        inside, places = _places(keys, self.salt, self.begin, self.length, self.size)
        lacked = np.zeros(len(keys), dtype=bool)
        lacked[inside] = ~np.isin(places, self.filled)
        return lacked


def packed(keys: np.ndarray, salt: int, entries: int, part: int = 0, parts: int = 1) -> bytes:
    """The digest of ratings, int64 [m] by number, as bytes.

    Args:
        entries: how many of them it covers, about; all where there are fewer.
        part: in which of ``parts`` equal ranges its own begins.
    """
    most = _SPACE // parts - 1
    length = max(1, min(most, _SPACE * entries // max(len(keys), 1)))
    inside, _ = _places(keys, salt, part * (_SPACE // parts), length, 1)
    count = min(int(np.count_nonzero(inside)), 0xFFFF)
    _, places = _places(keys, salt, part * (_SPACE // parts), length, _PLACES * max(count, 1))
    filled = np.unique(places)
    parameter = rice_parameter(filled)
    return _HEAD.pack(length, count, parameter) + _numbered(filled, parameter)


def unpacked(packet: bytes, salt: int, part: int = 0, parts: int = 1) -> Digest:
    """A digest from bytes.

    Raises:
        WireError: they are none.
    """
    if len(packet) < _HEAD.size + 2:
        raise WireError(f"a digest of {len(packet)} bytes")
    length, count, parameter = _HEAD.unpack_from(packet)
    filled, code = struct.unpack_from("<H", packet, _HEAD.size)[0], packet[_HEAD.size + 2 :]
    size = _PLACES * max(count, 1)
    if not 0 < length < _SPACE or filled > count or parameter > 30:
        raise WireError("a digest that covers nothing, or more than it says")
    places = rice_decode(code, filled, size, parameter)
    return Digest(salt, part * (_SPACE // parts), length, size, places)


def _numbered(filled: np.ndarray, parameter: int) -> bytes:
    return struct.pack("<H", len(filled)) + rice_encode(filled, parameter)


def _places(
    keys: np.ndarray, salt: int, begin: int, length: int, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """(which keys hash into a range, bool [m]; the places there of those that do, int64)."""
    at = _hashed(keys, salt).astype(np.int64) - begin
    inside = (at >= 0) & (at < length)
    return inside, at[inside] * size // length


def _hashed(keys: np.ndarray, salt: int) -> np.ndarray:
    """The finalizer of SplitMix64 (Steele, Lea, Flood, 2014), its upper half: below 2^32."""
    x = keys.astype(np.uint64) ^ np.uint64(salt)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))) >> np.uint64(32)
