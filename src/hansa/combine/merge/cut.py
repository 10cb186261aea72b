"""A cut: one file with all models at one size, made of an artefact.

The file is a composition plan: which models share what in each block, with the shared vectors, the
masks and the scalers as its tensors. It is written block by block, and the same choice gives the
same bytes wherever and whenever it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.base.memory import give_back
from hansa.combine.merge.algorithms.merging import Merged
from hansa.combine.merge.artefact import Artefact, kept_file
from hansa.combine.merge.byte_ledger import BlockSize, Ledger, mask_bytes
from hansa.combine.merge.dendrogram import Group as Versions
from hansa.combine.merge.dendrogram import Linkage, Partition
from hansa.combine.merge.group_merging import accounting
from hansa.combine.merge.orders import Order
from hansa.combine.merge.selection import select
from hansa.combine.merge.spectrum import Spectrum
from hansa.weights.composition import CompositionPlan, Group, PlanBlock, PlanWriter, plan_bytes
from hansa.weights.streamed import Entry
from hansa.weights.tensor_file import read_entry, read_header

if TYPE_CHECKING:
    from torch import Tensor

KNAPSACKS = ("knapsack", "knapsack_heights")
"""Orders beside those of merging: each size is chosen by itself."""


@dataclass(frozen=True)
class Cut:
    """All models at one size, on disk.

    Attributes:
        path: of the file.
        algorithm: its label in the artefact.
        size: in models: payload by the bytes of one.
        bytes: of the file, header included.
        payload: bytes of its tensors.
        ledger: what the payload is.
        loss: squared error of all models by their squared task vectors; None where not measured.
    """

    path: Path
    algorithm: str
    size: float
    bytes: int
    payload: int
    ledger: Ledger
    loss: float | None


def cut(
    artefact: Artefact,
    algorithm: str,
    out: Path,
    *,
    size: float | None = None,
    budget: int | None = None,
    order: Order | str = "greedy",
    linkage: Linkage | None = None,
    seed: int = 0,
) -> Cut:
    """Write all models at a size to one file.

    Args:
        algorithm: its label in the artefact.
        out: a new file.
        size: the payload is at most so many models.
        budget: the file, header included, is at most so many bytes.
        order: of merges, or ``knapsack``: the least measured loss that fits, or
            ``knapsack_heights``: the least sum of heights times numbers.
        seed: of a random order.

    Raises:
        ConfigError: the size is out of reach (names the least), ``out`` exists, or there is no
            such algorithm or order.
        DiskError: the disk is full or fails.
    """
    if (size is None) == (budget is None):
        raise ConfigError("size", size, "has to be named, or a budget, and not both", "size: 2.0")
    out = Path(out)
    if out.exists():
        raise ConfigError("out", str(out), "exists already", "name a new file")
    partitions = _chosen(artefact, algorithm, size, budget, order, linkage, seed)
    plan, entries = planned(artefact, algorithm, partitions)
    with PlanWriter(out, plan, entries) as writer:
        for name, tensor in _tensors(artefact, algorithm, partitions):
            writer.write(name, tensor)
    ledger = artefact.ledger(algorithm, partitions)
    return Cut(
        out,
        algorithm,
        ledger.total / artefact.unit,
        out.stat().st_size,
        ledger.total,
        ledger,
        relative_loss(artefact, algorithm, partitions),
    )


def relative_loss(
    artefact: Artefact, algorithm: str, partitions: Sequence[Partition]
) -> float | None:
    """The squared error of all models by their squared task vectors, where it was measured."""
    lost = energy = 0.0
    for block, partition in enumerate(partitions):
        energy += artefact.energy(block)
        try:
            errors = artefact.errors(algorithm, block)
        except ConfigError:
            return None
        if not set(partition) <= set(errors):
            return None  # groups of another order or linkage
        lost += sum(errors[group] for group in partition)
    return lost / energy if energy else 0.0


def _chosen(
    artefact: Artefact,
    algorithm: str,
    size: float | None,
    budget: int | None,
    order: Order | str,
    linkage: Linkage | None,
    seed: int,
) -> list[Partition]:
    """Each block's partition, by an order of merges or by the knapsack."""
    if order in KNAPSACKS:
        return _knapsack(artefact, algorithm, size, budget, order == "knapsack")
    spectrum = artefact.spectrum(algorithm, order, linkage, seed)  # type: ignore[arg-type]
    if size is not None:
        steps = _steps(spectrum, artefact.unit * size, "size", size, artefact.unit)
        return _partitions(spectrum, steps)
    assert budget is not None
    last = len(spectrum.order)
    least = file_bytes(artefact, algorithm, _partitions(spectrum, last))
    if budget < least:
        problem = f"is out of reach: the least is {least} bytes"
        raise ConfigError("budget", budget, problem, f"{least} bytes or more")
    steps = spectrum.steps_within(budget)
    while file_bytes(artefact, algorithm, _partitions(spectrum, steps)) > budget:
        steps += 1  # the header's share: some bytes a group
    return _partitions(spectrum, steps)


def _steps(spectrum: Spectrum, within: float, name: str, value: float, unit: float) -> int:
    try:
        return spectrum.steps_within(within)
    except ConfigError:
        least = spectrum.least / unit
        rounded = np.ceil(least * 100) / 100
        problem = f"is out of reach: the least is {least:.4f} models ({spectrum.least} bytes)"
        raise ConfigError(name, value, problem, f"{rounded:.2f} or more") from None


def _partitions(spectrum: Spectrum, steps: int) -> list[Partition]:
    return [s[k] for s, k in zip(spectrum.stages, spectrum.at(steps), strict=True)]


def _knapsack(
    artefact: Artefact, algorithm: str, size: float | None, budget: int | None, measured: bool
) -> list[Partition]:
    """The stages with the least summed loss; what a budget leaves beside the header is tried."""
    spectrum = artefact.spectrum(algorithm)
    loss = artefact.losses if measured else artefact.heights
    losses = [loss(algorithm, block) for block in range(len(spectrum.stages))]

    def within(payload: int) -> list[Partition]:
        chosen = select(spectrum.costs, losses, payload - spectrum.fixed)
        return [s[k] for s, k in zip(spectrum.stages, chosen.stages, strict=True)]

    if size is not None:
        _steps(spectrum, artefact.unit * size, "size", size, artefact.unit)
        return within(int(artefact.unit * size))
    assert budget is not None
    least = file_bytes(artefact, algorithm, _partitions(spectrum, len(spectrum.order)))
    if budget < least:
        problem = f"is out of reach: the least is {least} bytes"
        raise ConfigError("budget", budget, problem, f"{least} bytes or more")
    payload = budget
    while True:
        payload = max(payload, spectrum.least)
        partitions = within(payload)
        over = file_bytes(artefact, algorithm, partitions) - budget
        if over <= 0:
            return partitions
        payload -= over


def file_bytes(artefact: Artefact, algorithm: str, partitions: Sequence[Partition]) -> int:
    """The size of the file of a choice of partitions, header included."""
    return plan_bytes(*planned(artefact, algorithm, partitions))


def planned(
    artefact: Artefact, algorithm: str, partitions: Sequence[Partition]
) -> tuple[CompositionPlan, dict[str, Entry]]:
    """The plan of a choice of partitions, and the tensors that belong to it."""
    counting = accounting(artefact.algorithm(algorithm))
    entries: dict[str, Entry] = {}
    blocks = []
    for number, (layout, partition) in enumerate(zip(artefact.layouts, partitions, strict=True)):
        versions = artefact.versions[number]
        groups = []
        for place, group in enumerate(_stored_groups(counting.merges, partition, layout.size)):
            members = tuple(m for m, version in enumerate(versions) if version in group)
            masked = len(group) > 1 and counting.masked
            entries[f"{number}/{place}"] = (layout.dtype, (layout.numbers,))
            if masked:
                entries[f"{number}/{place}.masks"] = (
                    "U8",
                    (len(group), mask_bytes(layout.numbers)),
                )
                entries[f"{number}/base"] = (layout.dtype, (layout.numbers,))
                if counting.scaled:
                    entries[f"{number}/{place}.scalers"] = ("F32", (len(group),))
            groups.append(Group(members, artefact.coefficients(algorithm, members), masked))
        tensors = tuple(dict.fromkeys(piece.name for piece in layout.pieces))
        blocks.append(PlanBlock(layout.name, tensors, tuple(groups)))
    for (name, digest), entry in artefact.kept_entries.items():
        entries[_kept_name(artefact, name, digest)] = (entry.dtype, entry.shape)
    plan = CompositionPlan(
        "models", artefact.base, artefact.members, tuple(blocks), _facts(artefact, algorithm)
    )
    return plan, entries


def _stored_groups(
    merges: Callable[[Versions, BlockSize], bool], partition: Partition, size: BlockSize
) -> list[Versions]:
    """The groups that are stored as one: versions that are kept as they are stand alone."""
    stored: list[Versions] = []
    for group in partition:
        stored += [group] if merges(group, size) else [(version,) for version in group]
    return sorted(stored)


def _kept_name(artefact: Artefact, name: str, digest: str) -> str:
    distinct = sorted({d for d in artefact.kept[name] if d is not None})
    return f"kept/{name}/{distinct.index(digest)}"


def _facts(artefact: Artefact, algorithm: str) -> dict[str, Any]:
    """What is needed to make models of the tensors."""
    pieces = {
        layout.name: [[p.name, list(p.shape), p.first_row] for p in layout.pieces]
        for layout in artefact.layouts
    }
    versions = {
        layout.name: list(of)
        for layout, of in zip(artefact.layouts, artefact.versions, strict=True)
        if len(set(of)) < len(of)
    }
    kept = {
        name: [None if d is None else _kept_name(artefact, name, d) for d in digests]
        for name, digests in artefact.kept.items()
    }
    return {
        "method": "flexmerge",
        "algorithm": {"label": algorithm, **artefact.algorithm(algorithm).dump()},
        "pieces": pieces,
        "versions": versions,
        "kept": kept,
        "tied": dict(artefact.facts["tied"]),
        "unit": artefact.unit,
        "seed": artefact.facts["seed"],
    }


def _tensors(
    artefact: Artefact, algorithm: str, partitions: Sequence[Partition]
) -> Iterator[tuple[str, Tensor]]:
    """All tensors of a cut, block by block."""
    counting = accounting(artefact.algorithm(algorithm))
    for number, (layout, partition) in enumerate(zip(artefact.layouts, partitions, strict=True)):
        block = artefact.block(number)
        stored = _stored_groups(counting.merges, partition, layout.size)
        which = sorted(v for group in stored if len(group) > 1 for v in group)
        merging = artefact.merging(algorithm, number, which, errors=False) if which else None
        for place, group in enumerate(stored):
            if len(group) == 1:
                yield f"{number}/{place}", block.version(group[0])
                continue
            assert merging is not None
            merged, members = merging.merged(group)
            rows = [members.index(block.owners[version]) for version in group]
            if merged.masks is None:
                whole = block.base()
                whole = whole.double() if layout.dtype == "F64" else whole.float()
                yield f"{number}/{place}", whole.add_(merged.vector).to(layout.torch_dtype)
            else:
                yield f"{number}/{place}", merged.vector.to(layout.torch_dtype)
                yield f"{number}/{place}.masks", packed(merged, rows)
                if merged.scalers is not None:
                    yield f"{number}/{place}.scalers", merged.scalers[rows].float()
        if counting.masked and any(len(group) > 1 for group in stored):
            yield f"{number}/base", block.base()
        del merging
        give_back()
    for (name, digest), _ in artefact.kept_entries.items():
        file = kept_file(artefact.path, name, digest)
        yield _kept_name(artefact, name, digest), read_entry(read_header(file).entries[name])


def packed(merged: Merged, rows: Sequence[int]) -> Tensor:
    """The masks of some rows, one bit a number: uint8 [n, d / 8 rounded up]."""
    assert merged.masks is not None
    bits = [np.packbits(merged.masks[row].numpy(), bitorder="little") for row in rows]
    return torch.from_numpy(np.stack(bits))
