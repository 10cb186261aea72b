"""Networks and fitted predictors in one ensemble, where each kind owns other classes."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from hansa.combine.ensemble import EnsembleSettings, Prepared, Result, combine, load, prepare
from hansa.combine.ensemble.scoring import examples
from hansa.ensemble import logits_of

OWNERS = {"a": (0, 1), "b": (2, 3), "c": (0, 1), "d": (2, 3)}


def hospitals(path: Path) -> Path:
    """Four owners of a table; two see classes 0 and 1 mostly, two see 2 and 3."""
    rng = np.random.default_rng(8)
    centres = rng.normal(0, 1.0, (4, 8))
    rows: list[np.ndarray] = []
    labels: list[str] = []
    sites: list[str] = []
    for name, own in OWNERS.items():
        label = np.concatenate([rng.choice(own, 190), rng.integers(0, 4, 10)])
        rows.append(centres[label] + rng.normal(0, 1.2, (200, 8)))
        labels += [f"c{k}" for k in label]
        sites += [name] * 200
    x = np.vstack(rows).astype("float32")
    columns = {f"f{i}": x[:, i] for i in range(8)}
    pl.DataFrame(columns | {"site": sites, "sick": labels}).write_csv(path)
    return path


def mixed(
    path: Path, data: dict[str, Any] | None = None, **changes: Any
) -> tuple[Prepared, Result]:
    table = {
        "name": "file",
        "path": str(hospitals(path.with_suffix(".csv"))),
        "label": "sick",
        "group": "site",
        "partition": {"name": "natural", "choose": "first"},
    }
    settings = {
        "seed": 3,
        "clients": 4,
        "data": table | (data or {}),
        "models": [{"name": "mlp", "hidden": [16]}],
        "local": {"epochs": 10, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.1}},
        "rules": ["average", "label_weighted"],
    }
    prepared = prepare(EnsembleSettings.model_validate(settings | changes))
    return prepared, combine(prepared, path, lambda text: None)


def recalls(result: Result, rule: str) -> list[float]:
    scores, fit = result.scores, result.fits[rule]
    hits = fit.hits(scores.test_rows(fit.rule), scores.test_targets)
    return [float(hits[scores.test_targets == c].double().mean()) for c in range(4)]


class Hot(nn.Sequential):
    """A network whose logits are far too large."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 40 * super().forward(x) + 100


def hot() -> nn.Module:
    return Hot(nn.Linear(8, 4))


class Margins:
    """Distances to the means of classes, on a scale of its own, and no probabilities."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> "Margins":
        self.classes_ = np.unique(y)
        self.means = np.stack([x[y == c].mean(0) for c in self.classes_])
        return self

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        found = -0.01 * ((x[:, None] - self.means[None]) ** 2).sum(-1)
        return found[:, 1] - found[:, 0] if len(self.classes_) == 2 else found


class FromZero(Margins):
    """Takes classes 0, 1, ... only, and gives certainties."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> "FromZero":
        if set(y) != set(range(len(set(y)))):
            raise ValueError("labels must be 0, 1, ...")
        super().fit(x, y)
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        best = ((x[:, None] - self.means[None]) ** 2).sum(-1).argmin(1)
        return np.eye(len(self.classes_))[best]


@pytest.mark.parametrize(
    "path",
    [
        "sklearn.ensemble:RandomForestClassifier",
        "sklearn.linear_model:RidgeClassifier",
        "sklearn.naive_bayes:GaussianNB",
        f"{__name__}:Margins",
        f"{__name__}:FromZero",
    ],
)
def test_classes_of_every_kind_of_owner_are_found(path: str, tmp_path: Path) -> None:
    arguments = {"n_estimators": 20} if "Forest" in path else {}
    _, result = mixed(tmp_path / "run", predictors=[{"path": path, "arguments": arguments}])
    assert min(recalls(result, "label_weighted")) > 0.3
    line = {row["name"]: row["accuracy"] for row in result.table}
    assert line["label_weighted"] > max(0.6, line["best client"])


def test_a_hot_network_does_not_drown_the_others(tmp_path: Path) -> None:
    forms = [{"name": "module", "path": f"{__name__}:hot"}]
    forest = [{"path": "sklearn.ensemble:RandomForestClassifier"}]
    _, result = mixed(tmp_path / "run", models=forms, predictors=forest)
    assert min(recalls(result, "label_weighted")) > 0.3


@pytest.mark.parametrize(
    "changes",
    [
        {"models": [{"name": "mlp", "hidden": [16]}, "logistic"]},
        {"models": [], "predictors": [{"path": "sklearn.naive_bayes:GaussianNB"}]},
    ],
)
def test_scores_of_one_kind_stay_to_the_bit(changes: dict[str, Any], tmp_path: Path) -> None:
    prepared, result = mixed(tmp_path / "run", **changes)
    modules = [member.module for member in result.members]
    index = np.concatenate(prepared.division.proxy)
    data = prepared.dataset
    assert torch.equal(logits_of(modules, examples(data, data.train, index)), result.scores.train)
    assert result.scores.alignments is None
    card = load(tmp_path / "run" / "ensemble").card
    assert not any("scores" in member for member in card["members"])


def test_what_is_saved_and_what_teaches_scores_alike(tmp_path: Path) -> None:
    forest = [{"path": "sklearn.ensemble:RandomForestClassifier", "arguments": {"n_estimators": 9}}]
    prepared, result = mixed(
        tmp_path / "run",
        data={"public": 0.2},
        predictors=forest,
        rules=["label_weighted", {"name": "residual", "width": 1}],
        aggregate={"rounds": 5, "every": 5},
        choose="label_weighted",
        baselines={"methods": ["fedkd"], "distillation": {"epochs": 60, "batch_size": 32}},
    )
    scores, data = result.scores, prepared.dataset
    answers = result.kept.answers(scores.test_rows(result.kept.rule))
    inputs = examples(data, data.test).take(torch.arange(len(data.test)))
    torch.testing.assert_close(load(tmp_path / "run" / "ensemble")(inputs), answers)
    line = {row["name"]: row["accuracy"] for row in result.table}
    assert line["residual"] > line["label_weighted"] - 0.05  # it starts there
    assert line["fedkd"] > line["label_weighted"] - 0.15


def test_among_many_classes_a_lone_margin_does_not_outbid_what_is_spread(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    centres = rng.normal(0, 1, (20, 10))
    rows: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for site in range(4):
        own = rng.integers(5 * site, 5 * site + 5, 200)
        labels.append(np.concatenate([own, rng.integers(0, 20, 20)]))
        rows.append(centres[labels[-1]] + rng.normal(0, 0.6, (220, 10)))
    x = np.vstack(rows).astype("float32")
    columns: dict[str, Any] = {f"f{i}": x[:, i] for i in range(10)}
    columns["site"] = [name for name in "abcd" for _ in range(220)]
    columns["sick"] = [f"c{k:02d}" for k in np.concatenate(labels)]
    pl.DataFrame(columns).write_csv(tmp_path / "many.csv")
    margins = [{"path": "sklearn.linear_model:RidgeClassifier"}]
    data = {"path": str(tmp_path / "many.csv")}
    _, result = mixed(tmp_path / "run", data=data, predictors=margins)
    line = {row["name"]: row["accuracy"] for row in result.table}
    assert line["label_weighted"] > 0.6
