"""The models of a cut, which share what they have in common in memory as on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.combine.merge.block_layout import BlockLayout
from hansa.weights.composition import CompositionPlan, StoredPlan
from hansa.weights.model_folder import ModelFolder
from hansa.weights.model_writing import write_model

if TYPE_CHECKING:
    from torch import Tensor, nn


class MergedModels:
    """All models of a cut.

    Blocks are read when they are first asked for, once. Parameters of models that share a block are
    views of one storage: what one changes in place, all get. A masked block belongs to its model
    alone, and is made anew each time. A tensor that was split by rows is shared among models that
    share all of its parts.

    Args:
        stored: the cut.
    """

    def __init__(self, stored: StoredPlan) -> None:
        self._stored = stored
        facts = stored.plan.facts
        if facts.get("method") != "flexmerge":
            raise ConfigError("cut", str(stored.path), "is no cut of merged models")
        self._layouts = [
            BlockLayout.from_json(
                {
                    "name": block.name,
                    "dtype": stored.entries[f"{number}/0"].dtype,
                    "pieces": facts["pieces"][block.name],
                }
            )
            for number, block in enumerate(stored.plan.blocks)
        ]
        self._whole: dict[str, Tensor] = {}
        self._joined: dict[tuple[str, tuple[str, ...]], Tensor] = {}

    @classmethod
    def open(cls, path: Path) -> MergedModels:
        """The models of a cut.

        Raises:
            CheckpointError: it is missing or was changed.
            ConfigError: it is a plan of something else.
        """
        return cls(StoredPlan.open(path))

    @property
    def plan(self) -> CompositionPlan:
        """Which models share what."""
        return self._stored.plan

    @property
    def names(self) -> tuple[str, ...]:
        """Of the models, which are those of their tasks."""
        return tuple(member.name for member in self.plan.members)

    def state_dict(self, task: str) -> dict[str, Tensor]:
        """The tensors of a task's model, by canonical name; tied ones under every name.

        Raises:
            ConfigError: there is no such task.
            CheckpointError: a tensor is not what was saved.
        """
        model = self.plan.place(task)
        parts: dict[str, list[tuple[int, str, Tensor]]] = {}
        for number, layout in enumerate(self._layouts):
            place, row = self._block(number, model)
            for piece in layout.pieces:
                parts.setdefault(piece.name, []).append((piece.first_row, place, piece.of(row)))
        state = {name: self._whole_tensor(name, each) for name, each in parts.items()}
        for name, keys in self.plan.facts["kept"].items():
            if keys[model] is not None:
                state[name] = self._tensor(keys[model])
        for alias, name in self.plan.facts["tied"].items():
            if name in state:
                state[alias] = state[name]
        return dict(sorted(state.items()))

    def _tensor(self, name: str) -> Tensor:
        if name not in self._whole:
            self._whole[name] = self._stored.tensor(name)
        return self._whole[name]

    def _block(self, number: int, model: int) -> tuple[str, Tensor]:
        """What a model's block is known by, and its numbers; of a masked block they are new."""
        block = self.plan.blocks[number]
        place = next(k for k, group in enumerate(block.groups) if model in group.members)
        key, group = f"{number}/{place}", block.groups[place]
        vector = self._tensor(key)
        if not group.masked:
            return key, vector
        versions = self.plan.facts["versions"].get(block.name, range(len(self.names)))
        row = sorted({versions[m] for m in group.members}).index(versions[model])
        bits = self._tensor(f"{key}.masks")[row].numpy()
        mask = np.unpackbits(bits, count=len(vector), bitorder="little")
        part = vector.float() * torch.from_numpy(mask)
        if f"{key}.scalers" in self._stored.entries:
            part.mul_(self._tensor(f"{key}.scalers")[row])
        whole = part.add_(self._tensor(f"{number}/base").float()).to(vector.dtype)
        return f"{key}/{model}", whole

    def _whole_tensor(self, name: str, parts: list[tuple[int, str, Tensor]]) -> Tensor:
        if len(parts) == 1:
            return parts[0][2]
        parts = sorted(parts, key=lambda part: part[0])
        key = (name, tuple(place for _, place, _ in parts))
        if any(place.count("/") > 1 for _, place, _ in parts):  # a model's own
            return torch.cat([tensor for _, _, tensor in parts])
        if key not in self._joined:
            self._joined[key] = torch.cat([tensor for _, _, tensor in parts])
        return self._joined[key]

    def modules(self, make: Callable[[], nn.Module]) -> dict[str, nn.Module]:
        """A module a task, whose parameters share storage and are not to be trained.

        Tensors that were not merged (positions, counters) are left out where it has no place for
        them: libraries stop saving some.

        Args:
            make: an empty module of the models' form.

        Raises:
            ConfigError: the module has other names or shapes.
        """
        modules = {}
        for name in self.names:
            module = make()
            has = module.state_dict().keys()
            unmerged = self.plan.facts["kept"].keys() - has
            state = {k: v for k, v in self.state_dict(name).items() if k not in unmerged}
            try:
                module.load_state_dict(state, strict=True, assign=True)
            except RuntimeError as error:
                problem = f"does not take the tensors of {name} ({error})"
                raise ConfigError("module", type(module).__name__, problem) from error
            modules[name] = module.requires_grad_(False).eval()
        return modules

    def write(self, task: str, out: Path, like: ModelFolder) -> Path:
        """Write a task's model as a folder, in the form of another model.

        Raises:
            ConfigError: there is no such task, or ``out`` exists.
            DiskError: the disk is full or fails.
        """
        return write_model(like, self.state_dict(task), out)

    def shared(self) -> list[dict[str, Any]]:
        """Of each block, which tasks share a stored vector, and whether by masks."""
        return [
            {
                "block": block.name,
                "bytes": layout.size.bytes,
                "groups": [[self.names[m] for m in group.members] for group in block.groups],
                "masked": [group.masked for group in block.groups],
            }
            for block, layout in zip(self.plan.blocks, self._layouts, strict=True)
        ]
