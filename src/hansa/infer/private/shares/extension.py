"""Many oblivious transfers of labels out of 128: IKNP with a check that holds a liar off.

Ishai, Kilian, Nissim, Petrank (2003): the receiver of bits x expands its 128 pairs of keys to
columns t^i and sends u^i = t^i ^ G(k1^i) ^ x; the sender, which holds one key of each pair as its
secret s tells, has columns q^i = t^i ^ s_i x, that is rows q_j = t_j ^ x_j s. The check is that of
Keller, Orsini, Scholl (2015) in the form that Roy (2022, *SoftSpokenOT*, section 4) proves: a
linear universal hash R of every column, R(q^i) = R(t^i) ^ s_i R(x). R is the polynomial hash
over GF(2^128) that AES-GCM authenticates with, under a key that hashes all that was sent (Fiat and
Shamir), and 128 random bits at the end of x hide it. Who sends different x in c columns passes with
probability 2^-c, so that 128 - c bits of s stay unknown; who fails is told and shut out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hansa.base.errors import HansaError, WireError
from hansa.base.lazy import Lazy
from hansa.infer.private.shares.base_transfer import COUNT
from hansa.infer.private.shares.garbling import where
from hansa.infer.private.shares.hashing import LabelHash, derive, stream

aead = Lazy("cryptography.hazmat.primitives.ciphers.aead")

PAD = 128
"""Random choices at the end, which hide the others' hash."""
TAG = 16


class CheatingReceiver(HansaError):
    """Columns that do not agree: the session has to end, or its secret would leak bit by bit."""


def padded(count: int) -> int:
    """Rows of an extension to ``count`` transfers: whole blocks of 128 and those that hide."""
    return -(-count // 128) * 128 + PAD


def request_size(count: int) -> int:
    """Bytes that the receiver sends."""
    return COUNT * padded(count) // 8 + (COUNT + 1) * TAG


def _column(key: bytes, domain: bytes, size: int) -> np.ndarray:
    return np.frombuffer(stream(derive(key, "column", domain, size=16), size), np.uint8)


def _tags(challenge: bytes, columns: np.ndarray) -> np.ndarray:
    """A linear hash of each row of bytes uint8 [n, size], uint8 [n, 16]: the GHASH of AES-GCM.

    What the mode adds to the hash is the same for all inputs of a size, and taken away.
    """
    gcm, nonce = aead.AESGCM(challenge), bytes(12)
    constant = np.frombuffer(gcm.encrypt(nonce, b"", bytes(columns.shape[1])), np.uint8)
    tags = [np.frombuffer(gcm.encrypt(nonce, b"", row.tobytes()), np.uint8) for row in columns]
    return np.array(tags) ^ constant


def _rows(columns: np.ndarray, count: int) -> np.ndarray:
    """Labels uint64 [count, 2] of columns uint8 [128, size]: their transpose."""
    bits = np.unpackbits(columns, axis=1, count=count, bitorder="little")
    packed = np.packbits(np.ascontiguousarray(bits.T), axis=1, bitorder="little")
    return packed.view("<u8").astype(np.uint64)


def receive(
    pairs: Sequence[tuple[bytes, bytes]], domain: bytes, bits: np.ndarray, pad: bytes
) -> tuple[bytes, np.ndarray]:
    """The receiver's request and its rows t_j.

    Args:
        domain: bytes of this extension alone: a second one under the same bytes would show
            what its bits have in common with the first one's.
        bits: bool [count].
        pad: secret bytes of this extension alone, at least 16.

    Returns:
        the request, of ``request_size(count)`` bytes; uint64 [count, 2].
    """
    count, rows = len(bits), padded(len(bits))
    chosen = np.zeros(rows // 8, np.uint8)
    packed = np.packbits(bits, bitorder="little")
    chosen[: len(packed)] = packed
    chosen[-PAD // 8 :] = np.frombuffer(derive(pad, "choices that hide", size=PAD // 8), np.uint8)
    kept = np.array([_column(zero, domain, rows // 8) for zero, _ in pairs])
    other = np.array([_column(one, domain, rows // 8) for _, one in pairs])
    columns = (kept ^ other ^ chosen).tobytes()
    challenge = derive(columns, "challenge", domain, size=16)
    tags = _tags(challenge, np.concatenate([kept, chosen[None]]))
    return columns + tags.tobytes(), _rows(kept, count)


def send(
    keys: Sequence[bytes], secret: np.ndarray, domain: bytes, count: int, request: bytes
) -> np.ndarray:
    """The sender's rows q_j uint64 [count, 2], after the check.

    Args:
        secret: bool [128], which key of each pair ``keys`` holds.

    Raises:
        WireError: a request of the wrong size.
        CheatingReceiver: the columns do not agree; nothing more may be sent under this secret.
    """
    if len(request) != request_size(count):
        raise WireError(f"{len(request)} bytes ask for {count} transfers")
    size = padded(count) // 8
    columns = np.frombuffer(request, np.uint8, COUNT * size).reshape(COUNT, size)
    tags = np.frombuffer(request, np.uint8, offset=COUNT * size).reshape(COUNT + 1, TAG)
    chosen = (np.uint8(0) - secret.astype(np.uint8))[:, None]
    held = np.array([_column(key, domain, size) for key in keys]) ^ (columns & chosen)
    challenge = derive(columns.tobytes(), "challenge", domain, size=16)
    if not np.array_equal(_tags(challenge, held), tags[:COUNT] ^ (tags[COUNT] & chosen)):
        raise CheatingReceiver("the columns of an oblivious transfer do not agree")
    return _rows(held, count)


def secret_label(secret: np.ndarray) -> np.ndarray:
    """The sender's 128 bits as a label uint64 [2]."""
    return np.packbits(secret, bitorder="little").view("<u8").astype(np.uint64)


def send_labels(
    rows: np.ndarray, secret: np.ndarray, delta: np.ndarray, key: bytes
) -> tuple[np.ndarray, np.ndarray]:
    """Labels of zero and corrections, both uint64 [count, 2], of the sender's rows.

    Args:
        delta: the difference of the two labels of each transfer.
        key: of the hash, public and of this extension alone.
    """
    hashed = LabelHash(key)
    tweaks = np.arange(len(rows), dtype=np.uint64)
    zero = hashed(rows, tweaks)
    return zero, zero ^ hashed(rows ^ secret_label(secret), tweaks) ^ delta


def receive_labels(
    rows: np.ndarray, bits: np.ndarray, corrections: np.ndarray, key: bytes
) -> np.ndarray:
    """The chosen label of each transfer uint64 [count, 2]."""
    tweaks = np.arange(len(rows), dtype=np.uint64)
    return LabelHash(key)(rows, tweaks) ^ where(bits.astype(np.uint64), corrections)
