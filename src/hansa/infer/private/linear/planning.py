"""Chooses a layout: how many channels share a polynomial, by the bytes that it takes.

One uploaded ciphertext costs one polynomial of residues (its mask is a seed); one of a reply costs
its mask after the modulus switch, and what is read of it. More input channels a product mean fewer
uploads and fewer output channels a product, and the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from hansa.base.errors import ConfigError
from hansa.infer.private.linear.layout import Axis, Landing, Layout, Placement
from hansa.infer.private.linear.steps import Reader, Stepping, stepping
from hansa.infer.private.linear.taps import AxisTaps, axis_taps
from hansa.infer.private.program import Block, Pair, Program

LARGEST_RING = 8192
PRODUCT_BYTES = 300
"""Bytes that one product of two polynomials is counted as: what it takes at some 30 MB/s."""


@dataclass(frozen=True)
class Prices:
    """What a ciphertext costs.

    Attributes:
        up, down: bytes of one that goes up, and of one that comes down before its coefficients.
    """

    up: int
    down: int


@dataclass(eq=False)
class _Family:
    """Placements and blocks that share a grid, and the grid that was found for them."""

    placements: list[tuple[str, int]]
    blocks: list[Block]
    axes: dict[tuple[str, int], tuple[Axis, Axis]]
    planes: dict[tuple[str, int], int]
    width: int
    tile: Pair


def layout(program: Program, n: int, prices: Prices) -> Layout:
    """The layout of a program in polynomials of ``n`` coefficients.

    Raises:
        ConfigError: a kernel reaches farther than ``n`` coefficients.
    """
    return _Planner(program, n, prices).layout()


class _Planner:
    def __init__(self, program: Program, n: int, prices: Prices) -> None:
        self.program, self.n, self.prices = program, n, prices
        self.steps: Stepping = stepping(program)
        self.blocks = {block.name: block for one in program.rounds for block in one.blocks}
        self.readers: dict[tuple[str, int], list[Reader]] = {}
        for reader, node in self.steps.sources.items():
            self.readers.setdefault(node, []).append(reader)
        self.taps = {reader: self._taps(reader) for reader in self.steps.sources}

    def _taps(self, reader: Reader) -> tuple[AxisTaps, AxisTaps]:
        block = self.blocks[reader[0]]
        term, node = block.terms[reader[1]], self.steps.sources[reader]
        shape, cuts, outs = (
            self.program.values[term.value].shape, self.steps.cuts[node],
            self.steps.outs[block.name],
        )  # fmt: skip
        rows, columns = (
            axis_taps(term, axis, shape[1 + axis], block.shape[1 + axis], cuts[axis], outs[axis])
            for axis in (0, 1)
        )
        return rows, columns

    @cached_property
    def phases(self) -> dict[tuple[str, int], tuple[Pair, ...]]:
        """The phases of each placement that any tap reads."""
        found: dict[tuple[str, int], tuple[Pair, ...]] = {}
        for node, readers in self.readers.items():
            pairs: set[Pair] = set()
            for reader in readers:
                rows, columns = self.taps[reader]
                pairs |= {
                    (int(row), int(column))
                    for row in set(rows.phase[rows.used].tolist())
                    for column in set(columns.phase[columns.used].tolist())
                }
            found[node] = tuple(sorted(pairs)) or ((0, 0),)
        return found

    def layout(self) -> Layout:
        order = [node for one in self.program.rounds for value in one.uploads
                 for node in sorted(self.readers) if node[0] == value]  # fmt: skip
        placements: dict[tuple[str, int], Placement] = {}
        landings: dict[str, Landing] = {}
        for family in self._families():
            self._fill(family, placements, landings)
        where = {node: at for at, node in enumerate(order)}
        sources = {reader: where[node] for reader, node in self.steps.sources.items()}
        return Layout(self.n, tuple(placements[node] for node in order), sources, landings)

    # How a family's grid is found.

    def _families(self) -> list[_Family]:
        members: dict[int, tuple[list[tuple[str, int]], list[Block]]] = {}
        for one, number in self.steps.families.items():
            nodes, blocks = members.setdefault(number, ([], []))
            if isinstance(one, str):
                blocks.append(self.blocks[one])
            else:
                nodes.append(one)
        return [self._family(nodes, blocks) for nodes, blocks in members.values()]

    def _family(self, nodes: list[tuple[str, int]], blocks: list[Block]) -> _Family:
        most = tuple(
            max(-(-block.shape[1 + axis] // self.steps.outs[block.name][axis]) for block in blocks)
            for axis in (0, 1)
        )
        best: _Family | None = None
        for parts in _splits(most[1]):
            family = self._tallest(nodes, blocks, most, -(-most[1] // parts))
            if family and family.tile == most:
                return family
            if family and (best is None or self._tiles(family) < self._tiles(best)):
                best = family
        if best is None:
            name = blocks[0].name
            problem = f"one output of it reads numbers over more than {self.n} coefficients"
            larger = "use a larger ring: profile: n8192"
            fix = larger if self.n < LARGEST_RING else "a smaller kernel, or less dilation"
            raise ConfigError(name, None, problem, fix)
        return best

    def _tallest(
        self, nodes: list[tuple[str, int]], blocks: list[Block], most: tuple[int, ...], wide: int
    ) -> _Family | None:
        """The family with the largest tiles of ``wide`` columns that fit, if any."""
        low, high = 1, most[0]
        whole = self._grid(nodes, blocks, most, (high, wide))
        if max(whole.planes.values()) <= self.n:
            return whole
        found = None
        while low <= high:
            middle = (low + high) // 2
            family = self._grid(nodes, blocks, most, (middle, wide))
            if max(family.planes.values()) <= self.n:
                found, low = family, middle + 1
            else:
                high = middle - 1
        return found

    def _tiles(self, family: _Family) -> int:
        return sum(
            axes[0].tiles * axes[1].tiles * self._numbers(node)
            for node, axes in family.axes.items()
        )

    def _numbers(self, node: tuple[str, int]) -> int:
        return self.program.values[node[0]].shape[0] * len(self.phases[node])

    def _grid(
        self, nodes: list[tuple[str, int]], blocks: list[Block], most: tuple[int, ...], tile: Pair
    ) -> _Family:
        family = _Family(nodes, blocks, {}, {}, 1, tile)
        gaps: dict[tuple[str, int], tuple[Pair, Pair]] = {}
        for node in nodes:
            rows, over = self._axis(node, most, 0, tile[0])
            columns, beside = self._axis(node, most, 1, tile[1])
            family.axes[node], gaps[node] = (rows, columns), (over, beside)
            family.width = max(family.width, columns.count + max(beside))
        for node in nodes:
            (rows, columns), (over, beside) = family.axes[node], gaps[node]
            width = family.width
            last = (rows.count - 1) * width + columns.count - 1
            first = over[0] * width + beside[0]
            beyond = last + over[1] * width + beside[1]
            family.planes[node] = max(last + 1 + first, beyond + 1)
        return family

    def _axis(
        self, node: tuple[str, int], most: tuple[int, ...], axis: int, tile: int
    ) -> tuple[Axis, Pair]:
        """How a placement is cut, and how far its readers read before it and behind it."""
        taps = [self.taps[reader][axis] for reader in self.readers[node]]
        cut = self.steps.cuts[node][axis]
        low = min(one.low for one in taps)
        if tile >= most[axis]:
            high = max(one.high for one in taps)
            held = -(-self.program.values[node[0]].shape[1 + axis] // cut)
            start, stop = max(low, 0), min(high + 1, held)
            stop = max(stop, start + 1)
            return Axis(cut, tile, 1, start, stop - start), (start - low, max(high + 1 - stop, 0))
        outputs = max(one.outputs for one in taps)
        high = max(int(one.high) - one.outputs for one in taps) + tile
        return Axis(cut, tile, -(-outputs // tile), low, high + 1 - low), (0, 0)

    # How many channels lie together.

    def _fill(
        self,
        family: _Family,
        placements: dict[tuple[str, int], Placement],
        landings: dict[str, Landing],
    ) -> None:
        together = self._together(family)
        for node in family.placements:
            rows, columns = family.axes[node]
            placements[node] = Placement(
                node[0], self.program.values[node[0]].shape[0], rows, columns, self.phases[node],
                family.width, family.planes[node], together[node],
            )  # fmt: skip
        for block in family.blocks:
            outs = self.steps.outs[block.name]
            rows, columns = (
                Axis(outs[axis], tile, -(-each // tile), 0, min(each, tile))
                for axis, tile in enumerate(family.tile)
                for each in [-(-block.shape[1 + axis] // outs[axis])]
            )
            spacing = self._spacing(family, together, block)
            many = min(self.n // spacing, block.shape[0] * outs[0] * outs[1])
            landings[block.name] = Landing(block.shape, rows, columns, family.width, spacing, many)

    def _spacing(self, family: _Family, together: dict[tuple[str, int], int], block: Block) -> int:
        nodes = {self.steps.sources[block.name, at] for at in range(len(block.terms))}
        return max(together[node] * family.planes[node] for node in nodes)

    def _together(self, family: _Family) -> dict[tuple[str, int], int]:
        """The numbers of channels that cost least: one span for all, then each by itself."""
        choices = {
            node: _useful(self._numbers(node), self.n // family.planes[node])
            for node in family.placements
        }

        def under(span: int) -> dict[tuple[str, int], int]:
            return {
                node: max([one for one in known if one * family.planes[node] <= span], default=1)
                for node, known in choices.items()
            }

        spans = {one * family.planes[node] for node, known in choices.items() for one in known}
        best = min((under(span) for span in sorted(spans)), key=self._cost_of(family))
        cost = self._cost_of(family)
        for _ in range(2):
            for node, known in choices.items():
                best = min(({**best, node: one} for one in known), key=cost)
        return best

    def _cost_of(self, family: _Family) -> Callable[[dict[tuple[str, int], int]], int]:
        def cost(together: dict[tuple[str, int], int]) -> int:
            total = 0
            for node in family.placements:
                rows, columns = family.axes[node]
                groups = -(-self._numbers(node) // together[node])
                total += rows.tiles * columns.tiles * groups * self.prices.up
            for block in family.blocks:
                outs = self.steps.outs[block.name]
                each = [-(-block.shape[1 + a] // outs[a] // family.tile[a]) for a in (0, 1)]
                tiles = each[0] * each[1]
                many = self.n // self._spacing(family, together, block)
                groups = -(-block.shape[0] * outs[0] * outs[1] // many)
                inputs = sum(
                    -(-self._numbers(node) // together[node])
                    for at in range(len(block.terms))
                    for node in [self.steps.sources[block.name, at]]
                )
                total += tiles * groups * (self.prices.down + inputs * PRODUCT_BYTES)
            return total

        return cost


def _useful(numbers: int, most: int) -> list[int]:
    """Numbers of channels together that need a polynomial less than any smaller one."""
    most = min(numbers, most)
    groups = {-(-numbers // together) for together in range(1, most + 1)}
    return sorted({-(-numbers // one) for one in groups})


def _splits(length: int) -> Sequence[int]:
    """Into how many parts an axis of ``length`` can be cut, fewest first."""
    return sorted({-(-length // part) for part in range(1, length + 1)})
