"""Amounts are learned in standard units and answered in a person's."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import hansa
from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.data import DataSource
from hansa.data.own_table import OwnTable
from hansa.data.signature import Signature
from hansa.experiment.asked import predicted
from hansa.models.amount_networks import AmountNetwork
from hansa.report.which import Which


@given(st.floats(-1e4, 1e4), st.floats(1e-2, 1e4), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_step_is_that_of_standard_amounts(mean: float, spread: float, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    x, z = torch.randn(8, 3, generator=draw).double(), torch.randn(8, 1, generator=draw).double()
    inside = nn.Linear(3, 1).double()
    plain = torch.autograd.grad((inside(x) - z).square().mean(), list(inside.parameters()))
    whole = AmountNetwork(inside, mean, spread)
    y = mean + spread * z
    ours = torch.autograd.grad((whole(x) - y).square().mean(), list(inside.parameters()))
    for own, theirs in zip(ours, plain, strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-6, atol=1e-6)
    with torch.no_grad():
        asked = whole(x)
    torch.testing.assert_close(asked, mean + spread * inside(x))
    torch.testing.assert_close(whole(x), asked)


def test_amounts_are_whole_where_the_network_computes_in_bfloat16() -> None:
    draw = torch.Generator().manual_seed(1)
    inside, x = nn.Linear(3, 1), torch.randn(64, 3, generator=draw)
    whole, spread = AmountNetwork(inside, 4000.0, 30.0), 30.0
    exact = whole(x).detach()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = whole(x).detach()
    assert mixed.dtype is torch.float32
    assert float((mixed - exact).abs().max()) < 0.02 * spread


def table(path: Path, scaled: bool) -> Path:
    """Rents of 60 flats, or the same by the mean and the spread of those that are trained on."""
    draw = np.random.default_rng(1)
    rooms, age = draw.integers(1, 7, 60), draw.integers(0, 80, 60)
    rent = 120.0 * rooms - age + draw.normal(0, 20, 60) + 0.25
    if scaled:
        source = {"name": "file", "path": str(table(path, False)), "label": "rent"}
        train = DataSource.resolve(source).load(Streams(1)).train.targets.double()
        rent = (rent - float(train.mean())) / float(train.std(correction=0))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(
            [["rooms", "age", "rent"], *zip(rooms, age, rent.tolist(), strict=True)]
        )
    return path


def run(path: Path, place: Path, **data: str) -> hansa.RunFolder:
    return hansa.run({
        "nodes": 4, "rounds": 4, "topology": "ring",
        "data": {"name": "file", "path": str(path), "label": "rent", **data},
        "model": {"name": "mlp", "hidden": [8]},
        "train": {"local_steps": 3, "batch_size": 4},
    }, place, report=False)  # fmt: skip


def test_a_run_is_that_of_standard_labels_in_the_labels_own_unit(tmp_path: Path) -> None:
    raw = table(tmp_path / "raw.csv", False)
    ours = run(raw, tmp_path / "ours", amounts="standard")
    theirs = run(table(tmp_path / "scaled.csv", True), tmp_path / "theirs")
    spread = Signature.of_facts(ours.read_json("signature.json"), "").spec.unit
    assert spread > 100
    values = [one.summary["final"]["rmse"] for one in (ours, theirs)]
    assert values[0] == pytest.approx(spread * values[1], rel=1e-4)
    said = ours.predict(raw, average=True).figures
    assert said["rmse"] < 2 * values[0]
    assert not any("diverge" in line for line in ours.read_json("remarks.json"))
    file = hansa.export(ours, tmp_path / "rent.safetensors", average=True)
    exported = predicted(tmp_path / "rent.safetensors", raw, Which())
    assert file is not None
    assert exported.figures == pytest.approx(said)


def test_sites_do_not_tell_the_mean_of_their_labels(tmp_path: Path) -> None:
    raw = table(tmp_path / "raw.csv", False)
    known = {"name": "file", "path": str(raw), "label": "rent", "amounts": "standard"}
    source = DataSource.resolve(known)
    with pytest.raises(ConfigError, match="sites do not tell it"):
        OwnTable(source, Streams(1))


def test_large_amounts_are_remarked_before_a_round(tmp_path: Path) -> None:
    folder = run(table(tmp_path / "raw.csv", False), tmp_path / "run")
    (line,) = folder.read_json("remarks.json")
    assert "data.amounts: standard" in line
