"""Plans: they come back from disk as they were or not at all, and mixtures keep their weights."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from hansa.base.errors import CheckpointError, ConfigError
from hansa.weights.composition import (
    CompositionPlan,
    Group,
    Member,
    PlanBlock,
    PlanWriter,
    StoredPlan,
    plan_bytes,
)
from hansa.weights.tensor_file import read_header

finite = st.floats(-1e3, 1e3, width=64)
words = st.text("abc.é ", min_size=1, max_size=6)
facts = st.dictionaries(words, st.none() | st.booleans() | finite | words, max_size=3)


@st.composite
def plans(draw: st.DrawFn) -> CompositionPlan:
    kind = draw(st.sampled_from(["models", "adapters"]))
    count = draw(st.integers(1, 5))
    members = tuple(Member(f"{draw(words)}{i}", f"{i:064}") for i in range(count))
    blocks = []
    for name in draw(st.lists(words, max_size=3, unique=True)):
        labels = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
        if kind == "adapters":  # some leave the block alone
            labels = [label if label else None for label in labels]  # type: ignore[misc]
        groups = []
        for label in sorted({label for label in labels if label is not None}):
            own = tuple(i for i, other in enumerate(labels) if other == label)
            weights = tuple(draw(finite) for _ in own)
            groups.append(Group(own, weights, draw(st.booleans())))
        blocks.append(PlanBlock(name, tuple(draw(st.lists(words, max_size=2))), tuple(groups)))
    base = draw(st.none() | st.just(Member("base", "0" * 64)))
    return CompositionPlan(kind, base, members, tuple(blocks), draw(facts))


tensors = st.dictionaries(
    words, st.lists(st.integers(0, 3), max_size=2).map(lambda s: torch.randn(s)), max_size=3
)


@given(plans(), tensors)
def test_a_plan_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, plan: CompositionPlan, stored: dict[str, Any]
) -> None:
    assert CompositionPlan.from_json(plan.to_json()) == plan
    path = plan.write(tmp_path_factory.mktemp("plan") / "plan.safetensors", stored)
    again, read = CompositionPlan.read(path)
    assert again == plan
    assert read.keys() == stored.keys()
    assert all(torch.equal(read[name], value) for name, value in stored.items())
    assert all(torch.equal(load_file(path)[name], value) for name, value in stored.items())
    data = path.read_bytes()
    entries = {n: (e.dtype, e.shape) for n, e in StoredPlan.open(path).entries.items()}
    assert len(data) == plan_bytes(plan, entries)
    again.write(path, dict(reversed(read.items())))
    assert path.read_bytes() == data


def test_a_plan_whose_tensors_do_not_come_leaves_no_file(tmp_path: Path) -> None:
    plan = CompositionPlan("models", None, (Member("a", "0" * 64),), ())
    with (
        pytest.raises(ValueError, match="not written exactly once"),
        PlanWriter(tmp_path / "plan.safetensors", plan, {"x": ("F32", (2,))}),
    ):
        pass
    assert not list(tmp_path.iterdir())


@given(plans(), st.data())
def test_mixtures_over_members_become_mixtures_over_groups(
    plan: CompositionPlan, data: st.DataObject
) -> None:
    places = st.integers(0, len(plan.members) - 1)
    weights = data.draw(st.dictionaries(places, st.floats(0, 1)))
    for block in plan.blocks:
        inside = {member for group in block.groups for member in group.members}
        mixed = plan.group_weights(block.name, weights)
        total = sum(weight for member, weight in weights.items() if member in inside)
        assert math.isclose(sum(mixed.values()), total, abs_tol=1e-12)
        for member in range(len(plan.members)):
            one = plan.group_weights(block.name, {member: 1.0})
            own = [i for i, group in enumerate(block.groups) if member in group.members]
            assert one == dict.fromkeys(own, 1.0)
            assert len(own) == (1 if plan.kind == "models" else int(member in inside))
        for place, group in enumerate(block.groups):
            alone = sum(weights.get(member, 0.0) for member in group.members)
            assert math.isclose(mixed.get(place, 0.0), alone, abs_tol=1e-12)


def example() -> CompositionPlan:
    block = PlanBlock(
        "layer.0", ("layer.0.weight",), (Group((0, 2), (0.5, 0.5)), Group((1,), (1,)))
    )
    members = tuple(Member(name, "0" * 64) for name in ("trec", "mr", "subj"))
    return CompositionPlan("models", None, members, (block,), {"algorithm": "averaging"})


def test_members_that_share_a_group_add_up() -> None:
    plan = example()
    assert plan.group_weights("layer.0", {0: 0.25, 1: 0.25, 2: 0.5}) == {0: 0.75, 1: 0.25}
    assert plan.group_weights("layer.0", {0: 0.0, 1: 1.0}) == {1: 1.0}
    assert plan.place("subj") == 2
    with pytest.raises(ConfigError, match="one of trec, mr, subj"):
        plan.place("sst2")
    with pytest.raises(ConfigError, match="no weight of a member"):
        plan.group_weights("layer.0", {3: 1.0})
    with pytest.raises(ConfigError, match="no weight of a member"):
        plan.group_weights("layer.0", {0: math.nan})


@pytest.mark.parametrize(
    "groups",
    [
        (Group((0, 1), (1, 1)), Group((1, 2), (1, 1))),
        (Group((0, 1), (1, 1)),),
        (Group((0, 1, 3), (1, 1, 1)),),
        (Group((0, 1, 2), (1, 1)),),
        (Group((0, 1, 2), (1, 1, math.inf)),),
    ],
)
def test_groups_that_are_no_partition_are_refused(groups: tuple[Group, ...]) -> None:
    plan = example()
    with pytest.raises(ValueError, match=r"layer\.0"):
        CompositionPlan("models", None, plan.members, (PlanBlock("layer.0", (), groups),))


def test_what_was_changed_is_refused(tmp_path: Path) -> None:
    path = example().write(tmp_path / "plan.safetensors", {"a": torch.zeros(3)})
    stored, noted = load_file(path), dict(read_header(path).metadata)
    save_file({"a": torch.ones(3)}, path, noted)
    assert StoredPlan.open(path).plan == example()
    with pytest.raises(CheckpointError, match="a is not what was saved"):
        CompositionPlan.read(path)
    save_file({**stored, "b": torch.ones(3)}, path, noted)
    with pytest.raises(CheckpointError, match="not what was saved"):
        StoredPlan.open(path)
    header = json.loads(noted["hansa.composition"])
    changes = (
        {"plan": header["plan"].replace("averaging", "ties")},
        {"format": 2},
        {"tensors": {}},
    )
    expected = ("plan is not what was saved", "format 1", "not what was saved")
    for change, problem in zip(changes, expected, strict=True):
        save_file(stored, path, {"hansa.composition": json.dumps(header | change)})
        with pytest.raises(CheckpointError, match=problem):
            StoredPlan.open(path)
    save_file(stored, path)
    with pytest.raises(CheckpointError, match="no plan of format"):
        StoredPlan.open(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        StoredPlan.open(tmp_path / "none")
