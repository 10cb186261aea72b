"""Plans of how many models or adapters become few: one object for merging and for routing.

A plan says for each block of a model which members share a stored vector (a *group*) and with
which coefficients it was made of them. A router's weights over members are, by the plan, weights
over groups; a one-hot weight is the model of a task. Merging at several sizes (FlexMerge, Dhasade
et al. 2025) and routing over a compressed pool (LORAUTER, 2026) are such plans.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, cast

from hansa.base.errors import CheckpointError, ConfigError
from hansa.weights.streamed import Entry, StreamedWriter, file_bytes
from hansa.weights.tensor_file import (
    TensorEntry,
    dtype_name,
    raw_bytes,
    read_entry,
    read_header,
)

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["models", "adapters"]
FORMAT = 1
_HEADER = "hansa.composition"
_NO_HASH = "0" * 64


@dataclass(frozen=True)
class Member:
    """A model or an adapter that a plan composes.

    Attributes:
        sha256: digest of its tensors.
    """

    name: str
    sha256: str


@dataclass(frozen=True)
class Group:
    """Members that share one stored vector in a block.

    Attributes:
        members: their places in the plan, ascending.
        coefficients: of each member, in the sum that the vector is; for a method that is no
            weighted sum, what it weighed them by.
        masked: whether each member has a mask of its own beside the vector.
    """

    members: tuple[int, ...]
    coefficients: tuple[float, ...]
    masked: bool = False


@dataclass(frozen=True)
class PlanBlock:
    """A block and its groups.

    Attributes:
        tensors: the names of the model's tensors (or modules) in it.
    """

    name: str
    tensors: tuple[str, ...]
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class CompositionPlan:
    """Which members share what, block by block.

    Of models, each is in exactly one group of every block. An adapter that leaves a block alone is
    in none of its groups.

    Attributes:
        base: the model that all members were made from, or None.
        facts: what else is to be noted, as JSON can hold it.

    Raises:
        ValueError: a member is twice or not in a block, or a coefficient is not finite.
    """

    kind: Kind
    base: Member | None
    members: tuple[Member, ...]
    blocks: tuple[PlanBlock, ...]
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len({block.name for block in self.blocks}) != len(self.blocks):
            raise ValueError("two blocks have the same name")
        for block in self.blocks:
            places = [place for group in block.groups for place in group.members]
            if len(set(places)) != len(places) or not set(places) <= set(range(len(self.members))):
                raise ValueError(f"{block.name}: each member has to be in one group at most")
            if self.kind == "models" and len(places) != len(self.members):
                raise ValueError(f"{block.name}: each model has to be in a group")
            for group in block.groups:
                if not group.members or len(group.members) != len(group.coefficients):
                    raise ValueError(f"{block.name}: a group needs a coefficient for each member")
                if not all(map(math.isfinite, group.coefficients)):
                    raise ValueError(f"{block.name}: a coefficient is not finite")

    def block(self, name: str) -> PlanBlock:
        """The block of a name.

        Raises:
            ConfigError: there is none.
        """
        if name not in self._by_name:
            raise ConfigError("block", name, "is not in the plan")
        return self._by_name[name][0]

    @cached_property
    def _by_name(self) -> dict[str, tuple[PlanBlock, dict[int, int]]]:
        """Each block, and member to group in it."""
        return {
            block.name: (
                block,
                {m: i for i, group in enumerate(block.groups) for m in group.members},
            )
            for block in self.blocks
        }

    def place(self, member: str) -> int:
        """The place of a member by its name.

        Raises:
            ConfigError: there is none; names those that are.
        """
        names = [one.name for one in self.members]
        if member not in names:
            raise ConfigError("task", member, "is not in the plan", f"one of {', '.join(names)}")
        return names.index(member)

    def group_weights(self, block: str, weights: Mapping[int, float]) -> dict[int, float]:
        """A mixture over members as one over the groups of a block.

        Weights of members that share a group add up. A weight of exactly 0 touches nothing.

        Args:
            weights: member's place to its weight.

        Returns:
            group's place in the block to its weight, only of those that are touched.

        Raises:
            ConfigError: there is no such member, or a weight is not finite.
        """
        group_of = self._by_name[self.block(block).name][1]
        mixed: dict[int, float] = {}
        for member, weight in weights.items():
            if not 0 <= member < len(self.members) or not math.isfinite(weight):
                raise ConfigError("weights", {member: weight}, "is no weight of a member")
            if weight and member in group_of:
                mixed[group_of[member]] = mixed.get(group_of[member], 0.0) + weight
        return dict(sorted(mixed.items()))

    def to_json(self) -> str:
        """The plan as JSON, always the same text for the same plan."""
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> CompositionPlan:
        """The plan of a text.

        Raises:
            CheckpointError: it is none.
        """
        try:
            whole = json.loads(text)
            blocks = tuple(
                PlanBlock(block["name"], tuple(block["tensors"]), _groups(block["groups"]))
                for block in whole["blocks"]
            )
            base = Member(**whole["base"]) if whole["base"] else None
            members = tuple(Member(**member) for member in whole["members"])
            if whole["kind"] not in ("models", "adapters"):
                raise ValueError(f"{whole['kind']} is no kind of member")
            return cls(cast(Kind, whole["kind"]), base, members, blocks, dict(whole["facts"]))
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"this is no plan of a composition ({error})") from error

    def write(self, path: Path, tensors: Mapping[str, Tensor]) -> Path:
        """Write the plan and its tensors as one safetensors file, or replace it, in one step.

        The same plan and tensors give the same bytes.

        Raises:
            DiskError: the disk is full or fails; names the file.
        """
        declared = {n: (dtype_name(t.dtype), tuple(t.shape)) for n, t in tensors.items()}
        with PlanWriter(Path(path), self, declared) as writer:
            for name in sorted(tensors):
                writer.write(name, tensors[name])
        return Path(path)

    @classmethod
    def read(cls, path: Path) -> tuple[CompositionPlan, dict[str, Tensor]]:
        """A plan and all its tensors, each held against its digest.

        Raises:
            CheckpointError: it is missing, was changed, or is of another format; names the file.
        """
        stored = StoredPlan.open(path)
        return stored.plan, {name: stored.tensor(name) for name in stored.entries}


class PlanWriter:
    """Writes a plan and its tensors, which come one at a time and in any order.

    Use it in a ``with``: an error removes what was written.

    Args:
        path: of the file.
        entries: of the tensors, name to safetensors type and shape.

    Raises:
        DiskError: the disk is full or fails; names the file.
    """

    def __init__(self, path: Path, plan: CompositionPlan, entries: Mapping[str, Entry]) -> None:
        self._text = plan.to_json()
        self._hashes = dict.fromkeys(sorted(entries), _NO_HASH)
        self._file = StreamedWriter(path, entries, _noted(self._text, self._hashes))

    def write(self, name: str, tensor: Tensor) -> None:
        """Write a tensor, whole."""
        self._file.write(name, tensor)
        self._hashes[name] = _sha256(tensor)

    def __enter__(self) -> PlanWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._file.note(_noted(self._text, self._hashes))
        self._file.__exit__(kind, error, trace)


def plan_bytes(plan: CompositionPlan, entries: Mapping[str, Entry]) -> int:
    """The size of the file of a plan with these tensors."""
    hashes = dict.fromkeys(sorted(entries), _NO_HASH)
    return file_bytes(entries, _noted(plan.to_json(), hashes))


@dataclass(frozen=True)
class StoredPlan:
    """A plan on disk, whose tensors are read one at a time.

    Attributes:
        entries: its tensors by name.
        hashes: the digest of each.
    """

    path: Path
    plan: CompositionPlan
    entries: Mapping[str, TensorEntry]
    hashes: Mapping[str, str]

    @classmethod
    def open(cls, path: Path) -> StoredPlan:
        """The plan of a file; its tensors are not read yet.

        Raises:
            CheckpointError: it is missing, was changed, or is of another format; names the file.
        """
        path = Path(path)
        try:
            file = read_header(path, "plan")
            header = json.loads(file.metadata.get(_HEADER, "{}"))
        except (ConfigError, ValueError) as error:
            raise CheckpointError(f"{path}: {error}") from error
        if header.get("format") != FORMAT:
            raise CheckpointError(
                f"{path}: is no plan of format {FORMAT} (it says {header.get('format')}); "
                "make it again with this version"
            )
        text, hashes = header.get("plan", ""), header.get("tensors", {})
        if header.get("sha256") != _seal(text, hashes) or set(hashes) != set(file.entries):
            raise CheckpointError(f"{path}: its plan is not what was saved; make it again")
        return cls(path, CompositionPlan.from_json(text), file.entries, hashes)

    def tensor(self, name: str) -> Tensor:
        """A tensor, held against its digest.

        Raises:
            CheckpointError: it is not what was saved.
        """
        try:
            tensor = read_entry(self.entries[name])
        except ConfigError as error:
            raise CheckpointError(f"{self.path}: {error}") from error
        if _sha256(tensor) != self.hashes[name]:
            raise CheckpointError(f"{self.path}: {name} is not what was saved; make it again")
        return tensor


def _noted(text: str, hashes: Mapping[str, str]) -> dict[str, str]:
    """What the file's header says: as long whatever the digests are."""
    header = {"format": FORMAT, "plan": text, "tensors": hashes, "sha256": _seal(text, hashes)}
    return {_HEADER: json.dumps(header, sort_keys=True)}


def _groups(groups: list[dict[str, Any]]) -> tuple[Group, ...]:
    return tuple(
        Group(tuple(g["members"]), tuple(map(float, g["coefficients"])), bool(g["masked"]))
        for g in groups
    )


def _sha256(tensor: Tensor) -> str:
    digest = hashlib.sha256(f"{dtype_name(tensor.dtype)} {tuple(tensor.shape)} ".encode())
    digest.update(raw_bytes(tensor))
    return digest.hexdigest()


def _seal(text: str, hashes: Mapping[str, str]) -> str:
    whole = json.dumps([FORMAT, text, dict(hashes)], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()
