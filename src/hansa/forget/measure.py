"""How well something was forgotten: accuracies, distance to the oracle, a membership attack.

What clients hold is measured by them (:mod:`hansa.forget.own_figures`); the server adds up what
they tell, and measures on the test set itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.lazy import functional as F
from hansa.base.lazy import torch
from hansa.data import Backdoor, Canaries, marker_power
from hansa.forget.federation import Asking, Federation
from hansa.forget.own_figures import FORGET, MARKERS, RETAIN

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

    To be measured costs nothing: it has a ledger of its own.

    Args:
        told: by client, what :func:`hansa.forget.own_figures.survey` says; see :meth:`of`.
        metrics: also what the run's metrics say of all parts.
    """

    def __init__(
        self, federation: Federation, told: Mapping[int, Mapping[str, Any]], metrics: bool
    ) -> None:
        self.federation, self.metrics = federation, metrics
        self.asked = {"request": federation.request.dump(), "past": federation.past.dump()}
        request = federation.request
        self._test = _whole_test(federation)
        labels = self._test[1].cpu().numpy()
        gone = np.isin(labels, federation.past.classes)
        self.by_class = request.levels == {"class"}
        nobody = np.zeros((2, federation.classes), np.int64)
        held = {
            side: sum((one[side] for one in told.values()), nobody) for side in (FORGET, RETAIN)
        }
        # Where nothing is left without spoiled examples, they count as well.
        self._some = {side: slice(0, 1 if held[side][0].any() else 2) for side in held}
        self._counts = {side: int(held[side][some].sum()) for side, some in self._some.items()}
        self._on_test: dict[str, tuple[Tensor, Tensor]] = {"test": self._test}
        if self.by_class:
            meant = np.isin(labels, request.classes) & ~gone
            if meant.any():
                self._on_test[FORGET] = _chosen(self._test, meant)
            self._on_test[RETAIN] = _chosen(self._test, ~meant & ~gone)
        members = held[FORGET][self._some[FORGET]].sum(0)
        self._strangers = _chosen(self._test, np.isin(labels, np.flatnonzero(members)))
        self._sides = [FORGET, *([] if RETAIN in self._on_test else [RETAIN])]
        self._whom = [c for c, one in told.items() if any(one[side].any() for side in self._sides)]
        self._holders = [c for c, one in told.items() if one[FORGET].any()]
        planted = sum((one["planted"] for one in told.values()), np.zeros(len(MARKERS), np.int64))
        self._planted = dict(zip(MARKERS, planted.tolist(), strict=True))
        self._stamped = self._backdoor() if self._planted[Backdoor] else None
        self._known: list[tuple[Tensor, dict[str, float]]] = []

    @classmethod
    def of(cls, federation: Federation, metrics: bool = False) -> Asking[Judge]:
        """A judge, once all clients have told what they hold of the federation's request."""
        quiet = federation.relabelled(federation.request, federation.past)
        request, past = quiet.request.dump(), quiet.past.dump()
        told = yield from quiet.ask("survey", quiet.clients, request=request, past=past)
        return cls(quiet, told, metrics)

    def figures(self, row: Tensor) -> Asking[dict[str, float]]:
        """Accuracies of a model and how well its loss tells members from strangers."""
        for other, known in self._known:
            if torch.equal(other, row):
                return known
        strangers = np.sort(self._losses(row, self._strangers))
        answers = yield from self.federation.ask(
            "measure", self._whom, row=row, **self.asked, sides=self._sides, strangers=strangers,
            metrics=self.metrics,
        )  # fmt: skip
        told = list(answers.values())
        wins, members = _total(told, "wins", self._some[FORGET]), self._counts[FORGET]
        figures = {part: self._accuracy(row, part, told) for part in PARTS}
        figures["membership_auc"] = float("nan")
        if members and len(strangers):
            figures["membership_auc"] = wins / 2 / members / len(strangers)
        if self._stamped is not None:
            figures[Backdoor.name] = _accuracy(self.federation, row, self._stamped)
        if count := self._planted[Canaries]:
            figures[Canaries.name] = _total(told, "canaries") / count
        figures |= self._asked(row, told)
        self._known.append((row.clone(), figures))
        return figures

    def still_right(self, row: Tensor) -> Asking[float]:
        """*forget*: the share of what is to be forgotten that a model has right."""
        return (yield from self.figures(row))[FORGET]

    def distance(self, row: Tensor, oracle: Tensor) -> Asking[dict[str, float]]:
        """How far a model is from the oracle: in accuracy, in what it predicts, in numbers."""
        mine, its = (yield from self.figures(row)), (yield from self.figures(oracle))
        names = [name for name in mine if name != "membership_auc" and name in its]
        gaps = {f"{name}_gap": mine[name] - its[name] for name in names}
        for name in (FORGET, "test"):
            if name in self._on_test:
                x, _ = self._on_test[name]
                p, q = (F.softmax(self.federation.network.logits(m, x), 1) for m in (row, oracle))
                same = float((p.argmax(1) == q.argmax(1)).double().mean())
                apart = float((p - q).abs().sum(1).mean() / 2)
            else:
                answers = yield from self.federation.ask(
                    "compare", self._holders, row=row, oracle=oracle, **self.asked
                )
                count, some = self._counts[name] or float("nan"), self._some[name]
                same = _total(answers.values(), "same", some) / count
                apart = _total(answers.values(), "apart", some) / count
            gaps[f"{name}_agreement"], gaps[f"{name}_total_variation"] = same, apart
        size = self.federation.network.size
        gaps["parameters_l2"] = float((row[:size] - oracle[:size]).norm())
        return gaps

    def _accuracy(self, row: Tensor, part: str, told: Sequence[Mapping[str, Any]]) -> float:
        if part in self._on_test:
            return _accuracy(self.federation, row, self._on_test[part])
        count = self._counts[part]
        return _total(told, f"{part}_hits", self._some[part]) / count if count else float("nan")

    def _asked(self, row: Tensor, told: Sequence[Mapping[str, Any]]) -> dict[str, float]:
        """The metrics that the run's file asks for, as ``METRIC_forget`` and the like."""
        figures: dict[str, float] = {}
        if not self.metrics:
            return figures
        measured = self.federation.plan.metrics
        for part in PARTS:
            if part in self._on_test:
                x, y = self._on_test[part]
                said = measured.of(self.federation.network.logits(row, x), y) if len(y) else {}
            elif count := self._counts[part]:
                sums = [one[f"{part}_sums"][self._some[part]].sum(0) for one in told]
                said = measured.values(np.sum([one for one in sums if len(one)], axis=0), count)
            else:
                said = {}
            figures |= {f"{k}_{part}": v for k, v in said.items() if not np.isnan(v)}
        return figures

    def _backdoor(self) -> tuple[Tensor, Tensor]:
        """Test examples of other classes that show the pattern, with the class that it teaches."""
        dataset = self.federation.plan.dataset
        # All have one pattern and one target.
        marker = next(p.marker for p in dataset.planted if isinstance(p.marker, Backdoor))
        test = replace(dataset.test, inputs=marker.stamp(dataset, dataset.test.inputs))
        others = torch.nonzero(test.targets != marker.target).flatten()
        x, y = dataset.gather(test, others)
        return x, torch.full_like(y, marker.target)

    def _losses(self, row: Tensor, examples: tuple[Tensor, Tensor]) -> np.ndarray:
        x, y = examples
        if not len(y):
            return np.zeros(0)
        losses = F.cross_entropy(self.federation.network.logits(row, x), y, reduction="none")
        return losses.double().cpu().numpy()


def right_by_label(federation: Federation, row: Tensor) -> np.ndarray:
    """A model's share right of each class [C] of the test set, NaN where it has none."""
    x, y = _whole_test(federation)
    labels, classes = y.cpu().numpy(), federation.classes
    hits = labels[(federation.network.logits(row, x).argmax(1) == y).cpu().numpy()]
    counts = np.bincount(labels, minlength=classes)
    right = np.bincount(hits, minlength=classes) / np.maximum(counts, 1)
    return np.where(counts > 0, right, np.nan)


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


def _total(told: Iterable[Mapping[str, Any]], name: str, some: slice | None = None) -> Any:
    """What all have told under a name, added up, or some entries of it."""
    return sum(float(np.asarray(one[name])[some or ...].sum()) for one in told)


def _accuracy(federation: Federation, row: Tensor, examples: tuple[Tensor, Tensor]) -> float:
    x, y = examples
    if not len(y):
        return float("nan")
    return float((federation.network.logits(row, x).argmax(1) == y).double().mean())


def _whole_test(federation: Federation) -> tuple[Tensor, Tensor]:
    dataset = federation.plan.dataset
    everything = torch.arange(len(dataset.test), device=dataset.test.targets.device)
    return dataset.gather(dataset.test, everything)


def _chosen(examples: tuple[Tensor, Tensor], chosen: np.ndarray) -> tuple[Tensor, Tensor]:
    at = torch.from_numpy(np.flatnonzero(chosen)).to(examples[1].device)
    return examples[0][at], examples[1][at]
