"""How well something was forgotten: accuracies, distance to the oracle, a membership attack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.lazy import functional as F
from hansa.base.lazy import torch
from hansa.data import Backdoor, Canaries, Marker, Split, marker_power
from hansa.forget.federation import Federation

if TYPE_CHECKING:
    from torch import Tensor

PARTS = ("forget", "retain", "test")
"""What models are measured on."""
MIN_POWER = 0.55
"""An attack that cannot tell members of the original model better than this says nothing."""


class Judge:
    """Measures models against one request.

    For classes, *forget* is the test accuracy on them and *retain* that on the others; where the
    test set has none of them, forget is the accuracy on their holders' examples. For clients
    and single examples, forget is the accuracy on those examples, which the model was trained on,
    and retain that on the other clients'; the aim is then the oracle's figure, not 0.

    Where the run holds markers (:mod:`hansa.data.markers`) among what is to be forgotten, it
    measures these as well: *backdoor* is the share of test examples of other classes that get the
    target class once they show the pattern, *canaries* that of planted wrong labels that the model
    gives. Spoiled examples then count nowhere else.
    """

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        dataset, request = federation.job.dataset, federation.request
        self._test = _whole(federation, dataset.test)
        labels = self._test[1].cpu().numpy()
        gone = np.isin(labels, federation.past.classes)
        self.by_class = request.levels == {"class"}
        planted = dataset.planted
        spoiled = np.concatenate([np.zeros(0, np.int64), *(one.index for one in planted)])
        if self.by_class:
            meant = np.isin(labels, request.classes) & ~gone
            own = _gather(federation, forget=True, without=spoiled)
            self._forget = _some(self._test, meant) if meant.any() else own
            self._retain = _some(self._test, ~meant & ~gone)
        else:
            self._forget = _gather(federation, forget=True, without=spoiled)
            self._retain = _gather(federation, forget=False, without=spoiled)
        self._members = _gather(federation, forget=True, without=spoiled)
        same = np.isin(labels, self._members[1].unique().cpu().numpy())
        self._strangers = _some(self._test, same)
        marked = {kind.name: self._marked(kind) for kind in (Backdoor, Canaries)}
        self._markers = {name: part for name, part in marked.items() if part is not None}

    def figures(self, row: Tensor) -> dict[str, float]:
        """Accuracies of a model and how well its loss tells members from strangers."""
        return {
            "forget": self.still_right(row),
            "retain": self._accuracy(row, self._retain),
            "test": self._accuracy(row, self._test),
            "membership_auc": self.membership(row),
            **{name: self._accuracy(row, part) for name, part in self._markers.items()},
            **self._asked(row),
        }

    def _asked(self, row: Tensor) -> dict[str, float]:
        """The metrics that the run's file asks for, as ``METRIC_forget`` and the like."""
        job = self.federation.job
        figures: dict[str, float] = {}
        if not job.evaluate.metrics:
            return {}
        for part, (x, y) in zip(PARTS, (self._forget, self._retain, self._test), strict=True):
            if len(y):
                said = job.metrics.of(self.federation.network.logits(row, x), y)
                figures |= {f"{k}_{part}": v for k, v in said.items() if not np.isnan(v)}
        return figures

    def still_right(self, row: Tensor) -> float:
        """*forget*: the share of what is to be forgotten that a model has right."""
        return self._accuracy(row, self._forget)

    def by_label(self, row: Tensor) -> np.ndarray:
        """A model's share right of each class [C] of the test set, NaN where it has none."""
        x, y = self._test
        labels, classes = y.cpu().numpy(), self.federation.classes
        hits = labels[(self.federation.network.logits(row, x).argmax(1) == y).cpu().numpy()]
        counts = np.bincount(labels, minlength=classes)
        right = np.bincount(hits, minlength=classes) / np.maximum(counts, 1)
        return np.where(counts > 0, right, np.nan)

    def membership(self, row: Tensor) -> float:
        """Area under the curve of the attack that takes a low loss for membership.

        Between the training examples that are to be forgotten and test examples of their classes.
        """
        losses = [self._losses(row, part) for part in (self._members, self._strangers)]
        if not all(map(len, losses)):
            return float("nan")
        members, strangers = losses
        below = np.searchsorted(np.sort(members), strangers, side="left")
        upto = np.searchsorted(np.sort(members), strangers, side="right")
        return float((below + upto).sum() / 2 / len(members) / len(strangers))

    def distance(self, row: Tensor, oracle: Tensor) -> dict[str, float]:
        """How far a model is from the oracle: in accuracy, in what it predicts, in numbers."""
        mine, its = self.figures(row), self.figures(oracle)
        names = [name for name in mine if name != "membership_auc" and name in its]
        gaps = {f"{name}_gap": mine[name] - its[name] for name in names}
        for name, (x, _) in (("forget", self._forget), ("test", self._test)):
            p, q = (F.softmax(self.federation.network.logits(m, x), 1) for m in (row, oracle))
            same = p.argmax(1) == q.argmax(1)
            gaps[f"{name}_agreement"] = float(same.double().mean())
            gaps[f"{name}_total_variation"] = float((p - q).abs().sum(1).mean() / 2)
        size = self.federation.network.size
        gaps["parameters_l2"] = float((row[:size] - oracle[:size]).norm())
        return gaps

    def _marked(self, kind: type[Marker]) -> tuple[Tensor, Tensor] | None:
        """Examples with the classes that a marker teaches; None if none is to be forgotten."""
        dataset = self.federation.job.dataset
        going = [holding.index for holding in self.federation.real(forget=True)]
        index = np.concatenate([np.zeros(0, np.int64), *going])
        planted = [p for p in dataset.planted if isinstance(p.marker, kind)]
        own = [p.index[np.isin(p.index, index)] for p in planted]
        device = dataset.train.targets.device
        chosen = torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *own])).to(device)
        if not len(chosen):
            return None
        if not issubclass(kind, Backdoor):
            return dataset.gather(dataset.train, chosen)
        marker = next(p.marker for p in planted)  # all have one pattern and one target
        assert isinstance(marker, Backdoor)
        test = replace(dataset.test, inputs=marker.stamp(dataset, dataset.test.inputs))
        others = torch.nonzero(test.targets != marker.target).flatten()
        x, y = dataset.gather(test, others)
        return x, torch.full_like(y, marker.target)

    def _accuracy(self, row: Tensor, examples: tuple[Tensor, Tensor]) -> float:
        x, y = examples
        if not len(y):
            return float("nan")
        return float((self.federation.network.logits(row, x).argmax(1) == y).double().mean())

    def _losses(self, row: Tensor, examples: tuple[Tensor, Tensor]) -> np.ndarray:
        x, y = examples
        if not len(y):
            return np.zeros(0)
        losses = F.cross_entropy(self.federation.network.logits(row, x), y, reduction="none")
        return losses.double().cpu().numpy()


def attack_remark(original_auc: float) -> str:
    """What the membership attack's figures are worth."""
    if original_auc < MIN_POWER:
        return (
            f"no power: it cannot tell members of the original model either (AUC "
            f"{original_auc:.2f}), which has not overfitted; data.markers show more"
        )
    return f"AUC of the original model {original_auc:.2f}; the aim is the retrained model's"


def marker_verdicts(figures: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """Whether each marker among a receipt's figures tells anything, and the reason if not.

    A model that was trained without it is the measure; where there is none, the share of the test
    examples that the model gets wrong, more of which cannot be by mistake.
    """
    before, verdicts = figures["before"], {}
    for name in (kind.name for kind in (Backdoor, Canaries)):
        if name not in before:
            continue
        oracle = figures.get("oracle")
        without = oracle[name] if oracle is not None else 1 - before["test"]
        power = marker_power(before[name], without)
        than = "one without them" if oracle is not None else "mistakes alone would"
        why = f"the model showed {100 * before[name]:.0f} % before, {than} {100 * without:.0f} %"
        verdicts[name] = {"power": power, "remark": "" if power else f"no power: {why}"}
    return verdicts


def _whole(federation: Federation, split: Split) -> tuple[Tensor, Tensor]:
    device = split.targets.device
    return federation.job.dataset.gather(split, torch.arange(len(split), device=device))


def _some(examples: tuple[Tensor, Tensor], chosen: np.ndarray) -> tuple[Tensor, Tensor]:
    at = torch.from_numpy(np.flatnonzero(chosen)).to(examples[1].device)
    return examples[0][at], examples[1][at]


def _gather(federation: Federation, forget: bool, without: np.ndarray) -> tuple[Tensor, Tensor]:
    """The real examples of one side; if nothing is left without some of them, all of it."""
    dataset = federation.job.dataset
    pieces = [np.zeros(0, dtype=np.int64)] + [h.index for h in federation.real(forget)]
    every = np.concatenate(pieces)
    plain = every[~np.isin(every, without)]
    index = torch.from_numpy(plain if len(plain) else every).to(dataset.train.targets.device)
    return dataset.gather(dataset.train, index)
