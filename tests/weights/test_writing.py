"""Files written a tensor at a time, and whole models that transformers loads again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hansa.base.errors import ConfigError
from hansa.weights.model_folder import ModelFolder
from hansa.weights.model_writing import write_model
from hansa.weights.streamed import StreamedWriter
from hansa.weights.tensor_file import dtype_name

Tiny = Callable[[str], Path]
TYPES = (torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.uint8)


def entries(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {n: (dtype_name(t.dtype), tuple(t.shape)) for n, t in tensors.items()}


shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
tensor_sets = st.dictionaries(
    st.text("ab.é", min_size=1, max_size=5),
    st.tuples(shapes, st.sampled_from(TYPES), st.booleans()),
    max_size=5,
)


@given(tensor_sets, st.randoms(use_true_random=False))
def test_what_was_streamed_in_any_order_is_read_by_safetensors(
    tmp_path_factory: pytest.TempPathFactory, wanted: dict[str, Any], chance: Any
) -> None:
    path = tmp_path_factory.mktemp("streamed") / "a.safetensors"
    tensors = {
        name: (torch.randn(shape) * 3).to(dtype).mT if turned and len(shape) > 1
        else (torch.randn(shape) * 3).to(dtype)
        for name, (shape, dtype, turned) in wanted.items()
    }  # fmt: skip
    names = list(tensors)
    chance.shuffle(names)
    with StreamedWriter(path, entries(tensors), {"made": "here"}) as writer:
        for name in names:
            whole = tensors[name]
            cut = chance.randint(0, len(whole)) if whole.ndim else None
            if cut is None:
                writer.write(name, whole)
            else:
                writer.write(name, whole[cut:], row=cut)
                writer.write(name, whole[:cut])
    got = load_file(path)
    assert got.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (got[name].dtype, got[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(got[name], tensor)
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"made": "here"}


def test_a_file_that_is_not_whole_never_takes_its_name(tmp_path: Path) -> None:
    place = tmp_path / "x.safetensors"
    declared: dict[str, tuple[str, tuple[int, ...]]] = {"a": ("F32", (2, 2)), "b": ("F32", ())}
    writer = StreamedWriter(place, declared)
    writer.write("a", torch.zeros(1, 2))
    writer.write("b", torch.zeros(()))
    with pytest.raises(ValueError, match="a was not written"):
        writer.close()
    wrong = ((torch.zeros(2, 2, dtype=torch.int64), 0), (torch.zeros(2, 2), 1))
    for (tensor, row), named in zip(wrong, ("not I64", "at row 1"), strict=True):
        with pytest.raises(ValueError, match=named), StreamedWriter(place, declared) as writer:
            writer.write("a", tensor, row)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["bert_classifier", "llama", "gpt2", "t5", "resnet"])
@pytest.mark.parametrize("shard_bytes", [10**9, 4000])
def test_transformers_loads_what_was_written(
    tiny: Tiny, tmp_path: Path, name: str, shard_bytes: int
) -> None:
    import transformers

    source = ModelFolder.open(tiny(name))
    changed = {
        n: source.read(n) * 2 if source.read(n).is_floating_point() else source.read(n)
        for n in source.entries
    }
    write_model(source, changed, tmp_path / "out", shard_bytes)
    again = ModelFolder.open(tmp_path / "out")
    assert again.tied == source.tied
    assert (len({e.file for e in again.entries.values()}) > 1) == (shard_bytes == 4000)
    kind = getattr(transformers, source.config["architectures"][0])
    model, report = kind.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    state = model.state_dict()
    for one in again.entries.values():
        assert torch.equal(state[one.stored], changed[one.name])


def test_another_type_is_noted_in_the_configuration(tiny: Tiny, tmp_path: Path) -> None:
    from transformers import ResNetModel

    source = ModelFolder.open(tiny("resnet"))
    write_model(source, source.read, tmp_path / "half", dtype="BF16")
    model = ResNetModel.from_pretrained(tmp_path / "half", dtype="auto")
    assert model.dtype == torch.bfloat16
    counts = [e for e in ModelFolder.open(tmp_path / "half").entries.values() if e.dtype == "I64"]
    assert len(counts) == sum(e.dtype == "I64" for e in source.entries.values()) > 0


def sentence_folder(tiny: Tiny, place: Path) -> Path:
    """As sentence-transformers lays one out: the model, pooling, and a dense layer."""
    shutil.copytree(tiny("bert"), place / "0_Transformer")
    for folder, about in (("1_Pooling", {"pooling_mode_mean_tokens": True}), ("2_Dense", {})):
        (place / folder).mkdir()
        (place / folder / "config.json").write_text(json.dumps(about))
    dense = {"linear.weight": torch.randn(8, 16), "linear.bias": torch.randn(8)}
    save_file(dense, place / "2_Dense" / "model.safetensors")
    names = ["0_Transformer", "1_Pooling", "2_Dense"]
    modules = [{"idx": i, "name": str(i), "path": n, "type": "x"} for i, n in enumerate(names)]
    (place / "modules.json").write_text(json.dumps(modules))
    (place / "README.md").write_text("about the source")
    return place


def test_a_sentence_transformers_folder_is_written_with_its_modules(
    tiny: Tiny, tmp_path: Path
) -> None:
    source = ModelFolder.open(sentence_folder(tiny, tmp_path / "from"))
    assert source.form == "sentence_transformers"
    assert source.config["model_type"] == "bert"
    assert {n for n in source.entries if "Dense" in n} == {
        "2_Dense.linear.weight",
        "2_Dense.linear.bias",
    }
    write_model(source, source.read, tmp_path / "to")
    kept = {str(f.relative_to(tmp_path / "to")) for f in (tmp_path / "to").rglob("*.*")}
    assert kept == {
        *("modules.json", "0_Transformer/config.json", "0_Transformer/model.safetensors"),
        *("1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors"),
    }
    assert ModelFolder.open(tmp_path / "to").sha256() == source.sha256()
    (tmp_path / "from/2_Dense/model.safetensors").rename(tmp_path / "from/2_Dense/model.bin")
    with pytest.raises(ConfigError, match="pickled"):
        ModelFolder.open(tmp_path / "from")


def test_a_failure_half_way_leaves_nothing(tiny: Tiny, tmp_path: Path) -> None:
    source = ModelFolder.open(tiny("bert"))

    def fetch(name: str) -> torch.Tensor:
        if name.startswith("pooler"):
            raise KeyError(name)
        return source.read(name)

    with pytest.raises(KeyError):
        write_model(source, fetch, tmp_path / "out", 4000)
    assert not list(tmp_path.iterdir())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(ConfigError, match="exists already"):
        write_model(source, source.read, tmp_path / "out")
    write_model(source, source.read, tmp_path / "one.safetensors")
    single = ModelFolder.open(tmp_path / "one.safetensors")
    assert single.sha256() == source.sha256()
