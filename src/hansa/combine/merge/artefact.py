"""Artefacts: all models of one origin in one folder, from which every smaller size is cut.

It holds each distinct version of every block once, the base, and what every algorithm's merges are
made of and lose. Nothing of the models that it was built from is needed any more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.bundle import bundle_file, read_bundle
from hansa.base.errors import CheckpointError, ConfigError
from hansa.base.streams import Streams
from hansa.combine.merge.algorithms.merging import (
    BlockFacts,
    LinearMerging,
    MergingAlgorithm,
)
from hansa.combine.merge.block_layout import BlockLayout
from hansa.combine.merge.block_store import StoredBlock, stored_block
from hansa.combine.merge.byte_ledger import Ledger
from hansa.combine.merge.dendrogram import Dendrogram, Group, Linkage, Partition, dendrogram
from hansa.combine.merge.finer_stages import finer_stages, measured_groups
from hansa.combine.merge.group_merging import BlockMerging, MergingContext, accounting
from hansa.combine.merge.model_form import kept_form
from hansa.combine.merge.orders import Order, course
from hansa.combine.merge.similarity import cosines
from hansa.combine.merge.spectrum import Spectrum
from hansa.weights.composition import Member
from hansa.weights.model_folder import ModelFolder
from hansa.weights.tensor_file import TensorEntry, read_header

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1


def index_path(place: Path) -> Path:
    """The bundle that makes an artefact whole."""
    return place / "artefact"


def kept_file(place: Path, name: str, digest: str) -> Path:
    """The file of a tensor that is not merged."""
    title = hashlib.sha256(f"{name} {digest}".encode()).hexdigest()[:24]
    return place / "kept" / f"{title}.safetensors"


def statistics_file(place: Path, label: str, model: int) -> Path:
    """The file of a model's statistics for an algorithm."""
    return place / "statistics" / f"{label}-{model}.safetensors"


class _Statistics(Mapping[str, "Tensor"]):
    """A model's statistics, read when they are asked for."""

    def __init__(self, file: Path) -> None:
        self._folder = ModelFolder.open(file)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._folder.entries:
            raise KeyError(name)
        return self._folder.read(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._folder.entries)

    def __len__(self) -> int:
        return len(self._folder.entries)


def contexts(
    place: Path,
    algorithms: Mapping[str, MergingAlgorithm],
    cutoffs: Mapping[str, np.ndarray],
    seed: int,
) -> dict[str, MergingContext]:
    """What each algorithm knows of all models."""
    return {
        label: MergingContext(
            algorithm,
            cutoffs[label],
            [
                _Statistics(statistics_file(place, label, number))
                for number in range(len(algorithm.statistics))
            ]
            or None,
            seed,
        )
        for label, algorithm in algorithms.items()
    }


@dataclass(frozen=True)
class Sizes:
    """The sizes that an algorithm reaches.

    Attributes:
        bytes: after 0, 1, ... merges, without headers.
        unit: bytes of one model, the mean of all.
        least: the smallest size, in models.
    """

    bytes: tuple[int, ...]
    unit: float

    @property
    def least(self) -> float:
        return min(self.bytes) / self.unit

    @property
    def most(self) -> float:
        """The size with nothing merged: below the number of models where they share blocks."""
        return self.bytes[0] / self.unit


@dataclass(frozen=True)
class Artefact:
    """An artefact on disk (see the module's text).

    Attributes:
        algorithms: by label.
        members: the models, in their order.
        layouts: the blocks, in the order in which inputs meet them.
    """

    path: Path
    algorithms: Mapping[str, MergingAlgorithm]
    members: tuple[Member, ...]
    base: Member
    layouts: tuple[BlockLayout, ...]
    facts: Mapping[str, Any]
    _tensors: Mapping[str, Tensor] = field(repr=False)

    @classmethod
    def open(cls, path: Path) -> Artefact:
        """The artefact in a folder.

        Raises:
            ConfigError: there is none, or its building was not finished.
            CheckpointError: it was changed.
        """
        path = Path(path)
        if not bundle_file(index_path(path)).is_file():
            begun = (path / "build.json").is_file()
            problem = "was begun and not finished" if begun else "is no artefact"
            fix = (
                "run the command that built it again" if begun else "build one: hansa combine merge"
            )
            raise ConfigError("artefact", str(path), problem, fix)
        facts, tensors = read_bundle(index_path(path), "build it again in another place")
        if facts.get("format") != FORMAT:
            raise CheckpointError(f"{path}: is no artefact of format {FORMAT}; build it again")
        return cls(
            path,
            {k: MergingAlgorithm.resolve(dict(v)) for k, v in facts["algorithms"].items()},
            tuple(Member(**member) for member in facts["members"]),
            Member(**facts["base"]),
            tuple(BlockLayout.from_json(layout) for layout in facts["layouts"]),
            facts,
            tensors,
        )

    @property
    def unit(self) -> float:
        """Bytes of one model, the mean of all."""
        return sum(self.facts["bytes"]) / len(self.members)

    @property
    def linkage(self) -> Linkage:
        """Of the dendrograms whose losses were measured."""
        return self.facts["linkage"]

    @cached_property
    def versions(self) -> tuple[tuple[int, ...], ...]:
        """Of each block, which version each model has."""
        return tuple(tuple(each) for each in self.facts["versions"])

    def algorithm(self, label: str) -> MergingAlgorithm:
        """The algorithm with a label.

        Raises:
            ConfigError: there is none; lists those that there are.
        """
        if label not in self.algorithms:
            fix = f"one of {', '.join(self.algorithms)}"
            raise ConfigError("algorithm", label, "is not in the artefact", fix)
        return self.algorithms[label]

    def gram(self, label: str, block: int) -> np.ndarray:
        """Inner products of a block's versions, as the algorithm compares them."""
        self.algorithm(label)
        own = self._tensors.get(f"gram/{label}/{block}")
        return (self._tensors[f"taus/{block}"] if own is None else own).numpy()

    def energy(self, block: int) -> float:
        """The squared length of all models' task vectors in a block, summed."""
        squares = self._tensors[f"taus/{block}"].diagonal().tolist()
        return float(sum(squares[version] for version in self.versions[block]))

    def dendrogram(self, label: str, block: int, linkage: Linkage | None = None) -> Dendrogram:
        """How a block's versions are merged; leaves are versions."""
        return dendrogram(cosines(self.gram(label, block)), linkage or self.linkage)

    def errors(self, label: str, block: int) -> dict[Group, float]:
        """The squared error of every group of a block's stages, summed over its models.

        Raises:
            ConfigError: losses were not measured.
        """
        tree = self.dendrogram(label, block)
        measured = self._tensors.get(f"errors/{label}/{block}")
        if measured is None:
            fix = "build the artefact with losses"
            raise ConfigError("losses", False, "were not measured", fix)
        groups = measured_groups(tree, accounting(self.algorithm(label)), self.layouts[block].size)
        errors: dict[Group, float] = {(leaf,): 0.0 for leaf in range(tree.leaves)}
        return errors | dict(zip(groups, measured.tolist(), strict=True))

    def _steps(self, label: str, block: int) -> tuple[tuple[Partition, ...], ...]:
        """For each merge of a block's dendrogram, the stages that it goes through."""
        stages = self.dendrogram(label, block).stages
        counting = accounting(self.algorithm(label))
        return finer_stages(stages, counting, self.layouts[block].size)

    def stages(self, label: str, block: int) -> tuple[Partition, ...]:
        """A block's partitions in the greedy order, with those between two merges."""
        first = self.dendrogram(label, block).stages[0]
        return (first, *(stage for step in self._steps(label, block) for stage in step))

    def losses(self, label: str, block: int) -> tuple[float, ...]:
        """The squared error of a block at each of its stages."""
        errors = self.errors(label, block)
        stages = self.stages(label, block)
        return tuple(sum(errors[group] for group in stage) for stage in stages)

    def heights(self, label: str, block: int) -> tuple[float, ...]:
        """Heights of a block's merges, summed up to each stage and times its numbers.

        A loss where none was measured.
        """
        merges, numbers = self.dendrogram(label, block).merges, self.layouts[block].numbers
        added = [
            merge.height * numbers / len(step)
            for merge, step in zip(merges, self._steps(label, block), strict=True)
            for _ in step
        ]
        return tuple(accumulate(added, initial=0.0))

    def spectrum(
        self, label: str, order: Order = "greedy", linkage: Linkage | None = None, seed: int = 0
    ) -> Spectrum:
        """All sizes of an algorithm in an order.

        Raises:
            ConfigError: there is no such algorithm or order.
        """
        grams = [self.gram(label, block) for block in range(len(self.layouts))]
        stages, steps = course(order, grams, self.versions, linkage or self.linkage, Streams(seed))
        counting = accounting(self.algorithm(label))
        finer = [
            finer_stages(each, counting, layout.size)
            for each, layout in zip(stages, self.layouts, strict=True)
        ]
        every = tuple(
            (each[0], *(stage for step in through for stage in step))
            for each, through in zip(stages, finer, strict=True)
        )
        costs = tuple(
            counting.costs(each, layout.size)
            for each, layout in zip(every, self.layouts, strict=True)
        )
        ahead = [iter(through) for through in finer]
        taken = tuple(block for block in steps for _ in next(ahead[block]))
        return Spectrum(every, taken, costs, self.kept_bytes)

    def sizes(self, label: str) -> Sizes:
        """The sizes that an algorithm reaches in the greedy order."""
        return Sizes(self.spectrum(label).bytes, self.unit)

    def ledger(self, label: str, partitions: Sequence[Partition]) -> Ledger:
        """What the bytes of a choice of partitions, one a block, are."""
        counting, total = accounting(self.algorithm(label)), Ledger(own=self.kept_bytes)
        for partition, layout in zip(partitions, self.layouts, strict=True):
            total += counting.ledger(partition, layout.size)
        return total

    def block(self, number: int) -> StoredBlock:
        """A block's numbers on disk."""
        file = self.path / "blocks" / f"{number:05}.safetensors"
        return stored_block(file, self.layouts[number])

    def merging(
        self, label: str, number: int, which: Sequence[int] | None = None, errors: bool = True
    ) -> BlockMerging:
        """A block, to merge some of its versions, or all, and to ask what is lost by it."""
        return BlockMerging(self.block(number), self._contexts[label], which, errors=errors)

    def coefficients(self, label: str, members: Sequence[int]) -> tuple[float, ...]:
        """What each model weighs in its group: of a weighted sum its factor, else 1/n."""
        algorithm = self.algorithm(label)
        if len(members) > 1 and isinstance(algorithm, LinearMerging):
            return tuple(algorithm.coefficients(BlockFacts(members=tuple(members))).tolist())
        return (1 / len(members),) * len(members)

    @cached_property
    def _contexts(self) -> dict[str, MergingContext]:
        none = np.empty((len(self.members), 0), dtype=np.float32)
        cutoffs = {
            label: self._tensors[f"cutoffs/{label}"].numpy()
            if f"cutoffs/{label}" in self._tensors
            else none
            for label in self.algorithms
        }
        return contexts(self.path, self.algorithms, cutoffs, int(self.facts["seed"]))

    @property
    def kept(self) -> Mapping[str, Sequence[str | None]]:
        """Tensors that are not merged: the digest of what each model has, None: nothing."""
        return self.facts["kept"]

    @cached_property
    def kept_entries(self) -> dict[tuple[str, str], TensorEntry]:
        """Each distinct tensor that is not merged, by its name and digest."""
        return {
            (name, digest): read_header(kept_file(self.path, name, digest)).entries[name]
            for name, digests in self.kept.items()
            for digest in sorted({d for d in digests if d is not None})
        }

    @property
    def kept_bytes(self) -> int:
        """Of all tensors that are not merged, each distinct one once."""
        return sum(entry.bytes for entry in self.kept_entries.values())

    def form(self, model: int | None = None) -> ModelFolder:
        """The form of a model, or of the base, to write another in it."""
        return kept_form(self.path / "forms" / str(0 if model is None else model + 1))
