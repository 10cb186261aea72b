"""Run files: overrides, defaults, and the way to plain data and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.component import catalogue
from hansa.base.errors import ConfigError
from hansa.experiment import RunFile, override, read_yaml


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        ({}, "rounds=3", {"rounds": 3}),
        ({}, "a.b.c=1", {"a": {"b": {"c": 1}}}),
        ({"a": {"b": 1, "c": 2}}, "a.b=5", {"a": {"b": 5, "c": 2}}),
        ({"a": None}, "a.b=5", {"a": {"b": 5}}),
        ({"topology": "ring"}, "topology.degree=3", {"topology": {"name": "ring", "degree": 3}}),
        ({"t": {"name": "regular", "degree": 3}}, "t.name=ring", {"t": {"name": "ring"}}),
        ({"t": {"name": "ring", "x": 3}}, "t.name=ring", {"t": {"name": "ring", "x": 3}}),
        ({"t": {"name": "regular", "degree": 3}}, "t=ring", {"t": "ring"}),
        ({}, "m.hidden=[8, 4]", {"m": {"hidden": [8, 4]}}),
        ({}, "t={name: regular, degree: 2}", {"t": {"name": "regular", "degree": 2}}),
        ({}, "lr=1e-3", {"lr": 0.001}),
        ({}, "clip=null", {"clip": None}),
        ({}, "x=true", {"x": True}),
        ({}, "path=a=b", {"path": "a=b"}),
        ({}, " seed =4", {"seed": 4}),
        ({"l": [1, {"a": 2}]}, "x=", {"l": [1, {"a": 2}], "x": None}),
    ],
)
def test_override(before: dict[str, Any], change: str, after: dict[str, Any]) -> None:
    kept = yaml.safe_dump(before)
    assert override(before, (change,)) == after
    assert yaml.safe_dump(before) == kept, "the settings given must not change"


def test_later_overrides_win_and_keywords_win_over_all() -> None:
    assert override({}, ("seed=1", "seed=2"), seed=3, device=None) == {"seed": 3}


@pytest.mark.parametrize("change", ["rounds", "=3", "rounds.x=1", "a=[1", "a={"])
def test_overrides_that_mean_nothing_are_refused(change: str) -> None:
    with pytest.raises(ConfigError) as caught:
        override({"rounds": 5}, (change,))
    assert caught.value.field == "set"


@pytest.mark.parametrize(
    ("change", "path", "value"),
    [
        ("train.optimizer.lr=0.1", "train.optimizer.lr", 0.1),
        ("topology.degree=6", "topology.degree", 6),
        ("data.partition.name=shards", "data.partition.shards_per_node", 2),
        ("data.test_samples=100", "data.test_samples", 100),
        ("algorithm.weights=uniform", "algorithm.weights", "uniform"),
        ("algorithm.codec.dtype=float32", "algorithm.codec.dtype", "float32"),
        ("train.local_steps=2", "train.local_steps", 2),
        ("model.hidden=[]", "model.hidden", ()),
    ],
)
def test_an_override_alone_changes_the_default_part(change: str, path: str, value: Any) -> None:
    found: Any = RunFile.parse(override({}, (change,)))
    for name in path.split("."):
        found = getattr(found, name)
    assert found == value


@pytest.mark.parametrize(
    ("settings", "field", "words"),
    [
        ({"round": 3}, "round", "did you mean rounds=3"),
        ({"nodes": 0}, "nodes", "how many parties"),
        ({"topology": {"name": "regular", "degre": 3}}, "topology.degre", "topology.degree=3"),
        ({"topology": {"degre": 3}}, "topology.degre", "did you mean topology.degree=3"),
        ({"topology": "rng"}, "topology.name", "did you mean 'ring'"),
        ({"train": {"optimizer": "sdg"}}, "train.optimizer.name", "did you mean 'sgd'"),
        ({"train": {"optimizer": {"lr": 0}}}, "train.optimizer.lr", "learning rate"),
        ({"train": {"batchsize": 1}}, "train.batchsize", "did you mean train.batch_size=1"),
        ({"train": 5}, "train", "group of settings"),
        ({"data": {"partition": {"name": "shard"}}}, "data.partition.name", "'shards'"),
        ({"plugins": 5}, "plugins", "list"),
        ({"plugins": ["absent.py"]}, "plugins", "no such file"),
    ],
)
def test_errors_name_the_field_as_it_is_written(
    settings: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        RunFile.parse(settings)
    assert caught.value.field == field
    assert words in str(caught.value)


def parts(kind: str) -> st.SearchStrategy[str]:
    """Names of the parts of a kind that need no setting."""
    return st.sampled_from(
        [
            name
            for name, part in catalogue(kind).items()
            if not any(field.is_required() for field in part.model_fields.values())
            and part.__module__.startswith("hansa.")
        ]
    )


chosen = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.integers(-(2**40), 2**40),
        "nodes": st.integers(1, 10_000),
        "rounds": st.integers(1, 10_000),
        "data": parts("data").flatmap(
            lambda name: parts("partition").map(lambda p: {"name": name, "partition": p})
        ),
        "model": parts("model"),
        "topology": parts("topology"),
        "algorithm": parts("algorithm"),
        "clock": parts("clock"),
        "runtime": parts("runtime"),
        "train": st.fixed_dictionaries(
            {},
            optional={
                "optimizer": st.tuples(parts("optimizer"), st.floats(1e-9, 10)).map(
                    lambda pair: {"name": pair[0], "lr": pair[1]}
                ),
                "schedule": parts("schedule"),
                "clip_norm": st.none() | st.floats(1e-3, 1e3),
                "batch_size": st.integers(1, 512),
            },
        ),
        "evaluate": st.fixed_dictionaries({"every": st.integers(1, 50)}),
    },
)


@given(chosen)
def test_plain_data_and_back_is_the_same_run(settings: dict[str, Any]) -> None:
    run = RunFile.parse(settings)
    dumped = run.dump()
    assert RunFile.parse(dumped) == run
    assert RunFile.parse(yaml.safe_load(yaml.safe_dump(dumped))) == run
    assert RunFile.parse(dumped).dump() == dumped


def test_read_yaml_refuses_what_is_no_run_file(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_yaml(tmp_path / "empty.yaml") == {}
    for name, content in {"list": b"[1]", "broken": b"{", "binary": b"\xff\x00"}.items():
        (tmp_path / f"{name}.yaml").write_bytes(content)
    for name in ("list", "broken", "binary", "absent"):
        with pytest.raises(ConfigError) as caught:
            read_yaml(tmp_path / f"{name}.yaml")
        assert caught.value.field == "file"
    with pytest.raises(ConfigError):
        read_yaml(tmp_path)


def test_plugins_are_found_beside_the_run_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "beside.py").write_text(
        "from hansa import register\nfrom hansa.topology import Ring\n"
        "@register('beside')\nclass Beside(Ring):\n    '''A ring.'''\n"
    )
    file = tmp_path / "there" / "run.yaml"
    file.write_text("topology: beside\nplugins: beside.py\n")
    monkeypatch.chdir(tmp_path)
    run = RunFile.load(file, ("nodes=3",))
    assert (type(run.topology).name, run.nodes) == ("beside", 3)


def test_one_part_is_as_good_as_a_list_of_one() -> None:
    one = RunFile.parse({"train": {"augment": "flip"}})
    assert one == RunFile.parse({"train": {"augment": [{"name": "flip"}]}})
