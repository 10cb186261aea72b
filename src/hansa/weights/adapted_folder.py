"""A base on disk with a LoRA adapter added, read as one model: W + s B A, tensor by tensor."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from hansa.base.lazy import torch
from hansa.weights.lora_folder import LoraFolder, match_modules
from hansa.weights.model_folder import ModelFolder
from hansa.weights.tensor_file import FLOATS, TensorEntry, raw_bytes

if TYPE_CHECKING:
    from torch import Tensor

_CONFIG = "adapter_config.json"
_WEIGHT = ".weight"


def is_adapter(path: Path) -> bool:
    """Whether a folder holds an adapter as PEFT writes it."""
    return (path / _CONFIG).is_file()


@dataclass(frozen=True)
class AdaptedFolder(ModelFolder):
    """A model that is another's folder and an adapter's; nothing of it is written anywhere.

    Its path is the base's.

    Attributes:
        adapter: what is added.
        adapts: name of an adapted tensor to the adapter's name for its module.
    """

    adapter: LoraFolder | None = None
    adapts: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def over(cls, base: ModelFolder, path: Path) -> AdaptedFolder:
        """An adapter's folder on its base.

        Raises:
            ConfigError: it is no plain LoRA adapter, or is of another base.
        """
        adapter = LoraFolder.open(path)
        turned = bool(adapter.config.get("fan_in_fan_out"))
        linear: dict[str, tuple[int, int]] = {}
        for name, entry in base.entries.items():
            if name.endswith(_WEIGHT) and len(entry.shape) == 2 and entry.dtype in FLOATS:
                outputs, inputs = entry.shape[::-1] if turned else entry.shape
                linear[name.removesuffix(_WEIGHT)] = (inputs, outputs)
        matched = match_modules(adapter, linear)
        adapts = {f"{own}{_WEIGHT}": module for module, own in matched.items()}
        inherited = {f.name: getattr(base, f.name) for f in fields(ModelFolder)}
        inherited |= {"name": adapter.name, "_digest": []}
        return cls(**inherited, adapter=adapter, adapts=adapts)

    @property
    def origin(self) -> Path:
        assert self.adapter is not None
        return self.adapter.path

    @property
    def own_bytes(self) -> int:
        """Of the factors: the base is there already."""
        assert self.adapter is not None
        return self.adapter.bytes

    def read(self, name: str, rows: slice | None = None, finite: bool = False) -> Tensor:
        module = self.adapts.get(self.tied.get(name, name))
        if module is None or self.adapter is None:
            return super().read(name, rows, finite)
        tensor = super().read(name, None, finite)
        factors, turned = self.adapter.factors(module), self.adapter.config.get("fan_in_fan_out")
        left, right = (factors.a.T, factors.b.T) if turned else (factors.b, factors.a)
        summed = (tensor.to(torch.float32) + left @ right).to(tensor.dtype)
        return summed if rows is None else summed[rows]  # as of the whole, to the last bit

    def _bytes_sha256(self, entry: TensorEntry) -> str:
        if entry.name not in self.adapts:
            return super()._bytes_sha256(entry)
        return hashlib.sha256(raw_bytes(self.read(entry.name))).hexdigest()


def open_adapted(base: ModelFolder, path: Path) -> ModelFolder:
    """The model in a folder; that of an adapter is added to the base.

    Raises:
        ConfigError: as :meth:`ModelFolder.open` and :meth:`AdaptedFolder.over`.
    """
    if is_adapter(path):
        return AdaptedFolder.over(base, path)
    return ModelFolder.open(path)
