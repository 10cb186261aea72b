"""Facts and tensors on disk: whole or absent, with a digest, and nothing is unpickled.

A bundle is two files of one name, of which the second is written last and makes it valid::

    NAME.safetensors    tensors
    NAME.json           facts, and the digest of the other file

Its parts serve where a JSON file answers for several files of tensors.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.base.errors import CheckpointError
from hansa.base.files import sha256, write_json, writing
from hansa.base.lazy import safetensors, safetensors_torch

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 1
FORMAT, DIGEST = "format", "sha256"
"""Their places among the facts."""


def write_bundle(path: Path, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a bundle.

    Args:
        path: without the endings.

    Raises:
        DiskError: the disk is full or fails; names the file.
    """
    digest = write_tensors(_ending(path, "safetensors"), tensors)
    write_json(_ending(path, "json"), {FORMAT: VERSION, **facts, DIGEST: digest})


def read_bundle(path: Path, remedy: str = "") -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The facts and the tensors of a bundle.

    Args:
        path: without the endings.
        remedy: what to do about one that is damaged.

    Raises:
        CheckpointError: it is missing, damaged or of another format; names the file.
    """
    card = _ending(path, "json")
    facts = read_facts(card, remedy)
    if facts.get(FORMAT) != VERSION or not isinstance(facts.get(DIGEST), str):
        raise _unfit(card, f"is not of format {VERSION}", remedy)
    return facts, read_tensors(_ending(path, "safetensors"), facts[DIGEST], remedy=remedy)


def has_bundle(path: Path) -> bool:
    """Whether there is a bundle that was finished."""
    return _ending(path, "json").exists()


def remove_bundle(path: Path) -> None:
    """Take a bundle away, if there is one; its card goes first, so that no half of it is valid."""
    for suffix in ("json", "safetensors"):
        _ending(path, suffix).unlink(missing_ok=True)


def read_facts(file: Path, remedy: str = "") -> dict[str, Any]:
    """The mapping in a JSON file.

    Raises:
        CheckpointError: it is missing, not whole, or no mapping; names the file and the remedy.
    """
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise _unfit(file, f"is missing or not whole ({error})", remedy) from error
    if not isinstance(found, dict):
        raise _unfit(file, "does not hold a mapping", remedy)
    return found


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors, whole or not at all; returns the file's digest.

    Raises:
        DiskError: the disk is full or fails; names the file.
    """
    partial = file.with_suffix(".part")
    whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            safetensors_torch.save_file(whole, partial)
        except safetensors.SafetensorError as error:
            partial.unlink(missing_ok=True)
            # The number of the system's error is in its text alone.
            if found := re.search(r"os error (\d+)", str(error)):
                raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
            raise
        digest = sha256(partial)
        partial.replace(file)
    return digest


def read_tensors(
    file: Path, digest: str, finite: bool = False, remedy: str = ""
) -> dict[str, Tensor]:
    """The tensors of a file.

    Args:
        finite: refuse numbers that are not.

    Raises:
        CheckpointError: it is missing, is not what was saved, or holds what is not finite.
    """
    try:
        found = safetensors_torch.load(read_bytes(file, digest, remedy))
    except safetensors.SafetensorError as error:
        raise _unfit(file, f"cannot be read ({error})", remedy) from error
    for name, value in found.items() if finite else ():
        if value.is_floating_point() and not math.isfinite(float(value.abs().sum())):
            raise CheckpointError(f"{file}: {name} holds a number that is not finite")
    return found


def read_bytes(file: Path, digest: str, remedy: str = "") -> bytes:
    """The bytes of a file.

    Raises:
        CheckpointError: it is missing or is not what was saved.
    """
    check_file(file, digest, remedy)
    return file.read_bytes()


def check_file(file: Path, digest: str, remedy: str = "") -> None:
    """Hold a file against its digest.

    Raises:
        CheckpointError: it is missing or is not what was saved.
    """
    if not file.is_file():
        raise _unfit(file, "is missing", remedy)
    if sha256(file) != digest:
        raise _unfit(file, "is corrupt, not the bytes that were saved", remedy)


def _ending(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.{suffix}")


def _unfit(file: Path, problem: str, remedy: str) -> CheckpointError:
    return CheckpointError(f"{file}: {problem}" + (f"; {remedy}" if remedy else ""))
