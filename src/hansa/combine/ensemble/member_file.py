"""One member on disk: a file with its numbers, and an entry of plain data that says what it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from hansa.base.bundle import read_bytes, read_tensors, write_tensors
from hansa.base.component import catalogue, find
from hansa.base.errors import CheckpointError, ConfigError
from hansa.base.files import atomic_write, sha256
from hansa.base.lazy import torch
from hansa.base.spec import DataSpec
from hansa.combine.ensemble.ensemble_settings import Predictor
from hansa.combine.ensemble.members import Member, Preparing
from hansa.combine.ensemble.own_code import OwnCode, located
from hansa.combine.ensemble.predictor_file import unpack
from hansa.combine.ensemble.predictors import Constant, Fitted
from hansa.ensemble import Alignment, Calibrated, Int8, ScoreKind, state_bytes
from hansa.models import Model

if TYPE_CHECKING:
    from torch import Tensor, nn


def write_member(path: Path, member: Member, code: OwnCode | None = None) -> dict[str, Any]:
    """Write a member into a folder and return its entry; without a ``file`` or a ``constant`` in
    it, there is no form of it that can be read back.

    Args:
        code: copies the user's own code that it is built from.
    """
    carried = code.form if code is not None else dict
    entry: dict[str, Any] = {"client": member.client, "upload": member.upload}
    if member.alignment is not None:
        entry["scores"] = asdict(member.alignment)
    if member.kind is not None:
        entry["kind"] = member.kind
    if member.preparing is not None:
        way = member.preparing
        entry["preparing"] = {
            "factor": None if way.factor is None else way.factor.tolist(),
            "offset": None if way.offset is None else way.offset.tolist(),
            "order": way.order,
        }
    if isinstance(member.form, Predictor):
        entry["predictor"] = carried(member.form.model_dump(mode="json"))
        if isinstance(member.module, Constant):
            entry["constant"] = member.module.label
        elif member.stored is not None:
            assert isinstance(member.module, Fitted)
            file = path / f"member_{member.client:02d}.skops"
            with atomic_write(file) as out:
                out.write(member.stored)
            entry |= {
                "file": file.name,
                "sha256": sha256(file),
                "seen": member.module.seen.tolist(),
            }
        return entry
    file = path / f"member_{member.client:02d}.safetensors"
    packed = member.packed or Int8(member.module.state_dict())
    entry |= {
        "model": carried(member.form.dump()),
        "file": file.name,
        "sha256": write_tensors(file, packed.tensors),
        "quantized": member.packed is not None,
    }
    if member.ranges is not None:
        entry["ranges"] = {name: list(r) for name, r in member.ranges.items()}
    return entry


def is_whole(entry: dict[str, Any]) -> bool:
    """Whether a member can be read back."""
    return "file" in entry or "constant" in entry


def read_member(path: Path, entry: dict[str, Any], spec: DataSpec, trust: bool) -> Member:
    """One member.

    Args:
        trust: also build models and predictors that run code of others.

    Raises:
        CheckpointError: its file is missing, corrupt or another model's.
        ConfigError: it gives other classes than the others, has no form on disk, or would have
            to be trusted.
    """
    client = int(entry["client"])
    if not is_whole(entry):
        raise ConfigError(
            "members",
            client,
            "is a fitted predictor that skops cannot hold, so it has no form on disk that is safe "
            "to load",
            "use the ensemble in the process that trained it, or another predictor or network",
        )
    read = _predictor if "predictor" in entry else _network
    return replace(
        read(path, client, entry, spec, trust),
        preparing=_preparing(entry),
        kind=entry.get("kind"),
        alignment=_alignment(path, entry),
    )


def _preparing(entry: dict[str, Any]) -> Preparing | None:
    if "preparing" not in entry:
        return None
    steps = entry["preparing"]
    factor, offset, order = steps["factor"], steps["offset"], steps["order"]
    return Preparing(
        None if factor is None else torch.tensor(factor),
        None if offset is None else torch.tensor(offset),
        None if order is None else tuple(map(int, order)),
    )


def _alignment(path: Path, entry: dict[str, Any]) -> Alignment | None:
    if "scores" not in entry:
        return None
    kind, factor = entry["scores"]["kind"], float(entry["scores"]["factor"])
    if kind not in get_args(ScoreKind) or not (math.isfinite(factor) and factor > 0):
        raise CheckpointError(f"{path}: client {entry['client']} has scores of no known kind")
    return Alignment(kind, factor)


def _network(path: Path, client: int, entry: dict[str, Any], spec: DataSpec, trust: bool) -> Member:
    file = path / Path(str(entry["file"])).name
    model = trusted_component("model", located(entry["model"], path), trust)
    assert isinstance(model, Model)
    module = model.build(spec)
    packed = Int8(read_tensors(file, entry["sha256"], finite=True))
    fill(module, packed.state(), file)
    module.eval()
    ranges = None
    if "ranges" in entry:
        ranges = {str(k): (float(a), float(b)) for k, (a, b) in entry["ranges"].items()}
        Calibrated(module).apply(ranges)
    kept = packed if entry.get("quantized") else None
    upload = int(entry.get("upload", state_bytes(module)))
    return Member(client, model, module, upload, kept, ranges)


def _predictor(
    path: Path, client: int, entry: dict[str, Any], spec: DataSpec, trust: bool
) -> Member:
    form = Predictor.model_validate(located(entry["predictor"], path))
    upload = int(entry.get("upload", 0))
    if "constant" in entry:
        label = int(entry["constant"])
        if not 0 <= label < spec.classes:
            raise CheckpointError(f"{path}: client {client} answers class {label}, of none")
        return Member(client, form, Constant(label, spec.classes, spec.outputs), upload)
    file = path / Path(str(entry["file"])).name
    seen = np.asarray(entry["seen"], dtype=np.int64)
    if not len(seen) or seen.min() < 0 or seen.max() >= spec.classes:
        raise ConfigError(
            "members",
            client,
            f"knows classes {seen.tolist()} where the card has {spec.classes}: members must agree "
            "on the classes",
            "leave the member out, or train it on the same classes",
        )
    data = read_bytes(file, entry["sha256"])
    predictor = unpack(data, math.prod(spec.shape), trust, file.name)
    module = Fitted(predictor, seen, spec.classes, spec.outputs).eval()
    return Member(client, form, module, upload, stored=data)


def trusted_component(kind: str, settings: Any, trust: bool) -> Any:
    """A component of a card.

    Raises:
        ConfigError: it is of code of others, and nobody said that the card is trusted.
    """
    given = dict(settings)
    name = str(given.pop("name"))
    own = ":" not in name and name not in catalogue(kind)  # a plugin's
    if not trust and (":" in name or name == "module" or own):
        problem = "came with the ensemble and is not of hansa; building it runs that code"
        raise ConfigError(kind, name, problem, "--trust, if you know where the ensemble is from")
    return find(kind, name).parse(given)


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
