"""The slab: adapters come, go and are replaced, and nobody else's numbers move."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.errors import ConfigError
from hansa.route.answering import Mixture
from hansa.route.slab import AdapterSlab, linears_of

SIZES = {"q": (6, 4), "v": (3, 5)}
Factors = dict[str, tuple[torch.Tensor, torch.Tensor]]


def factors(seed: int, rank: int = 2, layers: tuple[str, ...] = ("q", "v")) -> Factors:
    draw = torch.Generator().manual_seed(seed)
    return {
        layer: (
            torch.randn(rank, SIZES[layer][0], generator=draw),
            torch.randn(SIZES[layer][1], rank, generator=draw),
        )
        for layer in layers
    }


def same(one: Factors, other: Factors) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(x, y) for k in one for x, y in zip(one[k], other[k], strict=True)
    )


steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "remove", "replace"]),
        st.integers(0, 5),
        st.integers(1, 40),
        st.sampled_from([("q", "v"), ("q",), ("v",)]),
    ),
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(steps)
def test_whatever_comes_and_goes_each_adapter_is_what_was_put_in_last(plan: list) -> None:
    slab, held, indices = AdapterSlab(SIZES), {}, set()
    for seed, (what, number, rank, layers) in enumerate(plan):
        name, new = f"a{number}", factors(seed, rank, layers)
        if what == "add" and name not in held:
            index = slab.add(name, new)
            assert index not in indices
            indices.add(index)
            held[name] = new
        elif what == "remove" and name in held:
            slab.remove(name)
            del held[name]
        elif what == "replace" and name in held:
            before = slab.index(name), slab.stamp(slab.index(name))
            assert slab.replace(name, new) == before[0]
            assert slab.stamp(before[0]) != before[1]
            held[name] = new
    assert set(slab) == set(held)
    assert all(same(slab.factors(name), held[name]) for name in held)
    for name, layer in slab.layers.items():
        spans = sorted(layer.extents.values())
        assert not layer.a[0].any()
        assert not layer.b[0].any()
        assert all(a + r <= b for (a, r), (b, _) in itertools.pairwise(spans))
        assert layer.used == sum(len(f[name][0]) for f in held.values() if name in f)


def test_room_that_was_given_back_is_used_again() -> None:
    slab = AdapterSlab(SIZES)
    for k in range(200):
        slab.add(f"a{k}", factors(k, 8))
        if k >= 3:
            slab.remove(f"a{k - 3}")
    assert len(slab.layers["q"].a) == 64


def test_bfloat16_halves_the_bytes() -> None:
    whole, half = AdapterSlab(SIZES), AdapterSlab(SIZES, "bfloat16")
    for slab in (whole, half):
        slab.add("a", factors(0))
    assert whole.nbytes == 2 * half.nbytes == 4 * 2 * (6 + 4 + 3 + 5)


def refused(slab: AdapterSlab, changed: Factors, problem: str, base: str | None = None) -> None:
    with pytest.raises(ConfigError, match=problem):
        slab.add("b", changed, base)
    assert "b" not in slab
    with pytest.raises(ConfigError, match=problem):
        slab.replace("a", changed, base)
    assert same(slab.factors("a"), factors(0))


def test_what_does_not_fit_is_refused_and_changes_nothing() -> None:
    slab = AdapterSlab(SIZES, base="one")
    slab.add("a", factors(0), "one")
    good = factors(1)
    refused(slab, good, "another base", "two")
    refused(slab, {}, "changes no layer")
    refused(slab, {"k": good["q"]}, "changes k")
    refused(slab, {"q": good["v"]}, "a layer from 6 to 4")
    refused(slab, {"q": (good["q"][0][:0], good["q"][1][:, :0])}, "rank 1 or more")
    bad = factors(1)
    bad["v"][1][0, 0] = torch.nan
    refused(slab, bad, "not finite")
    with pytest.raises(ConfigError, match="already"):
        slab.add("a", good)
    with pytest.raises(ConfigError, match="one of a"):
        slab.index("z")
    with pytest.raises(ConfigError, match="no adapter of the pool"):
        slab.check((0, 7))
    with pytest.raises(ConfigError, match="dtype"):
        AdapterSlab(SIZES, "int8")


def test_mixtures_fold_and_refuse() -> None:
    assert Mixture((3, 1, 3), (0.5, 0.0, 0.25)).folded() == Mixture((3,), (0.75,))
    assert Mixture((1,), (0.0,)).folded() == Mixture()
    for adapters, weights in [((1,), ()), ((1,), (float("nan"),)), ((-1,), (1.0,))]:
        with pytest.raises(ConfigError):
            Mixture(adapters, weights)


def test_linears_of_finds_both_kinds() -> None:
    from transformers.pytorch_utils import Conv1D

    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), Conv1D(5, 4))
    assert linears_of(module) == {"0": (3, 4), "2": (4, 5)}
    layer = torch.nn.TransformerEncoderLayer(4, 2, 8)
    assert set(linears_of(layer)) == {"linear1", "linear2"}  # out_proj is no layer that runs
