"""Mixtures in a batch: exact against dense deltas, row by row, and nothing else is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.errors import CheckpointError, ConfigError
from hansa.route.answering import BASE, Mixture
from hansa.route.composition_error import composition_errors
from hansa.route.mixture_cost import KERNELS, MixtureCosts, calibrate
from hansa.route.row_mixing import RowMixing, mixing
from hansa.route.slab import AdapterSlab

from .mixture_models import random_factors, tiny_bert, tiny_gpt2, tiny_llama, with_dense


@pytest.fixture(scope="module")
def bert() -> Any:
    return tiny_bert()


@pytest.fixture
def slab(bert: Any) -> AdapterSlab:
    """Five adapters of other ranks and other layers."""
    pool = AdapterSlab.over(bert)
    kinds: list[tuple[int, tuple[str, ...]]] = [
        (4, ()), (8, ("query", "value")), (2, ("dense",)), (8, ()), (1, ("key",)),
    ]  # fmt: skip
    for k, (rank, layers) in enumerate(kinds):
        pool.add(f"a{k}", random_factors(bert, k, rank, layers))
    return pool


IDS = torch.randint(3, 50, (5, 7), generator=torch.Generator().manual_seed(1))
MIXTURES = [
    Mixture((0, 1, 3), (0.5, 0.3, 0.2)), BASE, Mixture((4,), (1.0,)),
    Mixture((2, 2, 1), (0.25, 0.25, -0.5)), Mixture((3, 0), (1.5, 0.0)),
]  # fmt: skip


@torch.no_grad()
def outputs(module: Any, ids: torch.Tensor) -> torch.Tensor:
    answer = module(input_ids=ids, attention_mask=torch.ones_like(ids))
    return answer.logits if "logits" in answer else answer.last_hidden_state


@pytest.mark.parametrize("kernel", ["auto", *KERNELS])
@pytest.mark.parametrize("make", [tiny_bert, tiny_llama, tiny_gpt2])
def test_each_row_is_the_model_with_its_own_dense_delta(make: Any, kernel: Any) -> None:
    module = make()
    pool = AdapterSlab.over(module)
    # GPT-2's head is its embedding: a delta in that weight would change both.
    layers = ("c_attn", "c_fc", "c_proj") if make is tiny_gpt2 else ()
    for k, rank in enumerate((4, 8, 2, 8, 1)):
        pool.add(f"a{k}", random_factors(module, k, rank, layers, size=0.1))
    alone = outputs(module, IDS)
    with mixing(module, pool, MIXTURES, kernel):
        mixed = outputs(module, IDS)
    for row, mixture in enumerate(MIXTURES):
        expected = outputs(with_dense(module, pool, mixture.folded()), IDS[row : row + 1])[0]
        assert torch.allclose(mixed[row], expected, atol=2e-5), row
    assert torch.equal(outputs(module, IDS), alone)  # nothing stays behind
    assert torch.allclose(mixed[1], alone[1], atol=1e-6)
    assert not torch.allclose(mixed[0], alone[0], atol=1e-2)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_kernels_agree_on_a_layer_of_any_pool_and_batch(data: Any) -> None:
    inputs, outs = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    draw = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    pool = AdapterSlab({"0": (inputs, outs)})
    ranks = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
    for k, rank in enumerate(ranks):
        a = torch.randn(rank, inputs, generator=draw)
        pool.add(f"a{k}", {"0": (a, torch.randn(outs, rank, generator=draw))})
    weight = st.floats(-2, 2).map(lambda w: round(w, 3))
    uses = st.lists(st.tuples(st.integers(0, len(ranks) - 1), weight), max_size=4)
    mixtures = [
        Mixture(tuple(a for a, _ in use), tuple(w for _, w in use))
        for use in data.draw(st.lists(uses, min_size=1, max_size=5))
    ]
    module = torch.nn.Sequential(torch.nn.Linear(inputs, outs))
    x = torch.randn(len(mixtures), data.draw(st.integers(1, 3)), inputs, generator=draw)
    with torch.no_grad():
        expected = module(x)
        for row, mixture in enumerate(mixtures):
            for adapter, w in zip(mixture.adapters, mixture.weights, strict=True):
                a, b = pool.factors(f"a{adapter}")["0"]
                expected[row] += w * x[row] @ a.T @ b.T
        for kernel in KERNELS:
            with mixing(module, pool, mixtures, kernel):
                assert torch.allclose(module(x), expected, atol=2e-5), kernel


def test_the_golden_values() -> None:
    """10.6: the exact mixture gives 2.9, scaling A alone 6.6, PEFT's square root 7.9."""
    pool = AdapterSlab({"0": (1, 1)})
    pool.add("one", {"0": (torch.tensor([[10.0]]), torch.tensor([[0.1]]))})
    pool.add("two", {"0": (torch.tensor([[2.0]]), torch.tensor([[0.2]]))})
    module = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False))
    module[0].weight.data.zero_()
    mixture = Mixture((0, 1), (0.3, 0.7))
    for kernel in KERNELS:
        with mixing(module, pool, [mixture], kernel), torch.no_grad():
            assert float(module(torch.tensor([[5.0]]))) == pytest.approx(2.9, abs=1e-6)
    errors = {error.method: error.relative for error in composition_errors(pool, mixture)}
    assert errors["square_root"] == pytest.approx((7.940 - 2.9) / 2.9, abs=1e-3)
    assert errors["fusion"] == pytest.approx((5 * 4.4 * 0.17 - 2.9) / 2.9, abs=1e-6)


def test_errors_in_factor_space_are_those_of_the_dense_deltas(bert: Any, slab: AdapterSlab) -> None:
    mixture = Mixture((0, 1, 3), (0.5, 0.3, 0.2))
    error = next(e for e in composition_errors(slab, mixture) if e.method == "fusion")
    layer = "encoder.layer.0.attention.self.query"
    held = [
        (w, slab.factors(f"a{a}")[layer]) for a, w in zip((0, 1, 3), (0.5, 0.3, 0.2), strict=False)
    ]
    exact = sum(w * b @ a for w, (a, b) in held)
    pad = torch.nn.functional.pad
    fused_a = sum(w * pad(a, (0, 0, 0, 8 - len(a))) for w, (a, _) in held)
    fused_b = sum(w * pad(b, (0, 8 - b.shape[1])) for w, (_, b) in held)
    expected = float((exact - fused_b @ fused_a).norm() / exact.norm())
    assert error.layers[layer] == pytest.approx(expected, rel=1e-4)
    assert composition_errors(slab, Mixture((2,), (1.0,)))[0].relative < 1e-6
    assert composition_errors(slab, BASE)[0].relative == 0


def test_an_adapter_that_no_row_uses_is_not_touched(bert: Any, slab: AdapterSlab) -> None:
    rows = [Mixture((0, 3), (0.5, 0.5)), Mixture((0, 1), (0.5, 0.0))]
    with mixing(bert, slab, rows):
        before = outputs(bert, IDS[:2])
    for layer in slab.layers.values():  # 0 x NaN would be NaN
        for adapter in (1, 2, 4):
            if adapter in layer.extents:
                start, rank = layer.extents[adapter]
                layer.a[start : start + rank] = torch.nan
                layer.b[start : start + rank] = torch.nan
    for kernel in KERNELS:
        with mixing(bert, slab, rows, kernel) as batch:
            assert torch.allclose(outputs(bert, IDS[:2]), before, atol=1e-5)
        touched = {factors for _, factors in batch.touched.values()}
        # Ranks 4 and 8 in the first row, 4 in the second.
        assert touched == {{"union": 24, "gathered": 24, "segments": 16}[kernel]}
    with mixing(bert, slab, [Mixture((4,), (1.0,))]) as batch:
        outputs(bert, IDS[:1])
    assert all(name.endswith("key") for name in batch.touched)
    with mixing(bert, slab, [BASE, BASE]) as batch:
        outputs(bert, IDS[:2])
    assert not batch.touched


def test_ranks_4_and_8_in_one_batch_are_their_single_runs(bert: Any, slab: AdapterSlab) -> None:
    rows = [Mixture((0,), (1.0,)), Mixture((3,), (1.0,))]
    with mixing(bert, slab, rows):
        both = outputs(bert, IDS[:2])
    for row, mixture in enumerate(rows):
        with mixing(bert, slab, [mixture]):
            assert torch.allclose(outputs(bert, IDS[row : row + 1])[0], both[row], atol=1e-5)


def test_a_replaced_adapter_is_the_new_one(bert: Any, slab: AdapterSlab) -> None:
    rows = [Mixture((0,), (1.0,))]
    slab.replace("a0", random_factors(bert, 77, 3))
    with mixing(bert, slab, rows):
        mixed = outputs(bert, IDS[:1])
    assert torch.allclose(mixed, outputs(with_dense(bert, slab, rows[0]), IDS[:1]), atol=2e-5)


def test_gradients_flow_through_a_mixture(bert: Any, slab: AdapterSlab) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(16, 16))
    pool = AdapterSlab.over(module)
    pool.add("a", random_factors(module, 0))
    x = torch.randn(2, 3, 16, requires_grad=True)
    for kernel in KERNELS:
        x.grad = None
        with mixing(module, pool, [Mixture((0,), (0.5,)), BASE], kernel):
            module(x).sum().backward()
        a, b = pool.factors("a")["0"]
        weight = module[0].weight
        for row, dense in enumerate((weight + 0.5 * b @ a, weight)):
            assert torch.allclose(x.grad[row], dense.sum(0).expand(3, 16), atol=1e-5)


def test_one_batch_in_and_out_of_inference_mode_and_in_bfloat16(bert: Any) -> None:
    whole, half = AdapterSlab.over(bert), AdapterSlab.over(bert, "bfloat16")
    for pool in (whole, half):
        pool.add("a", random_factors(bert, 0, size=0.1))
    rounded = AdapterSlab.over(bert)
    rounded.add("a", {n: (a.float(), b.float()) for n, (a, b) in half.factors("a").items()})
    rows = [Mixture((0,), (0.5,)), BASE]
    for kernel in KERNELS:
        with mixing(bert, whole, rows, kernel):
            before = outputs(bert, IDS[:2])
            with torch.inference_mode():
                assert torch.equal(outputs(bert, IDS[:2]), before)
            assert torch.equal(outputs(bert, IDS[:2]), before)
        with mixing(bert, half, rows, kernel):
            coarse = outputs(bert, IDS[:2])
        with mixing(bert, rounded, rows, kernel):
            assert torch.allclose(outputs(bert, IDS[:2]), coarse, atol=1e-6)


def test_wrong_batches_are_refused(bert: Any, slab: AdapterSlab) -> None:
    with pytest.raises(ConfigError, match="batch has 2 rows"), mixing(bert, slab, MIXTURES):
        outputs(bert, IDS[:2])
    with pytest.raises(ConfigError, match="no adapter of the pool"):
        RowMixing(slab, [Mixture((9,), (1.0,))])
    with pytest.raises(ConfigError, match="no kernel"):
        RowMixing(slab, [BASE], "fast")  # type: ignore[arg-type]


def test_the_rule_and_its_calibration(tmp_path: Path) -> None:
    costs = MixtureCosts()
    assert costs.choose(rows=32, positions=32, factors=32, own=32) == "union"  # all rows alike
    assert costs.choose(rows=32, positions=32, factors=448, own=32) == "gathered"
    assert costs.choose(rows=32, positions=1, factors=64, own=32) == "union"
    file = tmp_path / "costs.json"
    measured = calibrate(file, width=64, seconds=0.001)
    assert calibrate(file) == measured  # kept
    assert min(vars(measured).values()) > 0
    file.write_text('{"union": 3}')
    with pytest.raises(CheckpointError, match="holds no costs"):
        calibrate(file)
