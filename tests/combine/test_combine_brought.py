"""Members that are trained already: networks, fitted classifiers and runs, beside others."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import skops.io
import torch
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch import nn

from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.cli import main
from hansa.combine.ensemble import EnsembleSettings, prepare
from hansa.combine.ensemble.ensemble_file import EnsembleFile
from hansa.combine.ensemble.ensemble_settings import Predictor
from hansa.combine.ensemble.predict import predict
from hansa.combine.ensemble.predictors import fit_predictor
from hansa.combine.ensemble.run import ensemble, remove
from hansa.combine.ensemble.run_members import open_run
from hansa.data import Dataset
from hansa.experiment import run as learn

COLUMNS = ("age", "weight")


def patients(count: int = 120) -> pl.DataFrame:
    rng = np.random.default_rng(4)
    sick = rng.integers(0, 2, count)
    age = rng.integers(20, 90, count)
    weight = 60 + 30 * sick + rng.normal(0, 3, count)
    return pl.DataFrame({"age": age, "weight": weight, "sick": np.where(sick, "yes", "no")})


class Scaled(nn.Module):
    """A network that takes the table as it is stored."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).log_softmax(-1)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table, and three models that know it: heavy people are sick."""
    path = tmp_path_factory.mktemp("home")
    table = patients()
    table.write_csv(path / "patients.csv")
    net = Scaled()
    with torch.no_grad():
        net.layer.weight.copy_(torch.tensor([[0.0, -1.0], [0.0, 1.0]]))
        net.layer.bias.copy_(torch.tensor([75.0, -75.0]))
    save_file(net.state_dict(), path / "net.safetensors")
    frame = table.select("weight", "age").to_pandas()  # in another order, and with names
    fitted = make_pipeline(StandardScaler(), LogisticRegression())
    skops.io.dump(fitted.fit(frame, table["sick"].to_list()), path / "fitted.skops")
    learn(
        {
            "algorithm": "fedavg",
            "nodes": 2,
            "rounds": 6,
            "data": {"name": "file", "path": str(path / "patients.csv"), "label": "sick"},
            "model": "logistic",
            "train": {"optimizer": {"name": "sgd", "lr": 0.5}, "batch_size": 8},
        },
        path / "learned",
        report=False,
    )
    return path


def settings(home: Path, **changes: Any) -> dict[str, Any]:
    return {
        "clients": 4,
        "data": {"name": "file", "path": str(home / "patients.csv"), "label": "sick"},
        "models": ["logistic"],
        "local": {"epochs": 10, "batch_size": 8, "optimizer": {"name": "sgd", "lr": 0.3}},
        "rules": ["average", "label_weighted"],
        "members": [
            {
                "path": str(home / "net.safetensors"),
                "model": {"name": "module", "path": f"{__name__}:Scaled"},
            },
            {"path": str(home / "learned"), "client": 3},
            {"path": str(home / "fitted.skops"), "client": 1},
        ],
    } | changes


def test_brought_members_answer_beside_trained_ones(home: Path, tmp_path: Path) -> None:
    run = ensemble(settings(home), tmp_path / "run", report=False)
    members = (run.read_json("table.json") or {})["members"]
    assert [member["client"] for member in members] == [0, 1, 2, 3]
    assert all(member["accuracy"] > 0.9 for member in members)
    assert (run.summary or {})["accuracy"] > 0.9
    assert "whether they have seen" in (run.path / "events.jsonl").read_text()
    table = patients()
    table.write_parquet(tmp_path / "all.parquet")
    answers = [line["class"] for line in predict(run.path, tmp_path / "all.parquet", trust=True)]
    right = sum(a == b for a, b in zip(answers, table["sick"], strict=True))
    assert right > 0.9 * len(table)
    # Whoever leaves takes a model along, and no original is needed any more.
    for name in ("net.safetensors", "fitted.skops"):
        (home / name).rename(home / f"{name}.away")
    try:
        less = remove(run.path, 3, tmp_path / "less", report=False)
    finally:
        for name in ("net.safetensors", "fitted.skops"):
            (home / f"{name}.away").rename(home / name)
    assert (less.summary or {})["clients"] == 3
    assert (less.summary or {})["accuracy"] > 0.9


def test_members_alone_are_as_many_as_there_are(home: Path, tmp_path: Path) -> None:
    alone = settings(home, models=[], members=settings(home)["members"][:1])
    del alone["clients"]
    run = ensemble(alone, tmp_path / "run", report=False)
    assert (run.summary or {})["clients"] == 1
    assert not (run.path / "members").exists()


def test_what_was_told_of_their_examples_weighs(home: Path, tmp_path: Path) -> None:
    first = settings(home)["members"][0] | {"examples_of_class": {"yes": 1000}}
    run = ensemble(settings(home, members=[first]), tmp_path / "run", report=False)
    card = json.loads((run.path / "ensemble" / "ensemble.json").read_text())
    assert card["members"][0]["examples_of_class"] == [0, 1000]


def test_wrong_members_are_refused_up_front(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net, run, fitted = settings(home)["members"]
    wide = LogisticRegression().fit(np.random.default_rng(0).normal(size=(9, 5)), [0, 1, 2] * 3)
    skops.io.dump(wide, tmp_path / "wide.skops")
    other = LogisticRegression().fit(np.random.default_rng(0).normal(size=(4, 2)), list("abab"))
    skops.io.dump(other, tmp_path / "other.skops")
    (tmp_path / "text.safetensors").write_text("no tensors")
    for members, field, words in (
        ([net | {"path": "nowhere.safetensors"}], "members.0.path", "no such file"),
        ([{"path": net["path"]}], "members.0.model", "not what they are the numbers of"),
        ([net | {"model": "logistic"}], "members.0.path", "lacks"),
        ([net | {"model": {"name": "mlp", "hidden": [3]}}], "members.0.path", "lacks"),
        ([net | {"path": str(tmp_path / "text.safetensors")}], "members.0.path", "cannot be read"),
        ([net, fitted | {"client": 0}], "members.1.client", "brings members.0 already"),
        ([net | {"client": 4}], "members.0.client", "4 clients"),
        ([{"path": str(tmp_path / "wide.skops")}], "members.0.path", "takes 5 numbers"),
        ([{"path": str(tmp_path / "other.skops")}], "members.0.path", "knows class 'a'"),
        ([run | {"node": 7}], "members.0.node", "a number from"),
        ([{"path": str(home)}], "members.0.path", ""),
        ([{"path": str(home / "patients.csv")}], "members.0.path", "no known kind"),
        ([net | {"examples_of_class": {"maybe": 1}}], "members.0.examples_of_class", "maybe"),
    ):
        with pytest.raises(ConfigError) as error:
            ensemble(settings(home, members=members), tmp_path / "none")
        assert error.value.field == field, (members, error.value)
        assert words in str(error.value)
    assert not (tmp_path / "none").exists()
    file = tmp_path / "run.yaml"
    file.write_text(json.dumps(settings(home, verb="combine")))
    assert main(["check", str(file)]) == 0
    assert "of client 1" in capsys.readouterr().out


def test_a_network_whose_outputs_are_other_classes_is_doubted(home: Path, tmp_path: Path) -> None:
    net = Scaled()
    with torch.no_grad():  # the other way round
        net.layer.weight.copy_(torch.tensor([[0.0, 1.0], [0.0, -1.0]]))
        net.layer.bias.copy_(torch.tensor([-75.0, 75.0]))
    save_file(net.state_dict(), tmp_path / "turned.safetensors")
    turned = settings(home)["members"][0] | {"path": str(tmp_path / "turned.safetensors")}
    said: list[str] = []
    changes = {"clients": 2, "proxy": 0.3, "members": [turned]}
    run = ensemble(settings(home, **changes), tmp_path / "run", said.append, report=False)
    (doubt,) = [text for text in said if "less than guessing" in text]
    assert "client 0 brings gets 0 %" in doubt
    assert "the classes no, yes, in this order" in doubt
    assert "less than guessing" in (run.path / "events.jsonl").read_text()


def fitted(path: Path, model: Any, inputs: Any, labels: Any) -> list[dict[str, Any]]:
    skops.io.dump(model.fit(inputs, labels), path)
    return [{"path": str(path), "client": 0}]


@pytest.mark.parametrize(
    ("theirs", "wanted"),
    [
        ([0, 1, 2], [0, 1, 2]),  # none is called 0: they are places
        ([1, 2, 3], [0, 1, 2]),
        (["3", "1", "2"], [0, 1, 2]),
        ([2, 3], [1, 2]),
        ([1, 2, 4], None),
    ],
)
def test_classes_are_all_found_by_name_or_all_by_place(tmp_path: Path, theirs, wanted) -> None:
    rng = np.random.default_rng(0)
    kind, x = np.repeat([1, 2, 3], 20), rng.normal(0, 1, (60, 2))
    pl.DataFrame({"a": x[:, 0], "b": x[:, 1], "kind": kind}).write_csv(tmp_path / "t.csv")
    labels = np.resize(theirs, 60)
    members = fitted(tmp_path / "m.skops", LogisticRegression(), x, labels)
    data = {
        "name": "file",
        "path": str(tmp_path / "t.csv"),
        "label": "kind",
        "task": "classification",
    }
    chosen = EnsembleSettings.model_validate(
        {"clients": 2, "proxy": 0.3, "data": data, "members": members}
    )
    if wanted is None:
        with pytest.raises(ConfigError, match="knows class 4"):
            prepare(chosen)
    else:
        assert prepare(chosen).brought[0].module.seen.tolist() == wanted


def test_margins_between_pairs_of_three_classes_are_no_scores_of_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kind = np.repeat([0, 1, 2], 30)
    x = rng.normal(0, 1, (3, 4))[kind] * 3 + rng.normal(0, 1, (90, 4))
    columns = {name: x[:, k] for k, name in enumerate("abcd")}
    pl.DataFrame(columns | {"kind": [f"k{k}" for k in kind]}).write_csv(tmp_path / "t.csv")
    data = {"name": "file", "path": str(tmp_path / "t.csv"), "label": "kind"}
    for shape in ("ovo", "ovr"):
        model = SVC(decision_function_shape=shape)
        members = fitted(tmp_path / "m.skops", model, x, [f"k{k}" for k in kind])
        settings = {"clients": 2, "proxy": 0.3, "data": data, "members": members}
        chosen = EnsembleSettings.model_validate(settings)
        form = Predictor(path="sklearn.svm:SVC", arguments={"decision_function_shape": shape})
        if shape == "ovr":
            ready = prepare(chosen)
            fit_predictor(form, ready.dataset, np.arange(len(ready.dataset.train)), 1)
            continue
        with pytest.raises(ConfigError, match="its numbers are not the classes'") as refused:
            prepare(chosen)
        assert refused.value.field == "members.0.path"
        with pytest.raises(ConfigError, match="its numbers are not the classes'"):
            fit_predictor(form, ready_data(data), np.arange(70), 1)


def ready_data(data: dict[str, Any]) -> Dataset:
    return EnsembleSettings.model_validate({"data": data}).data.load(Streams(1))


def test_columns_of_words_are_found_by_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pl.DataFrame({
        "age": rng.normal(50, 9, 80), "sex": ["f", "m"] * 40, "weight": rng.normal(70, 9, 80),
    })  # fmt: skip
    table = table.with_columns(pl.Series("sick", np.where(table["weight"] > 70, "yes", "no")))
    table.write_csv(tmp_path / "t.csv")
    data = {"name": "file", "path": str(tmp_path / "t.csv"), "label": "sick",
            "categories": "one_hot", "normalize": "none"}  # fmt: skip
    dummies = table.drop("sick").to_dummies("sex").select("age", "weight", "sex_f", "sex_m")
    for columns, order in (
        (dummies, (0, 3, 1, 2)),  # as pandas.get_dummies leaves them
        (dummies.drop("sex_f"), (0, 3, 2)),
        (dummies.rename({"sex_m": "male"}), None),
    ):
        model = LogisticRegression()
        members = fitted(tmp_path / "m.skops", model, columns.to_pandas(), table["sick"].to_list())
        chosen = EnsembleSettings.model_validate(
            {"clients": 2, "proxy": 0.3, "data": data, "members": members}
        )
        if order is None:
            with pytest.raises(
                ConfigError, match=r"fitted on column 'male'.*\n.*columns age, sex_f"
            ):
                prepare(chosen)
        else:
            way = prepare(chosen).brought[0].preparing
            assert way is not None
            assert way.order == order


def test_runs_are_brought_with_the_data_that_they_were_trained_on(
    home: Path, tmp_path: Path
) -> None:
    table = patients()
    table.write_csv(tmp_path / "own.csv")
    data = settings(home)["data"]
    own = {"algorithm": "fedavg", "nodes": 2, "rounds": 1, "model": "logistic",
           "data": data | {"path": str(tmp_path / "own.csv")}}  # fmt: skip
    path = learn(own, tmp_path / "own", report=False).path
    members = [{"path": str(path), "client": 0}]
    chosen = EnsembleFile.parse(settings(home, members=members))
    assert set(prepare(chosen, open_run=open_run).brought) == {0}
    table.with_columns(pl.col("weight") * 2).write_csv(tmp_path / "own.csv")
    with pytest.raises(ConfigError, match="not the data that the run was begun with") as refused:
        prepare(chosen, open_run=open_run)
    assert refused.value.field.startswith("members.0")
    table.write_csv(tmp_path / "own.csv")
    summary = json.loads((path / "summary.json").read_text())
    (path / "summary.json").write_text(json.dumps(summary | {"status": "interrupted"}))
    with pytest.raises(ConfigError, match="has not finished training"):
        prepare(chosen, open_run=open_run)
