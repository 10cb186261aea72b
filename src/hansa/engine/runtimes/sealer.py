"""Checkpoints that only those who wrote them can read: the seam, and files in memory.

Who knows of keys of trusted hardware stands above this room. What is opened is never written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hansa.base.errors import CheckpointError
from hansa.base.lazy import safetensors, safetensors_torch

if TYPE_CHECKING:
    from torch import Tensor

MAGIC = b"HANSA-SEALED-1\n"


class Sealer(Protocol):
    """Seals parts of checkpoints, and chains whole ones."""

    def seal(self, data: bytes, about: Mapping[str, Any]) -> bytes:
        """``data`` so that only this code on this chip can read it, as what ``about`` says."""
        ...

    def open(self, data: bytes, about: Mapping[str, Any]) -> bytes:
        """What was sealed.

        Raises:
            CheckpointError: it was altered, is of another run, round or node, or cannot be read
                here.
        """
        ...

    def link(self, root: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
        """What chains a whole checkpoint, whose facts these are, to the one before it."""
        ...

    def linked(self, root: Path, chain: Mapping[str, Any]) -> None:
        """The checkpoint with this link is whole: it is the newest from now on."""
        ...

    def check(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Refuse a checkpoint that is not the newest, or not of this run.

        Raises:
            CheckpointError: it is not.
        """
        ...


class InMemory:
    """The tensors of a file that was opened, as ``safetensors.safe_open`` gives them."""

    def __init__(self, data: bytes) -> None:
        self._tensors: dict[str, Tensor] = safetensors_torch.load(data)

    def keys(self) -> list[str]:
        """Names of all tensors."""
        return list(self._tensors)

    def get_tensor(self, name: str) -> Tensor:
        """One of them."""
        return self._tensors[name]

    get_slice = get_tensor


@contextmanager
def opened(path: Path, about: Mapping[str, Any], sealer: Sealer | None) -> Iterator[Any]:
    """A file of tensors, whether it is sealed or not.

    Raises:
        CheckpointError: it is sealed, and cannot be opened here.
    """
    with path.open("rb") as file:
        is_sealed = file.read(len(MAGIC)) == MAGIC
    if not is_sealed:
        if sealer is not None:
            problem = "is not sealed, and this run's checkpoints are: somebody has put it there"
            raise CheckpointError(f"{path}: {problem}")
        with safetensors.safe_open(path, framework="pt") as file:
            yield file
    elif sealer is None:
        problem = "is sealed: it opens for members of its run, where they run, and for no command "
        problem += "that writes models out; for that, run with channel.seal: false"
        raise CheckpointError(f"{path}: {problem}")
    else:
        yield InMemory(sealer.open(path.read_bytes(), about))
