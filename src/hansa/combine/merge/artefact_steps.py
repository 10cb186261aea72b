"""The steps in which an artefact is built; each leaves out what lies on disk already."""

from __future__ import annotations

import hashlib
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.bundle import bundle_file, read_bundle, write_bundle
from hansa.base.errors import HansaWarning
from hansa.base.lazy import torch
from hansa.base.memory import give_back
from hansa.base.streams import Streams
from hansa.combine.merge.algorithms.merging import BlockFacts, MergingAlgorithm
from hansa.combine.merge.artefact import contexts, index_path, kept_file, statistics_file
from hansa.combine.merge.block_layout import BlockLayout
from hansa.combine.merge.block_store import BlockReader, StoredBlock, model_digests, stored_block
from hansa.combine.merge.dendrogram import dendrogram
from hansa.combine.merge.finer_stages import measured_groups
from hansa.combine.merge.group_merging import BlockMerging, MergingContext, accounting
from hansa.combine.merge.model_form import keep_form
from hansa.combine.merge.model_ranks import ModelRanks
from hansa.combine.merge.similarity import cosines, gram_matrix
from hansa.weights.model_folder import ModelFolder
from hansa.weights.streamed import StreamedWriter
from hansa.weights.tensor_file import dtype_name, raw_bytes

if TYPE_CHECKING:
    from torch import Tensor

Progress = Callable[[str, int, int], None]
"""Told what is done, how many blocks of it, and of how many."""
_MANY_ZEROS = 0.05
_ROUNDED = ("BF16", "F16")


class BuildSteps:
    """Builds an artefact in a folder that was begun (see :func:`build_artefact`)."""

    def __init__(
        self,
        models: Sequence[ModelFolder],
        base: ModelFolder,
        place: Path,
        algorithms: Mapping[str, MergingAlgorithm],
        layouts: Sequence[BlockLayout],
        settings: Mapping[str, Any],
        progress: Progress | None,
    ) -> None:
        self._models, self._base, self._place = models, base, place
        self._algorithms, self._layouts, self._settings = algorithms, layouts, settings
        self._progress = progress or (lambda what, done, of: None)

    def run(self) -> None:
        """All steps.

        Raises:
            ConfigError: a number is not finite, or statistics do not fit.
            DiskError: the disk is full or fails.
        """
        self._keep_small_things()
        blocks = self._read()
        cutoffs = self._cutoffs(blocks)
        whole = contexts(self._place, self._algorithms, cutoffs, int(self._settings["seed"]))
        tensors: dict[str, Tensor] = {
            f"cutoffs/{label}": torch.from_numpy(values)
            for label, values in cutoffs.items()
            if values.size
        }
        zeros = numbers = 0
        for number, block in enumerate(blocks):
            facts, measured = self._measured(number, block, whole)
            tensors |= {f"{name}/{number}": value for name, value in measured.items()}
            zeros += facts["zeros"]
            numbers += facts["numbers"]
            self._progress("measured", number + 1, len(blocks))
        share = zeros / numbers if numbers else 0.0
        rounded = {layout.dtype for layout in self._layouts} & set(_ROUNDED)
        if rounded and share > _MANY_ZEROS:
            warnings.warn(
                f"{share:.0%} of the numbers that fine-tuning reached are as before: "
                f"{min(rounded)} has too few digits for so small changes; merge checkpoints in F32",
                HansaWarning,
                stacklevel=3,
            )
        self._finish(blocks, tensors, share)

    def _keep_small_things(self) -> None:
        for number, model in enumerate([self._base, *self._models]):
            if not (self._place / "forms" / str(number) / "form.json").is_file():
                keep_form(model, self._place / "forms" / str(number))
        for label, algorithm in self._algorithms.items():
            for number, source in enumerate(algorithm.statistics):
                target = statistics_file(self._place, label, number)
                if not target.is_file():
                    _copy_tensors(ModelFolder.open(Path(source)), target)

    def _read(self) -> list[StoredBlock]:
        reader = BlockReader(self._models, self._base)
        blocks = []
        for number, layout in enumerate(self._layouts):
            file = self._place / "blocks" / f"{number:05}.safetensors"
            if not file.is_file():
                reader.read(file, layout)
            blocks.append(stored_block(file, layout))
            give_back()
            self._progress("read", number + 1, len(self._layouts))
        return blocks

    def _cutoffs(self, blocks: Sequence[StoredBlock]) -> dict[str, np.ndarray]:
        """What each algorithm ranks model-wide, float32 [models, k]."""
        numbers = sum(layout.numbers for layout in self._layouts)
        ranks = {label: a.cutoff_ranks(numbers) for label, a in self._algorithms.items()}
        file = self._place / "measures" / "cutoffs"
        if not any(ranks.values()):
            return {label: _none(self._models) for label in ranks}
        if bundle_file(file).is_file():
            values = {label: t.numpy() for label, t in read_bundle(file)[1].items()}
            return {label: values.get(label, _none(self._models)) for label in ranks}
        # All that rank the task vectors as they are share one count.
        shared = tuple(label for label in ranks if ranks[label] and self._ranks_as_is(label))
        groups = [shared, *((label,) for label in ranks if ranks[label] and label not in shared)]
        rankings = {
            group: ModelRanks(len(self._models), [rank for label in group for rank in ranks[label]])
            for group in groups
            if group
        }
        for lower in (False, True):
            for number, block in enumerate(blocks):
                taus = block.taus()
                for group, ranking in rankings.items():
                    vectors = taus if group == shared else self._ranked(group[0], taus, block)
                    (ranking.count_low if lower else ranking.count_high)(vectors, block.versions)
                    del vectors
                del taus
                give_back()
                self._progress("ranked", number + 1 + lower * len(blocks), 2 * len(blocks))
        values = {}
        for group, ranking in rankings.items():
            columns, first = ranking.values(), 0
            for label in group:
                values[label] = columns[:, first : first + len(ranks[label])].copy()
                first += len(ranks[label])
        write_bundle(file, {}, {label: torch.from_numpy(v) for label, v in values.items()})
        return {label: values.get(label, _none(self._models)) for label in ranks}

    def _ranks_as_is(self, label: str) -> bool:
        """Whether an algorithm ranks task vectors as they are, and not after it dropped some."""
        probe = torch.ones(1, 1)
        facts = BlockFacts("probe").whole(probe)
        return self._algorithms[label].ranked(probe, facts) is probe

    def _ranked(self, label: str, taus: Tensor, block: StoredBlock) -> Tensor:
        facts = BlockFacts(
            block.layout.name,
            block.layout.pieces,
            block.owners,
            streams=Streams(int(self._settings["seed"])),
        )
        return self._algorithms[label].ranked(taus, facts)

    def _measured(
        self, number: int, block: StoredBlock, whole: Mapping[str, MergingContext]
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Of a block: every algorithm's inner products, and what each of its merges loses."""
        file = self._place / "measures" / f"{number:05}"
        if bundle_file(file).is_file():
            return read_bundle(file)
        taus = block.taus()
        plain = gram_matrix(taus)
        changed = [row for row, square in zip(taus, plain.diagonal(), strict=True) if square]
        reached = sum(row.numel() for row in changed)
        zeros = reached - sum(int(torch.count_nonzero(row)) for row in changed)
        tensors = {"taus": torch.from_numpy(plain)}
        for label, context in whole.items():
            merging = BlockMerging(block, context, taus=taus, gram=plain)
            if merging.gram is not plain:
                tensors[f"gram/{label}"] = torch.from_numpy(merging.gram)
            if self._settings["losses"]:
                tree = dendrogram(cosines(merging.gram), self._settings["linkage"])
                groups = measured_groups(tree, accounting(context.algorithm), block.layout.size)
                errors = [merging.error(group) for group in groups]
                tensors[f"errors/{label}"] = torch.tensor(errors, dtype=torch.float64)
            del merging
            give_back()
        facts = {"zeros": zeros, "numbers": reached}
        write_bundle(file, facts, tensors)
        return facts, tensors

    def _finish(
        self, blocks: Sequence[StoredBlock], tensors: Mapping[str, Tensor], zeros: float
    ) -> None:
        """The index, which makes the artefact whole."""
        kept, digests = self._keep(blocks)
        hashes = model_digests(
            self._models, self._base, blocks, lambda which, name: digests[which][name]
        )
        facts = {
            **{k: v for k, v in self._settings.items() if k != "sources"},
            "members": [
                {"name": name, "sha256": digest}
                for name, digest in zip(self._settings["names"], hashes[1:], strict=True)
            ],
            "base": {"name": self._base.name, "sha256": hashes[0]},
            "versions": [list(block.versions) for block in blocks],
            "kept": kept,
            "tied": dict(self._base.tied),
            "bytes": [model.bytes for model in self._models],
            "unchanged": zeros,
        }
        write_bundle(index_path(self._place), facts, tensors)
        shutil.rmtree(self._place / "measures")

    def _keep(
        self, blocks: Sequence[StoredBlock]
    ) -> tuple[dict[str, list[str | None]], list[dict[str, str]]]:
        """Write what is not merged, each distinct tensor once.

        Returns:
            by tensor, the digest of what each model has (None: it has none), and the same by model,
            the base first, and tensor.
        """
        merged = {piece.name for block in blocks for piece in block.layout.pieces}
        digests: list[dict[str, str]] = [{} for _ in range(len(self._models) + 1)]
        for which, model in enumerate([self._base, *self._models]):
            for name in sorted(set(model.entries) - merged):
                tensor = model.read(name, finite=True)
                digest = hashlib.sha256(raw_bytes(tensor)).hexdigest()
                digests[which][name] = digest
                if not which:
                    continue
                file = kept_file(self._place, name, digest)
                if not file.is_file():
                    entry = (dtype_name(tensor.dtype), tuple(tensor.shape))
                    with StreamedWriter(file, {name: entry}) as writer:
                        writer.write(name, tensor)
        kept: dict[str, list[str | None]] = {
            name: [digests[which].get(name) for which in range(1, len(digests))]
            for name in sorted({name for each in digests[1:] for name in each})
        }
        return kept, digests


def _none(models: Sequence[ModelFolder]) -> np.ndarray:
    return np.empty((len(models), 0), dtype=np.float32)


def _copy_tensors(source: ModelFolder, target: Path) -> None:
    entries = {name: (entry.dtype, entry.shape) for name, entry in source.entries.items()}
    with StreamedWriter(target, entries) as writer:
        for name in entries:
            writer.write(name, source.read(name))
