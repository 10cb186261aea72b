"""The client's side: encrypts what it holds, applies its steps to what it decrypts.

What it sends, and when, follows from the outline and the number of rows alone: no decrypted value
changes it (Li and Micciancio, 2021, on what decrypted results give away). What falls out of range
is told to the caller and to nobody else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import Lazy
from hansa.infer.private.client_steps import apply
from hansa.infer.private.linear.rows import LOG_ROWS
from hansa.infer.private.rlwe.draws import Draws
from hansa.infer.private.rlwe.keys import PublicKey, SecretKey
from hansa.infer.private.rlwe.profiles import profile
from hansa.infer.private.sessions.errors import ProtocolError
from hansa.infer.private.sessions.messages import read_reply, reply_bytes, upload_payload
from hansa.infer.private.sessions.outline import Outline, Reply, Turn
from hansa.infer.private.sessions.scheme import Scheme

ciphers = Lazy("hansa.infer.private.rlwe.ciphers")
switch_keys = Lazy("hansa.infer.private.lwe.switch_keys")


@dataclass(frozen=True, eq=False)
class Answers:
    """What a query came to.

    Attributes:
        logits: int64 [n, outputs], the accumulators themselves; None where only classes are told.
        classes: int64 [n], the place of the largest logit, the first of several.
        in_range: whether every number decrypted was one that the network can make; known to the
            client alone, which tells nobody.
        scale: what one of a logit stands for.
    """

    logits: np.ndarray | None
    classes: np.ndarray
    in_range: bool
    scale: float


class ClientSession:
    """Asks a server that has told its outline, in modes that decrypt accumulators.

    Args:
        outline: of the program.
        scheme: agreed on.
        mask_seed: drawn by the server for this session: the mask of the public key.
        secret: 32 bytes, of this session alone; all that is random follows from it.
        threads: that the arithmetic takes.
    """

    def __init__(
        self, outline: Outline, scheme: Scheme, mask_seed: bytes, secret: bytes, threads: int = 1
    ) -> None:
        self.outline, self.scheme, self.threads = outline, scheme, threads
        self.profile = profile(scheme.profile)
        outline.check_places(self.profile.n, scheme.plain_bits)
        self._secret, self._mask_seed = secret, mask_seed
        self._key = SecretKey.make(self.profile, Draws(secret, "secret key"))

    @property
    def largest_reply(self) -> int:
        """Bytes of the longest reply to a query of the most rows."""
        return max(
            reply_bytes(
                self.profile,
                [one.place for one in turn.replies],
                self.outline.rows,
                self.scheme.word_bits,
            )
            for turn in self.outline.turns
        )

    def open(self) -> Generator[bytes, bytes, None]:
        """Yields the requests that begin the session and is sent their replies."""
        draws = Draws(self._secret, "public key")
        opening = PublicKey.make(self._key, self._mask_seed, draws).to_bytes()
        if self.scheme.packing == "rows":
            draws = Draws(self._secret, "packing keys")
            opening += switch_keys.SwitchKeys.make(
                self._key, self._mask_seed, draws, LOG_ROWS
            ).to_bytes()
        yield opening

    def ask(self, query: int, rows: np.ndarray) -> Generator[bytes, bytes, Answers]:
        """Yields a query's requests, is sent their replies, returns the answers.

        Args:
            query: its number; the same number and rows make the same bytes.
            rows: [n, *input_shape].

        Raises:
            ConfigError: rows of another shape, or more than a query takes.
            ProtocolError: a reply of another size.
        """
        if not 1 <= len(rows) <= self.outline.rows:
            raise ConfigError(
                "rows", len(rows), "one query takes up to " + str(self.outline.rows),
                "ask in several queries",
            )  # fmt: skip
        held = {0: self.outline.read(rows)}
        logits, fits = None, True
        for step, turn in enumerate(self.outline.turns):
            payload = self.request(query, step, self.messages(turn, held, len(rows)), len(rows))
            reply = yield payload
            for made, numbers, inside in self._made(turn, reply, len(rows)):
                fits &= inside
                if made == -1:
                    logits = numbers.reshape(len(rows), -1)
                else:
                    held[made] = numbers
        if logits is None:
            raise ProtocolError("malformed", "an outline without an answer")
        return Answers(logits, logits.argmax(1), fits, self.outline.logits_scale)

    def messages(self, turn: Turn, held: dict[int, np.ndarray], rows: int) -> np.ndarray:
        """What a round encrypts, int64 [k, N], of the values [rows, C, H, W] by number."""
        parts = [np.zeros((0, self.profile.n), np.int64)]
        for at in turn.uploads:
            parts.append(self.outline.values[at].place.pack(self.profile.n, held[at]))
        return np.concatenate(parts)

    def request(self, query: int, step: int, messages: np.ndarray, rows: int) -> bytes:
        """The bytes that ask a step.

        Randomness is of the messages as well as of the step: were a query of the same number
        asked with other rows, one mask would hide two messages.
        """
        digest = hashlib.sha256(messages.tobytes()).digest()
        label = f"query {query} step {step} ".encode() + digest
        draws = Draws(self._secret, label)
        sealed = ciphers.encrypt(self._key, messages, self.scheme.plain_bits, draws, self.threads)
        return upload_payload(self.profile, rows, sealed.mask_seed, sealed.b_ntt)

    def decrypt(self, replies: tuple[Reply, ...], payload: bytes, rows: int) -> list[np.ndarray]:
        """The accumulators int64 [rows, C, H, W] of each of a round's replies.

        Raises:
            ProtocolError: another size.
        """
        places, bits = [one.place for one in replies], self.scheme.word_bits
        made = []
        for place, (a_words, b_words, positions) in zip(
            places, read_reply(self.profile, payload, places, rows, bits), strict=True
        ):
            found = ciphers.decrypt(
                self._key, a_words, b_words, positions, self.scheme.plain_bits, bits, self.threads
            )
            made.append(place.unpack(found, rows))
        return made

    def _made(
        self, turn: Turn, payload: bytes, rows: int
    ) -> Generator[tuple[int, np.ndarray, bool], None, None]:
        """(value, its numbers, whether what was decrypted was in range) of each activation."""
        found = self.decrypt(turn.replies, payload, rows)
        for one in turn.made:
            numbers, most = found[one.reply], 1 << (turn.replies[one.reply].bits - 1)
            inside = bool(((numbers >= -most) & (numbers < most)).all())
            numbers = apply(one.steps, numbers)
            if one.makes >= 0:
                value = self.outline.values[one.makes]
                clipped = np.clip(numbers, value.low, value.high)
                inside &= bool((clipped == numbers).all())
                numbers = clipped  # of an honest server nothing changes: it must be encrypted
            yield one.makes, numbers, inside
