"""The server's side: applies blocks to ciphertexts, hides how, and sends what is to be decrypted.

Channels are shuffled per session and by the same order in every query of it, so that one input
asked twice gives nothing new. Every reply is rerandomised and flooded; the noise follows from the
session's secret and the request, so that a repeated request is answered with the same bytes and
no average over repeats comes closer to the errors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from hansa.base.errors import WireError
from hansa.base.lazy import Lazy
from hansa.infer.private.linear.encrypted import Held, Order
from hansa.infer.private.linear.rows import LOG_ROWS
from hansa.infer.private.program import Block
from hansa.infer.private.rlwe.draws import Draws
from hansa.infer.private.rlwe.keys import PublicKey
from hansa.infer.private.rlwe.spreading import spread
from hansa.infer.private.sessions.errors import ProtocolError
from hansa.infer.private.sessions.messages import (
    WORD_BITS,
    read_upload,
    reply_payload,
    upload_rows,
)
from hansa.infer.private.sessions.model import ServerModel

ciphers = Lazy("hansa.infer.private.rlwe.ciphers")
switch_keys = Lazy("hansa.infer.private.lwe.switch_keys")

AT_ONCE = 8
"""Ciphertexts that are hidden at once, by one thread, with noise of their own stream."""


class ServerSession:
    """Answers one client, one query at a time.

    Args:
        model: what is asked; shared.
        mask_seed: 32 bytes drawn for this session: the mask of the client's public key.
        secret: 32 bytes, of this session alone.
    """

    def __init__(self, model: ServerModel, mask_seed: bytes, secret: bytes) -> None:
        self.model, self._mask_seed, self._secret = model, mask_seed, secret
        self._name = hashlib.sha256(b"session" + secret).digest()
        self._public: PublicKey | None = None
        self._switch_keys: Any = None
        self._opening: bytes | None = None
        self._query, self._next, self._rows = -1, 0, 0
        self._held: dict[str, Held] = {}
        self._accepted: dict[int, bytes] = {}
        self.orders: dict[str, Order | None] = {
            block.name: self._order(block) for one in model.program.rounds for block in one.blocks
        }
        made = {act.makes: act.block for one in model.program.rounds for act in one.activations}
        self._value_orders: dict[str, Order | None] = {
            name: self.orders[made[name]] if name in made else None for name in model.program.values
        }

    def answer(self, query: int, step: int, payload: bytes) -> bytes:
        """The reply to a request; query -1 begins the session.

        The last request of a query may be repeated, and is answered with the same bytes.

        Raises:
            ProtocolError: a request out of order, of another size, or another than was accepted.
        """
        if query == -1:
            return self._begin(step, payload)
        self._accept(query, step, payload)
        digest = self._accepted[step]
        parts = []
        for block in self.model.program.rounds[step].blocks:
            draws = Draws(self._secret, f"hide {query} {step} {block.name} ".encode() + digest)
            parts.append(self._reply(block, draws))
        return reply_payload(parts, self.model.scheme.word_bits)

    def restore(self, query: int, payloads: Sequence[bytes]) -> None:
        """Take requests that were accepted before, in order, and answer none of them.

        Raises:
            ProtocolError: they could not have been accepted.
        """
        if query == -1:
            for step, payload in enumerate(payloads):
                self._begin(step, payload)
            return
        for step, payload in enumerate(payloads):
            self._accept(query, step, payload)

    def close(self) -> None:
        """Free what was prepared for this session."""
        self.model.forget(self._name)
        self._held = {}

    def bare(self, block: Block) -> tuple[np.ndarray, np.ndarray]:
        """A block's sums over what is held, [k, L, N] at the roots, not hidden: never sent."""
        parts = list(
            self.model.layers.chunks(
                block, self._prepared(block), self._held, self._rows, self.model.threads,
                self._switch_keys,
            )
        )  # fmt: skip
        order = np.argsort(np.concatenate([part[0] for part in parts]))
        a, b = (np.concatenate([part[half] for part in parts])[order] for half in (1, 2))
        return a, b

    def hide(
        self, a_ntt: np.ndarray, b_ntt: np.ndarray, block: Block, draws: Draws
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same messages under a fresh mask and flooded, coefficients [k, L, N]."""
        if self._public is None:
            raise ProtocolError("out_of_order", "the session has not begun")
        return ciphers.rerandomise(
            self._public, a_ntt, b_ntt, self.model.scheme.flooding_bits, draws
        )

    def _begin(self, step: int, payload: bytes) -> bytes:
        if step != 0:
            raise ProtocolError("out_of_order", "a session begins with one request")
        model, size = self.model, self.model.profile.polynomial_bytes
        if len(payload) != model.opening_bytes:
            raise ProtocolError("malformed", f"an opening has {model.opening_bytes} bytes")
        try:
            key = PublicKey.from_bytes(model.profile, self._mask_seed, payload[:size])
            if model.scheme.packing == "rows" and self._switch_keys is None:
                self._switch_keys = switch_keys.SwitchKeys.from_bytes(
                    model.profile, self._mask_seed, payload[size:], LOG_ROWS
                )
        except WireError as error:
            raise ProtocolError("malformed", str(error)) from error
        digest = hashlib.sha256(payload).digest()
        if self._opening not in (None, digest):
            raise ProtocolError("changed", "the session has another key")
        self._public, self._opening = key, digest
        return b""

    def _accept(self, query: int, step: int, payload: bytes) -> None:
        """Hold what a request uploads, if it may come now."""
        model, digest = self.model, hashlib.sha256(payload).digest()
        if self._public is None:
            raise ProtocolError("out_of_order", "the session has not begun")
        if query == self._query and step == self._next - 1:
            if self._accepted[step] != digest:
                raise ProtocolError("changed", f"query {query} step {step} was another")
            return
        fresh = step == 0 and query > self._query
        if not fresh and (query, step) != (self._query, self._next):
            raise ProtocolError("out_of_order", f"query {query} step {step} cannot come now")
        if step >= len(model.program.rounds):
            raise ProtocolError("out_of_order", f"a query has {len(model.program.rounds)} steps")
        rows = upload_rows(payload)
        if not 1 <= rows <= model.outline.rows or (not fresh and rows != self._rows):
            raise ProtocolError("malformed", f"a request of {rows} rows")
        names = model.program.rounds[step].uploads
        counts = [model.layers.uploads[name].polynomials(rows) for name in names]
        seed, b_ntt = read_upload(model.profile, payload, sum(counts))
        a_ntt = ciphers.masks(model.profile, seed, sum(counts))
        if fresh:
            self._query, self._rows, self._held, self._accepted = query, rows, {}, {}
        for name in [one for one in self._held if model.last_reads.get(one, -1) < step]:
            del self._held[name]
        start = 0
        for name, count in zip(names, counts, strict=True):
            part = slice(start, start + count)
            self._held[name] = Held(a_ntt[part], b_ntt[part])
            start += count
        self._accepted[step], self._next = digest, step + 1

    def _reply(self, block: Block, draws: Draws) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(a [k, N], b [k, P], positions [k, P]) of a block, hidden, in words."""
        model, prepared = self.model, self._prepared(block)
        positions = model.layers.downloads[block.name].positions(self._rows)
        bits = model.scheme.word_bits
        kind = np.uint32 if bits <= WORD_BITS else np.uint64
        a_words = np.empty((len(positions), model.profile.n), kind)
        b_words = np.empty(positions.shape, kind)
        for which, a_ntt, b_ntt in model.layers.chunks(
            block, prepared, self._held, self._rows, model.threads, self._switch_keys
        ):
            for at, a, b in self._hidden(block, which, a_ntt, b_ntt, positions, draws):
                a_words[at], b_words[at] = a, b
        # q·m / 2^plain_bits becomes m·2^(bits - plain_bits) in words: exact, and without noise
        bias = model.layers.bias_words(block, prepared, self._rows)
        b_words += (bias << (bits - model.scheme.plain_bits)).astype(kind)
        if bits > WORD_BITS:
            b_words &= np.uint64((1 << bits) - 1)
        return a_words, b_words, positions

    def _hidden(
        self, block: Block, which: np.ndarray, a_ntt: np.ndarray, b_ntt: np.ndarray,
        positions: np.ndarray, draws: Draws,
    ) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:  # fmt: skip
        """(which, words of a, words of b at the positions) of some ciphertexts, a few at a time."""
        ring, bits = self.model.profile, self.model.scheme.word_bits
        groups = [slice(start, start + AT_ONCE) for start in range(0, len(which), AT_ONCE)]
        made: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = [(which,) * 3] * len(groups)

        def work(part: slice) -> None:
            for number in range(part.start, part.stop):
                few, chosen = groups[number], which[groups[number]]
                noise = draws.child(f"from {chosen[0]}")
                a, b = self.hide(a_ntt[few], b_ntt[few], block, noise)
                at = np.maximum(positions[chosen], 0)[:, None, :]
                at = np.broadcast_to(at, (len(b), b.shape[1], at.shape[2]))
                taken = np.take_along_axis(b, at, 2)
                halves = [ciphers.switch(ring, half, bits) for half in (a, taken)]
                made[number] = (chosen, halves[0], halves[1])

        spread(work, len(groups), self.model.threads)
        return made

    def _prepared(self, block: Block) -> object:
        into = {term.value: self._value_orders[term.value] for term in block.terms}
        return self.model.prepared(self._name, block, into, self.orders[block.name])

    def _order(self, block: Block) -> Order | None:
        """Where this session's replies hold each channel, or each number, of a block."""
        model = self.model
        if model.scheme.hides == "none" or block.name in model.told:
            return None
        single = model.scheme.hides == "element" and block.name not in model.windowed
        count = int(np.prod(block.shape)) if single else block.shape[0]
        return Draws(self._secret, f"order {block.name}").permutation(count)
