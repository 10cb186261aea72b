"""A model on disk, written in the form of another, a tensor at a time, whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hansa.weights.model_folder import ModelFolder
from hansa.weights.staging import refuse_existing, staged
from hansa.weights.streamed import StreamedWriter
from hansa.weights.tensor_file import FLOATS, ITEM_BYTES, TensorEntry, torch_dtype

if TYPE_CHECKING:
    from torch import Tensor

Tensors = Mapping[str, "Tensor"] | Callable[[str], "Tensor"]
_COPIED = (".json", ".txt", ".model", ".jinja", ".tiktoken")
_NOT_COPIED = ("trainer_state.json", "all_results.json", "train_results.json", "eval_results.json")
_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def write_model(
    like: ModelFolder,
    tensors: Tensors,
    out: Path,
    shard_bytes: int = 5_000_000_000,
    dtype: str | None = None,
) -> Path:
    """Write a model in the form of another: its names, configuration, tokenizer and modules.

    Args:
        like: the model whose form is taken.
        tensors: by canonical name; a function is asked for one at a time, so that no more than
            one is in memory.
        out: a folder, or for a single file a path ending in ``.safetensors``.
        shard_bytes: above this, files are split and an index is written.
        dtype: safetensors' name of the type to store floats in; None for each as in ``like``.

    Raises:
        ConfigError: ``out`` exists already.
        ValueError: a tensor has another shape than in ``like``.
        DiskError: the disk is full or fails.
    """
    out = Path(out)
    refuse_existing(out)
    fetch = tensors if callable(tensors) else tensors.__getitem__
    if like.path.is_file() or out.suffix == ".safetensors":
        _write_file(list(like.entries.values()), fetch, out, dtype)
        return out
    with staged(out) as place:
        _copy(like, place, dtype)
        for below, entries in _by_place(like).items():
            shards = _split(entries, dtype, shard_bytes)
            count = len(shards)
            names = [f"model-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)]
            names = names if count > 1 else ["model.safetensors"]
            for shard, name in zip(shards, names, strict=True):
                _write_file(shard, fetch, place / below / name, dtype)
            if count > 1:
                _write_index(place / below, shards, names, dtype)
    return out


def _by_place(like: ModelFolder) -> dict[Path, list[TensorEntry]]:
    """The tensors by the folder, below the model's, in which they lie."""
    places: dict[Path, list[TensorEntry]] = {}
    for entry in like.entries.values():
        places.setdefault(entry.file.parent.relative_to(like.path), []).append(entry)
    return places


def _stored(entry: TensorEntry, dtype: str | None) -> str:
    return dtype if dtype and entry.dtype in FLOATS else entry.dtype


def _bytes(entry: TensorEntry, dtype: str | None) -> int:
    return entry.bytes // ITEM_BYTES[entry.dtype] * ITEM_BYTES[_stored(entry, dtype)]


def _split(
    entries: Sequence[TensorEntry], dtype: str | None, shard_bytes: int
) -> list[list[TensorEntry]]:
    shards: list[list[TensorEntry]] = [[]]
    size = 0
    for entry in sorted(entries, key=lambda entry: entry.stored):
        size += _bytes(entry, dtype)
        if shards[-1] and size > shard_bytes:
            shards.append([])
            size = _bytes(entry, dtype)
        shards[-1].append(entry)
    return shards


def _write_file(
    entries: Sequence[TensorEntry],
    fetch: Callable[[str], Tensor],
    file: Path,
    dtype: str | None,
) -> None:
    declared = {entry.stored: (_stored(entry, dtype), entry.shape) for entry in entries}
    with StreamedWriter(file, declared, {"format": "pt"}) as writer:
        for entry in entries:
            writer.write(entry.stored, fetch(entry.name).to(torch_dtype(_stored(entry, dtype))))


def _write_index(
    folder: Path, shards: Sequence[Sequence[TensorEntry]], names: Sequence[str], dtype: str | None
) -> None:
    pairs = list(zip(shards, names, strict=True))
    total = sum(_bytes(entry, dtype) for shard in shards for entry in shard)
    places = {entry.stored: name for shard, name in pairs for entry in shard}
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _copy(like: ModelFolder, out: Path, dtype: str | None) -> None:
    """What stands beside the weights; links are followed, indices of shards are left."""
    for file in sorted(like.path.rglob("*")):
        place = file.relative_to(like.path)
        hidden = any(part.startswith((".", "checkpoint-")) for part in place.parts)
        listed = file.suffix in _COPIED and not file.name.endswith(".index.json")
        if not file.is_file() or hidden or not listed or file.name in _NOT_COPIED:
            continue
        (out / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, out / place)
    config = out / like.home.relative_to(like.path) / "config.json"
    if dtype and like.config:
        changed = dict(like.config)
        changed.pop("torch_dtype", None)
        config.write_text(json.dumps(changed | {"dtype": _NAMES[dtype]}, indent=2) + "\n")
