"""Blocks: every tensor of every architecture is in exactly one, in the order of the layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.errors import ConfigError
from hansa.weights.blocks import (
    BlockPart,
    Granularity,
    architecture_of,
    blocks_of,
    check_blocks,
    parts_of,
)
from hansa.weights.canonical_names import canonical
from hansa.weights.model_folder import ModelFolder

from .tiny_models import MODELS, made

Tiny = Callable[[str], Path]
EXPECTED = {  # layers x parts of a layer + what stands outside
    "bert": 2 * 4 + 4 + 1,
    "bert_classifier": 2 * 4 + 4 + 1 + 1,
    "bert_masked": 2 * 4 + 4 + 3,
    "vit": 2 * 4 + 3 + 2,
    "llama": 2 * 4 + 2,
    "llama_untied": 2 * 4 + 3,
    "gpt2": 2 * 4 + 3,
    "t5": 2 * 2 + 2 * 3 + 3,
    "resnet": (2 + 3 + 2) + 1,
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("granularity", get_args(Granularity))
def test_every_tensor_is_in_one_block(tiny: Tiny, name: str, granularity: Granularity) -> None:
    folder = ModelFolder.open(tiny(name))
    blocks = blocks_of(folder, granularity)
    assert sorted(n for members in blocks.values() for n in members) == list(folder.entries)
    assert architecture_of(folder.entries) == name.partition("_")[0]
    if granularity == "sublayer":
        assert len(blocks) == EXPECTED[name], list(blocks)
    if granularity == "tensor":
        assert len(blocks) == len(folder.entries)


@pytest.mark.parametrize("name", ["vit", "bert", "gpt2", "resnet"])
def test_names_in_memory_give_the_same_partition_as_names_on_disk(tiny: Tiny, name: str) -> None:
    folder, model = ModelFolder.open(tiny(name)), made(name)
    in_memory = canonical(dict(model.state_dict()))
    sizes = [
        sorted(folder.entries[n].shape for n in members) for members in blocks_of(folder).values()
    ]
    by_name = {short: model.state_dict()[stored] for stored, short in in_memory.items()}
    for short in set(by_name) - {"lm_head.weight"}:
        assert isinstance(by_name[short], torch.Tensor)
    again = blocks_of(set(by_name) - {"lm_head.weight"})
    assert sizes == [sorted(tuple(by_name[n].shape) for n in b) for b in again.values()]


def test_layers_come_in_the_order_of_their_numbers() -> None:
    names = [f"encoder.layer.{i}.output.dense.weight" for i in range(12)]
    names += ["embeddings.LayerNorm.weight", "pooler.dense.weight", "classifier.weight"]
    blocks = list(blocks_of(names))
    layers = [f"encoder.layer.{i}.mlp" for i in range(12)]
    assert blocks == ["embeddings_norm", *layers, "pooler", "classifier"]


def test_what_no_table_fits_is_split_by_its_names() -> None:
    names = [
        *("stem.conv.weight", "blocks.0.attn.q.weight", "blocks.0.attn.k.weight"),
        *("blocks.0.experts.0.up.weight", "blocks.0.experts.1.up.weight", "blocks.10.mlp.weight"),
        *("blocks.2.mlp.weight", "head.weight", "head.bias", "scale", "final.norm.weight"),
    ]
    assert architecture_of(names) == "automatic"
    assert blocks_of(names) == {
        "stem.conv": ("stem.conv.weight",),
        "blocks.0.attn": ("blocks.0.attn.k.weight", "blocks.0.attn.q.weight"),
        "blocks.0.experts.0": ("blocks.0.experts.0.up.weight",),
        "blocks.0.experts.1": ("blocks.0.experts.1.up.weight",),
        "blocks.2.mlp": ("blocks.2.mlp.weight",),
        "blocks.10.mlp": ("blocks.10.mlp.weight",),
        "final.norm": ("final.norm.weight",),
        "head": ("head.bias", "head.weight"),
        "scale": ("scale",),
    }
    assert list(blocks_of(names, "layer"))[:4] == ["stem.conv", "blocks.0", "blocks.2", "blocks.10"]
    assert list(blocks_of(["0.weight", "0.bias", "2.weight"])) == ["0", "2"]


@given(
    st.lists(
        st.lists(st.sampled_from(["a", "layers", "0", "1", "10", "cls", "conv1"]), min_size=1)
        .map(".".join),
        min_size=1,
        unique=True,
    ),
    st.sampled_from(get_args(Granularity)),
)  # fmt: skip
def test_any_names_are_partitioned(names: list[str], granularity: Granularity) -> None:
    blocks = blocks_of(names, granularity)
    assert sorted(n for members in blocks.values() for n in members) == sorted(names)
    assert blocks_of(reversed(names), granularity) == blocks


def test_blocks_that_are_no_partition_are_refused() -> None:
    check_blocks({"x": ("a",), "y": ("b",)}, ["a", "b"])
    for blocks, problem in (
        ({"x": ("a",)}, "b.*is in no block"),
        ({"x": ("a", "b"), "y": ("b",)}, "more than one block"),
        ({"x": ("a", "b", "c")}, "not in the model"),
        ({"x": ("a", "b"), "y": ()}, "holds no tensor"),
    ):
        with pytest.raises(ConfigError, match=problem):
            check_blocks(blocks, ["a", "b"])
    with pytest.raises(ConfigError, match="sublayer, layer or tensor"):
        blocks_of(["a"], "head")  # type: ignore[arg-type]


@pytest.mark.parametrize("rows", [None, 1, 7, 30, 100])
def test_a_big_embedding_is_split_by_rows(tiny: Tiny, rows: int | None) -> None:
    folder = ModelFolder.open(tiny("bert"))
    blocks = blocks_of(folder)
    parts = parts_of(folder, blocks, rows)
    covered: dict[str, list[BlockPart]] = {}
    for members in parts.values():
        for part in members:
            covered.setdefault(part.tensor, []).append(part)
    for name, entry in folder.entries.items():
        pieces = [folder.read(name, slice(p.start, p.stop)) for p in covered[name]]
        assert torch.equal(torch.cat(pieces), folder.read(name))
        assert sum(p.stop - p.start for p in covered[name]) == entry.shape[0]
    if rows == 7:
        assert [n for n in parts if n.startswith("word_embeddings")] == [
            f"word_embeddings[{a}:{min(a + 7, 30)}]" for a in range(0, 30, 7)
        ]
    if rows in (None, 100):
        assert list(parts) == list(blocks)
    with pytest.raises(ConfigError, match="rows_at_most"):
        parts_of(folder, blocks, 0)
