"""Adapters on disk: what PEFT writes is read exactly, and PEFT reads what we write."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from hansa.base.errors import ConfigError
from hansa.weights.lora_config import check_config, targets
from hansa.weights.lora_folder import LoraFactors, LoraFolder, match_modules, write_lora

from .tiny_models import made

Tiny = Callable[[str], Path]
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"target_modules": ["query", "value"]},
    "rs": {"target_modules": ["query"], "use_rslora": True},
    "regex": {"target_modules": r".*layer\.1\.attention.*(query|key)"},
    "all": {"target_modules": "all-linear", "exclude_modules": ["pooler.dense"]},
    "patterns": {
        "target_modules": ["query", "value", "dense"],
        "rank_pattern": {"value": 2, r"layer\.1\..*query": 6},
        "alpha_pattern": {"dense": 3},
        "use_rslora": True,
    },
    "layers": {"target_modules": ["query", "dense"], "layers_to_transform": [1]},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Any]]:
    """An adapter with random factors as PEFT saves it, and PEFT's model."""
    place = tmp_path_factory.mktemp("lora")

    def train(case: str, base: str = "bert") -> tuple[Path, Any]:
        model = get_peft_model(made(base), LoraConfig(r=4, lora_alpha=7, **SETTINGS[case]))
        for name, value in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(value, std=0.3)
        model.save_pretrained(place / f"{case}_{base}")
        return place / f"{case}_{base}", model

    return train


def dense(model: Any) -> dict[str, torch.Tensor]:
    """PEFT's own deltas by module."""
    return {
        name.removeprefix("base_model.model."): module.get_delta_weight("default")
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight")
    }


@pytest.mark.parametrize("case", SETTINGS)
def test_the_delta_of_every_module_is_pefts(trained: Any, case: str) -> None:
    path, model = trained(case)
    lora = LoraFolder.open(path)
    expected = dense(model)
    assert set(lora.modules) == set(expected)
    for module, delta in expected.items():
        pair = lora.factors(module)
        assert lora.modules[module] == (len(pair.a), delta.shape[1], delta.shape[0])
        torch.testing.assert_close(pair.b @ pair.a, delta, rtol=1e-5, atol=1e-6)
    assert lora.rank == max(rank for rank, _, _ in lora.modules.values())


@pytest.mark.parametrize("case", SETTINGS)
def test_targets_are_decided_as_peft_decides(trained: Any, case: str) -> None:
    path, model = trained(case)
    config = json.loads((path / "adapter_config.json").read_text()) | SETTINGS[case]
    linear = {n for n, m in made("bert").named_modules() if isinstance(m, torch.nn.Linear)}
    assert {name for name in linear if targets(config, name)} == set(dense(model))
    (path / "adapter_config.json").write_text(json.dumps(config))
    assert LoraFolder.open(path).modules


def test_what_we_write_is_read_by_peft_with_any_ranks(tmp_path: Path) -> None:
    torch.manual_seed(0)
    names = {
        "encoder.layer.0.attention.self.query": (3, 16, 16),
        "encoder.layer.1.attention.self.query": (1, 16, 16),
        "encoder.layer.1.output.dense": (5, 32, 16),
        "pooler.dense": (3, 16, 16),
    }
    factors = {
        name: LoraFactors(torch.randn(rank, inputs), torch.randn(outputs, rank))
        for name, (rank, inputs, outputs) in names.items()
    }
    write_lora(tmp_path / "mine", factors, base="tiny")
    model = PeftModel.from_pretrained(made("bert"), tmp_path / "mine")
    for name, delta in dense(model).items():
        torch.testing.assert_close(delta, factors[name].b @ factors[name].a)
    again = LoraFolder.open(tmp_path / "mine")
    assert again.modules == names
    assert again.base == "tiny"
    with pytest.raises(ConfigError, match="exists already"):
        write_lora(tmp_path / "mine", factors)
    write_lora(tmp_path / "half", factors, dtype="BF16")
    assert LoraFolder.open(tmp_path / "half").bytes * 2 == again.bytes


def test_the_scale_stands_in_b_so_that_mixtures_are_exact(tmp_path: Path) -> None:
    total = 0.0
    for weight, a, b, alpha in ((0.3, 10.0, 0.1, 2), (0.7, 2.0, 0.2, 3)):
        place = tmp_path / str(alpha)
        write_lora(place, {"x": LoraFactors(torch.tensor([[a]]), torch.tensor([[b / alpha]]))})
        edit(place, lora_alpha=alpha)
        pair = LoraFolder.open(place).factors("x")
        total += weight * float(pair.b @ pair.a) * 5
    assert math.isclose(total, 2.9, rel_tol=1e-6)


def edit(place: Path, **changes: Any) -> None:
    file = place / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def small(place: Path, **tensors: torch.Tensor) -> Path:
    """An adapter of one module, to be spoilt."""
    write_lora(place, {"x.y": LoraFactors(torch.ones(2, 3), torch.ones(4, 2))})
    if tensors:
        file = place / "adapter_model.safetensors"
        save_file({**load_file(file), **tensors}, file)
    return place


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"lora_bias": True}, "lora_bias"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["classifier"]}, "modules_to_save"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"target_parameters": ["p"]}, "target_parameters"),
        ({"peft_type": "IA3"}, "peft_type"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights"),
        ({"r": 0}, "r = 0"),
        ({"r": -2}, "r = -2"),
        ({"r": True}, "r = True"),
        ({"rank_pattern": {"x": 0}}, "r = 0"),
        ({"lora_alpha": float("nan")}, "lora_alpha"),
        ({"lora_alpha": "8"}, "lora_alpha"),
        ({"target_modules": None}, "target_modules"),
        ({"target_modules": "("}, "no regular expression"),
        ({"target_modules": "((a|b)+)+z"}, "for ever"),
        ({"exclude_modules": r"(.*\.)*q"}, "for ever"),
        ({"rank_pattern": {"(a{2,})*": 4}}, "for ever"),
        ({"layers_pattern": ["(x+)+"]}, "for ever"),
        ({"target_modules": ["z"]}, "target_modules do not name"),
        ({"r": 3}, "of rank 2, its configuration says 3"),
    ],
)
def test_what_is_no_plain_delta_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    edit(small(tmp_path / "a"), **changes)
    with pytest.raises(ConfigError, match=named):
        LoraFolder.open(tmp_path / "a")


@pytest.mark.parametrize(
    ("key", "shape", "named"),
    [
        ("base_model.model.x.y.lora_magnitude_vector.weight", (4,), "DoRA"),
        ("base_model.model.x.y.lora_B.bias", (4,), "lora_bias"),
        ("base_model.model.e.lora_embedding_A", (2, 9), "embedding"),
        ("base_model.model.c.lora_A.weight", (2, 3, 1, 1), "convolution"),
        ("base_model.model.classifier.weight", (2, 3), "replace a part of the base"),
        ("base_model.model.z.lora_A.weight", (2, 3), "only lora_A of z"),
        ("base_model.model.x.y.lora_A.second.weight", (2, 3), "more than one adapter"),
        ("base_model.model.x.y.lora_A.weight", (0, 3), "no rank in common"),
        ("base_model.model.x.y.lora_B.weight", (4, 5), "no rank in common"),
    ],
)
def test_every_key_of_the_file_is_accounted_for(
    tmp_path: Path, key: str, shape: tuple[int, ...], named: str
) -> None:
    place = small(tmp_path / "a", **{key: torch.zeros(shape)})
    with pytest.raises(ConfigError, match=named):
        LoraFolder.open(place)


def test_keys_that_carry_the_adapters_name_are_read(tmp_path: Path) -> None:
    place = small(tmp_path / "a")
    file = place / "adapter_model.safetensors"
    renamed = {k.replace(".weight", ".mine.weight"): v for k, v in load_file(file).items()}
    save_file(renamed, file)
    assert LoraFolder.open(place).modules == {"x.y": (2, 3, 4)}


def test_missing_pickled_and_unfinite_adapters(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no adapter_config\.json"):
        LoraFolder.open(tmp_path)
    place = small(tmp_path / "a")
    (place / "adapter_model.safetensors").rename(place / "adapter_model.bin")
    with pytest.raises(ConfigError, match=r"is pickled \(adapter_model\.bin\)"):
        LoraFolder.open(place)
    (place / "adapter_model.bin").unlink()
    with pytest.raises(ConfigError, match=r"lacks adapter_model\.safetensors"):
        LoraFolder.open(place)
    nan = {"base_model.model.x.y.lora_B.weight": torch.full((4, 2), float("inf"))}
    spoilt = LoraFolder.open(small(tmp_path / "b", **nan))
    with pytest.raises(ConfigError, match=r"lora_B of x\.y holds a number that is not finite"):
        spoilt.factors("x.y")


def linear(model: torch.nn.Module) -> dict[str, tuple[int, int]]:
    return {
        name: (module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }


def test_modules_match_across_heads_and_wrappers_or_not_at_all(trained: Any) -> None:
    lora = LoraFolder.open(trained("plain")[0])
    body, headed = linear(made("bert")), linear(made("bert_classifier"))
    assert match_modules(lora, body) == {name: name for name in lora.modules}
    assert match_modules(lora, headed) == {name: f"bert.{name}" for name in lora.modules}
    back = LoraFolder.open(trained("plain", "bert_classifier")[0])
    assert set(match_modules(back, body).values()) == set(match_modules(lora, body).values())
    inner = {f"0.auto_model.{name}": extents for name, extents in body.items()}
    assert match_modules(lora, inner) == {name: f"0.auto_model.{name}" for name in lora.modules}
    with pytest.raises(ConfigError, match="matches no module of the base"):
        match_modules(lora, linear(made("llama")))
    narrow = {name: (8, outputs) for name, (_, outputs) in body.items()}
    with pytest.raises(ConfigError, match=r"maps 16 to 16, in the base .* maps \(8, 16\)"):
        match_modules(lora, narrow)


def test_digest_tells_scales_and_factors_apart(tmp_path: Path) -> None:
    first, same, scaled = (small(tmp_path / name) for name in "abc")
    other = small(tmp_path / "d", **{"base_model.model.x.y.lora_A.weight": torch.zeros(2, 3)})
    edit(scaled, lora_alpha=9)
    digests = [LoraFolder.open(place).sha256() for place in (first, same, scaled, other)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_gpt2s_transposed_layers_have_the_same_factors(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it finds Conv1D by itself
        model = get_peft_model(made("gpt2"), LoraConfig(r=2, target_modules=["c_attn"]))
    for name, value in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(value)
    model.save_pretrained(tmp_path / "gpt2")
    lora = LoraFolder.open(tmp_path / "gpt2")
    for module, delta in dense(model).items():
        pair = lora.factors(module)
        torch.testing.assert_close((pair.b @ pair.a).T, delta)


@pytest.mark.parametrize(
    "regex", [r".*\.(q|v)_proj", r"(?:.*?(?:self_attn|mlp).*?(?:q_proj|up_proj))", r"[*+]+(\)+)?z"]
)
def test_usual_expressions_are_read(regex: str) -> None:
    check_config({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": regex}, "it")
