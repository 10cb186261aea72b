"""A pool of adapters that was made small: a plan, and a PEFT folder for each group of each block.

Where the whole adapter is one block, each folder is an adapter like any other. Where adapters share
by layers, each folder holds the modules of its block alone, and an adapter is the sum of one folder
a block: a mixture over the old adapters becomes, by the plan, a mixture over folders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hansa.base.errors import CheckpointError
from hansa.weights.composition import CompositionPlan, StoredPlan
from hansa.weights.lora_folder import LoraFolder

PLAN = "plan.safetensors"
ADAPTERS = "adapters"


@dataclass(frozen=True)
class CompressedPool:
    """A compressed pool on disk.

    Attributes:
        plan: which adapters share which folder.
        names: of each block, the folders of its groups in the plan's order.
    """

    path: Path
    plan: CompositionPlan
    names: Mapping[str, tuple[str, ...]]

    @classmethod
    def open(cls, path: Path, verify: bool = True) -> CompressedPool:
        """A pool that ``hansa route compress`` has written.

        Args:
            verify: hold each folder against its digest.

        Raises:
            CheckpointError: its plan or a folder is missing or was changed.
            ConfigError: a folder is no adapter.
        """
        path = Path(path)
        plan = StoredPlan.open(path / PLAN).plan
        names = {block: tuple(folders) for block, folders in plan.facts.get("folders", {}).items()}
        for block in plan.blocks:
            if len(names.get(block.name, ())) != len(block.groups):
                raise CheckpointError(f"{path / PLAN}: names no folder for each group")
        pool = cls(path, plan, names)
        for name, digest in plan.facts.get("sha256", {}).items() if verify else ():
            if pool.folder(name).sha256() != digest:
                raise CheckpointError(f"{pool.folder(name).path}: is not what was saved")
        return pool

    def folder(self, name: str) -> LoraFolder:
        """The adapter in one of the folders."""
        return LoraFolder.open(self.path / ADAPTERS / name)

    def mixture(self, weights: Mapping[str, float]) -> dict[str, float]:
        """A mixture over the old adapters, by their names, as one over folders.

        Raises:
            ConfigError: there is no such adapter, or a weight is not finite.
        """
        places = {self.plan.place(name): weight for name, weight in weights.items()}
        return {
            self.names[block.name][group]: weight
            for block in self.plan.blocks
            for group, weight in self.plan.group_weights(block.name, places).items()
        }
