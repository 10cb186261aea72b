"""FlexMerge over a pool of LoRA adapters, in factor space: many adapters become a few.

Adapters are likened by the cosine of their deltas, grouped by complete linkage block by block, and
merged in the order of heights until all fit a budget of bytes. A group is the mean of its members'
deltas (Dhasade et al. 2025 for whole models), cut to a rank; what that loses is reported. A router
goes on with the folders that remain (LORAUTER, 2026).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Literal

import numpy as np

from hansa.base.errors import ConfigError
from hansa.combine.merge.dendrogram import Dendrogram, Linkage, Partition, dendrogram
from hansa.combine.merge.lora_factors import gram, merged
from hansa.combine.merge.spectrum import by_height
from hansa.weights.blocks import blocks_of
from hansa.weights.canonical_names import canonical
from hansa.weights.composition import CompositionPlan, Group, Member, PlanBlock
from hansa.weights.compressed_pool import ADAPTERS, PLAN, CompressedPool
from hansa.weights.lora_folder import LoraFactors, LoraFolder, lora_bytes, write_lora
from hansa.weights.staging import staged

Sharing = Literal["adapter", "layer", "sublayer", "module"]
WHOLE = "adapter"
Extents = tuple[int, int, int]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Pool:
    """Adapters of one base, with one name for each module.

    Attributes:
        modules: of each adapter, common module name to its own name.
        blocks: block to the common names of its modules.
        title: common module name to the name under which it is written.
        dtype: safetensors' type in which groups are stored.
    """

    adapters: tuple[LoraFolder, ...]
    modules: tuple[Mapping[str, str], ...]
    blocks: Mapping[str, tuple[str, ...]]
    title: Mapping[str, str]
    dtype: str

    @classmethod
    def of(
        cls, adapters: Sequence[LoraFolder], sharing: Sharing = "adapter", dtype: str = "F32"
    ) -> Pool:
        """The pool of some adapters.

        Args:
            sharing: what two adapters share or do not: all of an adapter, a layer, a part of a
                layer, or a single module.

        Raises:
            ConfigError: there are none, two have one name, or they are of different bases.
        """
        if not adapters:
            raise ConfigError("pool", None, "holds no adapter")
        names = [adapter.name for adapter in adapters]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigError("pool", twice[0], "is the name of two adapters")
        modules = [{short: own for own, short in canonical(a.modules).items()} for a in adapters]
        sizes: dict[str, tuple[int, int]] = {}
        title: dict[str, str] = {}
        for adapter, own in zip(adapters, modules, strict=True):
            for module, name in own.items():
                extents = adapter.modules[name][1:]
                if sizes.setdefault(module, extents) != extents:
                    problem = f"maps {extents} in {module}, others {sizes[module]}: another base"
                    raise ConfigError("pool", adapter.name, problem, "a pool is for one base")
                title.setdefault(module, name)
        stated = {Path(a.base).name for a in adapters if a.base}
        if len(stated) > 1:
            bases = ", ".join(sorted(stated))
            raise ConfigError("pool", bases, "are the bases that its adapters name: not one")
        blocks = _blocks(sorted(sizes), sharing)
        return cls(tuple(adapters), tuple(modules), blocks, title, dtype)

    def factors(self, adapter: int, module: str) -> LoraFactors:
        """The factors of an adapter in a module that it has."""
        return self.adapters[adapter].factors(self.modules[adapter][module])

    def extents(self, adapter: int, module: str) -> Extents:
        """(r, in, out) of an adapter in a module that it has."""
        return self.adapters[adapter].modules[self.modules[adapter][module]]

    def members(self, block: str) -> list[int]:
        """The adapters that change something in a block."""
        return [
            place
            for place, own in enumerate(self.modules)
            if any(module in own for module in self.blocks[block])
        ]

    def similarities(self, block: str) -> np.ndarray:
        """Cosines of the members' deltas in a block; 0 for a delta of zeros."""
        members = self.members(block)
        products = np.zeros((len(members), len(members)))
        for module in self.blocks[block]:
            having = [i for i, member in enumerate(members) if module in self.modules[member]]
            some = gram([self.factors(members[i], module) for i in having])
            products[np.ix_(having, having)] += some
        norms = np.sqrt(np.maximum(np.diagonal(products), 0))
        scale = np.where(norms > 0, norms, np.inf)
        cosines = np.clip(products / scale[:, None] / scale, -1, 1)
        np.fill_diagonal(cosines, 1)
        return cosines

    def group_extents(
        self, block: str, group: Sequence[int], rank: int | None
    ) -> dict[str, Extents]:
        """What a group would be written as: module to (r, in, out)."""
        extents: dict[str, Extents] = {}
        for module in self.blocks[block]:
            having = [self.extents(m, module) for m in group if module in self.modules[m]]
            if having:
                whole = sum(r for r, _, _ in having)
                short = whole if rank is None or len(having) == 1 else min(whole, rank)
                extents[self.title[module]] = (short, *having[0][1:])
        return extents


def _blocks(modules: list[str], sharing: Sharing) -> dict[str, tuple[str, ...]]:
    if sharing == "adapter":
        return {WHOLE: tuple(modules)}
    if sharing == "module":
        return {module: (module,) for module in modules}
    if sharing not in ("layer", "sublayer"):
        raise ConfigError("share", sharing, "is no unit", "adapter, layer, sublayer or module")
    weights = blocks_of([f"{module}.weight" for module in modules], sharing)
    return {
        block: tuple(name.removesuffix(".weight") for name in names)
        for block, names in weights.items()
    }


@dataclass(frozen=True)
class PoolSpectrum:
    """Every size of a pool, from all adapters to one; the similarities are computed once.

    Attributes:
        trees: of each block, over its members.
        rank: of a merged group at most; None keeps all ranks.
        scale: what the mean of a group's deltas is multiplied with.
    """

    pool: Pool
    trees: tuple[Dendrogram, ...]
    rank: int | None
    scale: float

    @classmethod
    def of(
        cls,
        pool: Pool,
        rank: int | None = None,
        scale: float = 1.0,
        linkage: Linkage = "min",
        say: Say = lambda text: None,
    ) -> PoolSpectrum:
        """The spectrum of a pool.

        Args:
            rank: of a merged group; None: the largest of any adapter.
            say: is told how far it is.

        Raises:
            ConfigError: the rank is below 1, or an adapter holds a number that is not finite.
        """
        if rank is not None and rank < 1:
            raise ConfigError("rank", rank, "has to be above 0")
        rank = rank or max(adapter.rank for adapter in pool.adapters)
        trees = []
        for number, block in enumerate(pool.blocks, 1):
            say(f"comparing {len(pool.adapters)} adapters, part {number} of {len(pool.blocks)}")
            trees.append(dendrogram(pool.similarities(block), linkage))
        return cls(pool, tuple(trees), rank, scale)

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The block that takes its next merge, step by step."""
        return by_height(self.trees)

    @cached_property
    def bytes(self) -> tuple[int, ...]:
        """Of all files of factors after 0, 1, ... merges."""
        costs = [self._node_bytes(place) for place in range(len(self.trees))]
        at = [0] * len(self.trees)
        saved: list[int] = []
        for place in self.order:
            tree, cost = self.trees[place], costs[place]
            merge = tree.merges[at[place]]
            saved.append(cost[tree.leaves + at[place]] - cost[merge.first] - cost[merge.second])
            at[place] += 1
        start = sum(sum(c[: t.leaves]) for c, t in zip(costs, self.trees, strict=True))
        return tuple(accumulate(saved, initial=start))

    def _node_bytes(self, place: int) -> list[int]:
        block = list(self.pool.blocks)[place]
        members = self.pool.members(block)
        return [
            lora_bytes(
                self.pool.group_extents(block, [members[i] for i in group], self.rank),
                self.pool.dtype,
            )
            for group in self.trees[place].groups
        ]

    def steps_within(self, budget: float) -> int:
        """The fewest merges after which all files take at most ``budget`` bytes.

        Raises:
            ConfigError: not even all merges lead there; names the least.
        """
        for steps, size in enumerate(self.bytes):
            if size <= budget:
                return steps
        least = min(self.bytes)
        problem = f"is out of reach: the least is {least} bytes"
        raise ConfigError("budget", budget, problem, f"{least} bytes or more, or a smaller rank")

    def groups(self, steps: int) -> dict[str, Partition]:
        """Each block's groups of adapters after so many merges."""
        at = [self.order[:steps].count(place) for place in range(len(self.trees))]
        result: dict[str, Partition] = {}
        for block, tree, merges in zip(self.pool.blocks, self.trees, at, strict=True):
            members = self.pool.members(block)
            joined = {node for m in tree.merges[:merges] for node in (m.first, m.second)}
            alive = (node for node in range(tree.leaves + merges) if node not in joined)
            partition = sorted(tree.groups[node] for node in alive)
            result[block] = tuple(tuple(members[i] for i in group) for group in partition)
        return result

    def write(self, out: Path, budget: float, say: Say = lambda text: None) -> CompressedPool:
        """Merge until all fits a budget, and write the plan and a PEFT folder for each group.

        Args:
            budget: in bytes, of all files of factors together.

        Raises:
            ConfigError: the budget is out of reach, or ``out`` exists.
            DiskError: the disk is full or fails; nothing is left then.
        """
        steps = self.steps_within(budget)
        say(f"merging {len(self.pool.adapters)} adapters")
        with staged(Path(out)) as place:
            blocks, folders, facts = [], {}, _Facts()
            for block, groups in self.groups(steps).items():
                names = [self._name(block, number, g) for number, g in enumerate(groups)]
                for name, group in zip(names, groups, strict=True):
                    self._write_group(place / ADAPTERS / name, block, group, facts)
                folders[block] = names
                shared = tuple(Group(g, (self.scale_of(g) / len(g),) * len(g)) for g in groups)
                modules = tuple(self.pool.title[m] for m in self.pool.blocks[block])
                blocks.append(PlanBlock(block, modules, shared))
            members = tuple(Member(a.name, a.sha256()) for a in self.pool.adapters)
            about = {
                "folders": folders,
                "sha256": facts.sha256,
                "errors": facts.errors,
                "bytes": self.bytes[steps],
                "budget": budget,
                "merges": steps,
                "rank": self.rank,
                "scale": self.scale,
            }
            CompositionPlan("adapters", None, members, tuple(blocks), about).write(place / PLAN, {})
        return CompressedPool.open(Path(out), verify=False)

    def scale_of(self, group: Sequence[int]) -> float:
        """What the mean of a group is multiplied with; an adapter alone stays what it is."""
        return self.scale if len(group) > 1 else 1.0

    def _name(self, block: str, number: int, group: Sequence[int]) -> str:
        alone = self.pool.adapters[group[0]].name.replace("/", "__")  # a pool may have folders
        if block == WHOLE:
            return alone if len(group) == 1 else f"{alone}+{len(group) - 1}"
        return f"{block}.{number:04}"

    def _write_group(self, out: Path, block: str, group: Sequence[int], facts: _Facts) -> None:
        factors: dict[str, LoraFactors] = {}
        lost = whole = 0.0
        for module in self.pool.blocks[block]:
            parts = [self.pool.factors(m, module) for m in group if module in self.pool.modules[m]]
            if parts:
                # A member that lacks the module adds nothing, but counts in the mean.
                weights = [self.scale_of(group) / len(group)] * len(parts)
                sum_ = merged(parts, weights, self.rank if len(parts) > 1 else None)
                factors[self.pool.title[module]] = sum_.factors
                lost, whole = lost + sum_.error**2, whole + sum_.norm**2
        first = self.pool.adapters[group[0]]
        write_lora(out, factors, first.base, first.config, self.pool.dtype)
        facts.sha256[out.name] = LoraFolder.open(out).sha256()
        facts.errors[out.name] = (lost / whole) ** 0.5 if whole else 0.0


class _Facts:
    """What is noted of the folders: their digests, and the share of each that the rank cost."""

    def __init__(self) -> None:
        self.sha256: dict[str, str] = {}
        self.errors: dict[str, float] = {}
