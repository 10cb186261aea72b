"""A trained model asked about data that somebody brings, and what is handed out of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

import hansa
from hansa.base.component import catalogue
from hansa.base.errors import ConfigError, DataError
from hansa.base.spec import DataSpec
from hansa.cli import main
from hansa.data.signature import Signature
from hansa.experiment.export import open_export
from hansa.experiment.settings_file import files
from hansa.report.predictions import of_amounts, of_classes
from hansa.report.which import Which

TABLE: dict[str, Any] = {
    "name": "file", "label": "outcome", "group": "site", "exclude": ["cost"],
    "categories": "one_hot", "missing": "impute", "partition": "natural",
}  # fmt: skip
RUN: dict[str, Any] = {
    "nodes": 3,
    "rounds": 3,
    "topology": "ring",
    "model": {"name": "mlp", "hidden": [6]},
    "train": {"batch_size": 8, "strategy": "looped", "optimizer": {"name": "sgd", "lr": 0.05}},
    "evaluate": {"every": 3},
}


def rows(count: int, seed: int) -> pl.DataFrame:
    """Three skewed classes in words, a gap in every twentieth row, a column of words."""
    draw = np.random.default_rng(seed)
    age = draw.normal(60, 12, count).round(1)
    risk = (age - 60) / 12 + draw.normal(0, 0.3, count)
    words = np.where(risk > 0.9, "ill", np.where(risk > -1.2, "well", "unclear"))
    table = pl.DataFrame(
        {
            "age": age,
            "smokes": draw.choice(["yes", "no"], count),
            "site": draw.choice(["north", "south", "west"], count, p=[0.6, 0.25, 0.15]),
            "outcome": words,
            "cost": (100 + age + draw.normal(0, 1, count)).round(2),
        }
    )
    gap = pl.Series(np.arange(count) % 20 == 7)
    return table.with_columns(age=pl.when(gap).then(None).otherwise(pl.col("age")))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables, a run of three peers on one, and a run with a server."""
    path = tmp_path_factory.mktemp("predicting")
    rows(160, 1).write_csv(path / "train.csv")
    rows(60, 2).write_csv(path / "test.csv")
    data = {**TABLE, "path": str(path / "train.csv"), "test_path": str(path / "test.csv")}
    hansa.run({**RUN, "data": data}, path / "peers", report=False)
    hansa.run({**RUN, "data": data, "algorithm": "fedavg"}, path / "served", report=False)
    return path


def test_it_is_as_good_as_the_run_has_measured(place: Path) -> None:
    for name, node in (("served", None), ("peers", 1)):
        run = hansa.open_run(place / name)
        said = run.predict(place / "test.csv", node=node)
        if node is None:
            wanted = run.summary["final"]["accuracy"]
        else:
            last = run.metrics().filter(name="accuracy", node=node).sort("round")
            wanted = last["value"][-1]
        assert said.figures["accuracy"] == pytest.approx(wanted, abs=1e-6)
        assert said.figures["examples"] == 60


def test_data_may_be_gone_and_come_in_any_form(place: Path, tmp_path: Path) -> None:
    run = hansa.open_run(place / "served")
    frame = rows(30, 3)
    wanted = [row["probabilities"] for row in run.predict(frame).rows]
    frame.write_parquet(tmp_path / "new.parquet")
    shuffled = frame.select("outcome", "smokes", "age")
    for brought in (tmp_path / "new.parquet", shuffled, frame.drop("outcome")):
        assert [row["probabilities"] for row in run.predict(brought).rows] == wanted
    assert run.predict(frame.drop("outcome")).figures == {}
    data = run.config["data"]["path"]
    Path(data).rename(tmp_path / "gone.csv")  # the model does not need it
    try:
        assert [row["probabilities"] for row in run.predict(frame).rows] == wanted
    finally:
        (tmp_path / "gone.csv").rename(data)


def test_what_is_exported_says_the_same_without_hansa(place: Path, tmp_path: Path) -> None:
    run, frame = hansa.open_run(place / "served"), rows(30, 4)
    wanted = np.array([list(r["probabilities"].values()) for r in run.predict(frame).rows])
    facts = json.loads(run.export(tmp_path / "model").read_text())
    state = load_file(tmp_path / "model" / "model.safetensors")
    age = np.where(np.isnan(frame["age"].to_numpy()), facts["fill"][0], frame["age"].to_numpy())
    words = facts["columns"][1]["words"]
    smokes = np.eye(2)[[words.index(word) for word in frame["smokes"]]]
    x = np.column_stack([age, smokes]) * facts["scale"] + facts["shift"]
    hidden = np.maximum(x @ state["fc1.weight"].numpy().T + state["fc1.bias"].numpy(), 0)
    scores = hidden @ state["out.weight"].numpy().T + state["out.bias"].numpy()
    odds = np.exp(scores - scores.max(1, keepdims=True))
    np.testing.assert_allclose(odds / odds.sum(1, keepdims=True), wanted, atol=1e-5)
    card = (tmp_path / "model" / "README.md").read_text()
    for words in ("ill, unclear, well", "No differential privacy", "natural", "`fedavg`"):
        assert words in card


def test_a_graph_answers_as_the_network(place: Path, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    words = ["export", str(place / "peers"), "--average", "--out", str(tmp_path / "m.onnx")]
    assert main([*words, "--card"]) == 0
    assert (tmp_path / "m.md").is_file()
    told = json.loads((tmp_path / "m.onnx.json").read_text())["onnx"]
    assert told["largest_difference"] < 1e-5
    new = tmp_path / "new.csv"
    rows(11, 5).write_csv(new)
    said = []
    for model, more in ((tmp_path / "m.onnx", []), (place / "peers", ["--average"])):
        capsys.readouterr()
        assert main(["predict", str(model), str(new), "--json", *more]) == 0
        said.append(json.loads(capsys.readouterr().out))
    for one, other in zip(*(each["predictions"] for each in said), strict=True):
        assert one["class"] == other["class"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-4)


def test_bad_data_are_named(place: Path, tmp_path: Path, capsys: Any) -> None:
    run, frame = hansa.open_run(place / "served"), rows(10, 6)
    refused: list[tuple[pl.DataFrame, str]] = [
        (frame.drop("age"), "no column 'age'"),
        (frame.drop("age", "smokes").with_columns(smoke=pl.lit("no")), r"'smokes' \('smoke'\?\)"),
        (frame.with_columns(smokes=pl.lit("often")), "'often'"),
        (frame.with_columns(outcome=pl.lit("dead")), "'dead', which is no class"),
        (frame.with_columns(age=pl.lit("old")), "holds text"),
    ]
    for table, words in refused:
        with pytest.raises(DataError, match=words):
            run.predict(table)
    with pytest.raises(DataError, match=r"examples are \[5\], the models take \[3\]"):
        run.predict(np.zeros((2, 5)))
    peers = hansa.open_run(place / "peers")
    for which, field in (({}, "node"), ({"node": 7}, "node"), ({"task": "a"}, "task")):
        with pytest.raises(ConfigError) as caught:
            peers.predict(frame, **which)
        assert caught.value.field == field
    assert main(["predict", str(place / "served"), "none.csv"]) == 2
    assert "no such file" in capsys.readouterr().err
    assert main(["predict", str(tmp_path / "none"), "none.csv"]) == 2
    assert "no such run or model" in capsys.readouterr().err


def test_an_unfinished_run_has_no_model_yet(place: Path) -> None:
    run = hansa.open_run(place / "served")
    said = (run.path / "summary.json").read_text()
    (run.path / "summary.json").unlink()
    try:
        with pytest.raises(ConfigError, match="has not finished"):
            hansa.open_run(run.path).model()
    finally:
        (run.path / "summary.json").write_text(said)


def test_amounts_are_in_the_units_of_the_label(place: Path, tmp_path: Path) -> None:
    data = {**TABLE, "label": "cost", "exclude": ["outcome"], "path": str(place / "train.csv"),
            "test_path": str(place / "test.csv")}  # fmt: skip
    train = {**RUN["train"], "optimizer": {"name": "sgd", "lr": 1e-4}}
    chosen = {**RUN, "data": data, "train": train, "algorithm": "fedavg"}
    run = hansa.run(chosen, tmp_path / "run", report=False)
    said = run.predict(place / "test.csv")
    assert said.figures["rmse"] == pytest.approx(run.summary["final"]["rmse"], rel=1e-5)
    assert {"input", "value", "label"} == said.rows[0].keys()


def test_a_run_shows_itself(place: Path, tmp_path: Path) -> None:
    run = hansa.open_run(place / "peers")
    html = run._repr_html_()
    assert "<svg" in html
    assert "accuracy" in html
    assert "<script" not in html
    spec = run.plot("accuracy", x="bytes").to_dict()
    assert spec["encoding"]["x"]["field"] == "bytes"
    run.plot().save(str(tmp_path / "plot.svg"))
    assert (tmp_path / "plot.svg").stat().st_size > 1000
    for metric, x, words in (("beauty", "round", "was not measured"), (None, "sex", "no axis")):
        with pytest.raises(ConfigError, match=words):
            run.plot(metric, x)


def test_predictions_are_written_whole_or_not(place: Path, tmp_path: Path) -> None:
    said = hansa.open_run(place / "served").predict(rows(12, 7))
    for suffix in (".csv", ".tsv", ".parquet", ".json"):
        file = said.write(tmp_path / f"new{suffix}")
        reads = {".parquet": pl.read_parquet, ".json": pl.read_json}.get(suffix)
        mark = "\t" if suffix == ".tsv" else ","
        frame = reads(file) if reads else pl.read_csv(file, separator=mark)
        assert frame["class"].to_list() == [row["class"] for row in said.rows]
        assert frame["p_ill"].to_list() == [row["probabilities"]["ill"] for row in said.rows]
    for name, words in (("new.csv", "there already"), ("new.xlsx", "unknown type")):
        with pytest.raises(ConfigError, match=words):
            said.write(tmp_path / name)


def test_every_verb_has_one_product_or_says_why_not() -> None:
    products = [kind() for kind in catalogue("product").values()]
    for verb in set(files()) - {"node", "serve", "sweep"}:  # these make no run of their own
        assert len([p for p in products if p.claim({"verb": verb})]) == 1, verb  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="says nothing of a merge"):
        Which(node=1).only("a merge", "task")


@given(
    st.integers(1, 6),
    st.integers(2, 5),
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=6, max_size=6),
)
def test_a_signature_survives_json(width: int, classes: int, numbers: list[float]) -> None:
    scale = torch.tensor(numbers[:width])
    one = Signature(
        DataSpec("table", (width,), classes),
        tuple(f"class {k}" for k in range(classes)),
        fill=scale.numpy(),
        scale=scale,
        shift=-scale,
        reading={"label": "y"},
    )
    again = Signature.of_facts(json.loads(json.dumps(one.facts())), "here")
    stored = torch.arange(2.0 * width).reshape(2, width)
    assert torch.equal(one.prepared(stored), again.prepared(stored))
    assert again.facts() == one.facts()
    assert (again.spec, again.named_classes) == (one.spec, one.named_classes)


@given(st.integers(1, 20), st.integers(2, 5), st.integers(0, 2**16))
def test_figures_are_those_of_a_loop(count: int, classes: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    shares = draw.dirichlet(np.ones(classes), count)
    labels = draw.integers(-1, classes, count)
    names = [str(k) for k in range(classes)]
    said = of_classes(["a"] * count, shares, names, labels)
    known = [k for k in range(count) if labels[k] >= 0]
    if not known:
        assert said.figures == {}
        return
    right = [int(np.argmax(shares[k]) == labels[k]) for k in known]
    assert said.figures["accuracy"] == pytest.approx(sum(right) / len(known))
    losses = [-np.log(shares[k][labels[k]]) for k in known]
    assert said.figures["loss"] == pytest.approx(sum(losses) / len(known))
    amounts = of_amounts(["a"] * count, labels + 0.5, labels.astype(np.float32))
    assert amounts.figures["rmse"] == pytest.approx(0.5)


def test_a_model_among_others_that_diverged_is_whole(place: Path) -> None:
    from dataclasses import replace

    from hansa.experiment.run_model import open_models

    models = open_models(hansa.open_run(place / "peers"))
    spoiled = replace(models, rows=models.rows.clone())
    spoiled.rows[1] = torch.nan
    assert torch.equal(next(spoiled.module(0).parameters()), next(models.module(0).parameters()))
    for which in ({"node": 1}, {"average": True}):
        with pytest.raises(ConfigError, match="diverged"):
            spoiled.module(**which)  # type: ignore[arg-type]


def test_numbers_whose_network_is_not_told_are_no_damage(place: Path, tmp_path: Path) -> None:
    run = hansa.open_run(place / "served")
    told = json.loads(run.export(tmp_path / "m.safetensors").read_text())
    for key, words in (("model", "form its facts do not tell"), ("sha256", "own library")):
        less = {name: value for name, value in told.items() if name != key}
        (tmp_path / "m.json").write_text(json.dumps(less))
        with pytest.raises(ConfigError, match=words):
            open_export(tmp_path / "m.safetensors")


def test_a_choice_that_says_nothing_is_refused(place: Path) -> None:
    with pytest.raises(ConfigError, match="says nothing of a run's models") as caught:
        hansa.open_run(place / "served").predict(rows(3, 1), top=3)
    assert caught.value.field == "top"
