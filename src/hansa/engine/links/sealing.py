"""Frames that hold: each with a tag under a key of its session, its direction and its place.

AES-GCM (NIST SP 800-38D) with the nonces of TLS 1.3 (RFC 8446, section 5.3): 96 bits of the key
schedule, XORed with a counter that is never sent. What was altered, repeated, left out, reordered
or turned round has another nonce or key, and does not open. After ``REKEY`` frames of at most
1 MiB, well below the 2^38 bytes of RFC 8446, section 5.5, both ends take the next key, from which
the last cannot be found (as section 7.2 there).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hansa.base.lazy import Lazy
from hansa.engine.links.framing import HEADER_BYTES, Buffer, Sort, header
from hansa.engine.links.refusal import ChannelError, Refusal

aead: Any = Lazy("cryptography.hazmat.primitives.ciphers.aead")
hashes: Any = Lazy("cryptography.hazmat.primitives.hashes")
hkdf: Any = Lazy("cryptography.hazmat.primitives.kdf.hkdf")

TAG_BYTES = 16
REKEY = 1 << 16
_LAST = (1 << 64) - 1


def derived(secret: bytes, label: str, size: int) -> bytes:
    """Key material from a secret (HKDF-Expand with SHA-256, RFC 5869)."""
    info = b"hansa channel " + label.encode()
    made: bytes = hkdf.HKDFExpand(hashes.SHA256(), size, info).derive(secret)
    return made


class Sealing:
    """One direction of a channel: what one end seals and the other opens, in the same order.

    Args:
        secret: 32 bytes that both ends have from the handshake, for this direction alone.
        hides: bodies are encrypted; else they are readable, and only the header is repeated
            encrypted behind them, with a tag over both.

    Attributes:
        extra: bytes that a sealed body is longer.
    """

    def __init__(self, secret: bytes, hides: bool) -> None:
        self._secret, self._hides = secret, hides
        self.extra = TAG_BYTES if hides else TAG_BYTES + HEADER_BYTES
        self._count = 0
        self._key: Any = None
        self._start = 0

    def _nonce(self) -> bytes:
        if self._count >= _LAST:
            raise ChannelError("has sent all frames that one session may have", Refusal.FRAME)
        if self._count % REKEY == 0:
            made = derived(self._secret, "key", 44)
            self._secret = derived(self._secret, "next", 32)
            self._key = aead.AESGCM(made[:32])
            self._start = int.from_bytes(made[32:], "big")
        nonce = (self._start ^ self._count).to_bytes(12, "big")
        self._count += 1
        return nonce

    def seal(self, sort: Sort, parts: Sequence[Buffer]) -> list[Buffer]:
        """Header, body and tag of the next frame; its body is all parts, one after the other."""
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        head = header(sort, memoryview(body).nbytes + self.extra)
        nonce = self._nonce()
        if self._hides:
            return [head, self._key.encrypt(nonce, body, head)]
        return [head, body, self._key.encrypt(nonce, head, body)]

    def open(self, head: bytes, sealed: memoryview) -> Buffer:
        """The body of the next frame.

        Raises:
            ChannelError: it is not the next frame of the other end.
        """
        from cryptography.exceptions import InvalidTag

        nonce = self._nonce()
        body: Buffer
        try:
            if self._hides:
                body, same = self._key.decrypt(nonce, sealed, head), True
            else:
                body, behind = sealed[: -self.extra], sealed[-self.extra :]
                same = self._key.decrypt(nonce, behind, body) == head
        except InvalidTag:
            same = False
        if not same:
            problem = "sent a frame that does not hold; it was altered, repeated or left out"
            raise ChannelError(problem, Refusal.FRAME)
        return body
