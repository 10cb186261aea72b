"""``hansa init`` gives a stranger something that runs."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from hansa.experiment.examples import examples, home

ROOT = Path(__file__).parents[2]


def test_an_empty_folder_works(hansa, tmp_path: Path) -> None:
    said = hansa("init")
    assert said.status == 0
    assert [file.name for file in tmp_path.iterdir()] == ["digits_dpsgd.yaml"]
    command = said.out.splitlines()[-1]
    run = hansa(f"{command.removeprefix('hansa ')} --set rounds=2 --json")
    assert run.status == 0, run.err
    again = hansa("init")
    assert again.status == 2
    assert "is there already" in again.err


def test_an_example_brings_its_own_code(hansa, tmp_path: Path) -> None:
    files = hansa("init own_algorithm --out there --json").object["files"]
    assert [Path(file).name for file in files] == ["own_algorithm.yaml", "own_algorithm.py"]
    assert hansa("learn there/own_algorithm.yaml --set rounds=2 --json").status == 0


@pytest.mark.parametrize("name", sorted(examples()))
def test_every_example_is_written(hansa, name: str) -> None:
    assert hansa(f"init {name}").status == 0


def test_unknown_examples_and_the_list(hansa) -> None:
    assert hansa("init --list --json").object["examples"].keys() == examples().keys()
    assert all(examples().values()), "an example says in its first sentence what it shows"
    assert examples()["cifar10_ensemble"].endswith("on an idle core")
    said = hansa("init nonsense")
    assert said.status == 2
    assert "digits_dpsgd" in said.err


def test_the_examples_are_in_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {"examples": "hansa/examples"}
    theirs, ours = (
        {file.relative_to(place): file.read_bytes() for file in place.rglob("*.yaml")}
        for place in (home(), ROOT / "examples")
    )
    assert theirs == ours  # the same folder in a checkout, a copy of it in a wheel


def test_where_it_cannot_write_it_says_so(hansa, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    for place in ("f", "f/x"):
        said = hansa(f"init --out {place} --json")
        assert said.status == 2
        assert said.object["error"]["field"] == "out"
    assert "did you mean 'digits_fedbuff'" in hansa("init fedbuff").err
    assert "did you mean 'learn'" in hansa("init lern").err
    assert hansa("init", "--out", "two words").out.endswith("'two words/digits_dpsgd.yaml'\n")
