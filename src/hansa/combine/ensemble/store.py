"""An ensemble on disk: numbers and one JSON card, so that loading it runs no code of others.

::

    ensemble.json              the card: forms, rule, preprocessing, classes
    member_00.safetensors      a model as it travels: int8 with scales, or float32
    member_01.skops            a fitted predictor (see hansa.combine.ensemble.predictor_file)
    rule.safetensors           the rule's numbers
    code/                      modules of the user's own (see hansa.combine.ensemble.own_code)
    preparing.safetensors      scale and shift of the inputs, where there are any
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.bundle import read_facts, read_tensors, write_tensors
from hansa.base.errors import CheckpointError, ConfigError
from hansa.base.files import write_json
from hansa.base.forms import lying
from hansa.base.lazy import torch, without_gradients
from hansa.base.spec import DataSpec
from hansa.combine.ensemble import own_code
from hansa.combine.ensemble.aggregate import Fit
from hansa.combine.ensemble.member_file import (
    fill,
    is_whole,
    read_member,
    trusted_component,
    write_member,
)
from hansa.combine.ensemble.members import Member
from hansa.combine.ensemble.own_code import OwnCode
from hansa.data import Dataset
from hansa.data.signature import Signature, pixel_range
from hansa.ensemble import Panel, Rule, rows_of

if TYPE_CHECKING:
    from torch import Tensor, nn

CARD = "ensemble.json"
NUMBERS, PREPARING = "rule.safetensors", "preparing.safetensors"
VERSION = 1


@dataclass(frozen=True)
class Loaded:
    """An ensemble that answers.

    Attributes:
        card: what it is.
        members: models in the order of the card, in evaluation mode.
        rule: rows of scores -> scores.
        scale, shift: from stored values to model inputs, as in a data set.
    """

    card: dict[str, Any]
    spec: DataSpec
    panel: Panel
    members: list[nn.Module]
    rule: nn.Module
    sees_input: bool
    scale: Tensor | None = None
    shift: Tensor | None = None

    @property
    def signature(self) -> Signature:
        """The form of its inputs, and how files are read for it."""
        card, fill = self.card, self.card.get("fill")
        return Signature(
            self.spec,
            tuple(card.get("class_names") or ()),
            tuple(card.get("features") or ()),
            None if fill is None else np.asarray(fill, dtype=np.float32),
            self.scale,
            self.shift,
            float(card.get("floor", 0)),
            float(card.get("peak", 255)),
            reading=card.get("reading", {}),
        )

    @without_gradients
    def __call__(self, inputs: Tensor) -> Tensor:
        """Scores [m, C] of model inputs [m, *spec.shape]."""
        logits = torch.stack([member(inputs) for member in self.members])
        return self.rule(rows_of(logits, inputs if self.sees_input else None))

    def prepared(self, stored: Tensor) -> Tensor:
        """Stored values, images channels last, as model inputs [m, *spec.shape]."""
        return self.signature.prepared(stored)


def save(
    path: Path,
    dataset: Dataset,
    panel: Panel,
    members: Sequence[Member],
    kept: Fit,
    reading: Mapping[str, Any] | None = None,
    plugins: Sequence[str] = (),
) -> list[str]:
    """Write an ensemble; returns the clients whose models have no portable form.

    Args:
        reading: what else the source did to its files, see :meth:`hansa.data.DataSource.interface`.
        plugins: modules or files with components of the user's own.
    """
    path.mkdir(parents=True, exist_ok=True)
    entries, bare, code = [], [], OwnCode(path)
    for plugin in plugins:
        code.module(plugin)
    assert panel.counts is not None
    for k, member in enumerate(members):
        entry: dict[str, Any] = {"examples_of_class": panel.counts[k].tolist()}
        entry |= write_member(path, member, code)
        if not is_whole(entry):
            bare.append(str(member.client))
        entries.append(entry)
    digest = write_tensors(path / NUMBERS, kept.module.state_dict())
    floor, peak = pixel_range(dataset)
    card: dict[str, Any] = {
        "format": VERSION,
        "data": dataset.name,
        "kind": dataset.spec.kind,
        "shape": list(dataset.spec.shape),
        "outputs": dataset.spec.outputs,
        "padding": dataset.spec.padding,
        "labels": list(dataset.spec.labels),
        "task": dataset.spec.task,
        "vocabulary": list(dataset.spec.vocabulary),
        "class_names": list(dataset.class_names),
        "features": list(dataset.features),
        "fill": None if dataset.fill is None else [float(value) for value in dataset.fill],
        "floor": floor,
        "peak": peak,
        "reading": dict(reading or {}),
        "members": entries,
        "aggregator": code.form(kept.rule.dump()),
        "code": code.entries,
        "aggregator_sha256": digest,
    }
    if dataset.scale is not None and dataset.shift is not None:
        preparing = {"scale": dataset.scale, "shift": dataset.shift}
        card["preparing_sha256"] = write_tensors(path / PREPARING, preparing)
    write_json(path / CARD, card)  # last: it makes the folder an ensemble
    return bare


def load(path: Path, trust: bool = False) -> Loaded:
    """Read an ensemble.

    Args:
        trust: also build models and rules that the card names by import path, which runs code.

    Raises:
        CheckpointError: a file is missing, corrupt, or not what was saved.
        ConfigError: members disagree on classes, or code would have to be trusted.
    """
    card = _card(path)
    if trust:
        own_code.run(card.get("code", []), path)
    try:
        spec = DataSpec(
            card["kind"],
            tuple(int(n) for n in card["shape"]),
            int(card["outputs"]),
            card["task"],
            tuple(int(n) for n in card["vocabulary"]),
            padding=card.get("padding"),
            labels=tuple(card.get("labels", ())),
        )
        entries = list(card["members"])
        counts = torch.tensor([entry["examples_of_class"] for entry in entries])
        panel = Panel(len(entries), spec.outputs, counts, spec.shape)
        form = own_code.located(card["aggregator"], path)
        rule = trusted_component("rule", form, trust)
        digest, preparing = card["aggregator_sha256"], card.get("preparing_sha256")
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path / CARD}: is not a card of an ensemble ({error!r})") from error
    if entries and tuple(counts.shape) != (len(entries), panel.classes):
        raise ConfigError(
            "members",
            list(counts.shape),
            f"tell of {counts.shape[-1]} classes where the card has {panel.classes}: members must "
            "agree on the classes",
            "leave the member out, or train it on the same classes",
        )
    if not entries:
        raise CheckpointError(f"{path / CARD}: every client is gone, no member is left")
    members = [member.scorer for member in _members(path, entries, spec, trust)]
    assert isinstance(rule, Rule)
    numbers = lying(path / NUMBERS)
    state = read_tensors(numbers, digest, finite=True)
    votes = torch.zeros(len(members), panel.classes, panel.classes)
    module = rule.build(panel, votes if rule.counts_votes else None)
    fill(module, state, numbers)
    scale = shift = None
    if preparing is not None:
        tensors = read_tensors(path / PREPARING, preparing, finite=True)
        scale, shift = tensors.get("scale"), tensors.get("shift")
    return Loaded(card, spec, panel, members, module.eval(), rule.sees_input, scale, shift)


def load_members(path: Path, spec: DataSpec, trust: bool = False) -> list[Member]:
    """The members of an ensemble as they were sent to all, with scores of their own kind.

    Raises:
        CheckpointError, ConfigError: as :func:`load`.
    """
    card = _card(path)
    if trust:
        own_code.run(card.get("code", []), path)
    members = _members(path, card["members"], spec, trust)
    return [replace(member, alignment=None) for member in members]


def _members(path: Path, entries: Any, spec: DataSpec, trust: bool) -> list[Member]:
    try:
        return [read_member(path, entry, spec, trust) for entry in entries]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path / CARD}: is not a card of an ensemble ({error!r})") from error


def _card(path: Path) -> dict[str, Any]:
    card = read_facts(path / CARD)
    if card.get("format") != VERSION:
        raise CheckpointError(f"{path / CARD}: is not a card of format {VERSION}")
    return card
