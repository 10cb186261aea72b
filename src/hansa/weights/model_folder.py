"""A model on disk, of which only the headers are read until a tensor is asked for.

Three forms: a transformers folder (``config.json`` and one file or shards with an index), a
sentence-transformers folder (``modules.json`` that names the transformers folder and what follows
it), and plain safetensors files. Pickled weights are refused: reading one runs its code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.weights.canonical_names import canonical, untie
from hansa.weights.tensor_file import FLOATS, TensorEntry, TensorFile, read_entry, read_header

if TYPE_CHECKING:
    from torch import Tensor

Form = Literal["transformers", "sentence_transformers", "tensors"]
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")
_SAVE_SAFELY = "save it as safetensors: model.save_pretrained(FOLDER) of transformers writes that"
_CHUNK = 8 << 20


@dataclass(frozen=True)
class ModelFolder:
    """A model on disk.

    Attributes:
        path: the folder, or the file.
        name: of the folder or the file, for people.
        config: the model's ``config.json``; empty for plain tensors.
        entries: its tensors by canonical name, sorted; tied tensors once.
        tied: alias to the canonical name that is stored.
        tokenizer: digest of its tokenizer, None where it has none.
        home: the folder of the model itself (of a sentence-transformers folder, the first
            module's), or the file.
    """

    path: Path
    name: str
    form: Form
    config: dict[str, Any]
    entries: Mapping[str, TensorEntry]
    tied: Mapping[str, str]
    tokenizer: str | None
    home: Path
    _digest: list[str] = field(default_factory=list, repr=False, compare=False)

    @classmethod
    def open(cls, path: Path | str) -> ModelFolder:
        """A model, of which the headers are read.

        Raises:
            ConfigError: there is none, a shard is missing, its weights are pickled, or a file is
                cut off.
        """
        path = Path(path).expanduser()
        if not path.exists():
            raise ConfigError("model", str(path), "there is no such file or folder")
        form, home, modules = _form(path)
        config = _json(home / "config.json") if (home / "config.json").is_file() else {}
        entries, noted = _entries(_files(home))
        for module in modules:
            others, _ = _entries(_files(module))
            place = module.relative_to(path).as_posix()
            for name, entry in others.items():
                entries[f"{place}.{name}"] = _renamed(entry, f"{place}.{name}")
        kept, tied = untie(entries, config, noted)
        if not kept:
            raise ConfigError("model", str(path), "holds no tensor")
        name = path.stem if path.is_file() else path.resolve().name
        return cls(path, name, form, config, kept, tied, _tokenizer(home), home)

    @property
    def origin(self) -> Path:
        """Where what is its own lies."""
        return self.path

    @property
    def bytes(self) -> int:
        """Of all tensors, tied ones once."""
        return sum(entry.bytes for entry in self.entries.values())

    @property
    def own_bytes(self) -> int:
        """What it adds to what others have: all of it."""
        return self.bytes

    def entry(self, name: str) -> TensorEntry:
        """The entry of a canonical name, or of what an alias is tied to."""
        try:
            return self.entries[self.tied.get(name, name)]
        except KeyError:
            raise ConfigError("model", name, f"is no tensor of {self.path}") from None

    def read(self, name: str, rows: slice | None = None, finite: bool = False) -> Tensor:
        """A tensor as it is stored, or some of its rows.

        Args:
            rows: a range of the first axis.
            finite: refuse a number that is not.

        Raises:
            ConfigError: there is no such tensor, or it holds NaN or infinity.
        """
        entry = self.entry(name)
        tensor = read_entry(entry, rows)
        if finite and entry.dtype in FLOATS and not bool(torch.isfinite(tensor).all()):
            raise ConfigError(
                "model",
                str(entry.file),
                f"{entry.stored} holds a number that is not finite",
                "leave this model out, or use an earlier checkpoint of it",
            )
        return tensor

    def sha256(self) -> str:
        """Digest of all tensors, in the order of their names: equal however it is sharded."""
        if not self._digest:
            each = {name: self._bytes_sha256(entry) for name, entry in self.entries.items()}
            self._digest.append(whole_sha256(self.entries, each))
        return self._digest[0]

    def _bytes_sha256(self, entry: TensorEntry) -> str:
        digest = hashlib.sha256()
        with entry.file.open("rb") as file:
            file.seek(entry.offset)
            left = entry.bytes
            while left:
                part = file.read(min(left, _CHUNK))
                if not part:
                    raise ConfigError("model", str(entry.file), "has become shorter")
                digest.update(part)
                left -= len(part)
        return digest.hexdigest()


def whole_sha256(entries: Mapping[str, TensorEntry], digests: Mapping[str, str]) -> str:
    """The digest of a model, from those of its tensors' bytes: in whatever order they were read."""
    whole = hashlib.sha256()
    for name, entry in sorted(entries.items()):
        whole.update(f"{name} {entry.dtype} {entry.shape} {digests[name]}\n".encode())
    return whole.hexdigest()


def check_same(folders: Sequence[ModelFolder], heads: Collection[str] = ()) -> None:
    """Refuse models that cannot be merged: other names, shapes, types or tokenizers.

    A tensor of whole numbers may be in some of them alone.

    Args:
        heads: beginnings of names that each model may have for itself.

    Raises:
        ConfigError: names the two models and what differs.
    """
    first = folders[0]
    for other in folders[1:]:
        pair = f"{other.path} against {first.path}"
        mine, theirs = (
            {n: e for n, e in f.entries.items() if not n.startswith(tuple(heads))}
            for f in (first, other)
        )
        # Whole numbers are not merged: old checkpoints store positions that newer ones leave out.
        unlike = {**mine, **theirs}
        if lacking := sorted(n for n in set(mine) ^ set(theirs) if unlike[n].dtype in FLOATS):
            where = "lacks" if lacking[0] in mine else "has besides"
            raise ConfigError(
                "models",
                pair,
                f"one {where} {_some(lacking)}",
                "give models of one architecture, or set their heads apart",
            )
        for name, entry in ((n, e) for n, e in mine.items() if n in theirs):
            if entry.shape != theirs[name].shape:
                problem = f"{name} is {theirs[name].shape} in one and {entry.shape} in the other"
                fix = "give models that were fine-tuned from one base"
                raise ConfigError("models", pair, problem, fix)
            if entry.dtype != theirs[name].dtype:
                problem = f"{name} is {theirs[name].dtype} in one and {entry.dtype} in the other"
                raise ConfigError("models", pair, problem, "save them all in one type")
        if first.tokenizer and other.tokenizer and first.tokenizer != other.tokenizer:
            raise ConfigError(
                "models",
                pair,
                "their tokenizers differ, so a row of the embeddings means another word",
                "give models with one tokenizer",
            )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _form(path: Path) -> tuple[Form, Path, list[Path]]:
    """The form, the model's own folder, and folders of further modules with weights."""
    if path.is_file():
        if path.suffix != ".safetensors":
            problem = "is pickled" if path.suffix in PICKLED else "is no safetensors file"
            raise ConfigError("model", str(path), problem, _SAVE_SAFELY)
        return "tensors", path, []
    if (path / "adapter_config.json").is_file():
        raise ConfigError(
            "model",
            str(path),
            "is a LoRA adapter, not a whole model",
            "hansa route compress merges adapters, hansa export --merged writes whole models",
        )
    if (path / "modules.json").is_file():
        modules = _json(path / "modules.json")
        places = [str(module["path"]) for module in modules] if isinstance(modules, list) else []
        if not places or any(Path(p).is_absolute() or ".." in Path(p).parts for p in places):
            raise ConfigError("model", str(path / "modules.json"), "names no module of this folder")
        later = [path / place for place in places[1:] if place]
        weighty = [p for p in later if any(p.glob("*.safetensors")) or _pickled(p)]
        return "sentence_transformers", path / places[0], weighty
    return ("transformers" if (path / "config.json").is_file() else "tensors"), path, []


def _pickled(folder: Path) -> list[Path]:
    return sorted(f for f in folder.glob("*") if f.suffix in PICKLED and f.stem != "training_args")


def _files(place: Path) -> list[TensorFile]:
    """The files with weights of a folder: the one, or those that an index names."""
    if place.is_file():
        return [read_header(place)]
    single = place / "model.safetensors"
    indices = sorted(place.glob("*.safetensors.index.json"))
    if single.is_file():
        return [read_header(single)]
    if len(indices) > 1:
        problem = f"has {len(indices)} indices of shards"
        raise ConfigError("model", str(place), problem, f"leave one, such as {indices[0].name}")
    if indices:
        return list(_shards(indices[0]))
    files = sorted(place.glob("*.safetensors"))
    if not files:
        pickled = _pickled(place)
        if pickled:
            problem = f"its weights are pickled ({pickled[0].name}), and reading that runs its code"
            raise ConfigError("model", str(place), problem, _SAVE_SAFELY)
        raise ConfigError("model", str(place), "holds no safetensors file", _SAVE_SAFELY)
    return [read_header(file) for file in files]


def _shards(index: Path) -> Iterator[TensorFile]:
    """The shards that an index names, each with the tensors that it assigns to it."""
    places = _json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ConfigError("model", str(index), "has no weight_map", "save the model again")
    shards = sorted(set(map(str, places.values())))
    for shard in shards:
        if Path(shard).name != shard or not (index.parent / shard).is_file():
            problem = f"names the shard {shard}, which is not in the folder"
            raise ConfigError("model", str(index), problem, "complete the download or the copy")
    for shard in shards:
        file = read_header(index.parent / shard)
        wanted = {name for name, place in places.items() if place == shard}
        if missing := sorted(wanted - set(file.entries)):
            problem = f"places {_some(missing)} in {shard}, which lacks it"
            raise ConfigError("model", str(index), problem, "complete the download or the copy")
        kept = {name: entry for name, entry in file.entries.items() if name in wanted}
        yield TensorFile(file.path, kept, file.metadata)


def _entries(files: Sequence[TensorFile]) -> tuple[dict[str, TensorEntry], dict[str, str]]:
    """The tensors of files by canonical name, and the aliases that their writers noted."""
    stored: dict[str, TensorEntry] = {}
    noted: dict[str, str] = {}
    for file in files:
        for name, entry in file.entries.items():
            if name in stored:
                both = f"{stored[name].file.name} and {file.path.name}"
                raise ConfigError("model", name, f"lies in {both}", "remove one of the files")
            stored[name] = entry
        noted |= file.metadata
    names = canonical(stored)
    aliases = canonical([*stored, *(alias for alias in noted if noted[alias] in stored)])
    return (
        {names[name]: _renamed(entry, names[name]) for name, entry in stored.items()},
        {
            aliases[a]: names[kept]
            for a, kept in noted.items()
            if kept in stored and a not in stored
        },
    )


def _renamed(entry: TensorEntry, name: str) -> TensorEntry:
    return TensorEntry(
        name, entry.shape, entry.dtype, entry.bytes, entry.file, entry.stored, entry.offset
    )


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError("model", str(file), f"is no JSON that can be read ({error})") from error


def _tokenizer(folder: Path) -> str | None:
    """Digest of what maps words to rows; padding and truncation may differ."""
    digest = hashlib.sha256()
    file = folder / "tokenizer.json"
    if file.is_file():
        whole = _json(file)
        whole = {k: v for k, v in whole.items() if k not in ("padding", "truncation")}
        digest.update(json.dumps(whole, sort_keys=True).encode())
        return digest.hexdigest()
    names = ("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "tokenizer.model")
    files = [folder / name for name in names if (folder / name).is_file()]
    for one in files:
        digest.update(one.name.encode() + one.read_bytes())
    return digest.hexdigest() if files else None
