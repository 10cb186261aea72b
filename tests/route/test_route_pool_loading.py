"""PEFT folders into a slab: whole pools, one by one, and what is refused leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hansa.base.errors import ConfigError
from hansa.route.pool_loading import folders_of, load_adapter, load_pool, slab_of
from hansa.route.slab import AdapterSlab
from hansa.weights.lora_folder import LoraFactors, write_lora

SIZES = {"model.q": (6, 4), "model.v": (3, 5)}


def written(folder: Path, seed: int, rank: int = 2, layers: tuple[str, ...] = ("q", "v")) -> Path:
    draw = torch.Generator().manual_seed(seed)
    factors = {}
    for layer in layers:
        inputs, outputs = SIZES.get(f"model.{layer}", (2, 2))
        a = torch.randn(rank, inputs, generator=draw)
        factors[layer] = LoraFactors(a, torch.randn(outputs, rank, generator=draw))
    return write_lora(folder, factors)


def test_a_pool_is_its_adapters_one_by_one(tmp_path: Path) -> None:
    for k in range(3):
        written(tmp_path / "pool" / ("more" if k else ".") / f"a{k}", k, k + 1)
    folders = folders_of(tmp_path / "pool")
    assert list(folders) == ["a0", "more/a1", "more/a2"]
    counted: list[tuple[int, int]] = []
    whole, single = AdapterSlab(SIZES), AdapterSlab(SIZES)
    load_pool(whole, folders, lambda *counts: counted.append(counts))
    assert counted == [(1, 3), (2, 3), (3, 3)]
    for name, folder in folders.items():
        assert single.name(load_adapter(single, folder, name)) == name
        for layer, pair in single.factors(name).items():
            assert all(map(torch.equal, pair, whole.factors(name)[layer]))
    assert set(folders_of(folders["a0"])) == {"a0"}  # of an adapter itself: that one


def test_an_adapter_is_loaded_again_under_its_name(tmp_path: Path) -> None:
    slab = slab_of(SIZES, [written(tmp_path / "a", 0)])
    before = slab.factors("a")["model.q"][0].clone()
    with pytest.raises(ConfigError, match="already"):
        load_adapter(slab, tmp_path / "a")
    load_adapter(slab, written(tmp_path / "other" / "a", 1, 5), "a", replaces=True)
    assert slab.factors("a")["model.q"][0].shape == (5, 6)
    assert not torch.equal(slab.factors("a")["model.q"][0][:2], before)


def test_one_that_does_not_fit_is_named_before_any_is_loaded(tmp_path: Path) -> None:
    written(tmp_path / "a", 0)
    written(tmp_path / "b", 1, layers=("q", "other"))
    slab = AdapterSlab(SIZES)
    with pytest.raises(ConfigError, match="other matches no module"):
        load_pool(slab, folders_of(tmp_path))
    assert not slab.names
    with pytest.raises(ConfigError, match="no folder with an adapter"):
        folders_of(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="one name"):
        slab_of(SIZES, [tmp_path / "a", written(tmp_path / "more" / "a", 2)])
    load_adapter(slab, tmp_path / "a")
    with pytest.raises(ConfigError, match="already"):
        load_pool(slab, {"new": tmp_path / "a", "a": tmp_path / "a"})
    assert slab.names == ("a",)
