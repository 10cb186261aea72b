"""Attacks: what is sent, by the papers' formulas, and what attackers may know."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.ensemble import (
    ALittleIsEnough,
    Attack,
    Gaussian,
    InnerProduct,
    Mimic,
    Scene,
    SignFlip,
)
from hansa.ensemble.colluding_attacks import largest_hidden_z

OWN = torch.from_numpy(np.random.default_rng(2).standard_normal((4, 6))).float()


def scene(colluding: bool, rows: torch.Tensor = OWN) -> Scene:
    who = np.array([3, 5, 8, 11])[: len(rows)]
    told = rows if colluding else None
    return Scene(who, 2, 0, "model", Streams(1), told, parties=20, attackers=who)


@pytest.mark.parametrize(
    ("attack", "wanted"),
    [
        (SignFlip(nodes=(0,), scale=3), -3 * OWN),
        (InnerProduct(nodes=(0,), scale=0.5), -0.5 * OWN.mean(0).expand(4, -1)),
        (Mimic(nodes=(0,)), OWN[:1].expand(4, -1)),
        (
            ALittleIsEnough(nodes=(0,), z=1.5),
            torch.from_numpy(OWN.numpy().mean(0) - 1.5 * OWN.numpy().std(0)).expand(4, -1),
        ),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
def test_formulas(attack: Attack, wanted: torch.Tensor) -> None:
    before = OWN.clone()
    forged = attack.forge(OWN, scene(attack.colluding))
    torch.testing.assert_close(forged, wanted)
    assert torch.equal(OWN, before)


def test_all_colluders_of_a_block_or_another_send_the_same() -> None:
    for attack in (InnerProduct(nodes=(0,)), Mimic(nodes=(0,)), ALittleIsEnough(nodes=(0,))):
        here = Scene(np.array([5]), 2, 0, "model", Streams(1), OWN, 20, np.array([3, 5, 8, 11]))
        alone = attack.forge(OWN[1:2], here)
        assert torch.equal(alone[0], attack.forge(OWN, scene(True))[1])


@pytest.mark.parametrize(("nodes", "attackers"), [(20, 4), (50, 12), (11, 2), (25, 5)])
def test_z_is_the_published_one(nodes: int, attackers: int) -> None:
    s = nodes // 2 + 1 - attackers
    wanted = stats.norm.ppf((nodes - attackers - s) / (nodes - attackers))
    assert largest_hidden_z(nodes, attackers) == pytest.approx(wanted)


def test_z_of_few_and_of_a_majority_is_finite() -> None:
    assert largest_hidden_z(3, 1) == 0  # one of two honest ones must be further off
    assert largest_hidden_z(2, 1) == 0
    assert largest_hidden_z(10, 8) == 0
    assert 1 < largest_hidden_z(30, 20) < 2  # one of ten honest ones is further off
    alone = ALittleIsEnough(nodes=(0,)).forge(OWN[:1], scene(True, OWN[:1]))
    assert torch.equal(alone, OWN[:1])  # no spread is known to a single one


def test_noise_is_each_nodes_own_and_no_others() -> None:
    attack = Gaussian(nodes=(3, 5), scale=2)
    both = attack.forge(OWN[:2], scene(False, OWN[:2]))
    one = Scene(np.array([5]), 2, 0, "model", Streams(1))
    assert torch.equal(attack.forge(OWN[1:2], one)[0], both[1])
    assert not torch.equal(both[0], both[1])


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"name": "a_little_is_enough", "share": 0.2, "z": 0}, "z"),
        ({"name": "inner_product", "share": 0.2, "scale": -1}, "scale"),
        ({"name": "mimic"}, "share"),
    ],
)
def test_what_is_wrong_is_named(settings: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        Attack.resolve(settings)
