"""The paper's packing: a ciphertext a number, any integer matrix, and a tree that packs them again.

Numbers of a value fill polynomials one after the other. Coefficient k of (a, b) as a ciphertext of
its own is X^-k·(a, b), whose constant coefficient is the number (sample extraction); a linear layer
takes integer sums of such rows; and rows become coefficients of one ciphertext again in a tree of
automorphisms (Chen, Dai, Kim and Song, 2021; Biswas et al., 2025, section 4 of the latter as far as
it is public). Any two numbers may change places between rounds, at some hundred times the cost of
channels side by side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import Lazy
from hansa.infer.private.linear.encrypted import Held, Order
from hansa.infer.private.linear.places import Download, RowDownload, RowUpload, Shape, Upload
from hansa.infer.private.program import Block, Program, Term
from hansa.infer.private.rlwe.profiles import Profile

noise = Lazy("hansa.infer.private.rlwe.noise")
ntt = Lazy("hansa.infer.private.rlwe.ntt")
packing = Lazy("hansa.infer.private.lwe.packing")

LOG_ROWS = 9
"""log2 of the rows that become one ciphertext: the paper packs some 300."""
MOST = 1 << 16
"""Numbers that a value or a block can have."""


@dataclass(frozen=True, eq=False)
class RowPrepared:
    """A block as a sparse matrix from numbers to numbers, both as the client orders them.

    Attributes:
        values: the values that it reads; their polynomials follow each other.
        starts: int64 [outputs + 1]: where each output's entries begin.
        taps: int64 [entries]: which coefficient of those polynomials each reads.
        weights: int64 [entries].
        bias: int64 [outputs].
    """

    values: tuple[str, ...]
    starts: np.ndarray
    taps: np.ndarray
    weights: np.ndarray
    bias: np.ndarray

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return self.taps.nbytes + self.weights.nbytes

    def rows(self, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows from ``start``, (taps, weights) int64 [count, T], zeros where one has fewer.

        Rows beyond the last are of zeros.
        """
        last = len(self.starts) - 1
        edges = self.starts[np.minimum(np.arange(start, start + count + 1), last)]
        lengths = np.diff(edges)
        at = np.arange(max(int(lengths.max()), 1))
        inside = at[None, :] < lengths[:, None]
        entry = np.minimum(edges[:-1, None] + at, max(len(self.taps) - 1, 0))
        if not len(self.taps):
            return np.zeros(entry.shape, np.int64), np.zeros(entry.shape, np.int64)
        return np.where(inside, self.taps[entry], 0), np.where(inside, self.weights[entry], 0)


class RowLayers:
    """The blocks of a program, a ciphertext a number.

    Args:
        program: what is applied.
        profile: of the ciphertexts.

    Raises:
        ConfigError: a value or a block has too many numbers.
    """

    def __init__(self, program: Program, profile: Profile) -> None:
        self.program, self.profile = program, profile
        blocks = [block for one in program.rounds for block in one.blocks]
        sizes = [(name, value.shape) for name, value in program.values.items()]
        for name, shape in [*((block.name, block.shape) for block in blocks), *sizes]:
            if (count := _count(shape)) > MOST:
                raise ConfigError(
                    "scheme.packing", "rows",
                    f"makes a ciphertext of every number, and {name} has {count}",
                    "packing: channel",
                )  # fmt: skip
        self.uploads: dict[str, Upload] = {
            name: RowUpload(shape, profile.n) for name, shape in sizes
        }
        self.downloads: dict[str, Download] = {
            block.name: RowDownload(block.shape, profile.n, together(block.shape))
            for block in blocks
        }

    def prepare(
        self, block: Block, into: Mapping[str, Order | None], out: Order | None, threads: int = 1
    ) -> RowPrepared:
        """A block as a matrix; orders may be of channels or of single numbers."""
        values = tuple(dict.fromkeys(term.value for term in block.terms))
        first, start = {}, 0
        for value in values:
            first[value] = start
            start += self.uploads[value].polynomials(1) * self.profile.n
        parts = []
        for term in block.terms:
            shape = self.program.values[term.value].shape
            to, read, weights = _entries(term, shape, block.shape)
            parts.append(
                (to, first[term.value] + _numbers(into.get(term.value), shape)[read], weights)
            )
        to, taps, weights = (np.concatenate(one) for one in zip(*parts, strict=True))
        place = _numbers(out, block.shape)
        to = place[to]
        order = np.argsort(to, kind="stable")
        count = _count(block.shape)
        starts = np.searchsorted(to[order], np.arange(count + 1))
        bias = np.empty(count, np.int64)
        bias[place] = np.repeat(block.bias, block.shape[1] * block.shape[2])
        return RowPrepared(values, starts, taps[order], weights[order], bias)

    def apply(
        self, block: Block, prepared: RowPrepared, held: Mapping[str, Held], rows: int,
        threads: int = 1, keys: Any = None,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """The block's sums without its bias, both halves [k, L, N] at the roots, bare."""
        parts = list(self.chunks(block, prepared, held, rows, threads, keys))
        a, b = (np.concatenate([part[half] for part in parts]) for half in (1, 2))
        return a, b

    def chunks(
        self, block: Block, prepared: RowPrepared, held: Mapping[str, Held], rows: int,
        threads: int = 1, keys: Any = None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:  # fmt: skip
        """The same, one ciphertext at a time: (which, its halves a and b)."""
        each = together(block.shape)
        groups = -(-_count(block.shape) // each)
        for row in range(rows):
            a_ntt, b = self._read(prepared.values, held, row, threads)
            for group in range(groups):
                taps, weights = prepared.rows(group * each, each)
                sums = packing.combine_pack(keys, a_ntt, b, taps, weights, threads=threads)
                yield np.array([row * groups + group]), *sums

    def bias_words(self, block: Block, prepared: RowPrepared, rows: int) -> np.ndarray:
        """The bias at each of the block's positions, int64 [k, P]."""
        each = together(block.shape)
        bias = np.zeros(-(-len(prepared.bias) // each) * each, np.int64)
        bias[: len(prepared.bias)] = prepared.bias
        return np.tile(bias.reshape(-1, each), (rows, 1))

    def norm(self, block: Block) -> int:
        """The largest sum of the sizes of weights of an output, and what the tree adds as such."""
        sizes = int(sum(np.abs(term.weight).sum((1, 2, 3)) for term in block.terms).max())
        tree = packing.packing_bound(self.profile, together(block.shape))
        return sizes + -(-int(tree) // int(noise.fresh_bound(self.profile)))

    def _read(
        self, values: tuple[str, ...], held: Mapping[str, Held], row: int, threads: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """A row's ciphertexts of some values: masks at the roots, other halves as coefficients."""
        parts = {}
        for value in values:
            count = self.uploads[value].polynomials(1)
            parts[value] = slice(row * count, (row + 1) * count)
        a_ntt, b_ntt = (
            np.concatenate([getattr(held[value], half)[part] for value, part in parts.items()])
            for half in ("a_ntt", "b_ntt")
        )
        return a_ntt, ntt.inverse(self.profile, b_ntt, threads)


def together(shape: Shape) -> int:
    """Rows that become one ciphertext of a block: the fewest ciphertexts, evenly filled."""
    count = _count(shape)
    return -(-count // -(-count // (1 << LOG_ROWS)))


def _count(shape: Shape) -> int:
    return shape[0] * shape[1] * shape[2]


def _numbers(order: Order | None, shape: Shape) -> np.ndarray:
    """Where the client holds each number, of an order of channels or of numbers."""
    count, pixels = _count(shape), shape[1] * shape[2]
    if order is None:
        return np.arange(count)
    if len(order) == count:
        return order
    return (order[:, None] * pixels + np.arange(pixels)[None, :]).reshape(-1)


def _entries(term: Term, shape: Shape, out: Shape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(output number, number read, weight) of all entries of a term's matrix that are not zero."""
    outs, each, high, wide = term.weight.shape
    rows = np.arange(out[1])[:, None] * term.stride[0] - term.padding[0]
    rows = rows + np.arange(high)[None, :] * term.dilation[0]
    columns = np.arange(out[2])[:, None] * term.stride[1] - term.padding[2]
    columns = columns + np.arange(wide)[None, :] * term.dilation[1]
    read = np.arange(outs) // (outs // term.groups) * each
    # [channel out, row, column, channel in, kernel row, kernel column]
    channel = (read[:, None] + np.arange(each)[None, :])[:, None, None, :, None, None]
    row, column = rows[None, :, None, None, :, None], columns[None, None, :, None, None, :]
    inside = (row >= 0) & (row < shape[1]) & (column >= 0) & (column < shape[2])
    weights = np.broadcast_to(term.weight[:, None, None], (outs, *out[1:], each, high, wide))
    used = np.broadcast_to(inside, weights.shape) & (weights != 0)
    numbers = (channel * shape[1] + row) * shape[2] + column
    to = np.arange(_count(out)).reshape(*out, 1, 1, 1)
    return (
        np.broadcast_to(to, weights.shape)[used],
        np.broadcast_to(numbers, weights.shape)[used],
        weights[used],
    )
