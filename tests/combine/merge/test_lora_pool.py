"""Pools of adapters in factor space: equal to dense deltas, and within a budget to the byte."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from hansa.base.errors import CheckpointError, ConfigError
from hansa.cli.app import app
from hansa.combine.merge.lora_factors import gram, inner_product, merged
from hansa.combine.merge.lora_pool import Pool, PoolSpectrum
from hansa.route.pool_loading import folders_of
from hansa.weights.compressed_pool import ADAPTERS, CompressedPool
from hansa.weights.lora_folder import LoraFactors, LoraFolder, write_lora

SIZES = {"layers.0.attn.q": (12, 10), "layers.0.mlp.up": (12, 20), "layers.1.attn.q": (12, 10)}


def pair(rank: int, inputs: int, outputs: int, seed: int) -> LoraFactors:
    source = torch.Generator().manual_seed(seed)
    return LoraFactors(
        torch.randn(rank, inputs, generator=source), torch.randn(outputs, rank, generator=source)
    )


ranks = st.lists(st.integers(1, 5), min_size=1, max_size=6)


@given(ranks, st.integers(0, 99), st.integers(1, 9), st.integers(1, 9))
def test_inner_products_equal_those_of_dense_deltas(
    ranks: list[int], seed: int, inputs: int, outputs: int
) -> None:
    pairs = [pair(rank, inputs, outputs, seed + i) for i, rank in enumerate(ranks)]
    dense = torch.stack([(p.b.double() @ p.a.double()).flatten() for p in pairs])
    expected = (dense @ dense.T).numpy()
    scale = np.sqrt(np.outer(np.diagonal(expected), np.diagonal(expected)))
    # Where a delta's own terms cancel, float32 sees what they were before.
    sizes = np.array([float(p.a.norm() * p.b.norm()) for p in pairs])
    bound = 1e-5 * scale + 1e-6 * np.outer(sizes, sizes)
    assert np.all(np.abs(gram(pairs) - expected) <= bound)
    assert inner_product(pairs[0], pairs[-1]) == pytest.approx(expected[0, -1], rel=1e-9, abs=1e-9)


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [pair(1 + i % 3, 8, 6, i) for i in range(9)]
    whole = gram(pairs)
    for chunk in (1, 40, 77):
        monkeypatch.setattr("hansa.combine.merge.lora_factors._CHUNK", chunk)
        np.testing.assert_allclose(gram(pairs), whole, rtol=1e-6, atol=1e-5)


@given(ranks, st.integers(0, 99), st.integers(1, 9), st.integers(1, 9), st.integers(1, 12))
def test_a_sum_is_exact_or_the_nearest_of_its_rank(
    ranks: list[int], seed: int, inputs: int, outputs: int, rank: int
) -> None:
    pairs = [pair(r, inputs, outputs, seed + i) for i, r in enumerate(ranks)]
    weights = torch.linspace(-1, 2, len(ranks)).tolist()
    dense = sum(w * (p.b.double() @ p.a.double()) for w, p in zip(weights, pairs, strict=True))
    assert isinstance(dense, torch.Tensor)
    whole = merged(pairs, weights)
    torch.testing.assert_close((whole.factors.b @ whole.factors.a).double(), dense, **CLOSE)
    assert whole.error == 0
    assert whole.norm == pytest.approx(float(dense.norm()), rel=1e-6, abs=1e-6)
    short = merged(pairs, weights, rank)
    values = torch.linalg.svdvals(dense)
    best = float(values[rank:].norm())
    got = float(((short.factors.b @ short.factors.a).double() - dense).norm())
    assert got == pytest.approx(best, rel=1e-4, abs=1e-4)
    assert short.error == pytest.approx(best if sum(ranks) > rank else 0, rel=1e-6, abs=1e-6)
    assert len(short.factors.a) <= max(rank, min(inputs, outputs))


CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def make_pool(
    place: Path, families: int = 2, each: int = 3, noise: float = 0.3
) -> list[LoraFolder]:
    """Adapters in families that are alike; the last has ranks of its own and lacks a module."""
    for family in range(families):
        for one in range(each):
            factors = {}
            for number, (module, (inputs, outputs)) in enumerate(SIZES.items()):
                common = pair(4, inputs, outputs, 100 * family + number)
                own = pair(4, inputs, outputs, 7919 * (family + 1) + 31 * one + number)
                mixed = LoraFactors(common.a + noise * own.a, common.b + noise * own.b)
                last = family == families - 1 and one == each - 1
                if last and number == 1:
                    continue
                rank = 2 if last and number == 2 else 4
                factors[module] = LoraFactors(mixed.a[:rank], mixed.b[:, :rank])
            write_lora(place / f"family{family}-{one}", factors, "tiny")
    return [LoraFolder.open(folder) for folder in sorted(place.iterdir())]


def delta(pool: CompressedPool, weights: dict[str, float], module: str) -> torch.Tensor:
    inputs, outputs = SIZES[module]
    total = torch.zeros(outputs, inputs)
    for name, weight in pool.mixture(weights).items():
        folder = pool.folder(name)
        if module in folder.modules:
            factors = folder.factors(module)
            total += weight * factors.b @ factors.a
    return total


def test_families_become_one_adapter_each(tmp_path: Path) -> None:
    adapters = make_pool(tmp_path / "pool")
    spectrum = PoolSpectrum.of(Pool.of(adapters))
    assert spectrum.groups(4) == {"adapter": ((0, 1, 2), (3, 4, 5))}
    pool = spectrum.write(tmp_path / "out", spectrum.bytes[4])
    assert pool.names == {"adapter": ("family0-0+2", "family1-0+2")}
    assert pool.mixture({"family0-0": 0.25, "family0-2": 0.25, "family1-1": 0.5}) == {
        "family0-0+2": 0.5,
        "family1-0+2": 0.5,
    }
    assert all(0 < error < 0.4 for error in pool.plan.facts["errors"].values())


@pytest.mark.parametrize("sharing", ["adapter", "layer", "sublayer", "module"])
@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_every_size_is_within_its_budget_and_one_merge_above_is_not(
    tmp_path: Path, sharing: str, dtype: str
) -> None:
    adapters = make_pool(tmp_path / "pool")
    spectrum = PoolSpectrum.of(Pool.of(adapters, sharing, dtype))  # type: ignore[arg-type]
    assert len(spectrum.bytes) == 1 + sum(len(tree.merges) for tree in spectrum.trees)
    assert list(spectrum.bytes) == sorted(spectrum.bytes, reverse=True)
    for steps in range(0, len(spectrum.bytes), max(1, len(spectrum.bytes) // 4)):
        pool = spectrum.write(tmp_path / f"at{steps}", spectrum.bytes[steps])
        files = (tmp_path / f"at{steps}" / ADAPTERS).rglob("*.safetensors")
        assert sum(file.stat().st_size for file in files) == spectrum.bytes[steps]
        assert CompressedPool.open(pool.path).plan == pool.plan
    with pytest.raises(ConfigError, match=f"the least is {spectrum.bytes[-1]} bytes"):
        spectrum.write(tmp_path / "none", spectrum.bytes[-1] - 1)
    assert not (tmp_path / "none").exists()


def test_nothing_is_lost_where_nothing_is_merged_and_no_rank_is_cut(tmp_path: Path) -> None:
    adapters = make_pool(tmp_path / "pool")
    for rank, steps in ((None, 0), (99, 5)):
        spectrum = PoolSpectrum.of(Pool.of(adapters), rank)
        pool = spectrum.write(tmp_path / str(steps), spectrum.bytes[steps])
        assert set(pool.plan.facts["errors"].values()) == {0.0}
        count = len(adapters)
        weights = {adapter.name: 1 / count for adapter in adapters}
        for module in SIZES:
            pairs = [a.factors(module) for a in adapters if module in a.modules]
            exact = sum(p.b @ p.a for p in pairs) / count
            torch.testing.assert_close(delta(pool, weights, module), exact, **CLOSE)


def test_names_of_other_heads_are_the_same_modules(tmp_path: Path) -> None:
    write_lora(tmp_path / "a", {"layers.0.q": pair(2, 4, 4, 0)})
    write_lora(tmp_path / "b", {"model.layers.0.q": pair(3, 4, 4, 1)})
    adapters = [LoraFolder.open(tmp_path / name) for name in "ab"]
    spectrum = PoolSpectrum.of(Pool.of(adapters), scale=2.0)
    pool = spectrum.write(tmp_path / "out", spectrum.bytes[-1])
    (merged_folder,) = (pool.folder(name) for (name,) in pool.names.values())
    assert merged_folder.modules == {"layers.0.q": (3, 4, 4)}
    assert pool.plan.blocks[0].groups[0].coefficients == (1.0, 1.0)


def test_pools_that_are_none_are_refused(tmp_path: Path) -> None:
    write_lora(tmp_path / "a", {"q": pair(2, 4, 4, 0)}, "one")
    write_lora(tmp_path / "b", {"q": pair(2, 5, 4, 0)}, "one")
    write_lora(tmp_path / "c", {"q": pair(2, 4, 4, 0)}, "else")
    a, b, c = (LoraFolder.open(tmp_path / name) for name in "abc")
    for adapters, problem in (
        ([], "holds no adapter"),
        ([a, a], "name of two adapters"),
        ([a, b], "another base"),
        ([a, c], "are the bases that its adapters name"),
    ):
        with pytest.raises(ConfigError, match=problem):
            Pool.of(adapters)
    with pytest.raises(ConfigError, match="adapter, layer, sublayer or module"):
        Pool.of([a], "head")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="rank = 0"):
        PoolSpectrum.of(Pool.of([a]), 0)


def test_the_command_compresses_a_pool(tmp_path: Path) -> None:
    make_pool(tmp_path / "pool")
    runner = CliRunner()
    line = ["route", "compress", str(tmp_path / "pool"), "--out", str(tmp_path / "out"), "--json"]
    said = runner.invoke(app, [*line, "--budget", "3.9kB"])
    result = json.loads(said.stdout)
    assert said.exit_code == 0
    assert (result["adapters"], result["folders"], result["budget"]) == (6, 2, 3900)
    assert result["bytes"] <= 3900 < result["whole_bytes"]
    assert set(folders_of(tmp_path / "out")) == {
        "adapters/family0-0+2",
        "adapters/family1-0+2",
    }
    again = runner.invoke(app, [*line, "--budget", "3.9kB"])
    assert again.exit_code == 2
    assert "exists already" in json.loads(again.stdout)["error"]["message"]
    line[line.index(str(tmp_path / "out"))] = str(tmp_path / "small")
    refused = runner.invoke(app, [*line, "--budget", "10"])
    assert refused.exit_code == 2
    assert "the least is" in json.loads(refused.stdout)["error"]["message"]
    assert not (tmp_path / "small").exists()
    shown = runner.invoke(app, [*line[:-1], "--budget", "3.9kB", "--dtype", "bf16"])
    assert "6 adapters in" in shown.stdout


def test_a_folder_that_was_changed_is_refused(tmp_path: Path) -> None:
    adapters = make_pool(tmp_path / "pool")
    spectrum = PoolSpectrum.of(Pool.of(adapters))
    pool = spectrum.write(tmp_path / "out", spectrum.bytes[4])
    file = pool.path / ADAPTERS / "family0-0+2" / "adapter_model.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match="not what was saved"):
        CompressedPool.open(pool.path)
