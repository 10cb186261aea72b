"""Fitted predictors on disk: they answer as they did, and what is crafted is refused."""

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hansa.base.errors import CheckpointError, ConfigError
from hansa.combine.ensemble import load
from hansa.combine.ensemble.predict import predict
from hansa.combine.ensemble.predictor_file import pack, unpack
from hansa.combine.ensemble.run import ensemble, remove

from .conftest import QUICK, ran

RNG = np.random.default_rng(3)
X = RNG.standard_normal((90, 5)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)
FOREST = RandomForestClassifier(4, random_state=0).fit(X, Y)

OWN = '''
import numpy as np

class Own:
    """Nearest mean; keeps a function, which no file can hold."""
    def fit(self, x, y):
        self.means = np.stack([x[y == k].mean(0) for k in np.unique(y)])
        self.distance = lambda a: -np.square(a[:, None] - self.means).sum(-1)
        return self
    def decision_function(self, x):
        return self.distance(x)
'''


@pytest.mark.parametrize(
    "predictor",
    [
        FOREST,
        HistGradientBoostingClassifier(max_iter=3).fit(X, Y),
        make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y),
    ],
    ids=lambda predictor: type(predictor).__name__,
)
def test_a_predictor_answers_as_it_did(predictor: Any) -> None:
    data = pack(predictor)
    assert data is not None
    found = unpack(data, 5, False, "it")
    assert np.array_equal(found.predict_proba(X), predictor.predict_proba(X))


def test_the_same_predictor_is_the_same_file() -> None:
    again = RandomForestClassifier(4, random_state=0).fit(X.copy(), Y.copy())
    assert pack(FOREST) == pack(again)


def test_other_types_have_to_be_trusted() -> None:
    data = pack(KNeighborsClassifier().fit(X, Y))
    assert data is not None
    with pytest.raises(ConfigError, match="not known to be safe") as caught:
        unpack(data, 5, False, "it")
    assert "--trust" in caught.value.fix
    assert unpack(data, 5, True, "it").predict(X).shape == (90,)


def crafted(data: bytes, change: Any) -> bytes:
    """The file with its largest array of tree nodes changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith(".npy"):
                array = np.load(io.BytesIO(content), allow_pickle=False)
                if array.dtype.names and "left_child" in array.dtype.names:
                    change(array)
                    buffer = io.BytesIO()
                    np.save(buffer, array)
                    content = buffer.getvalue()
            new.writestr(name, content)
    return out.getvalue()


@pytest.mark.parametrize(
    ("field", "value"),
    [("left_child", 10**6), ("right_child", 0), ("left_child", -7), ("feature", 99)],
)
def test_a_crafted_tree_is_refused(field: str, value: int) -> None:
    def change(nodes: np.ndarray) -> None:
        nodes[field][0] = value

    data = pack(FOREST)
    assert data is not None
    unpack(crafted(data, lambda nodes: None), 5, False, "it")
    with pytest.raises(CheckpointError, match="leads outside"):
        unpack(crafted(data, change), 5, False, "it")


def test_a_pickle_and_rubbish_are_refused() -> None:
    for data in (pickle.dumps(FOREST), b"", b"PK\x03\x04rubbish"):
        with pytest.raises(CheckpointError, match="cannot be read"):
            unpack(data, 5, True, "it")


PREDICTORS = [
    {"path": "sklearn.naive_bayes:GaussianNB"},
    {"path": "sklearn.ensemble:RandomForestClassifier", "arguments": {"n_estimators": 5}},
]


def test_an_ensemble_with_fitted_members_is_applied_and_reduced(tmp_path: Path) -> None:
    prepared, result = ran(tmp_path / "a", predictors=PREDICTORS)
    assert result.unsaved == []
    loaded = load(tmp_path / "a" / "ensemble")
    x = prepared.dataset.gather(prepared.dataset.test, torch.arange(30))[0]
    kept = result.kept
    assert torch.allclose(loaded(x), kept.answers(result.scores.test_rows(kept.rule)[:30]))
    sizes = [m.upload for m in result.members]
    assert sizes[1] == (tmp_path / "a" / "ensemble" / "member_01.skops").stat().st_size

    run = ensemble(QUICK | {"predictors": PREDICTORS}, tmp_path / "run", report=False)
    less = remove(run.path, 0, tmp_path / "less", report=False)
    np.save(tmp_path / "some.npy", prepared.dataset.test.inputs[:5].numpy())
    assert len(predict(less.path, tmp_path / "some.npy")) == 5
    files = [f.path / "ensemble" / "member_01.skops" for f in (run, less)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_member_of_one_class_is_kept(tmp_path: Path) -> None:
    shards = {"name": "shards", "shards_per_node": 1}
    result = ran(
        tmp_path,
        clients=10,
        proxies="reused",
        models=[],
        predictors=PREDICTORS[:1],
        data=QUICK["data"] | {"partition": shards},
        rules=["average"],
    )[1]
    assert result.unsaved == []
    card = json.loads((tmp_path / "ensemble" / "ensemble.json").read_text())
    alone = [entry for entry in card["members"] if "constant" in entry]
    assert alone
    x = torch.zeros(2, 1, 8, 8)
    assert torch.isfinite(load(tmp_path / "ensemble")(x)).all()
    alone[0]["constant"] = 77
    (tmp_path / "ensemble" / "ensemble.json").write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match="of none"):
        load(tmp_path / "ensemble")


def test_what_skops_cannot_hold_is_told(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    path = f"{tmp_path / 'own.py'}:Own"
    result = ran(tmp_path / "run", models=[], predictors=[{"path": path}])[1]
    assert result.unsaved == ["0", "1", "2", "3"]
    with pytest.raises(ConfigError, match="fitted predictor"):
        load(tmp_path / "run" / "ensemble")
