"""Into how many phases values and outputs are cut so that every convolution steps by one.

A convolution of stride s reads every s-th number. Cut a value into its d phases along an axis
(numbers 0, d, 2d, …, numbers 1, d + 1, …), as channels of their own, and a block's output into e:
output e·i + p reads, for each tap, one phase at i plus a constant, whenever d = e·s. Outputs then
lie side by side in a product, and terms of different strides land on the same places.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import gcd, lcm

from hansa.infer.private.program import Block, Program

Reader = tuple[str, int]
"""A block's name and the place of the term in it."""


@dataclass(frozen=True)
class Stepping:
    """How values and outputs are cut.

    Attributes:
        sources: of each term, which placement of its value it reads: (value, number).
        cuts: of each placement, its phases along rows and columns.
        outs: of each block, the same.
        families: placements and blocks that have to share a grid, by a number of their own.
    """

    sources: dict[Reader, tuple[str, int]]
    cuts: dict[tuple[str, int], tuple[int, int]]
    outs: dict[str, tuple[int, int]]
    families: dict[str | tuple[str, int], int]


class _Ratios:
    """Nodes with unknown positive numbers, of which ratios are known (weighted union-find)."""

    def __init__(self) -> None:
        self.up: dict[object, tuple[object, Fraction]] = {}

    def find(self, node: object) -> tuple[object, Fraction]:
        """The root of a node and how many times the root's number it is."""
        factor = Fraction(1)
        while node in self.up:
            node, times = self.up[node]
            factor *= times
        return node, factor

    def join(self, one: object, other: object, times: int) -> bool:
        """Ask that ``one`` is ``times`` ``other``; False where that contradicts what is known."""
        (root, factor), (top, share) = self.find(one), self.find(other)
        if root == top:
            return factor == times * share
        self.up[root] = (top, times * share / factor)
        return True


def stepping(program: Program) -> Stepping:
    """The fewest phases with which all terms of all blocks meet.

    A value that its readers need in two ways is placed, and uploaded, twice. An output of one row
    has no stride: its readers take the phases that suit them.
    """
    blocks = [block for one in program.rounds for block in one.blocks]
    ratios = (_Ratios(), _Ratios())
    sources: dict[Reader, tuple[str, int]] = {}
    placed: dict[str, int] = {}
    for block in blocks:
        for at, term in enumerate(block.terms):
            for number in range(placed.get(term.value, 0) + 1):
                node = (term.value, number)
                if number == placed.get(term.value, 0) or _agree(ratios, node, block, at):
                    placed[term.value] = max(placed.get(term.value, 0), number + 1)
                    _join(ratios, node, block, at)
                    sources[block.name, at] = node
                    break
    cuts: dict[tuple[str, int], list[int]] = {node: [0, 0] for node in sources.values()}
    outs: dict[str, list[int]] = {block.name: [1, 1] for block in blocks}
    for axis in (0, 1):
        _numbers(program, blocks, sources, ratios[axis], axis, cuts, outs)
    families = _families(sources)
    return Stepping(
        sources,
        {node: (cut[0], cut[1]) for node, cut in cuts.items()},
        {name: (cut[0], cut[1]) for name, cut in outs.items()},
        families,
    )


def _free(block: Block, axis: int) -> bool:
    return block.shape[1 + axis] == 1


def _agree(ratios: tuple[_Ratios, _Ratios], node: tuple[str, int], block: Block, at: int) -> bool:
    for axis in (0, 1):
        if _free(block, axis):
            continue
        (root, factor), (top, share) = ratios[axis].find(node), ratios[axis].find(block.name)
        if root == top and factor != block.terms[at].stride[axis] * share:
            return False
    return True


def _join(ratios: tuple[_Ratios, _Ratios], node: tuple[str, int], block: Block, at: int) -> None:
    for axis in (0, 1):
        if not _free(block, axis):
            ratios[axis].join(node, block.name, block.terms[at].stride[axis])


def _numbers(
    program: Program,
    blocks: list[Block],
    sources: dict[Reader, tuple[str, int]],
    ratios: _Ratios,
    axis: int,
    cuts: dict[tuple[str, int], list[int]],
    outs: dict[str, list[int]],
) -> None:
    """The least whole numbers that have the ratios, of each connected part by itself."""
    parts: dict[object, list[tuple[str, Fraction]]] = {}
    for block in blocks:
        if not _free(block, axis):
            root, factor = ratios.find(block.name)
            parts.setdefault(root, []).append((block.name, factor))
    scales: dict[object, Fraction] = {}
    for root, members in parts.items():
        whole = lcm(*(factor.denominator for _, factor in members))
        shared = gcd(*(int(factor * whole) for _, factor in members))
        scales[root] = Fraction(whole, shared)
        for name, factor in members:
            outs[name][axis] = int(factor * scales[root])
    for node, cut in cuts.items():
        root, factor = ratios.find(node)
        if root in scales:
            cut[axis] = int(factor * scales[root])
        else:  # read by outputs of one row only: every row is a phase
            cut[axis] = program.values[node[0]].shape[1 + axis]


def _families(sources: dict[Reader, tuple[str, int]]) -> dict[str | tuple[str, int], int]:
    family: dict[str | tuple[str, int], int] = {}
    for (block, _), node in sources.items():
        known = {family[one] for one in (block, node) if one in family}
        mine = min(known, default=len(family))
        for one, number in list(family.items()):
            if number in known:
                family[one] = mine
        family[block] = family[node] = mine
    return family
