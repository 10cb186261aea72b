"""Batch normalization in a run of merges: inputs from a file, and statistics counted with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.errors import ConfigError, DataError
from hansa.base.lazy import safetensors_torch, torch
from hansa.combine.merge.batch_norm import is_statistic, reestimate, refuse_statistics
from hansa.weights.model_folder import ModelFolder

if TYPE_CHECKING:
    from torch import Tensor, nn

_BATCH = 128


def statistics_of(base: ModelFolder) -> tuple[str, ...]:
    """The tensors of a model that are counted and not trained: none of them is merged."""
    return tuple(name for name in base.entries if is_statistic(name))


def check_statistics(base: ModelFolder, rebn: Path | None, module: bool) -> None:
    """Refuse batch normalization that nothing counts anew.

    Args:
        module: whether there is a module to run inputs through.

    Raises:
        ConfigError: names ``rebn``, or the module that is missing.
    """
    if not statistics_of(base):
        return
    if rebn is None:
        refuse_statistics(base.entries)
    if not module:
        problem = "is not set, and inputs have to run through a module to be counted"
        raise ConfigError("tasks.module", None, problem, "file.py:function () -> torch.nn.Module")


@dataclass(frozen=True)
class Recounting:
    """Counts statistics of merged models anew.

    Attributes:
        inputs: [m, ...] of each task.
        make: an empty module of the models' form.
    """

    inputs: Mapping[str, Tensor]
    make: Callable[[], nn.Module]

    @classmethod
    def load(cls, file: Path, tasks: Sequence[str], make: Callable[[], nn.Module]) -> Recounting:
        """Inputs from .npy, .npz or .safetensors: one array for all tasks, or one a task.

        Raises:
            ConfigError: the file is missing or of another kind.
            DataError: it cannot be read, lacks a task, or has too few examples.
        """
        arrays = _arrays(file)
        only = next(iter(arrays.values())) if len(arrays) == 1 else None
        inputs = {}
        for task in tasks:
            array = arrays.get(task, only)
            if array is None:
                raise DataError(f"{file}: holds {', '.join(arrays)}, and nothing for {task}")
            if len(array) < 2:
                raise DataError(f"{file}: holds {len(array)} examples; two or more are needed")
            inputs[task] = array.float() if array.is_floating_point() else array
        return cls(inputs, make)

    def counted(self, task: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict with the statistics that a task's inputs lead to.

        Raises:
            ConfigError: the module is not of this form, or statistics are not finite.
        """
        module = self.make()
        try:
            module.load_state_dict(dict(state), strict=False)
        except RuntimeError as error:
            problem = f"is not of the models' form ({error})"
            raise ConfigError("tasks.module", type(module).__name__, problem) from error
        x = self.inputs[task]
        try:
            reestimate(module, torch.tensor_split(x, max(1, len(x) // _BATCH)))
        except (RuntimeError, TypeError) as error:
            problem = f"are no inputs of the models of {task} ({error})"
            raise ConfigError("rebn", list(x.shape), problem, "what the module takes") from error
        counted = module.state_dict()
        return {name: counted[name] if is_statistic(name) else t for name, t in state.items()}


def _arrays(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise ConfigError("rebn", str(file), "there is no such file", "check the path")
    try:
        if file.suffix == ".safetensors":
            return dict(safetensors_torch.load_file(file))
        content: Any = np.load(file, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return {"": torch.from_numpy(content)}
        with content as archive:
            return {name: torch.from_numpy(archive[name]) for name in archive.files}
    except (ValueError, OSError, EOFError, TypeError) as error:
        raise DataError(f"{file}: cannot be read ({error})") from error
