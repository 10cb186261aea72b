"""Facts and tensors on disk: whole or absent, with a digest, and nothing is unpickled.

A bundle is one safetensors file whose header holds the facts as JSON and a digest of all, so that
it is replaced in one step. Its parts serve where a JSON file answers for several files of tensors.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.base.errors import CheckpointError
from hansa.base.files import sha256, writing
from hansa.base.lazy import safetensors, safetensors_torch, torch

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 1
_HEADER = "hansa.bundle"
"""The one entry of the file's header that is ours: several have no order, and files differed."""


def bundle_file(path: Path) -> Path:
    """The file of a bundle whose path is given without the ending."""
    return path.with_name(f"{path.name}.safetensors")


def write_bundle(
    path: Path, facts: Mapping[str, Any], tensors: Mapping[str, Tensor], private: bool = False
) -> None:
    """Write a bundle, or replace it, in one step.

    Args:
        path: without the ending.
        facts: what JSON can hold.
        private: nobody but the user may read it.

    Raises:
        DiskError: the disk is full or fails; names the file.
    """
    whole = _whole(tensors)
    header = {"format": VERSION, "facts": dict(facts), "sha256": _digest(facts, whole)}
    _save(bundle_file(path), whole, {_HEADER: json.dumps(header)}, private)


def read_bundle(path: Path, remedy: str = "") -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The facts and the tensors of a bundle.

    Args:
        path: without the ending.
        remedy: what to do about one that is damaged.

    Raises:
        CheckpointError: it is missing, damaged or of another format; names the file.
    """
    file = bundle_file(path)
    try:
        data = file.read_bytes()
        tensors = safetensors_torch.load(data)
        header = _header(data)
    except FileNotFoundError:
        raise _unfit(file, "is missing", remedy) from None
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _unfit(file, f"is corrupt ({error})", remedy) from error
    return _facts(file, header, tensors, remedy), tensors


def map_bundle(path: Path, remedy: str = "") -> tuple[dict[str, Any], dict[str, Tensor]]:
    """As :func:`read_bundle`, with tensors that are mapped from the file.

    Processes that open one file so share its memory; what one writes into a tensor stays its own.
    The file may be removed meanwhile, but must not be written into.
    """
    file = bundle_file(path)
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            header = json.loads((opened.metadata() or {}).get(_HEADER, "{}"))
    except FileNotFoundError:
        raise _unfit(file, "is missing", remedy) from None
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _unfit(file, f"is corrupt ({error})", remedy) from error
    return _facts(file, header, tensors, remedy), tensors


def _header(data: bytes) -> dict[str, Any]:
    whole = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    header: dict[str, Any] = json.loads(whole.get("__metadata__", {}).get(_HEADER, "{}"))
    return header


def _facts(
    file: Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor], remedy: str
) -> dict[str, Any]:
    """The facts of a bundle whose digest holds."""
    if header.get("format") != VERSION:
        raise _unfit(file, f"is no bundle of format {VERSION}", remedy)
    facts = header.get("facts")
    if not isinstance(facts, dict) or _digest(facts, tensors) != header.get("sha256"):
        raise _unfit(file, "is corrupt, not what was saved", remedy)
    return facts


def _whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _digest(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Of facts and tensors, whatever their order in the file."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        if value.numel():
            flat = value.reshape(-1)  # of one number, its stride may be any
            flat = (
                flat if flat.stride(0) == 1 else flat.clone(memory_format=torch.contiguous_format)
            )
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_facts(file: Path, remedy: str = "") -> dict[str, Any]:
    """The mapping in a JSON file.

    Raises:
        CheckpointError: it is missing, not whole, or no mapping; names the file and the remedy.
    """
    try:
        facts = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise _unfit(file, f"is missing or not whole ({error})", remedy) from error
    if not isinstance(facts, dict):
        raise _unfit(file, "does not hold a mapping", remedy)
    return facts


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors, whole or not at all; returns the file's digest.

    Raises:
        DiskError: the disk is full or fails; names the file.
    """
    _save(file, _whole(tensors))
    return sha256(file)


def packed(tensors: Mapping[str, Tensor]) -> bytes:
    """Tensors as :func:`write_tensors` would write them, in memory."""
    data: bytes = safetensors_torch.save(_whole(tensors))
    return data


def _save(
    file: Path,
    whole: dict[str, Tensor],
    header: dict[str, str] | None = None,
    private: bool = False,
) -> None:
    partial = file.with_suffix(".part")
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        if private:  # before anything is in it
            partial.unlink(missing_ok=True)
            partial.touch(0o600, exist_ok=False)
        try:
            safetensors_torch.save_file(whole, partial, header)
        except safetensors.SafetensorError as error:
            partial.unlink(missing_ok=True)
            # The number of the system's error is in its text alone.
            if system := re.search(r"os error (\d+)", str(error)):
                raise OSError(int(system[1]), os.strerror(int(system[1]))) from error
            raise
        partial.replace(file)


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
        tensors = safetensors_torch.load(read_bytes(file, digest, remedy))
    except safetensors.SafetensorError as error:
        raise _unfit(file, f"cannot be read ({error})", remedy) from error
    for name, value in tensors.items() if finite else ():
        if value.is_floating_point() and not math.isfinite(float(value.abs().sum())):
            raise CheckpointError(f"{file}: {name} holds a number that is not finite")
    return tensors


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


def _unfit(file: Path, problem: str, remedy: str) -> CheckpointError:
    return CheckpointError(f"{file}: {problem}" + (f"; {remedy}" if remedy else ""))
