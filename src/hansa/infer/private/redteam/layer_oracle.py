"""A session with one layer on the core's ciphertexts, in every mode.

It is what the sessions do to a layer and nothing else, so that an attack's figure is the mode's
and not a layout's: the same encryption, products, re-randomisation, flooding and rounding.
``unprotected`` exists here alone: the sums go back as they are.
"""

from __future__ import annotations

import secrets
from typing import Self

import numpy as np

from hansa.infer.private.program import Term
from hansa.infer.private.redteam import ciphertexts
from hansa.infer.private.redteam.oracle import Equations, Oracle, Refused, Seen
from hansa.infer.private.redteam.targets import Target
from hansa.infer.private.rlwe import ciphers, noise, ntt
from hansa.infer.private.rlwe.draws import SEED_BYTES, Draws
from hansa.infer.private.rlwe.keys import PublicKey, SecretKey
from hansa.infer.private.rlwe.profiles import profile as profile_of
from hansa.infer.private.rlwe.residues import add, scaled, switch

BUDGET = 0.5
"""The share of a layer's unknown weights of which equations are told, as ``serve`` has it."""
_SPARE = 16


class LayerOracle(Oracle):
    """A server's layer, and the client that attacks it.

    Args:
        target: the layer.
        mode: ``unprotected``, ``shuffle``, ``budget`` or ``shares``.
        profile: of the lattice.
        flooding_bits: None: the ceiling.
        seed: of all keys, for a figure that comes again; None: the operating system's.
        bare_key: the client says an encryption of zero that is zero is its public key.
        reveals_logits: the last layer's numbers are the client's to see, in mode shares too.
    """

    def __init__(
        self,
        target: Target,
        mode: str,
        profile: str = "n4096",
        flooding_bits: int | None = None,
        seed: bytes | None = None,
        bare_key: bool = False,
        reveals_logits: bool = False,
    ) -> None:
        self.target, self.mode, self.bare_key = target, mode, bare_key
        self._masked = mode == "shares" and not (target.last and reveals_logits)
        self.term = Term(target.term.value, np.zeros_like(target.weights), target.term.stride,
                         target.term.padding, target.term.dilation)  # fmt: skip
        self.shape = target.value.shape
        self.profile, self.plain_bits = profile_of(profile), target.plain_bits
        self.step = self.profile.q / 2.0**self.plain_bits
        l1 = int(np.abs(target.weights).sum((1, 2, 3)).max())
        ceiling = noise.flooding_ceiling(self.profile, self.plain_bits, l1)
        self.flooding_bits = ceiling if flooding_bits is None else min(flooding_bits, ceiling)
        self.rounding = 8 * (self.profile.n / 18) ** 0.5 * self.profile.q / 2.0**32
        self._seed = seed or secrets.token_bytes(SEED_BYTES)
        self._grid = _Grid(target, self.profile.n)
        polys = self._grid.weight_polynomials()
        values = ciphers.to_ntt(self.profile, polys.reshape(-1, self.profile.n))
        self._weights = values.reshape(*polys.shape[:2], *values.shape[1:])
        self._sessions = 0
        self._begin()

    def _begin(self) -> None:
        """Fresh keys and a fresh shuffle."""
        self._sessions += 1
        root = Draws(self._seed, f"red team {self.target.name} {self._sessions}")
        self._client, self._server = root.child("client"), root.child("server")
        self._secret = SecretKey.make(self.profile, self._client)
        mask_seed = self._server.bytes(SEED_BYTES)
        public = PublicKey.make(self._secret, mask_seed, self._client)
        if self.bare_key:
            public = PublicKey(self.profile, public.a_ntt, np.zeros_like(public.b_ntt))
        self._public = public
        outs = len(self.target.weights)
        shuffled = not self.target.last and self.mode != "shares"
        self._order = self._server.permutation(outs) if shuffled else np.arange(outs)

    def another(self) -> Self:
        self._begin()
        return self

    def ask(self, numbers: np.ndarray, noise: np.ndarray | None = None, height: int = 1) -> Seen:
        upload = self._upload(numbers, noise, height)
        return self._seen(*self._answer(upload))

    def mask_equations(self) -> Equations:
        upload = self._upload(self._honest())
        a, _ = self._answer(upload)
        prime, grid = self.profile.primes[0], self._grid
        if self.mode == "unprotected":
            right = a[:, 0]
        else:
            right = _nearest(a, self.profile.q, prime)
        masks = ciphertexts.mask_coefficients(self.profile, upload.mask_seed, len(upload.b_ntt))
        rows = np.arange(grid.powers.size + _SPARE)
        matrix = grid.columns(masks, rows, prime)
        return Equations(matrix, right[:, rows].T, self.target.weights.shape, grid.at, prime)

    def residual_equations(self) -> Equations:
        upload = self._upload(self._honest())
        seen = self._seen(*self._answer(upload))
        grid = self._grid
        matrix = grid.columns(upload.errors, grid.positions.ravel())
        right = seen.residuals.reshape(len(seen.residuals), -1).T
        return Equations(matrix, right, self.target.weights.shape, grid.at)

    def _honest(self) -> np.ndarray:
        value = self.target.value
        words = self._client.words(int(np.prod(self.shape)))
        return (words % np.uint64(value.high + 1)).astype(np.int64).reshape(self.shape)

    def _upload(
        self, numbers: np.ndarray, noise: np.ndarray | None = None, height: int = 1
    ) -> ciphertexts.Upload:
        messages = self._grid.spread(numbers)
        chosen = None if noise is None else self._grid.spread(noise)
        return ciphertexts.seal(
            self._secret, messages, self.plain_bits, self._client, chosen, height
        )

    def _answer(self, upload: ciphertexts.Upload) -> tuple[np.ndarray, np.ndarray]:
        """What the server sends: coefficients of both halves, bare or rounded to words.

        Raises:
            Refused: the budget is spent.
        """
        if self.mode == "budget" and (self.queries + 1) * self.target.told > int(
            BUDGET * self.target.unknown
        ):
            raise Refused("the budget of equations is spent")
        self.queries += 1
        profile, draws = self.profile, self._server
        masks = ciphers.masks(profile, upload.mask_seed, len(upload.b_ntt))
        a, b = ciphers.multiply_add(profile, masks, upload.b_ntt, self._weights[self._order])
        if self.mode == "unprotected":
            a, b = ntt.inverse(profile, a), ntt.inverse(profile, b)
        else:
            a, b = ciphers.rerandomise(self._public, a, b, self.flooding_bits, draws)
        b = add(profile, b, self._bias())
        if self._masked:
            b = add(profile, b, ntt.inverse(profile, draws.uniform(profile, len(b))))
        if self.mode == "unprotected":
            return a, b
        return switch(profile, a), switch(profile, b)

    def _bias(self) -> np.ndarray:
        numbers = np.zeros((len(self._order), self.profile.n), np.int64)
        where = self._grid.positions.ravel()
        numbers[:, where] = self.target.bias[self._order][:, None]
        return scaled(self.profile, numbers, self.plain_bits)

    def _seen(self, a: np.ndarray, b: np.ndarray) -> Seen:
        where = self._grid.positions.ravel()
        outs = (len(a), *self._grid.positions.shape)
        if self.mode == "unprotected":
            phase = ciphertexts.bare_phase(self._secret, a, b, where)
            both = ciphertexts.decode(self.profile, phase, self.plain_bits)
        else:
            at = np.broadcast_to(where, (len(a), where.size))
            words = ciphers.phase(self._secret, a, np.ascontiguousarray(b[:, where]), at)
            if self.bare_key:
                words = np.ascontiguousarray(b[:, where])
            both = ciphertexts.decode_words(self.profile, words, self.plain_bits)
        return Seen(*(part.reshape(outs) for part in both))


class _Grid:
    """Where numbers stand in polynomials: channels in padded grids, one after the other (Huang et
    al., 2022, Cheetah), as many in a polynomial as it has room for."""

    def __init__(self, target: Target, n: int) -> None:
        term, (channels, high, wide) = target.term, target.value.shape
        top, bottom, left, right = term.padding
        self._n, self._wide = n, wide + left + right
        self._size = (high + top + bottom) * self._wide
        if self._size > n:
            raise Refused(f"an image of {high} x {wide} does not fit into a polynomial")
        each = min(channels, n // self._size)
        self.home = np.arange(channels) // each
        self._offset = np.arange(channels) % each * self._size
        self._corner = top * self._wide + left
        reach = term.reach()
        last = (reach[0] - 1) * self._wide + reach[1] - 1
        rows, columns = term.output_shape(target.value.shape)[1:]
        y, x = np.arange(rows) * term.stride[0], np.arange(columns) * term.stride[1]
        first = (each - 1) * self._size + last
        self.positions = first + y[:, None] * self._wide + x
        kernel = term.weight.shape[2:]
        taps = [
            i * term.dilation[0] * self._wide + j * term.dilation[1]
            for i in range(kernel[0])
            for j in range(kernel[1])
        ]
        self.powers = first - self._offset[:, None] - np.array(taps)
        self._weight = term.weight
        outs = len(term.weight)
        self.at = np.arange(outs * self.powers.size).reshape(outs, -1).T

    def spread(self, numbers: np.ndarray) -> np.ndarray:
        """int64 [k, N] of numbers [C, H, W]."""
        channels, high, wide = numbers.shape
        polys = np.zeros((self.home[-1] + 1, self._n), np.int64)
        inside = np.arange(high)[:, None] * self._wide + np.arange(wide) + self._corner
        where = self._offset[:, None] + inside.ravel()
        polys[self.home[:, None], where] = numbers.reshape(channels, -1)
        return polys

    def columns(self, polys: np.ndarray, rows: np.ndarray, modulus: int = 0) -> np.ndarray:
        """[m, C·kh·kw]: the numbers that meet each weight at some coefficients of a product."""
        made = [
            ciphertexts.shifted(polys[home], int(power), modulus)[rows]
            for home, powers in zip(self.home, self.powers, strict=True)
            for power in powers
        ]
        return np.stack(made, 1)

    def weight_polynomials(self) -> np.ndarray:
        """int64 [O, k, N], reversed kernels."""
        outs, ins = self._weight.shape[:2]
        polys = np.zeros((outs, self.home[-1] + 1, self._n), np.int64)
        polys[:, self.home[:, None], self.powers] = self._weight.reshape(outs, ins, -1)
        return polys


def _nearest(words: np.ndarray, q: int, prime: int) -> np.ndarray:
    """Rounded masks uint32 as the residues that they stand nearest to."""
    lifted = (words.astype(object) * q + (1 << 31)) >> 32
    return (lifted % prime).astype(np.uint64)
