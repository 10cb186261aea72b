"""What a model's folder holds beside its weights, kept so that a model of its form can be written.

An artefact outlives the models that it was made of: their configuration, tokenizer and modules are
copied, and the names and shapes of their tensors noted.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hansa.base.bundle import read_facts
from hansa.base.files import write_json, writing
from hansa.weights.model_folder import ModelFolder
from hansa.weights.tensor_file import TensorEntry

_COPIED = (".json", ".txt", ".model", ".jinja", ".tiktoken")


def keep_form(model: ModelFolder, place: Path) -> None:
    """Copy a model's small files to a folder, with a note of its tensors.

    Raises:
        DiskError: the disk is full or fails.
    """
    whole_file = model.path.is_file()
    top = model.path.parent if whole_file else model.path
    files = {} if whole_file else _small_files(top)
    with writing(place):
        place.mkdir(parents=True, exist_ok=True)
        for name, file in files.items():
            target = place / "files" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
    entries = [
        [e.name, list(e.shape), e.dtype, e.bytes, e.file.relative_to(top).as_posix(), e.stored]
        for e in model.entries.values()
    ]
    home = "." if whole_file else model.home.relative_to(top).as_posix()
    facts = {
        "name": model.name,
        "form": model.form,
        "config": model.config,
        "home": home,
        "entries": entries,
        "tied": dict(model.tied),
        "tokenizer": model.tokenizer,
    }
    write_json(place / "form.json", facts)


def _small_files(top: Path) -> dict[str, Path]:
    return {
        file.relative_to(top).as_posix(): file
        for file in sorted(top.rglob("*"))
        if file.suffix in _COPIED
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(top).parts)
    }


def kept_form(place: Path) -> ModelFolder:
    """The model of which the form was kept; its tensors cannot be read.

    Raises:
        CheckpointError: there is none.
    """
    facts: Mapping[str, Any] = read_facts(place / "form.json")
    top = place / "files"
    top.mkdir(exist_ok=True)
    entries = {
        name: TensorEntry(name, tuple(shape), dtype, size, top / file, stored)
        for name, shape, dtype, size, file, stored in facts["entries"]
    }
    return ModelFolder(
        top,
        facts["name"],
        facts["form"],
        facts["config"],
        entries,
        facts["tied"],
        facts["tokenizer"],
        top / facts["home"],
    )
