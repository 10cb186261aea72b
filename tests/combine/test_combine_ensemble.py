"""The whole of FENS on digits: splits, frozen members, forms of models, removal, bad input."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from hansa.base.errors import CheckpointError, ConfigError
from hansa.base.spec import DataSpec
from hansa.combine.ensemble import Prepared, Result, combine, fit, load, prepare, store
from hansa.combine.ensemble.baseline import check
from hansa.combine.ensemble.ensemble_file import EnsembleFile
from hansa.combine.ensemble.predict import predict
from hansa.combine.ensemble.predictors import Constant, Fitted
from hansa.combine.ensemble.run import ensemble, remove
from hansa.combine.ensemble.scoring import score
from hansa.combine.ensemble.teachers import input_form

from .conftest import QUICK, quick, ran

Once = tuple[Prepared, Result, Path]


def numbers(result: Result) -> list[torch.Tensor]:
    found = [t for m in result.members for t in m.module.state_dict().values()]
    return found + [t for f in result.fits.values() for t in f.module.state_dict().values()]


# -- check 7: the split


def test_proxies_are_held_back_and_the_deal_repeats(once: Once) -> None:
    prepared = once[0]
    again = prepare(quick()).division
    for train, proxy, train2, proxy2 in zip(
        prepared.division.train, prepared.division.proxy, again.train, again.proxy, strict=True
    ):
        assert not set(train) & set(proxy)
        assert len(proxy) == (len(train) + len(proxy)) // 10
        assert np.array_equal(train, train2)
        assert np.array_equal(proxy, proxy2)


def test_test_labels_change_nothing_that_is_trained_or_chosen(once: Once, tmp_path: Path) -> None:
    _, result, _ = once
    poisoned = prepare(quick())
    poisoned.dataset.test.targets.copy_(poisoned.dataset.test.targets.flip(0).clone())
    found = combine(poisoned, tmp_path, lambda text: None)
    for ours, theirs in zip(numbers(result), numbers(found), strict=True):
        assert torch.equal(ours, theirs)
    assert found.chosen == result.chosen
    assert found.accuracy != result.accuracy


# -- check 10: members are frozen, and asked once


class Counted(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.seen = inner, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += len(x)
        return self.inner(x)


def test_members_are_asked_once_and_never_change(once: Once, tmp_path: Path) -> None:
    prepared, result, _ = once
    before = [{k: v.clone() for k, v in m.module.state_dict().items()} for m in result.members]
    members = [
        type(m)(m.client, m.form, Counted(m.module), m.upload, m.packed) for m in result.members
    ]
    scores = score(prepared.settings, prepared.dataset, prepared.division, members, tmp_path)
    for rule in prepared.settings.rules:
        fit(rule, scores, prepared.settings.aggregate, 1, tmp_path / rule.name)
    everything = sum(map(len, prepared.division.proxy)) + len(prepared.dataset.test)
    assert [m.module.seen for m in members] == [everything] * len(members)  # type: ignore[union-attr]
    for member, old in zip(result.members, before, strict=True):
        for name, value in member.module.state_dict().items():
            assert torch.equal(value, old[name])


# -- check 9: removal


def test_removing_a_client_is_never_having_had_its_scores(once: Once, tmp_path: Path) -> None:
    prepared, result, _ = once
    less = prepare(quick(without=[1]))
    kept = [m for m in result.members if m.client != 1]
    scratch = score(less.settings, less.dataset, less.division, kept, tmp_path)
    dropped = result.scores.without(1)
    assert torch.equal(dropped.train, scratch.train)
    assert torch.equal(dropped.targets, scratch.targets)
    for rule in prepared.settings.rules:
        a, b = (
            fit(rule, scores, prepared.settings.aggregate, 3, tmp_path / f"{rule.name}{k}")
            for k, scores in enumerate((dropped, scratch))
        )
        rows = scratch.test_rows(rule)
        assert torch.equal(a.answers(rows), b.answers(rows))


def test_removal_leaves_a_new_folder_and_no_trace(tmp_path: Path) -> None:
    run = ensemble(QUICK, tmp_path / "run", report=False)
    found = remove(run.path, 2, tmp_path / "less", report=False)
    assert (found.summary or {})["clients"] == 3
    card = json.loads((found.path / "ensemble" / "ensemble.json").read_text())
    assert [m["client"] for m in card["members"]] == [0, 1, 3]
    assert not (found.path / "ensemble" / "member_02.safetensors").exists()
    # Exactly what a run that never had the client's data makes of the others' models.
    for client in (0, 1, 3):
        name = f"member_{client:02d}.safetensors"
        files = [(f.path / "ensemble" / name).read_bytes() for f in (run, found)]
        assert files[0] == files[1]
    again = remove(found.path, 0, tmp_path / "again", report=False)
    assert (again.summary or {})["clients"] == 2
    with pytest.raises(ConfigError, match="has no model"):
        remove(found.path, 2, tmp_path / "no")
    last = remove(remove(run.path, 0, tmp_path / "a", report=False).path, 1, tmp_path / "b",
                  report=False)  # fmt: skip
    last = remove(last.path, 2, tmp_path / "c", report=False)
    with pytest.raises(ConfigError, match="every client would be gone"):
        remove(last.path, 3, tmp_path / "d")
    assert not (tmp_path / "d").exists()


# -- forms of models, ways of the proxies


def test_clients_may_have_models_of_any_form(tmp_path: Path) -> None:
    result = ran(
        tmp_path,
        models=["logistic", {"name": "mlp", "hidden": [16]}],
        predictors=[
            {"path": "sklearn.naive_bayes:GaussianNB"},
            {"path": "sklearn.ensemble:RandomForestClassifier", "arguments": {"n_estimators": 5}},
        ],
    )[1]
    kinds = [type(member.module) for member in result.members]
    assert kinds == [nn.Sequential, nn.Sequential, Fitted, Fitted]
    assert len(list(result.members[0].module.children())) == 2
    assert result.accuracy > max(0.4, *result.member_accuracy) - 0.1
    assert result.unsaved == []


def test_a_client_of_one_class_has_a_constant_predictor(tmp_path: Path) -> None:
    result = ran(
        tmp_path,
        clients=10,
        proxies="reused",
        models=[],
        predictors=[{"path": "sklearn.linear_model:Perceptron"}],
        data=QUICK["data"] | {"partition": {"name": "shards", "shards_per_node": 1}},
        rules=["average", "label_weighted"],
    )[1]
    assert any(isinstance(member.module, Constant) for member in result.members)
    assert torch.isfinite(result.scores.train).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"proxies": "crossed"},
        {"proxies": "reused"},
        {"quantize": "static"},
        {"quantize": "none"},
        {"same_init": True},
        {"stratified": True},
        {"rules": ["experts", "deep_set", "linear"]},
        {"rules": [{"name": "robust", "aggregator": {"name": "trimmed_mean"}}]},
    ],
    ids=lambda changes: "-".join(f"{k}-{v}" for k, v in changes.items()),
)
def test_each_way_runs_and_its_ensemble_answers_as_it_did(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    prepared, result = ran(tmp_path, choose="auto", **changes)
    loaded = load(tmp_path / "ensemble")
    x = prepared.dataset.gather(prepared.dataset.test, torch.arange(30))[0]
    kept = result.kept
    expected = kept.answers(result.scores.test_rows(kept.rule)[:30])
    assert torch.allclose(loaded(x), expected, atol=1e-4)
    if changes.get("proxies") == "crossed":
        assert len(result.scores.targets) == 400
    if changes.get("same_init"):
        assert len(result.members) == 4


def test_networks_start_apart_unless_told_otherwise(tmp_path: Path) -> None:
    still = QUICK["local"] | {"optimizer": {"name": "sgd", "lr": 1e-12}, "epochs": 1}
    for same in (False, True):
        result = ran(tmp_path / str(same), same_init=same, local=still, quantize="none")[1]
        first, second = (m.module.state_dict()["fc1.weight"] for m in result.members[:2])
        assert torch.allclose(first, second, atol=1e-6) == same


# -- baselines


def test_baselines_stand_in_the_table(tmp_path: Path) -> None:
    methods = ["fedavg_once", "fedavg", "fedadam", "fine_tuned", "fedkd", "distilled"]
    data = QUICK["data"] | {"public": 0.3}
    given = {"methods": methods, "rounds": 4, "every": 2, "once": [1, 2]}
    result = ran(tmp_path, data=data, baselines=given | {"distillation": {"epochs": 3}})[1]
    rows = {row["name"]: row for row in result.table if row["kind"] == "baseline"}
    assert list(rows) == methods
    for row in rows.values():
        assert 0 < row["accuracy"] <= 1
        assert row["counted"] >= 0.9 * row["formula"] * (row["name"] not in ("fine_tuned",))
    size = result.members[0].upload
    assert rows["fedavg_once"]["formula"] == 2 * size


NO_DATA: dict[str, Any] = {
    "methods": ["dense", "coboosting"],
    "datafree": {
        "epochs": 3, "batch_size": 16, "steps": 3, "width": 4, "latent": 8,
    },
}  # fmt: skip


@pytest.mark.parametrize("quantize", ["int8", "static"])
def test_students_without_data_cost_an_upload(quantize: str, tmp_path: Path) -> None:
    result = ran(tmp_path, quantize=quantize, baselines=NO_DATA)[1]
    before = [member.module for member in result.members]
    rows = {row["name"]: row for row in result.table}
    for name in NO_DATA["methods"]:
        assert 0 < rows[name]["accuracy"] <= 1  # how well they learn: tests/ensemble
        assert rows[name]["formula"] == rows[name]["counted"] == 2 * result.members[0].upload
        assert "48 made-up inputs" in rows[name]["note"]
    # DENSE's teacher is FedENS, to the example.
    own = float(rows["dense"]["note"].rsplit(" ", 1)[1])
    spread = 0.02 if quantize == "static" else 0.0006
    assert abs(own - rows["average"]["accuracy"]) < spread
    assert [m.module for m in result.members] == before
    again = ran(tmp_path / "again", quantize=quantize, baselines=NO_DATA)[1]
    assert again.table == [row | {"seconds": s["seconds"]} if "seconds" in row else row
                           for row, s in zip(result.table, again.table, strict=True)]  # fmt: skip


def test_only_images_and_tables_can_be_made_up() -> None:
    dataset = prepare(quick()).dataset
    spoken = replace(dataset, spec=DataSpec("tokens", (9,), 10, vocabulary=(30,)))
    with pytest.raises(ConfigError, match="makes up images and tables, not tokens"):
        check(quick(baselines=NO_DATA), spoken)
    check(quick(baselines=NO_DATA), dataset)


def test_pixels_keep_the_range_of_the_data() -> None:
    for normalize, low, high in (("half", -1.0, 1.0), ("unit", 0.0, 1.0), ("none", 0.0, 16.0)):
        found = input_form(prepare(quick(data=QUICK["data"] | {"normalize": normalize})).dataset)
        assert found.low is not None
        assert found.high is not None
        assert found.shape == (1, 8, 8)
        assert (found.low.tolist(), found.high.tolist()) == ([low], [high])


# -- what is refused, before anything is written


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"without": [0, 1, 2, 3]}, "without", "leaves no client"),
        ({"device": "abacus"}, "device", "not a torch device"),
        ({"without": [9]}, "without", "there are 4 clients"),
        ({"proxy": 0.001}, "proxy", "leaves 0 examples"),
        ({"choose": "best"}, "choose", "not among"),
        ({"rules": ["average", "average"]}, "rules", "twice"),
        ({"models": []}, "models", "neither"),
        ({"models": ["lstm"]}, "models.0", "takes data"),
        ({"baselines": {"methods": ["fedkd"]}}, "baselines.methods", "public"),
        (
            {
                "baselines": {"methods": ["dense"]},
                "predictors": [{"path": "sklearn.naive_bayes:GaussianNB"}],
            },
            "baselines.methods",
            "fitted predictors have none",
        ),
        ({"clients": 9000}, "clients", "only 400"),
        (
            {"aggregate": {"over": "peers", "topology": {"name": "regular", "degree": 9}}},
            "aggregate.topology.degree",
            "4 nodes",
        ),
        (
            {
                "clients": 2,
                "rules": ["average"],
                "data": {"name": "digits", "train_samples": 12},
            },
            "data.partition",
            "no client has a training example of classes",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_work_is_explained_and_leaves_nothing(
    changes: dict[str, Any], field: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        ensemble(QUICK | changes, tmp_path / "run")
    assert caught.value.field == field
    assert caught.value.fix
    assert not (tmp_path / "run").exists()


def test_a_client_without_a_proxy_is_told_of(tmp_path: Path) -> None:
    skewed = {"name": "dirichlet", "alpha": 0.05, "draw": "class", "min_samples": 2}
    prepared = prepare(quick(clients=12, data={"name": "digits", "partition": skewed}))
    assert any("take no part in phase 2" in note for note in prepared.division.notes)


def test_a_wrong_setting_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        EnsembleFile.parse({"aggregate": {"round": 3}})
    assert caught.value.field == "aggregate.round"
    with pytest.raises((ConfigError, ValidationError), match="no such rule"):
        EnsembleFile.parse({"rules": "neuronal"})
    assert len(EnsembleFile.parse({"rules": "neural", "models": "mlp"}).rules) == 1


# -- the ensemble on disk


def test_a_saved_ensemble_is_refused_when_it_is_not_whole(once: Once, tmp_path: Path) -> None:
    path = tmp_path / "ensemble"
    shutil.copytree(once[2] / "ensemble", path)
    card = json.loads((path / "ensemble.json").read_text())

    def changed(**changes: Any) -> None:
        (path / "ensemble.json").write_text(json.dumps(card | changes))

    changed(outputs=7)
    with pytest.raises(ConfigError, match="must agree on the classes"):
        load(path)
    changed(members=[])
    with pytest.raises(CheckpointError, match="every client is gone"):
        load(path)
    changed(format=99)
    with pytest.raises(CheckpointError, match="format"):
        load(path)
    changed(members=[card["members"][0] | {"model": {"name": "module", "path": "os:system"}}])
    with pytest.raises(ConfigError, match="runs that code"):
        load(path)
    changed()
    load(path)
    file = path / card["members"][0]["file"]
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CheckpointError, match="corrupt"):
        load(path)
    file.unlink()
    with pytest.raises(CheckpointError, match="missing"):
        load(path)


def test_predict_answers_arrays_and_images(once: Once, tmp_path: Path) -> None:
    from PIL import Image

    prepared, result, path = once
    stored = prepared.dataset.test.inputs[:12].numpy()
    np.save(tmp_path / "some.npy", stored)
    found = predict(path, tmp_path / "some.npy")
    kept = result.kept
    wanted = kept.answers(result.scores.test_rows(kept.rule)[:12]).argmax(-1)
    assert [p["class"] for p in found] == [str(int(c)) for c in wanted]
    folder = tmp_path / "images"
    folder.mkdir()
    for k, image in enumerate(stored[:3]):
        Image.fromarray((image[..., 0] * (255 / 16)).round().astype(np.uint8)).save(
            folder / f"{k}.png"
        )
    seen = predict(path / "ensemble", folder)
    assert [p["class"] for p in seen] == [p["class"] for p in found[:3]]
    assert len(predict(path, folder / "1.png")) == 1
    np.save(tmp_path / "wrong.npy", stored[:, :4])
    for wrong, words in (
        ("wrong.npy", "the models take"),
        ("none.npy", "no such file"),
        ("images/0.txt", "no such file"),
    ):
        with pytest.raises(Exception, match=words):
            predict(path, tmp_path / wrong)
    with pytest.raises(CheckpointError, match="missing"):
        predict(tmp_path, tmp_path / "some.npy")


def test_the_card_is_plain_json_and_the_files_are_safetensors(once: Once) -> None:
    names = {p.suffix for p in (once[2] / "ensemble").iterdir()}
    assert names == {".json", ".safetensors"}
    assert (once[2] / "ensemble" / store.CARD).exists()
