"""The client's side of mode ``shares``: it decrypts uniform numbers, and evaluates circuits."""

from __future__ import annotations

from collections.abc import Generator
from hashlib import sha256

import numpy as np

from hansa.base.errors import ConfigError, WireError
from hansa.base.lazy import Lazy
from hansa.infer.private.rlwe.profiles import profile
from hansa.infer.private.sessions.client import Answers
from hansa.infer.private.sessions.errors import ProtocolError
from hansa.infer.private.sessions.messages import read_reply, upload_payload
from hansa.infer.private.sessions.outline import Outline, Turn
from hansa.infer.private.sessions.scheme import Scheme
from hansa.infer.private.shares.base_transfer import BaseSender
from hansa.infer.private.shares.exchange import (
    TurnCircuits,
    circuits,
    domain,
    hash_keys,
    known_labels,
    masked_numbers,
    opening_sizes,
    read_tables,
    sizes,
)
from hansa.infer.private.shares.extension import receive, receive_labels
from hansa.infer.private.shares.garbling import Evaluator, evaluate
from hansa.infer.private.shares.hashing import derive
from hansa.infer.private.shares.step_circuits import from_bits, to_bits

ciphers = Lazy("hansa.infer.private.rlwe.ciphers")
draws_of = Lazy("hansa.infer.private.rlwe.draws")
keys_of = Lazy("hansa.infer.private.rlwe.keys")


class ShareClient:
    """Asks a server that has told its outline.

    What it sends has the same sizes whatever it decrypts, and what it decrypts is uniform. The
    same secret, query, rows and replies make the same bytes; where any of them differs, so does
    the randomness, so that no mask is used for two messages.

    Args:
        outline: of the program, as a :class:`ShareModel` tells it.
        scheme: of mode ``shares``.
        mask_seed: drawn by the server for this session: the mask of the public key.
        secret: 32 bytes, of this session alone; all that is random follows from it.
    """

    def __init__(
        self, outline: Outline, scheme: Scheme, mask_seed: bytes, secret: bytes, threads: int = 1
    ) -> None:
        self.outline, self.scheme, self.threads = outline, scheme, threads
        self.profile = profile(scheme.profile)
        outline.check_places(self.profile.n, scheme.plain_bits)
        self._circuits = circuits(outline, scheme)
        self._secret, self._mask_seed = secret, mask_seed
        self._key = keys_of.SecretKey.make(self.profile, draws_of.Draws(secret, "secret key"))
        self._base = BaseSender(mask_seed, derive(secret, "base transfers"))
        self._pairs: list[tuple[bytes, bytes]] = []

    @property
    def largest_reply(self) -> int:
        """Bytes of the largest reply, which the outline tells."""
        known = sizes(self.outline, self.scheme, self._circuits)
        return max(*known.replies, opening_sizes(self.profile)[1])

    def open(self) -> Generator[bytes, bytes, None]:
        """Yields the request that begins the session and is sent its reply.

        Raises:
            ProtocolError: the reply holds something else than points.
        """
        draws = draws_of.Draws(self._secret, "public key")
        public = keys_of.PublicKey.make(self._key, self._mask_seed, draws)
        reply = yield public.to_bytes() + self._base.message()
        try:
            self._pairs = self._base.keys(reply)
        except WireError as error:
            raise ProtocolError("malformed", str(error)) from error

    def ask(self, query: int, rows: np.ndarray) -> Generator[bytes, bytes, Answers]:
        """Yields a query's requests, is sent their replies, returns the answer.

        Args:
            rows: [1, *input_shape].

        Raises:
            ConfigError: more rows than one, or of another shape.
            ProtocolError: a reply of another size.
        """
        if len(rows) != 1:
            raise ConfigError("rows", len(rows), "one query takes one row", "ask in several")
        if not self._pairs:
            raise ProtocolError("out_of_order", "the session is not open")
        shares = {0: self.outline.read(rows)}
        logits, place, fits = None, None, True
        for number, turn in enumerate(self.outline.turns):
            reply = yield self.request(query, 2 * number, self.messages(turn, shares))
            own = self._circuits[number]
            bits = self._bits(turn, own, self.decrypt(turn, reply))
            where = domain(query, 2 * number + 1, sha256(reply).digest())
            pad = derive(self._secret, "pad", where, sha256(bits.tobytes()).digest())
            request, rows_of = receive(self._pairs, where, bits, pad)
            results = self._evaluate(own, bits, rows_of, (yield request))
            for one, steps, found in zip(turn.made, own.steps, results, strict=True):
                if one.makes >= 0:
                    numbers = from_bits(found, signed=False)
                    half = 1 << (self.scheme.plain_bits - 1)
                    centred = (numbers + half) % (2 * half) - half
                    shares[one.makes] = centred.reshape(1, *steps.shape)
                elif self.scheme.reveals == "class":
                    place, most = from_bits(found, signed=False), steps.count - 1
                    # Of a server that garbles something else: told to the caller alone.
                    fits = bool((place <= most).all())
                    place = np.minimum(place, most)
                else:
                    logits = from_bits(found, signed=steps.signed).reshape(1, -1)
        if logits is not None:
            place = logits.argmax(1)
        if place is None:
            raise ProtocolError("malformed", "an outline without an answer")
        return Answers(logits, place, fits, self.outline.logits_scale)

    def messages(self, turn: Turn, shares: dict[int, np.ndarray]) -> np.ndarray:
        """What a round encrypts, int64 [k, N], of shares [1, C, H, W] by the value's number."""
        parts = [np.zeros((0, self.profile.n), np.int64)]
        for at in turn.uploads:
            parts.append(self.outline.values[at].place.pack(self.profile.n, shares[at]))
        return np.concatenate(parts)

    def request(self, query: int, step: int, messages: np.ndarray) -> bytes:
        """The bytes that upload messages int64 [k, N]."""
        digest = sha256(messages.tobytes()).digest()
        draws = draws_of.Draws(derive(self._secret, "upload", query, step, digest), "ciphertexts")
        sealed = ciphers.encrypt(self._key, messages, self.scheme.plain_bits, draws, self.threads)
        return upload_payload(self.profile, 1, sealed.mask_seed, sealed.b_ntt)

    def decrypt(self, turn: Turn, payload: bytes) -> list[np.ndarray]:
        """Of each reply the masked numbers int64 [C·H·W], of plain_bits and the guard bits.

        Raises:
            ProtocolError: a reply of another size.
        """
        places, made, bits = [one.place for one in turn.replies], [], self.scheme.word_bits
        for place, (a_words, b_words, positions) in zip(
            places, read_reply(self.profile, payload, places, 1, bits), strict=True
        ):
            words = ciphers.phase(self._key, a_words, b_words, positions, bits, self.threads)
            numbers = masked_numbers(words, self.scheme)
            made.append(place.unpack(numbers, 1).reshape(-1))
        return made

    def _bits(self, turn: Turn, own: TurnCircuits, masked: list[np.ndarray]) -> np.ndarray:
        """What it asks labels for: bool [transfers]."""
        parts = [
            to_bits(masked[one.reply], steps.masked_bits).reshape(-1)
            for one, steps in zip(turn.made, own.steps, strict=True)
        ]
        return np.concatenate(parts)

    def _evaluate(
        self, own: TurnCircuits, bits: np.ndarray, rows: np.ndarray, payload: bytes
    ) -> list[np.ndarray]:
        """Result bits [places, width] of each activation."""
        tables = read_tables(own, payload)
        transfer_key, gate_key, label_key = hash_keys(tables.key)
        active = receive_labels(rows, bits, tables.corrections, transfer_key)
        evaluator, at, made = Evaluator(gate_key), 0, []
        known = known_labels(label_key, own)
        for number, steps in enumerate(own.steps):
            size = steps.count * steps.masked_bits
            mine = active[at : at + size].reshape(steps.count, steps.masked_bits, 2)
            at += size
            points = evaluate(evaluator, steps, mine, known[number], tables.blocks[number])
            made.append(points.astype(np.uint8) ^ tables.decoding[number])
        return made
