"""Models on disk: what transformers and safetensors write is read back bit for bit, or refused."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file, save_model

from hansa.base.errors import ConfigError
from hansa.weights.canonical_names import canonical
from hansa.weights.model_folder import ModelFolder, check_same

from .tiny_models import MODELS, made

Tiny = Callable[[str], Path]


@pytest.mark.parametrize("name", MODELS)
def test_every_tensor_that_transformers_wrote_is_read_bit_for_bit(tiny: Tiny, name: str) -> None:
    folder = ModelFolder.open(tiny(name))
    stored = load_file(tiny(name) / "model.safetensors")
    assert (folder.form, folder.name) == ("transformers", name)
    assert list(folder.entries) == sorted(folder.entries)
    assert {entry.stored for entry in folder.entries.values()} == set(stored)
    for one in folder.entries.values():
        tensor = folder.read(one.name)
        assert tensor.dtype == stored[one.stored].dtype
        assert torch.equal(tensor, stored[one.stored])
    assert folder.bytes == sum(value.nbytes for value in stored.values())


def test_a_head_leaves_the_names_of_the_body_alone(tiny: Tiny) -> None:
    body, headed = (ModelFolder.open(tiny(n)) for n in ("bert", "bert_classifier"))
    assert set(headed.entries) - set(body.entries) == {"classifier.weight", "classifier.bias"}
    check_same([headed, headed])
    with pytest.raises(ConfigError, match="classifier"):
        check_same([body, headed])
    check_same([body, headed], heads=("classifier.",))


def test_prefixes_of_wrappers_go_where_all_names_have_them() -> None:
    names = ["module._orig_mod.bert.encoder.weight", "module._orig_mod.classifier.weight"]
    assert list(canonical(names).values()) == ["encoder.weight", "classifier.weight"]
    assert canonical(["module.a", "b"]) == {"module.a": "module.a", "b": "b"}
    clash = ["model.lm_head", "lm_head"]
    assert list(canonical(clash).values()) == clash


@pytest.mark.parametrize(
    ("name", "aliases"),
    [
        ("llama", {"lm_head.weight": "embed_tokens.weight"}),
        ("llama_untied", {}),
        ("gpt2", {"lm_head.weight": "wte.weight"}),
        ("bert", {}),
        (
            "t5",
            {
                "lm_head.weight": "shared.weight",
                "encoder.embed_tokens.weight": "shared.weight",
                "decoder.embed_tokens.weight": "shared.weight",
            },
        ),
        (
            "bert_masked",
            {
                "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
                "cls.predictions.decoder.bias": "cls.predictions.bias",
            },
        ),
    ],
)
def test_tied_tensors_are_there_once(tiny: Tiny, name: str, aliases: dict[str, str]) -> None:
    folder = ModelFolder.open(tiny(name))
    assert folder.tied == aliases
    assert not set(folder.tied) & set(folder.entries)
    model = made(name)
    assert folder.bytes == sum(
        t.untyped_storage().nbytes()
        for t in {t.data_ptr(): t for t in [*model.parameters(), *saved_buffers(model)]}.values()
    )
    for alias, kept in aliases.items():
        assert torch.equal(folder.read(alias), folder.read(kept))


def saved_buffers(model: torch.nn.Module) -> list[torch.Tensor]:
    names = set(model.state_dict())
    return [buffer for name, buffer in model.named_buffers() if name in names]


def test_an_alias_that_was_stored_too_is_one_tensor_only_if_it_is_equal(
    tiny: Tiny, tmp_path: Path
) -> None:
    for name, change in (("equal", 0.0), ("other", 1.0)):
        shutil.copytree(tiny("llama"), tmp_path / name)
        stored = load_file(tmp_path / name / "model.safetensors")
        stored["lm_head.weight"] = stored["model.embed_tokens.weight"] + change
        save_file(stored, tmp_path / name / "model.safetensors", {"format": "pt"})
    whole, equal, other = (
        ModelFolder.open(place) for place in (tiny("llama"), tmp_path / "equal", tmp_path / "other")
    )
    assert equal.entries.keys() == whole.entries.keys()
    assert equal.tied == whole.tied
    assert equal.sha256() == whole.sha256()
    assert set(other.entries) - set(whole.entries) == {"lm_head.weight"}
    assert not other.tied


def test_aliases_that_the_writer_noted(tmp_path: Path) -> None:
    model = torch.nn.ModuleDict({"a": torch.nn.Linear(3, 3), "b": torch.nn.Linear(3, 3)})
    model["b"].weight = model["a"].weight
    save_model(model, str(tmp_path / "tied.safetensors"))
    folder = ModelFolder.open(tmp_path / "tied.safetensors")
    assert (folder.form, folder.name) == ("tensors", "tied")
    assert folder.tied == {"b.weight": "a.weight"}
    assert torch.equal(folder.read("b.weight"), model["a"].weight)


def test_shards_links_and_strays(tiny: Tiny, tmp_path: Path) -> None:
    whole = ModelFolder.open(tiny("bert"))
    made("bert").save_pretrained(tmp_path / "blobs", max_shard_size="6KB")
    (tmp_path / "cache").mkdir()
    for file in (tmp_path / "blobs").iterdir():  # as the hub's cache lays them out
        (tmp_path / "cache" / file.name).symlink_to(file)
    save_file({"stray": torch.zeros(2)}, tmp_path / "cache" / "model-00099-of-00099.safetensors")
    sharded = ModelFolder.open(tmp_path / "cache")
    assert len({entry.file for entry in sharded.entries.values()}) > 2
    check_same([whole, sharded])
    assert sharded.sha256() == whole.sha256()
    next((tmp_path / "blobs").glob("model-00002*")).unlink()
    with pytest.raises(ConfigError, match=r"names the shard model-00002.*not in the folder"):
        ModelFolder.open(tmp_path / "cache")


def test_an_index_leads_nowhere_else(tiny: Tiny, tmp_path: Path) -> None:
    shutil.copytree(tiny("bert"), tmp_path / "inner")
    (tmp_path / "inner/model.safetensors").rename(tmp_path / "secret.safetensors")
    index = {"weight_map": {"pooler.dense.bias": "../secret.safetensors"}}
    (tmp_path / "inner/model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ConfigError, match=r"names the shard \.\./secret"):
        ModelFolder.open(tmp_path / "inner")


def test_rows_types_and_numbers_that_are_not_finite(tmp_path: Path) -> None:
    tensors = {
        "bad": torch.tensor([[1.0, float("nan")], [2.0, 3.0]]),
        "count": torch.tensor(7),
        "ids": torch.arange(6).reshape(3, 2),
        "none": torch.zeros(0, 4),
        "half": torch.randn(5, 3).to(torch.bfloat16),
        "fp8": torch.randn(4).to(torch.float8_e4m3fn),
    }
    save_file(tensors, tmp_path / "some.safetensors")
    folder = ModelFolder.open(tmp_path / "some.safetensors")
    for name, tensor in tensors.items():
        got = folder.read(name)
        assert (got.dtype, got.shape) == (tensor.dtype, tensor.shape)
        assert got.view(torch.uint8).equal(tensor.view(torch.uint8)) if got.ndim else got == tensor
    assert torch.equal(folder.read("half", slice(1, 3)), tensors["half"][1:3])
    assert torch.equal(folder.read("ids", slice(2, 99)), tensors["ids"][2:])
    assert folder.read("bad", slice(1, 2), finite=True).tolist() == [[2.0, 3.0]]
    with pytest.raises(ConfigError, match=r"bad holds a number that is not finite"):
        folder.read("bad", finite=True)


def test_what_is_no_model_is_refused_by_name(tiny: Tiny, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "model.pt")
    with pytest.raises(ConfigError, match=r"model\.pt.*is pickled"):
        ModelFolder.open(tmp_path / "model.pt")
    (tmp_path / "old").mkdir()
    (tmp_path / "model.pt").rename(tmp_path / "old" / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=r"pickled \(pytorch_model\.bin\)"):
        ModelFolder.open(tmp_path / "old")
    with pytest.raises(ConfigError, match="no such file"):
        ModelFolder.open(tmp_path / "nowhere")
    data = (tiny("bert") / "model.safetensors").read_bytes()
    for broken in (data[:-5], data + b"x", data[:4], b"\xff" * 20):
        (tmp_path / "cut.safetensors").write_bytes(broken)
        with pytest.raises(ConfigError, match="no whole safetensors file"):
            ModelFolder.open(tmp_path / "cut.safetensors")
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigError, match="is a LoRA adapter"):
        ModelFolder.open(tmp_path / "lora")


def test_models_that_do_not_fit_each_other(tiny: Tiny, tmp_path: Path) -> None:
    first = ModelFolder.open(tiny("bert"))
    cases = {
        "shape": {"pooler.dense.bias": torch.zeros(17)},
        "dtype": {"pooler.dense.bias": torch.zeros(16, dtype=torch.bfloat16)},
        "tokenizer": {},
    }
    expected = {"shape": r"\(17,\) in one", "dtype": "BF16 in one", "tokenizer": "tokenizers"}
    shutil.copytree(tiny("bert"), tmp_path / "words")
    (tmp_path / "words/vocab.txt").write_text("a\nb\n")
    first = ModelFolder.open(tmp_path / "words")
    for case, changed in cases.items():
        shutil.copytree(tiny("bert"), tmp_path / case)
        stored = load_file(tmp_path / case / "model.safetensors")
        save_file({**stored, **changed}, tmp_path / case / "model.safetensors")
        (tmp_path / case / "vocab.txt").write_text("b\na\n" if case == "tokenizer" else "a\nb\n")
        with pytest.raises(ConfigError, match=expected[case]):
            check_same([first, ModelFolder.open(tmp_path / case)])


def test_positions_that_old_checkpoints_store_do_not_keep_models_apart(
    tiny: Tiny, tmp_path: Path
) -> None:
    shutil.copytree(tiny("bert"), tmp_path / "old")
    stored = load_file(tmp_path / "old" / "model.safetensors")
    stored["embeddings.position_ids"] = torch.arange(16)[None]
    save_file(stored, tmp_path / "old" / "model.safetensors", {"format": "pt"})
    old, new = ModelFolder.open(tmp_path / "old"), ModelFolder.open(tiny("bert"))
    check_same([old, new])
    check_same([new, old])
    stored["extra.weight"] = torch.zeros(1)
    save_file(stored, tmp_path / "old" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"has besides extra\.weight"):
        check_same([new, ModelFolder.open(tmp_path / "old")])


def header(text: bytes, data: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text + data


@given(st.integers(0, 10**6), st.integers(0, 255), st.integers(0, 10**6))
def test_a_header_that_was_tampered_with_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int, other: int
) -> None:
    whole = b'{"__metadata__":{"a":"b"},"b":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}'
    data = bytearray(header(whole, bytes(8)))
    data[place % len(data)] = value
    data[other % len(data)] ^= 1
    file = tmp_path_factory.getbasetemp() / "tampered.safetensors"
    file.write_bytes(data)
    with contextlib.suppress(ConfigError):
        folder = ModelFolder.open(file)
        assert all(folder.read(name).nbytes == 8 for name in folder.entries)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b'{"__metadata__": ["x"]}',
        b'{"__metadata__": {"a": 1}}',
        b'{"a": []}',
        b'{"a": {"dtype": "F32", "shape": [1e400], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F4", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
    ],
)
def test_headers_that_mean_harm_are_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(header(text, bytes(4)))
    with pytest.raises(ConfigError, match="no whole safetensors file"):
        ModelFolder.open(tmp_path / "x.safetensors")
