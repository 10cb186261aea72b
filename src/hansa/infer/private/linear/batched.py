"""Throughput: a ciphertext a number, rows of a batch in its coefficients.

A linear layer is then an integer matrix product on the residues of both halves, as in the clear
but four times: no transform, and no garbage. float64 multiplies matrices of integers exactly as
long as sums stay below 2^53, so that residues are cut into limbs that keep them there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import Lazy
from hansa.infer.private.linear.encrypted import Held, Order
from hansa.infer.private.linear.places import BatchDownload, BatchUpload, Download, Upload
from hansa.infer.private.program import Block, Program, Term
from hansa.infer.private.rlwe.profiles import Profile
from hansa.infer.private.rlwe.spreading import spread

kernels = Lazy("hansa.infer.private.linear.limb_kernels")

MOST = 8192
"""Numbers that a value or a block can have: ciphertexts of one message."""
AT_ONCE = 256
"""Ciphertexts that are computed before they are hidden and sent."""
COLUMNS = 2048
"""Coefficients that a matrix product takes at once."""
_EXACT = 53


@dataclass(frozen=True, eq=False)
class BatchPrepared:
    """A block's weights in the order of the client's channels.

    Attributes:
        terms: float64 [C_out, C_in, kernel height, kernel width] of each term.
        bias: int64 [C_out].
    """

    terms: tuple[np.ndarray, ...]
    bias: np.ndarray

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return sum(one.nbytes for one in self.terms)


class BatchLayers:
    """The blocks of a program with a batch in the coefficients.

    Args:
        program: what is applied.
        profile: of the ciphertexts.

    Raises:
        ConfigError: a value or a block has more numbers than ciphertexts can be sent.
    """

    def __init__(self, program: Program, profile: Profile) -> None:
        self.program, self.profile = program, profile
        blocks = [block for one in program.rounds for block in one.blocks]
        sizes = [(name, value.shape) for name, value in program.values.items()]
        for name, shape in [*((block.name, block.shape) for block in blocks), *sizes]:
            count = shape[0] * shape[1] * shape[2]
            if count > MOST:
                raise ConfigError(
                    "scheme.packing", "batch",
                    f"sends a ciphertext a number, and {name} has {count}: more than {MOST}",
                    "packing: channel",
                )  # fmt: skip
        self.uploads: dict[str, Upload] = {name: BatchUpload(shape) for name, shape in sizes}
        self.downloads: dict[str, Download] = {
            block.name: BatchDownload(block.shape) for block in blocks
        }

    def prepare(
        self, block: Block, into: Mapping[str, Order | None], out: Order | None, threads: int = 1
    ) -> BatchPrepared:
        """A block's weights, permuted; see ``ChannelLayers.prepare``."""
        terms = tuple(self._dense(term, into.get(term.value), out) for term in block.terms)
        bias = block.bias
        if out is not None:
            bias = np.empty_like(bias)
            bias[out] = block.bias
        return BatchPrepared(terms, bias)

    def apply(
        self, block: Block, prepared: BatchPrepared, held: Mapping[str, Held], rows: int,
        threads: int = 1,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """The block's sums without its bias, both halves [k, L, N] at the roots, bare."""
        count = block.shape[0] * block.shape[1] * block.shape[2]
        a = np.empty((count, self.profile.levels, self.profile.n), np.uint64)
        b = np.empty_like(a)
        for at, part_a, part_b in self.chunks(block, prepared, held, rows, threads):
            a[at], b[at] = part_a, part_b
        return a, b

    def chunks(
        self, block: Block, prepared: BatchPrepared, held: Mapping[str, Held], rows: int,
        threads: int = 1, keys: Any = None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:  # fmt: skip
        """The same in pieces: (which ciphertexts, their halves a and b)."""
        outs, high, wide = block.shape
        each = max(AT_ONCE // outs, 1)
        pixels = np.arange(high * wide)
        for start in range(0, len(pixels), each):
            chosen = pixels[start : start + each]
            at = (np.arange(outs)[:, None] * len(pixels) + chosen).reshape(-1)
            a, b = (
                self._sums(block, prepared, held, half, chosen, threads)
                for half in ("a_ntt", "b_ntt")
            )
            yield at, a, b

    def bias_words(self, block: Block, prepared: BatchPrepared, rows: int) -> np.ndarray:
        """The bias at each of the block's positions, int64 [k, rows]."""
        pixels = block.shape[1] * block.shape[2]
        return np.tile(np.repeat(prepared.bias, pixels)[:, None], (1, rows))

    def norm(self, block: Block) -> int:
        """The largest sum of the sizes of weights that one output coefficient can meet."""
        return int(sum(np.abs(term.weight).sum((1, 2, 3)) for term in block.terms).max())

    def _dense(self, term: Term, into: Order | None, out: Order | None) -> np.ndarray:
        """A term's weights [C_out, C_in, ...] without groups, channels as the client has them."""
        outs, each, *kernel = term.weight.shape
        dense = np.zeros((outs, each * term.groups, *kernel))
        first = np.arange(outs) // (outs // term.groups) * each
        read = first[:, None] + np.arange(each)[None, :]
        written = np.arange(outs) if out is None else out
        dense[written[:, None], read if into is None else into[read]] = term.weight
        return dense

    def _sums(
        self, block: Block, prepared: BatchPrepared, held: Mapping[str, Held], half: str,
        pixels: np.ndarray, threads: int,
    ) -> np.ndarray:  # fmt: skip
        """One half at some pixels, uint64 [C_out·pixels, L, N]."""
        profile, outs = self.profile, block.shape[0]
        made = np.empty((outs, len(pixels), profile.levels, profile.n), np.uint64)
        reads = self._reads(block, prepared, held, pixels)
        room = _EXACT - 1 - max(int(self.norm(block)), 1).bit_length()

        def work(part: slice) -> None:
            for level, prime in enumerate(profile.primes):
                total = prime.bit_length()
                limbs = -(-total // min(room, 26))
                bits = -(-total // limbs)
                for start in range(part.start, part.stop, COLUMNS):
                    columns = slice(start, min(start + COLUMNS, part.stop))
                    sums = self._product(reads, half, level, columns, limbs, bits, outs)
                    for at in range(len(pixels)):
                        kernels.join(
                            np.ascontiguousarray(sums[:, at]), bits, prime, 63 - total,
                            made[:, at, level, columns],
                        )  # fmt: skip

        spread(work, profile.n, threads)
        return made.reshape(outs * len(pixels), profile.levels, profile.n)

    def _reads(
        self, block: Block, prepared: BatchPrepared, held: Mapping[str, Held], pixels: np.ndarray
    ) -> list[tuple[Held, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]]:
        """Of each term: the ciphertexts, which of them it reads, and what each pixel reads.

        A pixel reads (which of those, weights [C_out, reads]).
        """
        found = []
        for term, weights in zip(block.terms, prepared.terms, strict=True):
            channels, high, wide = self.program.values[term.value].shape
            each, every = [], []
            for pixel in pixels:
                row, column = divmod(int(pixel), block.shape[2])
                rows = np.arange(weights.shape[2]) * term.dilation[0]
                rows = rows + row * term.stride[0] - term.padding[0]
                columns = np.arange(weights.shape[3]) * term.dilation[1]
                columns = columns + column * term.stride[1] - term.padding[2]
                inside = ((rows >= 0) & (rows < high))[:, None]
                inside = inside & ((columns >= 0) & (columns < wide))[None, :]
                places = (rows[:, None] * wide + columns[None, :])[inside]
                read = (np.arange(channels)[:, None] * high * wide + places).reshape(-1)
                each.append((read, weights[:, :, inside].reshape(len(weights), -1)))
                every.append(read)
            union = np.unique(np.concatenate(every))
            found.append((
                held[term.value], union,
                [(np.searchsorted(union, read), weights) for read, weights in each],
            ))  # fmt: skip
        return found

    def _product(
        self, reads: list[tuple[Held, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]],
        half: str, level: int, columns: slice, limbs: int, bits: int, outs: int,
    ) -> np.ndarray:  # fmt: skip
        """Sums of limbs, float64 [limbs, pixels, C_out, columns]."""
        width = columns.stop - columns.start
        sums = np.zeros((limbs, len(reads[0][2]), outs, width))
        for held, union, pixels in reads:
            residues = getattr(held, half)[union, level, columns]
            parts = np.empty((limbs, len(union), width))
            kernels.split(residues, bits, parts)
            for at, (read, weights) in enumerate(pixels):
                whole = len(read) == len(union)
                for limb in range(limbs):
                    sums[limb, at] += weights @ (parts[limb] if whole else parts[limb][read])
        return sums
