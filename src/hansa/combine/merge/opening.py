"""The models of a merge, opened and held against each other before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.errors import ConfigError
from hansa.weights.adapted_folder import open_adapted
from hansa.weights.model_folder import ModelFolder, check_same
from hansa.weights.tensor_file import FLOATS

if TYPE_CHECKING:
    from torch import Tensor

_TOLD = 1000
"""Numbers in matrices below which chance alone could make models alike or not."""
_CHANCE = 4.0
"""Deviations of a cosine of unrelated rows, 1 / sqrt(D), that chance hardly reaches."""


@dataclass(frozen=True)
class OpenModels:
    """Models of one origin, of which only headers are read.

    Attributes:
        models: by task.
    """

    base: ModelFolder
    models: Mapping[str, ModelFolder]

    @property
    def model_bytes(self) -> int:
        """Of one model: all tensors, tied ones once."""
        return self.base.bytes

    @property
    def uploaded_bytes(self) -> int:
        """Of all models: each party uploads its own once."""
        return sum(folder.own_bytes for folder in self.models.values())

    def state(self, task: str | None) -> dict[str, Tensor]:
        """A task's model, or the base, by the names that its own file has."""
        folder = self.base if task is None else self.models[task]
        return {entry.stored: folder.read(name) for name, entry in folder.entries.items()}

    def as_stored(self, task: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict by canonical names as one by the names that the task's own file has.

        What is tied to another tensor is in no file and keeps its canonical name.
        """
        entries = self.models[task].entries
        return {entries[n].stored if n in entries else n: tensor for n, tensor in state.items()}


def open_models(base: Path, models: Mapping[str, Path], heads: tuple[str, ...] = ()) -> OpenModels:
    """Open them, and refuse what cannot be merged. A LoRA adapter is read as base + adapter.

    Args:
        heads: how names of tensors begin that each model has for itself.

    Raises:
        ConfigError: one is missing, pickled or cut off, or they differ in names, shapes, types or
            tokenizers; names the two.
    """
    root = _opened("tasks.base", base)
    opened = {task: _opened(f"tasks.models.{task}", path, root) for task, path in models.items()}
    digests: dict[str, str] = {}
    for task, folder in opened.items():
        place = str(folder.origin.resolve())
        if place in digests:
            problem = f"is also the model of {digests[place]}"
            raise ConfigError(f"tasks.models.{task}", str(folder.origin), problem, "a model a task")
        digests[place] = task
    check_same([root, *opened.values()], heads)
    spoken = [folder for folder in (root, *opened.values()) if folder.tokenizer]
    for other in spoken[1:]:  # also where the base has none
        check_same([spoken[0], other], heads)
    return OpenModels(root, opened)


def check_weights(opened: OpenModels) -> None:
    """Read every tensor once, so that what cannot be merged is named before any work.

    Raises:
        ConfigError: a number is not finite (names the file and the tensor), or a model's matrices
            are no more like the base's than chance: it was fine-tuned from another model, and the
            mean of both is noise.
    """
    inner = {task: np.zeros(3) for task in opened.models}  # with the base, its own square, base's
    count = 0
    for name, entry in opened.base.entries.items():
        if entry.dtype not in FLOATS:
            continue
        base = opened.base.read(name, finite=True)
        matrix = base.dim() >= 2
        count += base.numel() * matrix
        for task, folder in opened.models.items():
            if name not in folder.entries or folder.entries[name].dtype not in FLOATS:
                continue
            tensor = folder.read(name, finite=True)
            if matrix and tensor.shape == base.shape:
                x, b = tensor.flatten().float(), base.flatten().float()
                inner[task] += [float(x @ b), float(x @ x), float(b @ b)]
    for task, folder in opened.models.items():
        for name, entry in folder.entries.items():
            if name not in opened.base.entries and entry.dtype in FLOATS:
                folder.read(name, finite=True)
        both, own, roots = inner[task]
        if count < _TOLD or not own or not roots:
            continue
        cosine = both / (own * roots) ** 0.5
        if abs(cosine) * count**0.5 < _CHANCE:
            problem = f"is no more like the base than chance (cosine {cosine:.3f})"
            fix = "the model that it was fine-tuned from as base; models of different origins "
            fix += "answer together as they are: hansa combine ensemble"
            raise ConfigError(f"tasks.models.{task}", str(folder.origin), problem, fix)


def _opened(field: str, path: Path, base: ModelFolder | None = None) -> ModelFolder:
    """A model; an adapter is one with its base."""
    try:
        return ModelFolder.open(path) if base is None else open_adapted(base, path)
    except ConfigError as error:
        raise ConfigError(field, error.value, error.problem, error.fix) from None
