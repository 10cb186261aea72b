"""Metrics: the law of their sums, and independent references."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from torch import Tensor
from torch.nn import functional as F

from hansa.base.component import catalogue
from hansa.base.errors import ConfigError
from hansa.base.spec import DataSpec
from hansa.metrics import (
    AUROC,
    F1,
    MAE,
    RMSE,
    Accuracy,
    BalancedAccuracy,
    CalibrationError,
    MeanLoss,
    Metric,
    MetricSet,
    Precision,
    Recall,
    usual,
)

SPECS = {
    "classification": DataSpec("table", (3,), 4),
    "binary": DataSpec("table", (3,), 1, "binary"),
    "regression": DataSpec("table", (3,), 1, "regression"),
}
COUNTS = ("accuracy", "recall", "precision", "f1", "balanced_accuracy", "auroc")
KNOWN = [(name, task) for name, m in catalogue("metric").items() for task in m.tasks]


def said(spec: DataSpec, m: int, seed: int) -> tuple[Tensor, Tensor]:
    """Outputs that know something of the targets."""
    random = torch.Generator().manual_seed(seed)
    if spec.task == "regression":
        targets = torch.randn(m, generator=random)
        return targets.unsqueeze(1) + torch.randn(m, 1, generator=random), targets
    targets = torch.randint(spec.classes, (m,), generator=random)
    outputs = torch.randn(m, spec.outputs, generator=random)
    if spec.outputs == 1:
        return outputs + targets.unsqueeze(1), targets
    return outputs + F.one_hot(targets, spec.classes), targets


@pytest.mark.parametrize(("name", "task"), KNOWN)
@given(m=st.integers(1, 40), cuts=st.lists(st.integers(0, 40), max_size=4), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_sums_of_a_union_are_the_sum_of_the_sums(
    name: str, task: str, m: int, cuts: list[int], seed: int
) -> None:
    metric, spec = Metric.resolve(name), SPECS[task]
    outputs, targets = said(spec, m, seed)
    order = torch.randperm(m, generator=torch.Generator().manual_seed(seed))
    whole = metric.sums(outputs, targets, spec).double()
    ends = [0, *sorted(min(cut, m) for cut in cuts), m]
    parts = [order[a:b] for a, b in itertools.pairwise(ends)]
    added = sum(metric.sums(outputs[p], targets[p], spec).double() for p in parts)
    assert isinstance(added, Tensor)
    if name in COUNTS:
        assert torch.equal(whole, added)
    else:
        assert torch.allclose(whole, added, rtol=1e-6, atol=1e-6)


def figure(metric: Metric, outputs: Tensor, targets: Tensor, task: str) -> float:
    sums = metric.sums(outputs, targets, SPECS[task]).double().numpy()
    return metric.value(sums, len(targets))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("task", ["classification", "binary"])
def test_classes_as_in_scikit_learn(task: str, seed: int) -> None:
    outputs, targets = said(SPECS[task], 200, seed)
    if seed == 3:  # a class that does not occur
        outputs, targets = outputs[targets > 0], targets[targets > 0]
    y = targets.numpy()
    p = outputs.argmax(1).numpy() if task == "classification" else (outputs[:, 0] > 0).int().numpy()
    present = np.unique(y)
    recalls = reference.recall_score(y, p, average=None, labels=present)
    precisions = reference.precision_score(y, p, average=None, labels=np.unique(p))
    wanted = {
        Accuracy(): reference.accuracy_score(y, p),
        BalancedAccuracy(): recalls.mean(),
        Recall(): recalls.mean(),
        Precision(): precisions.mean(),
        F1(): reference.f1_score(y, p, average="macro"),
        F1(average="weighted"): reference.f1_score(y, p, average="weighted"),
    }
    if task == "binary":
        wanted[F1(average="positive")] = reference.f1_score(y, p)
    for metric, value in wanted.items():
        assert figure(metric, outputs, targets, task) == pytest.approx(value, abs=1e-12), metric
    each = Recall().values(Recall().sums(outputs, targets, SPECS[task]).double().numpy(), 0)
    assert [each[f"recall_{c}"] for c in present] == pytest.approx(recalls.tolist())
    assert all(math.isnan(each[f"recall_{c}"]) for c in range(len(each) - 1) if c not in present)


@pytest.mark.parametrize("bins", [10, 1000])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("task", ["classification", "binary"])
def test_auroc_is_as_near_the_exact_one_as_it_says(task: str, seed: int, bins: int) -> None:
    outputs, targets = said(SPECS[task], 300, seed)
    metric = AUROC(bins=bins)
    sums = metric.sums(outputs, targets, SPECS[task]).double().numpy()
    if task == "binary":
        exact = reference.roc_auc_score(targets, outputs[:, 0])
    else:
        likely = outputs.double().softmax(1)
        exact = reference.roc_auc_score(targets, likely, multi_class="ovr", average="macro")
    off = abs(metric.value(sums, 300) - exact)
    assert off <= metric.error(sums) + 1e-12
    assert bins < 1000 or metric.error(sums) < 5e-3


def test_one_score_is_as_good_as_two() -> None:
    outputs, targets = said(SPECS["binary"], 99, 1)
    two = torch.cat([torch.zeros_like(outputs), outputs], 1)
    spec = DataSpec("table", (3,), 2)
    for metric in (Accuracy(), Recall(), F1(), AUROC(), CalibrationError(), MeanLoss()):
        one = figure(metric, outputs, targets, "binary")
        both = MetricSet([metric], spec).of(two, targets)[metric.figure]
        assert one == pytest.approx(both, abs=1e-6 if metric.name != "auroc" else 2e-2), metric


@pytest.mark.parametrize("task", ["classification", "binary"])
def test_calibration_error_bin_by_bin(task: str) -> None:
    outputs, targets = said(SPECS[task], 300, 5)
    p = outputs[:, 0].double().sigmoid()
    chances = (
        outputs.double().softmax(1) if task == "classification" else torch.stack([1 - p, p], 1)
    )
    sure, taken = chances.max(1)
    total = 0.0
    for k in range(15):
        inside = [i for i in range(300) if k / 15 <= sure[i] < (k + 1) / 15 + (k == 14)]
        if inside:
            right = np.mean([float(taken[i] == targets[i]) for i in inside])
            total += len(inside) / 300 * abs(right - np.mean([float(sure[i]) for i in inside]))
    assert figure(CalibrationError(), outputs, targets, task) == pytest.approx(total, abs=1e-9)


def test_regressions() -> None:
    outputs, targets = said(SPECS["regression"], 50, 2)
    pair = (targets, outputs[:, 0])
    wanted = {
        RMSE(): reference.root_mean_squared_error(*pair),
        MAE(): reference.mean_absolute_error(*pair),
        MeanLoss(): reference.mean_squared_error(*pair),
    }
    for metric, value in wanted.items():
        assert figure(metric, outputs, targets, "regression") == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(("name", "task"), KNOWN)
def test_models_that_give_no_numbers_are_never_the_best(name: str, task: str) -> None:
    metric = Metric.resolve(name)
    outputs, targets = said(SPECS[task], 40, 0)
    worst = figure(metric, torch.full_like(outputs, math.nan), targets, task)
    plain = figure(metric, outputs, targets, task)
    assert worst < plain if metric.better == "higher" else worst == math.inf


@pytest.mark.parametrize(("name", "task"), KNOWN)
def test_no_examples_give_no_figure(name: str, task: str) -> None:
    outputs, targets = said(SPECS[task], 4, 0)
    assert math.isnan(figure(Metric.resolve(name), outputs[:0], targets[:0], task))


class Mean(Metric):
    """Breaks the law."""

    def sums(self, outputs: Tensor, targets: Tensor, spec: DataSpec) -> Tensor:
        return outputs.mean(0) + 1

    def value(self, sums: np.ndarray, count: int) -> float:
        return float(sums[0])


def test_a_set_of_metrics_says_what_is_wrong() -> None:
    spec = SPECS["classification"]
    assert [m.name for m in usual(spec)] == ["accuracy", "loss"]
    assert MetricSet([], SPECS["regression"]).names == ("rmse", "loss")
    with pytest.raises(ConfigError, match=r"metrics\.1 = 'mae': measures regression"):
        MetricSet([Accuracy(), MAE()], spec)
    with pytest.raises(ConfigError, match="twice"):
        MetricSet([F1(), Accuracy(), F1(per_class=True)], spec)
    with pytest.raises(ConfigError, match="class"):
        MetricSet([F1(average="positive")], spec)
    with pytest.raises(ConfigError, match="breaks the law"):
        MetricSet([Mean()], spec).try_out()
    MetricSet([F1(), F1(average="weighted")], spec).try_out()
    names = MetricSet([F1(per_class=True), MeanLoss()], spec).names
    assert names == ("f1", "f1_0", "f1_1", "f1_2", "f1_3", "loss")
