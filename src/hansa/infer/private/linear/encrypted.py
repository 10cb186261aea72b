"""A program's blocks on ciphertexts: weights as polynomials at the roots, and their sums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from hansa.base.lazy import Lazy
from hansa.infer.private.linear.layout import Landing, Layout
from hansa.infer.private.linear.places import ChannelDownload, ChannelUpload, Download, Upload
from hansa.infer.private.linear.planning import Prices, layout
from hansa.infer.private.linear.weights import weight_polynomials
from hansa.infer.private.program import Block, Program
from hansa.infer.private.rlwe.profiles import Profile

ciphers = Lazy("hansa.infer.private.rlwe.ciphers")

Order: TypeAlias = "np.ndarray"
"""int64 [channels]: where the client holds each channel."""
SPARSE = 0.6
"""With a smaller share of polynomials that are not zero, those alone are kept."""


@dataclass(frozen=True, eq=False)
class Held:
    """Uploaded ciphertexts of one value.

    Attributes:
        a_ntt, b_ntt: uint64 [k, L, N], in the order of :meth:`Upload.pack`.
    """

    a_ntt: np.ndarray
    b_ntt: np.ndarray


@dataclass(frozen=True, eq=False)
class Prepared:
    """A block's weights at the roots.

    Attributes:
        pieces: (output polynomials, input polynomials, weights uint64 [outs, ins, L, N]).
        bias: int64 [C], in the order of the reply's channels.
    """

    pieces: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]
    bias: np.ndarray

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return sum(weights.nbytes for _, _, weights in self.pieces)


class ChannelLayers:
    """The blocks of a program with channels side by side in polynomials.

    Args:
        program: what is applied.
        profile: of the ciphertexts.
    """

    def __init__(self, program: Program, profile: Profile) -> None:
        self.program, self.profile = program, profile
        prices = Prices(profile.polynomial_bytes, 4 * profile.n)
        self.layout: Layout = layout(program, profile.n, prices)
        self.uploads: dict[str, Upload] = {
            name: ChannelUpload(tuple(self.layout.placements[at] for at in self.layout.of(name)))
            for name in program.values
        }
        self.downloads: dict[str, Download] = {
            name: ChannelDownload(landing) for name, landing in self.layout.landings.items()
        }

    def polynomials(
        self, block: Block, into: Mapping[str, Order | None], out: Order | None
    ) -> tuple[list[int], np.ndarray]:
        """A block's weights before the NTT: the placements it reads, int64 [outs, ins, N].

        Terms that read the same ciphertexts are added. Inputs are the groups of the placements,
        one placement after the other.
        """
        landing = self.layout.landings[block.name]
        made: dict[int, np.ndarray] = {}
        for at, term in enumerate(block.terms):
            source = self.layout.sources[block.name, at]
            placement = self.layout.placements[source]
            weights = weight_polynomials(
                block, at, placement, self.program.values[term.value].shape, landing,
                self.profile.n, into.get(term.value), out,
            )  # fmt: skip
            made[source] = made[source] + weights if source in made else weights
        parts = list(made.values())
        return list(made), parts[0] if len(parts) == 1 else np.concatenate(parts, 1)

    def prepare(
        self, block: Block, into: Mapping[str, Order | None], out: Order | None, threads: int = 1
    ) -> Prepared:
        """A block's weights for ciphertexts whose channels are ordered as the orders say.

        Args:
            into: by value, where the client holds each channel; None or absent: in its place.
            out: where the reply holds each of the block's channels.
        """
        _, made = self.polynomials(block, into, out)
        outs, ins, n = made.shape
        bias = block.bias if out is None else _placed(block.bias, out)
        used = np.asarray(made.any(2))
        if used.mean() >= SPARSE:
            flat = ciphers.to_ntt(self.profile, made.reshape(-1, n), threads)
            weights = flat.reshape(outs, ins, self.profile.levels, n)
            return Prepared(((np.arange(outs), np.arange(ins), weights),), bias)
        pieces = []
        for number in range(outs):
            read = np.flatnonzero(used[number])
            weights = ciphers.to_ntt(self.profile, made[number, read], threads)[None]
            pieces.append((np.array([number]), read, weights))
        return Prepared(tuple(pieces), bias)

    def apply(
        self, block: Block, prepared: Prepared, held: Mapping[str, Held], rows: int,
        threads: int = 1,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """The block's sums without its bias, both halves [k, L, N] at the roots, bare.

        They tell the weights to whoever holds the key: nothing of them may be sent before
        ``rerandomise``.
        """
        landing = self.layout.landings[block.name]
        profile, groups = self.profile, landing.groups
        a = np.zeros((rows * landing.polynomials, profile.levels, profile.n), np.uint64)
        b = np.zeros_like(a)
        sources = dict.fromkeys(
            self.layout.sources[block.name, at] for at in range(len(block.terms))
        )
        for row in range(rows):
            for down in range(landing.rows.tiles):
                for right in range(landing.columns.tiles):
                    tile = down * landing.columns.tiles + right
                    read_a, read_b = self._read(list(sources), held, row, down, right)
                    start = (row * landing.tiles + tile) * groups
                    for outs, ins, weights in prepared.pieces:
                        if len(ins):
                            sums = ciphers.multiply_add(
                                profile, _rows(read_a, ins), _rows(read_b, ins), weights, threads
                            )
                            a[start + outs], b[start + outs] = sums
        return a, b

    def chunks(
        self, block: Block, prepared: Prepared, held: Mapping[str, Held], rows: int,
        threads: int = 1, keys: Any = None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:  # fmt: skip
        """The same in pieces: (which ciphertexts, their halves a and b); here all at once."""
        a, b = self.apply(block, prepared, held, rows, threads)
        yield np.arange(len(a)), a, b

    def _read(
        self, sources: Sequence[int], held: Mapping[str, Held], row: int, down: int, right: int
    ) -> tuple[np.ndarray, np.ndarray]:
        parts_a, parts_b = [], []
        for source in sources:
            one = self.layout.placements[source]
            before = 0
            rows = len(held[one.value].a_ntt) // self.uploads[one.value].polynomials(1)
            for other in self.layout.of(one.value):
                if other == source:
                    break
                before += rows * self.layout.placements[other].polynomials
            tile = down * one.columns.tiles + right
            start = before + row * one.polynomials + tile * one.groups
            part = slice(start, start + one.groups)
            parts_a.append(held[one.value].a_ntt[part])
            parts_b.append(held[one.value].b_ntt[part])
        if len(parts_a) == 1:
            return parts_a[0], parts_b[0]
        return np.concatenate(parts_a), np.concatenate(parts_b)

    def bias_words(self, block: Block, prepared: Prepared, rows: int) -> np.ndarray:
        """The bias at each of the block's positions, int64 [k, P]."""
        return landing_bias(self.layout.landings[block.name], prepared.bias, rows)

    def norm(self, block: Block) -> int:
        """The largest sum of the sizes of weights that one output coefficient can meet.

        Errors fill whole polynomials, so that a coefficient's error meets the weights of all
        channels that share a polynomial: the largest channels, whatever their order.
        """
        landing = self.layout.landings[block.name]
        sizes = sum(np.abs(term.weight).sum((1, 2, 3)) for term in block.terms)
        each = np.repeat(np.sort(sizes)[::-1], landing.rows.cut * landing.columns.cut)
        return int(each[: landing.together].sum())


def landing_bias(landing: Landing, bias: np.ndarray, rows: int) -> np.ndarray:
    """A bias [C] at the positions of a landing, int64 [rows·polynomials, P]."""
    phases = landing.rows.cut * landing.columns.cut
    each = np.zeros(landing.groups * landing.together, np.int64)
    each[: landing.numbers] = np.repeat(bias, phases)
    inside = np.repeat(each, landing.rows.count * landing.columns.count)
    return np.tile(inside.reshape(landing.groups, -1), (rows * landing.tiles, 1))


def _placed(numbers: np.ndarray, order: Order) -> np.ndarray:
    placed = np.empty_like(numbers)
    placed[order] = numbers
    return placed


def _rows(polynomials: np.ndarray, which: np.ndarray) -> np.ndarray:
    whole = len(which) == len(polynomials)
    return np.ascontiguousarray(polynomials if whole else polynomials[which])
