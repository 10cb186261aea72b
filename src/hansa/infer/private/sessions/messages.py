"""Requests and replies as bytes: numbers of fixed size one after the other, sizes known before."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from hansa.base.errors import WireError
from hansa.base.lazy import Lazy
from hansa.infer.private.linear.places import Download
from hansa.infer.private.rlwe.profiles import Profile
from hansa.infer.private.sessions.errors import ProtocolError

residues = Lazy("hansa.infer.private.rlwe.residues")

SEED_BYTES = 32
WORD_BITS = 32
_HEAD = struct.Struct("<I")


def upload_bytes(profile: Profile, polynomials: int) -> int:
    """Size of a request of so many ciphertexts."""
    return _HEAD.size + SEED_BYTES + polynomials * profile.polynomial_bytes


def upload_payload(profile: Profile, rows: int, mask_seed: bytes, b_ntt: np.ndarray) -> bytes:
    """A request: rows of the batch, the seed of all masks, halves ``b`` [k, L, N]."""
    return _HEAD.pack(rows) + mask_seed + residues.pack_residues(profile, b_ntt)


def upload_rows(payload: bytes) -> int:
    """Rows of the batch that a request says it has.

    Raises:
        ProtocolError: it is too short to say.
    """
    if len(payload) < _HEAD.size + SEED_BYTES:
        raise ProtocolError("malformed", f"a request of {len(payload)} bytes")
    return int(_HEAD.unpack_from(payload)[0])


def read_upload(profile: Profile, payload: bytes, polynomials: int) -> tuple[bytes, np.ndarray]:
    """The mask seed and the halves ``b`` [k, L, N] of a request.

    Raises:
        ProtocolError: its size is not that of ``polynomials`` ciphertexts, or a residue is none.
    """
    wanted = upload_bytes(profile, polynomials)
    if len(payload) != wanted:
        raise ProtocolError("malformed", f"this step takes {wanted} bytes, not {len(payload)}")
    seed = payload[_HEAD.size : _HEAD.size + SEED_BYTES]
    try:
        b_ntt = residues.unpack_residues(profile, payload[_HEAD.size + SEED_BYTES :], polynomials)
    except WireError as error:
        raise ProtocolError("malformed", str(error)) from error
    return seed, b_ntt


def reply_payload(
    parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], bits: int = WORD_BITS
) -> bytes:
    """A reply: for each block (a [k, N], b [k, P], positions [k, P]), words of ``bits`` bits.

    Of ``b`` only what has a position is sent.
    """
    return b"".join(
        residues.pack_numbers(words, bits) if bits != WORD_BITS else words.astype("<u4").tobytes()
        for a_words, b_words, positions in parts
        for words in (a_words, b_words[positions >= 0])
    )


def reply_bytes(
    profile: Profile, downloads: Sequence[Download], rows: int, bits: int = WORD_BITS
) -> int:
    """Size of a reply."""
    return sum(
        packed_bytes(one.polynomials(rows) * profile.n, bits)
        + packed_bytes(int((one.positions(rows) >= 0).sum()), bits)
        for one in downloads
    )


def packed_bytes(count: int, bits: int) -> int:
    """Size of so many words."""
    return -(-count * bits // 8)


def read_reply(
    profile: Profile,
    payload: bytes,
    downloads: Sequence[Download],
    rows: int,
    bits: int = WORD_BITS,
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of each block (a [k, N], b [k, P], positions int64 [k, P], none as 0).

    Words are uint32, or uint64 where they have more than 32 bits.

    Raises:
        ProtocolError: another size.
    """
    wanted = reply_bytes(profile, downloads, rows, bits)
    if len(payload) != wanted:
        raise ProtocolError("malformed", f"the reply has {len(payload)} bytes, not {wanted}")
    at, made = 0, []

    def take(count: int) -> np.ndarray:
        nonlocal at
        data = payload[at : at + packed_bytes(count, bits)]
        at += len(data)
        if bits == WORD_BITS:
            return np.frombuffer(data, "<u4").astype(np.uint32)
        numbers: np.ndarray = residues.unpack_numbers(data, count, bits)
        return numbers

    for one in downloads:
        positions = one.positions(rows)
        held = positions >= 0
        a_words = take(len(positions) * profile.n).reshape(-1, profile.n)
        b_words = np.zeros(positions.shape, a_words.dtype)
        b_words[held] = take(int(held.sum()))
        made.append((a_words, b_words, np.maximum(positions, 0)))
    return made
