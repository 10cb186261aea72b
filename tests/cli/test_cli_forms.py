"""Earlier forms are read and migrated, step by step; newer ones are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import hansa
from hansa.base.errors import CheckpointError, ConfigError
from hansa.base.forms import FORMAT, STEPS, brought_up, number_of
from hansa.combine.ensemble.ensemble_file import EnsembleFile
from hansa.experiment import RunFile
from hansa.experiment.migration import differences, migrate
from hansa.report import RunFolder

KEPT = Path(__file__).parent / "kept"
FORMS = st.integers(1, FORMAT)
PLAIN = st.dictionaries(st.sampled_from("nodes rules data faults algorithm".split()), st.integers())  # noqa: SIM905


def test_there_is_a_way_from_every_form_to_the_next() -> None:
    assert list(STEPS) == list(range(1, FORMAT))
    assert RunFile().dump()["format"] == FORMAT


@settings(max_examples=20)
@given(PLAIN, FORMS)
def test_what_has_todays_names_stays_as_it_is(plain: dict, number: int) -> None:
    once = brought_up(plain, number)
    assert {key: value for key, value in once.items() if key != "format"} == plain
    assert brought_up(once, FORMAT) == once


def test_each_step_changes_its_own_and_nothing_else() -> None:
    rules = STEPS[1].settings({"verb": "combine", "seed": 1, "aggregators": ["average"]})
    assert list(rules.items()) == [("verb", "combine"), ("seed", 1), ("rules", ["average"])]
    unsaid = STEPS[1].settings({"clients": 3, "aggregators": ["average"]})
    assert list(unsaid) == ["clients", "rules"]
    for said in ({"verb": "infer"}, {}):
        robust = {**said, "clients": {"name": "trained"}, "aggregators": ["mean"]}
        assert STEPS[1].settings(robust) == robust
    lossy = {"algorithm": {"name": "secure_dpsgd", "drop_rate": 0.2, "share": 0.5}, "faults": None}
    assert STEPS[2].settings(lossy) == {
        "algorithm": {"name": "secure_dpsgd", "share": 0.5}, "faults": {"loss": 0.2},
    }  # fmt: skip
    still = {"algorithm": {"name": "secure_dpsgd", "drop_rate": 0.0}}
    assert STEPS[2].settings(still) == {"algorithm": {"name": "secure_dpsgd"}}
    own = {"algorithm": {"name": "mine.py:Mine", "drop_rate": 0.5}}
    assert STEPS[2].settings(own) == own


@pytest.mark.parametrize("name", ["ensemble_1", "secure_2"])
def test_a_kept_run_is_read_as_it_is_and_migrated(tmp_path: Path, name: str) -> None:
    run = Path(shutil.copytree(KEPT / name, tmp_path / name))
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    folder = RunFolder.open(run)
    kind = EnsembleFile if name == "ensemble_1" else RunFile
    chosen = kind.parse(folder.config)
    assert before == {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    result = migrate(run)
    assert (result.before, result.now) == (1, FORMAT)
    assert f"format is {FORMAT}" in result.changes
    again = RunFolder.open(run)
    assert yaml.safe_load((run / "config.yaml").read_text()) == again.config
    assert kind.parse(again.config) == chosen
    assert again.metrics().equals(folder.metrics())
    assert again.events()[-1]["kind"] == "migrated"
    assert migrate(run).changes == []
    if kind is RunFile:
        assert chosen.faults is not None
        assert chosen.faults.loss == 0.2
    else:
        assert [rule.name for rule in chosen.rules] == ["average", "per_class"]


def test_a_kept_ensemble_predicts_the_same_before_and_after(hansa, tmp_path: Path) -> None:
    import numpy as np

    run = Path(shutil.copytree(KEPT / "ensemble_1", tmp_path / "run"))
    images = np.random.default_rng(1).integers(0, 16, (3, 8, 8, 1)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    first = hansa("combine predict run images.npy --json")
    assert first.status == 0, first.err
    said = hansa("migrate run")
    assert said.status == 0, said.err
    assert "ensemble/aggregator.safetensors is ensemble/rule.safetensors" in said.out
    assert hansa("combine predict run images.npy --json").object == first.object
    assert (run / "ensemble" / "rule.safetensors").is_file()


def test_a_file_keeps_its_comments_beside_it(hansa, tmp_path: Path) -> None:
    file = Path(shutil.copy(KEPT / "file_1.yaml", tmp_path / "mine.yaml"))
    assert "now rules" in hansa("combine ensemble mine.yaml").err
    said = hansa("migrate mine.yaml --json").object
    assert (said["before"], said["now"]) == (1, FORMAT)
    assert (tmp_path / "mine.yaml.old").read_text() == (KEPT / "file_1.yaml").read_text()
    assert (
        EnsembleFile.load(file).rules == EnsembleFile.parse({"rules": ["average", "voting"]}).rules
    )
    assert hansa("migrate mine.yaml --json").object["changes"] == []
    shutil.copy(KEPT / "file_1.yaml", file)
    assert "is there already" in hansa("migrate mine.yaml").err
    assert hansa("migrate nothing.yaml").status == 2


def test_a_file_of_nothing_that_hansa_knows_has_no_form(hansa, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("milk: 1\neggs: 12\n")
    said = hansa("migrate mine.yaml")
    assert (said.status, "milk" in said.err) == (2, True)
    (tmp_path / "mine.yaml").write_text("seed: 1\n")
    assert "today's form" in hansa("migrate mine.yaml").out


def test_files_elsewhere_are_migrated_and_wrong_ones_refused(hansa, tmp_path: Path) -> None:
    assert hansa("init own_algorithm --out sub").status == 0
    assert hansa("init digits_robust").status == 0
    assert hansa("migrate digits_robust.yaml --json").object["changes"] == []
    lossy = "algorithm: {name: secure_dpsgd, drop_rate: 0.1}\nformat: 2\n"
    for name, text, status, said in (
        ("sub/mine", f"{lossy}plugins: [own_algorithm.py]\n", 0, "faults.loss is 0.1"),
        ("sub/mine", "", 0, "has today's form"),
        ("faults", f"{lossy}faults: [1]\n", 2, "faults"),
        ("verb", "verb: [1]\n", 2, "has no such files"),
    ):
        file = tmp_path / f"{name}.yaml"
        file.write_text(text or file.read_text())
        answer = hansa(f"migrate {name}.yaml" if name != "verb" else "check verb.yaml")
        assert answer.status == status, answer.err
        assert said in answer.out + answer.err


def test_what_is_newer_is_refused(hansa, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"reads up to {FORMAT}"):
        RunFile.parse({"format": FORMAT + 1, "future": 1})
    for wrong in (0, True, "two", 1.0):
        with pytest.raises(ConfigError, match="format"):
            number_of({"format": wrong}, 1)
    run = Path(shutil.copytree(KEPT / "secure_2", tmp_path / "run"))
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "format": FORMAT + 1}) + "...\n")
    (run / "environment.json").write_text(json.dumps({"hansa": "9.0.0"}))
    with pytest.raises(CheckpointError, match=r"made by hansa 9\.0\.0, format 4") as caught:
        RunFolder.open(run)
    assert f"hansa {hansa_version()} reads up to {FORMAT}" in str(caught.value)
    for command in ("report run", "migrate run", "learn --resume run", "compare run run"):
        said = hansa(command)
        assert said.status != 0
        assert "9.0.0" in said.err, command


def hansa_version() -> str:
    return hansa.__version__


def test_a_run_of_this_very_form_is_told_from_its_settings() -> None:
    assert differences({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 3}, "d": {"e": 4}}) == [
        "b.c is 3",
        "d.e is 4",
    ]
    assert differences({"a": 1}, {}) == ["a is gone"]
