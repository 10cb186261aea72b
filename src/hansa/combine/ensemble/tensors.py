"""Files of tensors: whole or absent, and checked when they are read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hansa.base.errors import CheckpointError, ConfigError
from hansa.base.files import atomic_write, sha256
from hansa.base.lazy import safetensors, safetensors_torch

if TYPE_CHECKING:
    from torch import Tensor, nn


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, atomically."""
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with atomic_write(file) as out:
        out.write(safetensors_torch.save(whole))


def read_tensors(file: Path, digest: str) -> dict[str, Tensor]:
    """The tensors of a file.

    Raises:
        CheckpointError: it is missing, is not what was saved, or holds what is not finite.
    """
    try:
        found = safetensors_torch.load(read_bytes(file, digest))
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{file}: cannot be read ({error})") from error
    for name, value in found.items():
        if value.is_floating_point() and not math.isfinite(float(value.abs().sum())):
            raise CheckpointError(f"{file}: {name} holds a number that is not finite")
    return found


def read_bytes(file: Path, digest: str) -> bytes:
    """The bytes of a file.

    Raises:
        CheckpointError: it is missing or is not what was saved.
    """
    if not file.is_file():
        raise CheckpointError(f"{file}: is missing")
    if sha256(file) != digest:
        raise CheckpointError(f"{file}: is corrupt, not the bytes that were saved")
    return file.read_bytes()


def fill(module: nn.Module, state: Mapping[str, Tensor], file: Path) -> None:
    """Give a module the numbers of a file.

    Raises:
        CheckpointError: they are another module's.
        ConfigError: they are of other classes or inputs.
    """
    wanted = module.state_dict()
    for name, value in wanted.items():
        if name not in state:
            raise CheckpointError(f"{file}: lacks {name}, so it is of another model")
        if state[name].shape != value.shape:
            raise ConfigError(
                "members",
                file.name,
                f"{name} is {list(state[name].shape)} where the card's classes and inputs need "
                f"{list(value.shape)}: members must agree on the classes",
                "leave the member out, or train it on the same classes",
            )
    extra = set(state) - set(wanted)
    if extra:
        raise CheckpointError(f"{file}: holds {sorted(extra)[0]}, so it is of another model")
    module.load_state_dict(dict(state))
