"""Whose answers robust inference takes: of sites that train, of an ensemble, or of a file."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from hansa.base.errors import ConfigError, DataError
from hansa.combine.ensemble.run import ensemble
from hansa.infer.robust.cached_scores import CachedScores
from hansa.infer.robust.rule_answers import predict
from hansa.infer.robust.run import robust

from .answer_files import QUICK, write_scores
from .conftest import answers


def test_a_server_set_without_a_class_is_refused(tmp_path: Path) -> None:
    server, labels = answers(30, 5, 3, 2)
    kept = labels != 1
    path = write_scores(tmp_path / "a.npz", server=server[kept], server_labels=labels[kept])
    settings = {**QUICK, "clients": {"name": "scores", "path": str(path)}}
    with pytest.raises(ConfigError, match="none of class 1"):
        robust({**settings, "aggregators": ["deep_set"]}, tmp_path / "run", report=False)
    folder = robust(settings, tmp_path / "fixed", report=False)  # what learns nothing needs none
    assert (folder.summary or {})["status"] == "finished"


def test_a_class_that_the_server_lacks_is_told_before_anybody_trains(tmp_path: Path) -> None:
    data = {"name": "digits", "train_samples": 60}
    clients = {"name": "trained", "members": 5, "data": data, "server": 0.1}
    said: list[str] = []
    with pytest.raises(ConfigError, match="has none of class"):
        robust(
            {**QUICK, "clients": clients, "aggregators": ["deep_set"]},
            tmp_path / "run",
            said.append,
            report=False,
        )
    assert not said


def test_answers_without_a_server_set_do_for_fixed_rules(tmp_path: Path) -> None:
    path = write_scores(tmp_path / "a.npz", server=None, server_labels=None)
    settings = {**QUICK, "clients": {"name": "scores", "path": str(path)}}
    folder = robust(settings, tmp_path / "run", report=False)
    summary = folder.summary or {}
    assert summary["kept"] == "mean"
    certified = {r["aggregator"] for r in summary["final"]["table"] if r["attack"] == "any"}
    assert certified == {"mean", "trimmed_mean"}  # of geometric medians no bound is known
    with pytest.raises(ConfigError, match="there are none"):
        robust({**settings, "aggregators": ["deep_set"]}, tmp_path / "learned", report=False)


def test_too_many_liars_for_a_file_leave_no_folder(tmp_path: Path) -> None:
    path = write_scores(tmp_path / "a.npz")
    settings = {**QUICK, "f": 3, "clients": {"name": "scores", "path": str(path)}}
    with pytest.raises(ConfigError, match="of 5 clients is half or more"):
        robust(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_files_of_answers_may_be_logits_and_labels_texts(tmp_path: Path) -> None:
    test, labels = answers(40, 5, 3, 1)
    names = np.array(["apple", "fig", "pear"])
    plain = CachedScores(path=write_scores(tmp_path / "a.npz")).answers(1, tmp_path, print)
    logits = write_scores(
        tmp_path / "b.npz", test=test.log() + 5, server=None, class_names=names,
        test_labels=names[labels.numpy()],
    )  # fmt: skip
    same = CachedScores(path=logits, holds="logits").answers(1, tmp_path, print)
    torch.testing.assert_close(same.test, plain.test)
    assert torch.equal(same.test_labels, plain.test_labels)
    assert same.class_names == ("apple", "fig", "pear")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"test": np.full((4, 5, 3), 0.4)}, "client 0's row of example 0 does not sum to 1"),
        ({"test": np.full((4, 5, 3), -1.0)}, "is below 0"),
        ({"test": np.full((4, 5, 3), np.nan)}, "not finite"),
        ({"test": np.zeros((4, 5))}, "not \\[examples, clients, classes\\]"),
        ({"test_labels": np.full(40, 3)}, "no class from 0 to 2"),
        ({"test_labels": np.zeros(3, int)}, "40 examples and 3 labels"),
        ({"test_labels": np.array(["plum"] * 40)}, "'plum' is no class"),
        ({"test_labels": None}, "holds"),
        ({"server_labels": None}, "server has no labels"),
        ({"server": answers(60, 4, 3)[0]}, "both are answers of the same clients"),
        ({"class_names": np.array(["a", "b"])}, "names 2 classes"),
    ],
)
def test_answers_that_are_none_are_named(arrays: dict, words: str, tmp_path: Path) -> None:
    path = write_scores(tmp_path / "a.npz", **copy.deepcopy(arrays))
    with pytest.raises((ConfigError, DataError), match=words):
        CachedScores(path=path).answers(1, tmp_path, print)


def test_two_classes_from_one_score_skewed_sites_and_labels_that_are_texts(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    lines = ["size,colour,fruit"]
    for k in range(300):
        fruit = ("fig", "plum")[k % 2]
        lines.append(f"{rng.normal(3 * (k % 2)):.3f},{rng.normal(-2 * (k % 2)):.3f},{fruit}")
    (tmp_path / "fruit.csv").write_text("\n".join(lines))
    settings = {
        **QUICK,
        "clients": {
            "name": "trained",
            "members": 5,
            "data": {
                "name": "file",
                "path": str(tmp_path / "fruit.csv"),
                "label": "fruit",
                "partition": {"name": "dirichlet", "alpha": 0.3, "min_samples": 8},
            },
            "models": ["logistic"],
            "local": {"epochs": 10, "optimizer": {"name": "sgd", "lr": 0.3}},
        },
    }
    folder = robust(settings, tmp_path / "run")
    summary = folder.summary or {}
    assert summary["class_names"] == ["fig", "plum"]
    assert summary["final"]["rules"][0]["clean"] > 0.8
    (tmp_path / "new.csv").write_text("colour,size\n-2,3.1\n0.1,0\n")
    found = predict(folder.path, tmp_path / "new.csv", "trimmed_mean")
    assert [one["class"] for one in found] == ["plum", "fig"]


def test_the_members_of_an_ensemble_are_clients(tmp_path: Path) -> None:
    combined = ensemble(
        {
            "clients": 5,
            "data": {"name": "digits", "train_samples": 400, "test_samples": 60},
            "local": {"epochs": 3},
            "rules": ["average"],
        },
        tmp_path / "combined",
        report=False,
    )
    settings = {**QUICK, "clients": {"name": "ensemble", "path": str(combined.path)}}
    folder = robust(settings, tmp_path / "run", report=False)
    summary = folder.summary or {}
    members = (combined.read_json("table.json") or {})["members"]
    assert summary["alone"] == pytest.approx([m["accuracy"] for m in members], abs=1e-9)
    assert summary["server_examples"] > 10
