"""The channel of a run of one owner: both ends show that they know the run's secret.

    dialler   nonce
    listener  nonce, HMAC(secret, "listener", run, both nonces)
    dialler   HMAC(secret, "dialler", run, both nonces)

HMAC-SHA256 (RFC 2104) over 32-byte nonces, each end's word under its own role, so that no answer
can be turned round or used again. The launcher draws the secret; it is far too long to be guessed.
Frames stay readable, as nothing leaves the machine, and carry a tag each.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import ClassVar

from hansa.engine.links.handshaking import Handshaking
from hansa.engine.links.refusal import ChannelError, Refusal

NONCE_BYTES = 32
SECRET_BYTES = 32
"""Of a secret that a launcher draws."""
_SHORTEST = 16
_PROOF_BYTES = hashlib.sha256().digest_size


class SecretChannel(Handshaking):
    """One end of a channel whose ends share a secret.

    Args:
        secret: at least 16 random bytes.
        run: the run's name; a secret that is used for another run proves nothing in this one.
        dials: this end speaks first.
    """

    kind: ClassVar[bytes] = b"s"
    hides: ClassVar[bool] = False

    def __init__(self, secret: bytes, run: str, dials: bool) -> None:
        if len(secret) < _SHORTEST:
            raise ValueError(f"a secret of {len(secret)} bytes; at least {_SHORTEST} are needed")
        self._secret, self._run = secret, run.encode()
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        self._nonces = b""  # both, the dialler's first
        super().__init__(dials)

    def _begin(self) -> None:
        self._say(self._nonce)

    def _handshake(self, body: memoryview) -> None:
        word = bytes(body)
        if self.dials:
            self._nonces = self._nonce + word[:NONCE_BYTES]
            self._check(word[NONCE_BYTES:], "listener")
            self._say(self._mac("dialler"))
            self._end_of_words()
        elif not self._nonces:
            if len(word) != NONCE_BYTES:
                raise ChannelError("sends what is no handshake", Refusal.PROOF)
            self._nonces = word + self._nonce
            self._say(self._nonce + self._mac("listener"))
        else:
            self._check(word, "dialler")
            self._end_of_words()

    def _end_of_words(self) -> None:
        self._proven("secret", self._mac("binding"), self._mac("frames"))

    def _check(self, proof: bytes, role: str) -> None:
        if len(proof) != _PROOF_BYTES or not hmac.compare_digest(proof, self._mac(role)):
            problem = "does not know the secret of this run; it belongs to another one"
            raise ChannelError(problem, Refusal.SECRET)

    def _mac(self, purpose: str) -> bytes:
        text = b"".join(
            len(part).to_bytes(4, "big") + part
            for part in (b"hansa 1", purpose.encode(), self._run, self._nonces)
        )
        return hmac.digest(self._secret, text, "sha256")
