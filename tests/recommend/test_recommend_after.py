"""What can be done with a recommender's run afterwards: take back, export; and what cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hansa.base.errors import ConfigError
from hansa.experiment import run
from hansa.experiment.export import export, open_export, open_run
from hansa.forget.trained import default_method
from hansa.recommend.recommend_file import RecommendFile
from hansa.recommend.taking_back import take_back
from hansa.report import RunFolder

from .test_recommend_run import SMALL


def trained(out: Path, **more: Any) -> Path:
    settings = {**SMALL, "baselines": [], **more}
    run(RecommendFile.parse(settings), out, report=False)
    return out


def test_ratings_are_taken_back_when_a_run_goes_on(tmp_path: Path, hansa: Any) -> None:
    path = trained(tmp_path / "run")
    done = hansa("recommend", "withdraw", str(path), "--user", "3", "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["round"] == 4
    assert RunFolder.open(path).config["algorithm"]["withdraw"] == [
        {"user": 2, "item": None, "at": 4}
    ]
    again = hansa("recommend", "--resume", str(path), "--set", "rounds=14", "--json", "--quiet")
    assert again.status == 0, again.err
    metrics = RunFolder.open(path).metrics()
    named = {
        name: metrics.filter(metrics["name"] == name).sort("round")
        for name in ("withdrawn_known", "withdrawn_held")
    }
    assert named["withdrawn_held"]["round"].min() > 4
    assert (
        named["withdrawn_held"].filter(named["withdrawn_held"]["round"] == 14)["value"].max() == 0
    )
    assert named["withdrawn_known"]["value"].max() == 1
    take_back(path, "3", "5")  # one rating of one of whom all others are gone
    with pytest.raises(ConfigError, match="withdrawn this already"):
        take_back(path, "3")
    with pytest.raises(ConfigError, match="nobody whose ratings"):
        take_back(path, "nobody")
    with pytest.raises(ConfigError, match="nothing of which"):
        take_back(path, "3", "nothing")


def test_what_the_run_file_withdraws_by_name_is_known(tmp_path: Path) -> None:
    rex = {"name": "rex", "withdrawals": 2, "withdraw": [{"user": "3", "at": 1}]}
    path = trained(tmp_path / "run", rounds=2, algorithm=rex)
    with pytest.raises(ConfigError, match="withdrawn this already"):
        take_back(path, "3")


def test_there_is_room_for_so_many(tmp_path: Path) -> None:
    path = trained(tmp_path / "run", rounds=2, algorithm={"name": "rex", "withdrawals": 1})
    take_back(path, "3")
    with pytest.raises(ConfigError, match="room for 1"):
        take_back(path, "4")


def test_models_have_nothing_to_take_back(tmp_path: Path) -> None:
    path = trained(tmp_path / "run", rounds=2, algorithm={"name": "rex", "share": "model"})
    with pytest.raises(ConfigError, match="passes no ratings on"):
        take_back(path, "3")
    with pytest.raises(ConfigError, match="cannot be made to forget") as caught:
        default_method(path)
    assert "hansa recommend withdraw" in str(caught.value)


def test_a_model_leaves_with_the_names_of_users_and_items(tmp_path: Path) -> None:
    opened = open_run(trained(tmp_path / "run")).trained()
    card = export(opened, tmp_path / "model.safetensors", node=2)
    facts = json.loads(card.read_text())
    names = opened.job.dataset
    assert facts["users"] == list(names.group_names)
    assert facts["items"] == list(names.item_names)
    found = open_export(tmp_path / "model.safetensors")
    pairs = torch.from_numpy(np.argwhere(np.ones(found.spec.vocabulary)))
    with torch.no_grad():
        assert torch.equal(found.network(pairs), opened.module(2)(pairs))
    assert found.spec == names.spec
