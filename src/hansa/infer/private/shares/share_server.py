"""The server's side of mode ``shares``: it masks what it sends, and garbles what is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np

from hansa.base.errors import WireError
from hansa.base.lazy import Lazy
from hansa.infer.private.linear.encrypted import Held
from hansa.infer.private.rlwe import ntt
from hansa.infer.private.sessions.errors import ProtocolError
from hansa.infer.private.sessions.messages import read_upload, reply_payload, upload_rows
from hansa.infer.private.shares.base_transfer import COUNT, BaseReceiver
from hansa.infer.private.shares.exchange import (
    ciphertexts,
    domain,
    hash_keys,
    known_labels,
    masked_numbers,
    opening_sizes,
    write_tables,
)
from hansa.infer.private.shares.extension import CheatingReceiver, send, send_labels
from hansa.infer.private.shares.garbling import Garbler, garble, known_bits
from hansa.infer.private.shares.hashing import derive, labels
from hansa.infer.private.shares.share_model import ShareModel
from hansa.infer.private.shares.step_circuits import to_bits

ciphers = Lazy("hansa.infer.private.rlwe.ciphers")
draws_of = Lazy("hansa.infer.private.rlwe.draws")
keys_of = Lazy("hansa.infer.private.rlwe.keys")

OPENING = -1


@dataclass
class _Query:
    """What the server holds of a query.

    Attributes:
        number: of the query.
        step: the next.
        held: ciphertexts by value, of the value itself: both shares in one.
        shares: the server's, int64 [1, C, H, W] by value.
        masks: of the last reply, by the reply's number int64 [C·H·W].
        before: digest of the last reply of ciphertexts.
        said: hash of all that the client sent in the query: masks and labels follow from it, so
            that none is used twice wherever a session that was taken up again begins.
    """

    number: int
    step: int = 0
    held: dict[str, Held] = field(default_factory=dict)
    shares: dict[str, np.ndarray] = field(default_factory=dict)
    masks: list[np.ndarray] = field(default_factory=list)
    before: bytes = b""
    said: bytes = b""


class ShareServer:
    """Answers one client, one query at a time.

    Everything random follows from the secret, the place in the query and what was sent, so that the
    last request may be repeated and gets the same bytes; another one in its place is refused. Who
    fails the check of a transfer gets no further answer, from this object or another of the same
    secret: whoever keeps sessions has to end this one.

    Args:
        model: shared by sessions.
        mask_seed: 32 public bytes of this session, from which the public key's mask is made.
        secret: 32 bytes of this session.
    """

    def __init__(self, model: ShareModel, mask_seed: bytes, secret: bytes) -> None:
        self.model, self.mask_seed, self._secret = model, mask_seed, secret
        bits = np.frombuffer(derive(secret, "columns", size=COUNT // 8), np.uint8)
        self._choices = np.unpackbits(bits, bitorder="little").astype(bool)
        self._base = BaseReceiver(
            mask_seed, derive(secret, "base transfers"), self._choices.astype(int).tolist()
        )
        self._keys: list[bytes] = []
        self._query: _Query | None = None
        self._last = OPENING
        self._answered: tuple[int, int, bytes, bytes] = (OPENING, -1, b"", b"")
        self._shut = False

    def answer(self, query: int, step: int, payload: bytes) -> bytes:
        """The reply to a request.

        Raises:
            ProtocolError: out of order, of the wrong size, changed, or of a client that cheats.
        """
        if self._shut:
            raise ProtocolError("cheating", "this session was ended: a transfer did not agree")
        digest = sha256(payload).digest()
        if self._answered[:2] == (query, step):
            if self._answered[2] != digest:
                raise ProtocolError("changed", "another request was answered in this place")
            return self._answered[3]
        if query == OPENING:
            reply = self._open(step, payload)
        else:
            reply = self._step(query, step, payload, digest)
        self._answered = (query, step, digest, reply)
        return reply

    def restore(self, query: int, payloads: Sequence[bytes]) -> None:
        """Comes to the state after requests that were answered: the opening's first."""
        for step, payload in enumerate(payloads):
            self.answer(query, step, payload)

    def close(self) -> None:
        """Free what the session holds."""
        self._query = None

    def _open(self, step: int, payload: bytes) -> bytes:
        size = opening_sizes(self.model.profile)[0]
        if step or self._keys:
            raise ProtocolError("out_of_order", "the session is open")
        if len(payload) != size:
            raise ProtocolError("malformed", f"the opening takes {size} bytes, not {len(payload)}")
        key = payload[: self.model.profile.polynomial_bytes]
        try:
            self._public = keys_of.PublicKey.from_bytes(self.model.profile, self.mask_seed, key)
            self._keys = self._base.keys(payload[len(key) :])
        except WireError as error:
            raise ProtocolError("malformed", str(error)) from error
        return self._base.message()

    def _step(self, query: int, step: int, payload: bytes, digest: bytes) -> bytes:
        if not self._keys:
            raise ProtocolError("out_of_order", "the session is not open")
        state = self._query
        if step == 0 and query > self._last:
            state = self._query = _Query(query)
            self._last = query
        if state is None or query != state.number or step != state.step:
            raise ProtocolError("out_of_order", "a request out of its order")
        wanted = self.model.sizes.requests
        if step >= len(wanted):
            raise ProtocolError("out_of_order", "the query was answered")
        if len(payload) != wanted[step]:
            raise ProtocolError(
                "malformed", f"this step takes {wanted[step]} bytes, not {len(payload)}"
            )
        state.said = derive(state.said, digest)
        seed = derive(self._secret, "step", query, step, state.said)
        if step % 2 == 0:
            reply = self._mask(state, step // 2, payload, seed)
        else:
            reply = self._garble(state, step // 2, payload, seed)
        state.step += 1
        return reply

    def _mask(self, state: _Query, turn: int, payload: bytes, seed: bytes) -> bytes:
        """Ciphertexts of the blocks, each coefficient under a mask of its own."""
        model, scheme = self.model, self.model.scheme
        profile, threads = model.profile, model.threads
        told, one = model.outline.turns[turn], model.program.rounds[turn]
        for name in [name for name in state.held if model.last_reads.get(name, -1) < turn]:
            del state.held[name]
        if upload_rows(payload) != 1:
            raise ProtocolError("malformed", "a request of more rows than one")
        mask_seed, b_ntt = read_upload(profile, payload, ciphertexts(model.outline, told))
        a_ntt, at = ciphers.masks(profile, mask_seed, len(b_ntt)), 0
        for name in one.uploads:
            place = model.layers.uploads[name]
            count = place.polynomials(1)
            a, b = a_ntt[at : at + count], b_ntt[at : at + count]
            at += count
            if name in state.shares:
                own = place.pack(profile.n, state.shares[name])
                residues = ciphers.scaled(profile, own, scheme.plain_bits)
                b = ciphers.add(profile, ntt.forward(profile, residues, threads), b)
            state.held[name] = Held(a, b)
        draws = draws_of.Draws(seed, "masks")
        parts, state.masks, bits = [], [], scheme.word_bits
        for block in one.blocks:
            prepared = model.prepared[block.name]
            bare = model.layers.apply(block, prepared, state.held, 1, threads)
            a, b = ciphers.rerandomise(self._public, *bare, 0, draws, threads)
            mask = draws.uniform(profile, len(b))
            ciphers.add(profile, b, mask)
            download = model.layers.downloads[block.name]
            positions = download.positions(1)
            at_positions = np.maximum(positions, 0)
            words = np.take_along_axis(ciphers.switch(profile, b, bits), at_positions, 1)
            # q·m / 2^plain_bits is m·2^(bits - plain_bits) words: exact
            bias = model.layers.bias_words(block, prepared, 1)
            words += (bias << (bits - scheme.plain_bits)).astype(words.dtype)
            words &= words.dtype.type((1 << bits) - 1)
            parts.append((ciphers.switch(profile, a, bits), words, positions))
            own = np.take_along_axis(ciphers.switch(profile, mask, bits), at_positions, 1)
            numbers = masked_numbers(own, scheme)
            state.masks.append(download.unpack(numbers, 1).reshape(-1))
        reply = reply_payload(parts, bits)
        state.before = sha256(reply).digest()
        return reply

    def _garble(self, state: _Query, turn: int, payload: bytes, seed: bytes) -> bytes:
        """Labels of what the client asks for, and the circuits of the round's steps."""
        model, circuits = self.model, self.model.turns[turn]
        told, one = model.outline.turns[turn], model.program.rounds[turn]
        where = domain(state.number, 2 * turn + 1, state.before)
        try:
            rows = send(self._keys, self._choices, where, circuits.transfers, payload)
        except CheatingReceiver as error:
            self._shut = True
            raise ProtocolError("cheating", str(error)) from error
        key = derive(seed, "public key of hashes", size=16)
        transfer_key, gate_key, label_key = hash_keys(key)
        delta = labels(derive(seed, "delta", size=16), 1)[0] | np.array([1, 0], np.uint64)
        zero, corrections = send_labels(rows, self._choices, delta, transfer_key)
        garbler, at = Garbler(delta, gate_key), 0
        active = known_labels(label_key, circuits)
        blocks, decoding = [], []
        for number, steps in enumerate(circuits.steps):
            masks = state.masks[told.made[number].reply] - steps.offset
            places = steps.shape[0] * steps.shape[1] * steps.shape[2]
            draws = draws_of.Draws(seed, f"shares {number}")
            share = (draws.words(places) >> np.uint64(64 - max(steps.share_bits, 1))).astype(
                np.int64
            )
            known = known_bits(
                steps, to_bits(masks, steps.masked_bits), to_bits(share, steps.share_bits)
            )
            size = steps.count * steps.masked_bits
            own = zero[at : at + size].reshape(steps.count, steps.masked_bits, 2)
            at += size
            some, points = garble(garbler, steps, own, active[number], known)
            blocks += some
            decoding.append(points)
            if steps.share_bits:
                # The client comes to x + share: this side holds the rest.
                made = one.activations[number].makes
                state.shares[made] = -share.reshape(1, *steps.shape)
        return write_tables(key, corrections, blocks, decoding)
