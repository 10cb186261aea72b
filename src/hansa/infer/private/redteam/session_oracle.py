"""The sessions that serve, asked by a client that breaks every rule but those of the wire.

A target becomes the first layer of a small program; what is sent and seen are the very bytes of a
session. A client in the middle of a deeper program can do the same: it uploads what it likes there.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import Any, Self

import numpy as np

from hansa.infer.private.client_steps import Relu, Shift
from hansa.infer.private.compiling.certificate import choose_scheme
from hansa.infer.private.program import (
    LOGITS,
    Activation,
    Block,
    Program,
    Round,
    Term,
    Value,
    bounds,
)
from hansa.infer.private.redteam import ciphertexts
from hansa.infer.private.redteam.oracle import Equations, Oracle, Refused, Seen, Untried
from hansa.infer.private.redteam.targets import Target
from hansa.infer.private.rlwe import ciphers, ntt
from hansa.infer.private.rlwe.draws import SEED_BYTES, Draws
from hansa.infer.private.rlwe.keys import PublicKey, SecretKey
from hansa.infer.private.rlwe.profiles import profile as profile_of
from hansa.infer.private.sessions.messages import read_reply, upload_payload
from hansa.infer.private.sessions.server import ServerSession
from hansa.infer.private.sessions.sides import client_session, server_model, server_session

_UNPROTECTED, _SHARES = "unprotected", "shares"
_BUDGET = 0.5
"""The share of a layer's unknown weights of which equations are told, as ``serve`` has it."""
_SPARE = 16
"""Equations more than unknowns."""
_MOST = 1024
"""Unknowns that are eliminated modulo a prime: more take the red team too long, not a client."""
_SIGMAS = 8.0
"""Standard deviations of rounded masks that residuals stay within."""


class BareSession(ServerSession):
    """A session that hides nothing, and shows its sums before they are rounded. Nothing serves it.

    Attributes:
        sums: of the last reply, both halves as coefficients, a pair for every few ciphertexts.
    """

    def __init__(self, model: Any, mask_seed: bytes, secret: bytes) -> None:
        super().__init__(model, mask_seed, secret)
        self.sums: list[tuple[np.ndarray, np.ndarray]] = []

    def hide(
        self, a_ntt: np.ndarray, b_ntt: np.ndarray, block: Block, draws: Draws
    ) -> tuple[np.ndarray, np.ndarray]:
        ring = self.model.profile
        self.sums.append((ntt.inverse(ring, a_ntt.copy()), ntt.inverse(ring, b_ntt.copy())))
        return self.sums[-1]


class SessionOracle(Oracle):
    """A session on a program that begins with a target's layer.

    Args:
        target: the layer.
        mode: ``unprotected``, ``shuffle``, ``budget`` or ``shares``.
        profile: of the lattice.
        flooding_bits: None: the ceiling.
        seed: of all keys, for a figure that comes again; None: the operating system's.
        bare_key: the client says an encryption of zero that is zero is its public key.
        logits: the last layer's numbers are the client's to see, in mode shares too.
    """

    def __init__(
        self,
        target: Target,
        mode: str,
        profile: str = "n4096",
        flooding_bits: int | None = None,
        seed: bytes | None = None,
        bare_key: bool = False,
        logits: bool = False,
    ) -> None:
        self.target, self.mode, self.bare_key = target, mode, bare_key
        self.term = Term(target.term.value, np.zeros_like(target.weights), target.term.stride,
                         target.term.padding, target.term.dilation)  # fmt: skip
        self.shape = target.value.shape
        program = program_of(target)
        self._logits = logits and mode == _SHARES
        scheme = choose_scheme(
            program,
            "shares" if mode == _SHARES else "shuffle",
            profile_name=profile,
            reveals="logits" if self._logits else None,
        )
        if flooding_bits is not None and mode != _SHARES:
            few = min(flooding_bits, scheme.flooding_bits)
            scheme = type(scheme).of({**scheme.plain(), "flooding_bits": few})
        self.model = server_model(program, scheme)
        self.profile, self.plain_bits = profile_of(profile), scheme.plain_bits
        self.flooding_bits, self.step = scheme.flooding_bits, self.profile.q / 2.0**self.plain_bits
        self.rounding = _SIGMAS * (self.profile.n / 18) ** 0.5 * self.profile.q / 2.0**32
        outline = self.model.outline
        self._upload_place = outline.values[0].place
        self._place = outline.turns[0].replies[0].place
        self._seed = seed or secrets.token_bytes(SEED_BYTES)
        self._sessions = 0
        self._begin()

    def _begin(self) -> None:
        self._sessions += 1
        root = Draws(self._seed, f"sessions of {self.target.name} {self._sessions}")
        self._client, server = root.child("client"), root.child("server")
        mask_seed, secret = server.bytes(SEED_BYTES), server.bytes(SEED_BYTES)
        self._secret = SecretKey.make(self.profile, self._client)
        public = PublicKey.make(self._secret, mask_seed, self._client)
        if self.bare_key:
            public = PublicKey(self.profile, public.a_ntt, np.zeros_like(public.b_ntt))
        self._query = -1
        if self.mode == _SHARES:
            self._session = server_session(self.model, mask_seed, secret)
            own = self._client.bytes(SEED_BYTES)
            self._honest_side = client_session(
                self.model.outline, self.model.scheme, mask_seed, own
            )
            self._open_shares(public)
            return
        kind = BareSession if self.mode == _UNPROTECTED else ServerSession
        self._session = kind(self.model, mask_seed, secret)
        self._session.answer(-1, 0, public.to_bytes())

    def _open_shares(self, public: PublicKey) -> None:
        """An honest client's opening of mode shares, but for the key where it is to be tried."""
        steps = self._honest_side.open()
        payload: bytes = next(steps)
        if not self._logits:
            payload = public.to_bytes() + payload[self.profile.polynomial_bytes :]
        with contextlib.suppress(StopIteration):
            steps.send(self._session.answer(-1, 0, payload))

    def another(self) -> Self:
        self._session.close()
        self._begin()
        return self

    def ask(self, numbers: np.ndarray, noise: np.ndarray | None = None, height: int = 1) -> Seen:
        if self._logits:
            return self._told(numbers)
        return self._seen(self._answer(self._upload(numbers, noise, height)))

    def _told(self, numbers: np.ndarray) -> Seen:
        """The logits of a whole query that keeps to the protocol."""
        self.queries += 1
        self._query += 1
        rows = numbers.reshape(1, *self.model.outline.input_shape).astype(float)
        steps, step = self._honest_side.ask(self._query, rows), 0
        request = next(steps)
        while True:
            try:
                request = steps.send(self._session.answer(self._query, step, request))
            except StopIteration as end:
                logits = end.value.logits.reshape(self.model.outline.turns[-1].replies[0].shape)
                return Seen(logits, np.zeros(logits.shape))
            step += 1

    def mask_equations(self) -> Equations:
        upload = self._upload(self._honest())
        reply = self._answer(upload)
        prime, ring = self.profile.primes[0], self.profile
        if isinstance(self._session, BareSession):
            right = np.concatenate([a for a, _ in self._session.sums])[:, 0]
        else:
            right = _nearest(reply[0], ring.q, prime)
        masks = ciphertexts.mask_coefficients(ring, upload.mask_seed, len(upload.b_ntt))
        return self._equations(masks, right, None, prime)

    def residual_equations(self) -> Equations:
        upload = self._upload(self._honest())
        _, residuals = self._decoded(self._answer(upload))
        return self._equations(upload.errors, residuals, self._place.positions(1))

    def _equations(
        self, polys: np.ndarray, right: np.ndarray, where: np.ndarray | None, prime: int = 0
    ) -> Equations:
        """Which coefficient of a weight polynomial is which weight is public, as shapes are: the
        layout of a layer whose weights are their own numbers tells it."""
        labels = np.arange(1, self.target.weights.size + 1).reshape(self.target.weights.shape)
        labelled = program_of(self.target, labels)
        layers = type(self.model.layers)(labelled, self.profile)
        block = labelled.rounds[0].blocks[0]
        placed, weights = layers.polynomials(block, {}, None)
        if len(placed) != 1 or placed != [0]:
            raise Untried("a layer that reads several placements has no equations here")
        sources = np.argwhere(weights.any(0))
        most = _MOST if prime else self.profile.n // 2
        if len(sources) > most:
            text = f"{len(sources)} unknowns a polynomial are more than the {most} that are solved"
            raise Untried(text)
        held = np.stack([weights[:, i, at] for i, at in sources], 1).T
        if where is None:
            rows = np.arange(len(sources) + _SPARE)
            right = right[:, rows]
        else:
            known = (where >= 0).all(0)  # alike in all polynomials, but that the last hold fewer
            rows, right = where[0, known], right[:, known]
        columns = [ciphertexts.shifted(polys[i], int(at), prime)[rows] for i, at in sources]
        return Equations(np.stack(columns, 1), right.T, self.target.weights.shape, held, prime)

    def _honest(self) -> np.ndarray:
        words = self._client.words(int(np.prod(self.shape)))
        top = np.uint64(self.target.value.high + 1)
        return (words % top).astype(np.int64).reshape(self.shape)

    def _upload(
        self, numbers: np.ndarray, noise: np.ndarray | None = None, height: int = 1
    ) -> ciphertexts.Upload:
        pack, n = self._upload_place.pack, self.profile.n
        chosen = None if noise is None else pack(n, noise[None])
        return ciphertexts.seal(
            self._secret, pack(n, numbers[None]), self.plain_bits, self._client, chosen, height
        )

    def _answer(self, upload: ciphertexts.Upload) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Words of both halves and where the second's stand.

        Raises:
            Refused: the budget is spent.
        """
        spent = (self.queries + 1) * self.target.told > int(_BUDGET * self.target.unknown)
        if self.mode == "budget" and spent:
            raise Refused("the budget of equations is spent")
        self.queries += 1
        self._query += 1
        if isinstance(self._session, BareSession):
            self._session.sums = []
        payload = upload_payload(self.profile, 1, upload.mask_seed, upload.b_ntt)
        reply = self._session.answer(self._query, 0, payload)
        return read_reply(self.profile, reply, [self._place], 1)[0]

    def _decoded(
        self, reply: tuple[np.ndarray, np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """(numbers int64 [k, P], residuals [k, P]) at the positions."""
        a_words, b_words, positions = reply
        if isinstance(self._session, BareSession):
            return self._bare(positions)
        words = b_words
        if not self.bare_key:
            words = ciphers.phase(self._secret, a_words, b_words, positions)
        return ciphertexts.decode_words(self.profile, words, self.plain_bits)

    def _bare(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Before rounding; biases are added afterwards, in words, and so are not in them."""
        a, b = (np.concatenate([pair[half] for pair in self._session.sums]) for half in (0, 1))
        phases = [
            ciphertexts.bare_phase(self._secret, a[k : k + 1], b[k : k + 1], where)[0]
            for k, where in enumerate(positions)
        ]
        return ciphertexts.decode(self.profile, np.stack(phases), self.plain_bits)

    def _seen(self, reply: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Seen:
        numbers, residuals = self._decoded(reply)
        return Seen(self._place.unpack(numbers, 1)[0], self._place.unpack(residuals, 1)[0])


def program_of(target: Target, weights: np.ndarray | None = None) -> Program:
    """A program that begins with a target's layer, and ends in a small one of its own.

    Args:
        weights: other weights of the layer, for their places alone.
    """
    value = Value("input", target.value.shape, target.value.low, target.value.high, 1.0)
    weight = target.weights if weights is None else weights
    term = Term("input", weight, target.term.stride, target.term.padding, target.term.dilation)
    values = {"input": value}
    attacked = _block("attacked", (term,), target.bias, values)
    offset = np.zeros(value.shape[0])
    if target.last:
        one = Round(("input",), (attacked,), (Activation("attacked", (), LOGITS),))
        return Program(values, (one,), value.shape, offset)
    top = 127
    shift = max(0, max(-attacked.low, attacked.high).bit_length() - 7)
    values["hidden"] = Value("hidden", attacked.shape, 0, top, 1.0)
    first = Round(
        ("input",), (attacked,),
        (Activation("attacked", (Relu(), Shift(shift, 0, top)), "hidden"),),
    )  # fmt: skip
    ending = np.ones((2, attacked.shape[0], 1, 1), np.int64)
    last = _block("ending", (Term("hidden", ending),), np.zeros(2, np.int64), values)
    second = Round(("hidden",), (last,), (Activation("ending", (), LOGITS),))
    return Program(values, (first, second), value.shape, offset)


def _block(name: str, terms: tuple[Term, ...], bias: np.ndarray, values: dict[str, Value]) -> Block:
    low, high = bounds(terms, bias, values)
    shape = terms[0].output_shape(values[terms[0].value].shape)
    return Block(name, terms, bias, shape, low, high, 1.0)


def _nearest(words: np.ndarray, q: int, prime: int) -> np.ndarray:
    """Rounded masks uint32 as the residues that they stand nearest to."""
    lifted = (words.astype(object) * q + (1 << 31)) >> 32
    return (lifted % prime).astype(np.uint64)
