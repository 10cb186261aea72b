"""What members say of the proxies and of the test set, on one scale."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch
from hansa.base.streams import Streams
from hansa.combine.ensemble.brought import owners
from hansa.combine.ensemble.ensemble_settings import EnsembleSettings
from hansa.combine.ensemble.members import Member, train_members
from hansa.combine.ensemble.predictors import Constant, Fitted
from hansa.combine.ensemble.proxies import Division, Scores
from hansa.data import Dataset, Split
from hansa.ensemble import Examples, Panel, ScoreKind, alignments, kind_of, logits_of
from hansa.experiment.played import HERE, Place

if TYPE_CHECKING:
    from torch import Tensor


def examples(dataset: Dataset, split: Split, index: np.ndarray | None = None) -> Examples:
    """Some (or all) of a split as model inputs."""
    at = torch.arange(len(split)) if index is None else torch.from_numpy(index)
    return Examples(len(at), lambda k: dataset.gather(split, at[k])[0])


def score(
    settings: EnsembleSettings,
    dataset: Dataset,
    division: Division,
    members: list[Member],
    path: Path,
    place: Place = HERE,
    known: Mapping[str, Tensor] | None = None,
    keep: Callable[[Tensor, Tensor], None] = lambda train, test: None,
) -> Scores:
    """Ask every member once about every proxy and every test example.

    Where members' scores differ in kind, they are made comparable (``hansa.ensemble.alignment``).

    Args:
        known: the scores ``train`` and ``test`` where members have been asked before.
        keep: is given both, as the members said them, where they had to be asked.
    """
    modules = [member.asked for member in members]
    index = np.concatenate(division.proxy)
    sizes = np.cumsum([0, *map(len, division.proxy)])
    parts = [np.arange(a, b) for a, b in itertools.pairwise(sizes)]
    if known is None:
        train = logits_of(modules, examples(dataset, dataset.train, index))
        if settings.proxies == "crossed":
            _cross(settings, dataset, division, train, parts, path, place)
        known = {"train": train, "test": logits_of(modules, examples(dataset, dataset.test))}
        keep(known["train"], known["test"])
    train, test = known["train"].float(), known["test"].float()
    aligned = alignments(train, [kind(m, own) for m, own in zip(members, train, strict=True)])
    if aligned is not None:
        train, test = (
            torch.stack([align(own) for align, own in zip(aligned, scores, strict=True)])
            for scores in (train, test)
        )
    looks = any(rule.sees_input for rule in settings.rules)
    targets = dataset.train.targets[torch.from_numpy(index)]
    return Scores(
        Panel(
            len(members),
            dataset.spec.outputs,
            torch.from_numpy(division.counts),
            tuple(dataset.spec.shape),
        ),
        train,
        targets,
        parts,
        dataset.gather(dataset.train, torch.from_numpy(index))[0] if looks else None,
        test,
        dataset.test.targets,
        dataset.gather(dataset.test, torch.arange(len(dataset.test)))[0] if looks else None,
        aligned,
    )


def kind(member: Member, scores: Tensor) -> ScoreKind:
    """What a member's scores [m, C] are."""
    if member.kind is not None:
        return member.kind
    if isinstance(member.module, Fitted):
        return member.module.kind
    return "log_probabilities" if isinstance(member.module, Constant) else kind_of(scores)


def _cross(
    settings: EnsembleSettings,
    dataset: Dataset,
    division: Division,
    scores: Tensor,
    places: list[np.ndarray],
    path: Path,
    place: Place,
) -> None:
    """Replace, in place, each member's scores of its own examples by those of a copy that has
    not seen them (out of fold, as in stacked generalization; Wolpert, 1992)."""
    folds = settings.aggregate.folds
    streams = Streams(settings.seed)
    cuts = [
        np.array_split(streams.own.numpy("crossing", client).permutation(len(part)), folds)
        for client, part in zip(division.clients, division.proxy, strict=True)
    ]
    plain, brought = _copies(settings), owners(settings)
    for fold in range(folds):
        # Whoever has too few examples to leave some out, or brings a model, keeps its scores.
        who = [
            k
            for k, cut in enumerate(cuts)
            if len(division.proxy[k]) >= folds
            and len(cut[fold])
            and division.clients[k] not in brought
        ]
        left = [np.delete(division.proxy[k], cuts[k][fold]) for k in who]
        ids = [division.clients[k] for k in who]
        copies = train_members(plain, dataset, ids, left, path / f"crossed_{fold}", place)
        for k, member in zip(who, copies, strict=True):
            at = cuts[k][fold]
            out = logits_of(
                [member.module], examples(dataset, dataset.train, division.proxy[k][at])
            )
            scores[k, torch.from_numpy(places[k][at])] = out[0]


def _copies(settings: EnsembleSettings) -> EnsembleSettings:
    """Copies for crossing are quantized as their originals are, without activations."""
    way = "int8" if settings.quantize == "static" else settings.quantize
    return settings.model_copy(update={"quantize": way})
