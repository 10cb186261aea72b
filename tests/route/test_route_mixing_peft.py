"""PEFT as the reference: one adapter, none, and its exact way to add several (``cat``)."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from hansa.route.answering import BASE, Mixture
from hansa.route.composition_error import composition_errors
from hansa.route.pool_loading import folders_of, slab_of
from hansa.route.row_mixing import mixing
from hansa.route.slab import AdapterSlab, linears_of

from .mixture_models import tiny_bert

# PEFT asks transformers for what transformers means to rename.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")

IDS = torch.randint(3, 50, (2, 6), generator=torch.Generator().manual_seed(1))
QV = ["query", "value"]
ADAPTERS: dict[str, dict[str, Any]] = {
    "one": {"r": 4, "lora_alpha": 8, "target_modules": QV},
    "two": {"r": 4, "lora_alpha": 8, "target_modules": QV},
    "wide": {"r": 8, "lora_alpha": 4, "target_modules": "all-linear"},
    "stable": {"r": 4, "lora_alpha": 4, "use_rslora": True, "target_modules": r".*\.dense"},
    "patterned": {
        "r": 2, "lora_alpha": 2, "target_modules": ["query", "key", "dense"],
        "rank_pattern": {"key": 5}, "alpha_pattern": {"query": 7},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, AdapterSlab]:
    """The base, the same wrapped by PEFT with all adapters, and a slab of what PEFT saved."""
    from peft import LoraConfig, get_peft_model

    base = tiny_bert()
    wrapped: Any = None
    for name, settings in ADAPTERS.items():
        config = LoraConfig(init_lora_weights=False, lora_dropout=0.0, **settings)
        if wrapped is None:
            wrapped = get_peft_model(copy.deepcopy(base), config, adapter_name=name)
        else:
            wrapped.add_adapter(name, config)
    wrapped.eval()
    saved = tmp_path_factory.mktemp("pool")
    wrapped.save_pretrained(str(saved))
    return base, wrapped, slab_of(linears_of(base), folders_of(saved))


def factors_of(wrapped: Any, name: str) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    factors = {}
    for path, layer in wrapped.base_model.model.named_modules():
        if hasattr(layer, "lora_A") and name in layer.lora_A:
            b = layer.lora_B[name].weight.detach() * layer.scaling[name]
            factors[path] = (layer.lora_A[name].weight.detach(), b)
    return factors


@torch.no_grad()
def outputs(module: Any) -> torch.Tensor:
    return module(input_ids=IDS, attention_mask=torch.ones_like(IDS)).last_hidden_state


def mixed(world: Any, mixture: Mixture) -> torch.Tensor:
    base, _, pool = world
    with mixing(base, pool, [mixture, BASE]):
        return outputs(base)


@pytest.mark.parametrize("name", ADAPTERS)
def test_one_adapter_is_peft_with_it(world: Any, name: str) -> None:
    _, wrapped, pool = world
    wrapped.set_adapter(name)
    ours = mixed(world, Mixture((pool.index(name),), (1.0,)))
    assert torch.allclose(ours[0], outputs(wrapped)[0], atol=1e-5)
    with wrapped.disable_adapter():
        assert torch.allclose(ours[1], outputs(wrapped)[1], atol=1e-5)


def test_a_mixture_is_pefts_cat_and_not_its_linear(world: Any) -> None:
    _, wrapped, pool = world
    mixture = Mixture((pool.index("one"), pool.index("two")), (0.7, 0.3))
    ours = mixed(world, mixture)[0]
    for kind in ("cat", "linear"):
        wrapped.add_weighted_adapter(["one", "two"], [0.7, 0.3], kind, combination_type=kind)
        wrapped.set_adapter(kind)
        theirs = outputs(wrapped)[0]
        assert torch.allclose(ours, theirs, atol=1e-5) == (kind == "cat")
    merged = factors_of(wrapped, "linear")
    exact = {n: sum(w * b @ a for w, (a, b) in both) for n, both in weighted(pool).items()}
    wrong = sum(float((merged[n][1] @ merged[n][0] - d).square().sum()) for n, d in exact.items())
    whole = sum(float(d.square().sum()) for d in exact.values())
    measured = next(e for e in composition_errors(pool, mixture) if e.method == "square_root")
    assert measured.relative == pytest.approx((wrong / whole) ** 0.5, rel=1e-3)
    assert measured.relative > 0.5


def weighted(pool: AdapterSlab) -> dict[str, list[tuple[float, Any]]]:
    one, two = pool.factors("one"), pool.factors("two")
    return {name: [(0.7, one[name]), (0.3, two[name])] for name in one}
