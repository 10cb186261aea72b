"""A part in the place of another begins with its own settings, and what was lost is said."""

from __future__ import annotations

import shlex
import warnings
from typing import Any

import pytest

from hansa.base.errors import HansaWarning
from hansa.experiment import RunFile
from hansa.experiment.sweep.planned import planned
from hansa.experiment.sweep.sweep_file import SweepFile

WRITTEN: dict[str, Any] = {
    "nodes": 8,
    "algorithm": {"name": "fedavg", "sampled": 2, "server": "adam", "min_updates": 1},
    "data": {"name": "digits", "partition": {"name": "shards", "shards_per_node": 3}},
    "train": {"optimizer": {"name": "sgd", "lr": 0.3, "momentum": 0.9}},
}


def told(*changes: str) -> tuple[RunFile, list[str]]:
    """The settings with such changes, and what is warned of."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        chosen = RunFile.of(WRITTEN, changes)
    assert all(one.category is HansaWarning for one in seen)
    return chosen, [str(one.message) for one in seen]


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ("algorithm.name=fedprox", "--set algorithm.sampled=2 --set algorithm.server=adam"),
        ("algorithm=fedprox", "--set algorithm.sampled=2 --set algorithm.server=adam"),
        ("train.optimizer=adam", "--set train.optimizer.lr=0.3"),
    ],
)
def test_what_both_have_is_named_with_the_way_to_keep_it(change: str, kept: str) -> None:
    chosen, (text,) = told(change)
    field, _, name = change.removesuffix(".name").partition("=")
    field = field.removesuffix(".name")
    assert text.startswith(f"{field}: {name} begins with its own settings")
    assert text.endswith(f"to keep them: {kept}")
    words = tuple(word for word in shlex.split(kept) if word != "--set")
    again, nothing = told(change, *words)
    assert nothing == []
    assert again != chosen


def test_parts_within_a_part_are_kept_as_they_were() -> None:
    _, (text,) = told("data=fashion_mnist")
    words = shlex.split(text.partition("keep them: ")[2])
    assert words == ["--set", "data.partition={name: shards, shards_per_node: 3}"]
    again, nothing = told("data=fashion_mnist", words[1])
    assert again.data.partition == RunFile.of(WRITTEN).data.partition
    assert nothing == []


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("rounds=3",),
        ("algorithm.name=fedavg",),
        ("algorithm.sampled=3",),
        ("algorithm=dpsgd",),  # has none of them
        ("algorithm={name: fedprox, sampled: 4, server: momentum}",),
        ("data.partition=iid",),
    ],
)
def test_nothing_is_said_where_nothing_is_lost(changes: tuple[str, ...]) -> None:
    assert told(*changes)[1] == []


def test_a_sweep_says_it_once_for_all_its_settings() -> None:
    grid = {"algorithm": ["fedavg", "fedprox"], "rounds": [1, 2]}
    sweep = SweepFile.parse({"verb": "sweep", "run": WRITTEN, "grid": grid})
    with pytest.warns(HansaWarning, match="fedprox begins with its own") as seen:
        planned(sweep)
    assert len(seen) == 1
