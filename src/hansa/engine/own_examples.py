"""A node's own examples: those that it was dealt, and what it has gathered since.

An algorithm whose nodes pass examples on opens a :class:`Store` when a block starts
(``block.open_store``). From then on a node's part grows by what is added: local steps draw from all
of it, its size is that of all of it, and checkpoints hold what was gathered. What was dealt stays
where it is, and no full store drops it; :meth:`Store.drop` does.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeAlias, overload

import numpy as np

from hansa.base.errors import WireError
from hansa.base.lazy import torch
from hansa.base.streams import Streams
from hansa.codec.table_messages import Tables, offsets
from hansa.data.dataset import Dataset
from hansa.data.grown import Grown
from hansa.engine.example_notes import Notes
from hansa.engine.exchange.inbox import Inbox

if TYPE_CHECKING:
    from torch import Tensor

WhenFull: TypeAlias = Literal["refuse", "oldest", "random"]
"""What a full store does with one more example: leaves it out; drops the one that it gathered
first; keeps a uniform sample of all that ever came (algorithm R; Vitter, 1985)."""
INPUTS, TARGETS = "inputs", "targets"
"""The columns of a table of examples."""
_KEY_BYTES = 16  # longer keys are digests of that length


class Store:
    """The examples of a block's nodes, which are named by id.

    Args:
        ids: int64 [n], the nodes.
        parts: their training examples, positions in ``dataset.train``; changed in place.
        streams: of the run.
        unique: which numbers of an input, in a line, say that two examples are the same, so that
            the first is kept and the second is not taken in; ``True``: all of them; None: nothing
            is looked for.
        capacity: how many gathered examples a node keeps at most; None: all.
        when_full: what becomes of one more.
        notes: what is noted of each example besides, by name (:meth:`noted`): what it is at first,
            a NumPy scalar. It comes with an example as one more column.

    Attributes:
        dataset: the data set with the grown training examples.
        came: int64 [n], how many different examples each node was ever given.

    Raises:
        ValueError: there is no such number of an input, or the capacity is below 0.
    """

    def __init__(
        self,
        ids: np.ndarray,
        parts: list[np.ndarray],
        dataset: Dataset,
        streams: Streams,
        unique: Sequence[int] | bool | None = None,
        capacity: int | None = None,
        when_full: WhenFull = "refuse",
        notes: Mapping[str, np.generic] | None = None,
    ) -> None:
        self._split = Grown.of(dataset.train)
        self.dataset = replace(dataset, train=self._split)
        self._width = max(1, int(np.prod(dataset.train.inputs.shape[1:])))
        columns = [*range(self._width)] if unique is True else [*(unique or ())]
        if any(not 0 <= c < self._width for c in columns):
            raise ValueError(f"unique={unique} names other numbers than an input's {self._width}")
        if capacity is not None and capacity < 0:
            raise ValueError(f"a capacity of {capacity} examples")
        self.capacity, self.when_full = capacity, when_full
        self._unique = np.array(columns, dtype=np.int64)
        self._ids, self._streams = ids, streams
        self._place = {int(i): k for k, i in enumerate(ids)}
        self._parts = parts
        self._dealt = np.array([len(part) for part in parts], dtype=np.int64)
        self._deal, self._stay = [*parts], [np.ones(len(part), dtype=bool) for part in parts]
        self._notes = Notes(notes or {}, self._dealt)
        self._spans = _spans(dataset, self._unique)
        self._index = [np.array(part, dtype=np.int64) for part in parts]  # longer than the parts
        keys = [self._keyed(dataset.train.take(part).inputs) for part in parts] if columns else []
        self._keys = [np.sort(each) for each in keys]
        self.came = np.zeros(len(ids), dtype=np.int64)

    # -- what is there

    @property
    def sizes(self) -> np.ndarray:
        """int64 [n]: how many examples each node of the block has."""
        return np.array([len(part) for part in self._parts], dtype=np.int64)

    @property
    def gathered(self) -> np.ndarray:
        """int64 [n]: how many of them were not dealt."""
        return self.sizes - self._dealt

    def dealt(self, node: int) -> int:
        """How many of a node's examples it was dealt: the first ones."""
        return int(self._dealt[self._place[node]])

    def parts(self, ids: np.ndarray) -> Sequence[np.ndarray]:
        """Positions in ``dataset.train`` of what these nodes have at the time of asking."""
        return _Parts(self._parts, [self._place[int(i)] for i in ids])

    def table(self, node: int, which: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """A node's examples as columns of a table: ``inputs`` [m, numbers] and ``targets`` [m].

        Args:
            which: int64 [m], places among the node's examples, those that it was dealt first;
                None: all.
        """
        part = self._parts[self._place[node]]
        split = self._split.take(part if which is None else part[which])
        inputs = split.inputs.reshape(len(split), self._width)
        return {INPUTS: inputs.cpu().numpy(), TARGETS: split.targets.cpu().numpy()}

    def drawn(self, node: int, count: int, random: np.random.Generator) -> dict[str, np.ndarray]:
        """Different examples of a node, at random and as :meth:`table`; all where it has fewer."""
        size = len(self._parts[self._place[node]])
        return self.table(node, random.choice(size, min(count, size), replace=False))

    @property
    def notes(self) -> tuple[str, ...]:
        """The names of what is noted of each example."""
        return tuple(self._notes.initial)

    def noted(self, node: int, name: str) -> np.ndarray:
        """A note of each of a node's examples, [m], those that it was dealt first; may be changed
        until something comes or is dropped."""
        k = self._place[node]
        return self._notes.of(k, name, len(self._parts[k]))

    def keys(self, node: int) -> np.ndarray:
        """What tells a node's examples apart, [m]: int64, or bytes of one length."""
        return self._keyed(self._split.take(self._parts[self._place[node]]).inputs)

    def find(self, node: int, inputs: np.ndarray) -> np.ndarray:
        """The places of examples among a node's, int64 [m]; -1 where it has none such.

        Args:
            inputs: [m, numbers].
        """
        mine = self.keys(node)
        order = np.argsort(mine)
        asked = self._keyed(torch.from_numpy(np.ascontiguousarray(inputs)))
        at = np.searchsorted(mine, asked, sorter=order)
        there = at < len(mine)
        there[there] = mine[order[at[there]]] == asked[there]
        return np.where(there, order[np.where(there, at, 0)] if len(mine) else -1, -1)

    def drop(self, node: int, gone: np.ndarray) -> None:
        """Forget examples of a node, those that it was dealt among them.

        Args:
            gone: bool [m], which.
        """
        if not gone.any():
            return
        k = self._place[node]
        part, dealt, first = self._parts[k], int(self._dealt[k]), len(self._split)
        self._stay[k][np.flatnonzero(self._stay[k])[gone[:dealt]]] = False
        self._split.pool.free(part[dealt:][gone[dealt:]] - first)
        self._dealt[k] -= np.count_nonzero(gone[:dealt])
        self._notes.keep(k, np.flatnonzero(~gone))
        self._index[k] = part[~gone]
        self._parts[k] = self._index[k][:]
        if len(self._unique):
            self._keys[k] = np.sort(self.keys(node))

    # -- what comes

    def take(self, inbox: Inbox) -> np.ndarray:
        """Take in every example of the tables that nodes received, by sender and in its order.

        Returns:
            How many each of the inbox's nodes took in, int64.

        Raises:
            WireError: an example is not one of such a data set.
            TypeError: the messages are no tables.
        """
        taken = np.zeros(len(inbox.ids), dtype=np.int64)
        for k, node in enumerate(inbox.ids.tolist()):
            tables = inbox.messages(k)[1]
            if not isinstance(tables, Tables):
                raise TypeError(f"a store takes tables, not {type(tables).__name__}")
            taken[k] = self.add(node, tables.columns)
        return taken

    def add(self, node: int, columns: Mapping[str, np.ndarray]) -> int:
        """Take in examples of one node; returns how many.

        Args:
            columns: ``inputs`` [m, numbers] and ``targets`` [m], of the types of the training
                examples, and notes by name, [m]; others are left alone.

        Raises:
            WireError: an example is not one of such a data set.
        """
        inputs, targets = self._checked(node, columns)
        k, keys = self._place[node], np.zeros(0, dtype=np.int64)
        said = {name: columns[name] for name in self._notes.initial if name in columns}
        if len(self._unique):
            keys = self._keyed(inputs)
            firsts = self._unknown(k, keys)
            new, keys = torch.from_numpy(firsts), keys[firsts]
            inputs, targets = inputs[new], targets[new]
            said = {name: values[firsts] for name, values in said.items()}
        m, kept = len(targets), self._kept(k, len(targets))
        self.came[k] += m
        if kept is None:
            self._append(k, keys, inputs, targets, said)
            return m
        return self._rearrange(k, kept, inputs, targets, said)

    def _checked(self, node: int, columns: Mapping[str, np.ndarray]) -> tuple[Tensor, Tensor]:
        """Columns in the form of the training examples, if they can be some."""
        spec, kept = self.dataset.spec, self._split
        if lacking := {INPUTS, TARGETS} - columns.keys():
            raise WireError(f"node {node} got examples without a column {min(lacking)!r}")
        inputs, targets = (torch.from_numpy(np.array(columns[c])) for c in (INPUTS, TARGETS))
        m = len(targets)
        if (inputs.dtype, targets.dtype) != (kept.inputs.dtype, kept.targets.dtype):
            raise WireError(f"node {node} got examples of {inputs.dtype} and {targets.dtype}")
        if targets.ndim != 1 or inputs.numel() != m * self._width or len(inputs) != m:
            raise WireError(f"node {node} got examples of {list(inputs.shape)[1:]} numbers")
        inputs = inputs.reshape(m, *kept.inputs.shape[1:])
        # Of what ids are looked up by, and of classes, only so many are known.
        known = spec.vocabulary if spec.kind in ("tokens", "pairs") else ()
        fits = _below(targets, (spec.classes,) if spec.classes else ())
        if not (fits and _below(inputs.reshape(m, self._width), known)):
            raise WireError(f"node {node} got an example that this data set cannot have")
        return inputs, targets

    def _kept(self, k: int, m: int) -> np.ndarray | None:
        """What a node has gathered once m more have come: old ones by place, then new ones.

        None: all of them.
        """
        old, full = len(self._parts[k]) - int(self._dealt[k]), self.capacity
        if full is None or old + m <= full:
            return None
        every = np.arange(old + m)
        if self.when_full == "refuse":
            return every[: max(full, old)]
        if self.when_full == "oldest":
            return every[old + m - full :]
        came = int(self.came[k])
        random = self._streams.own.numpy("store", int(self._ids[k]), came)
        kept = every[:full].copy()
        begin = full - old  # of the new ones, how many there was room for
        lots = random.integers(0, came + 1 + np.arange(begin, m))
        for j, lot in zip(range(begin, m), lots.tolist(), strict=True):
            if lot < full:
                kept[lot] = old + j
        return kept

    def _append(
        self,
        k: int,
        keys: np.ndarray,
        inputs: Tensor,
        targets: Tensor,
        said: Mapping[str, np.ndarray],
    ) -> None:
        """Take in what is new, behind all that is there; ``keys`` of it, where there are any."""
        begin = len(self._parts[k])
        end = begin + len(targets)
        if len(keys):
            self._add_keys(k, keys)
        self._make_room(k, end)
        places = self._split.pool.put(inputs, targets)
        self._index[k][begin:end] = len(self._split) + places
        self._parts[k] = self._index[k][:end]
        self._notes.put(k, begin, end - begin, said)

    def _add_keys(self, k: int, keys: np.ndarray) -> None:
        more = np.sort(keys)
        self._keys[k] = np.insert(self._keys[k], np.searchsorted(self._keys[k], more), more)

    def _make_room(self, k: int, end: int) -> None:
        if end > len(self._index[k]):
            self._index[k] = np.resize(self._index[k], max(end, 2 * len(self._index[k])))

    def _rearrange(
        self,
        k: int,
        kept: np.ndarray,
        inputs: Tensor,
        targets: Tensor,
        said: Mapping[str, np.ndarray],
    ) -> int:
        """Make what was gathered that of :meth:`_kept`; returns how many new ones are in it."""
        part, first, begin = self._parts[k], len(self._split), int(self._dealt[k])
        before = part[begin:]
        self._notes.put(k, len(part), len(targets), said)
        self._notes.keep(k, np.concatenate([np.arange(begin), begin + kept]))
        gone = before[np.setdiff1d(np.arange(len(before)), kept)]
        fresh = kept >= len(before)
        chosen = torch.from_numpy(kept[fresh] - len(before))
        inputs, targets = inputs[chosen], targets[chosen]
        if len(self._unique):
            lost = self._keyed(self._split.take(gone).inputs)
            self._keys[k] = np.delete(self._keys[k], np.searchsorted(self._keys[k], lost))
            self._add_keys(k, self._keyed(inputs))
        self._split.pool.free(gone - first)
        end = begin + len(kept)
        self._make_room(k, end)
        index = self._index[k][:end]
        after = np.empty(len(kept), dtype=np.int64)
        after[~fresh] = before[kept[~fresh]]
        after[fresh] = first + self._split.pool.put(inputs, targets)
        index[begin:] = after
        self._parts[k] = index
        return len(chosen)

    # -- which are the same

    def _keyed(self, inputs: Tensor) -> np.ndarray:
        """What makes examples the same: int64 [m], or bytes [m] of one length."""
        flat = inputs.reshape(len(inputs), self._width).cpu().numpy()[:, self._unique]
        if len(self._spans):
            return flat.astype(np.int64, copy=False) @ self._spans
        length = flat.shape[1] * flat.itemsize
        raw = np.ascontiguousarray(flat).view(np.uint8).reshape(len(flat), length)
        if length > _KEY_BYTES:
            digests = [
                hashlib.blake2b(row.tobytes(), digest_size=_KEY_BYTES).digest() for row in raw
            ]
            raw = np.frombuffer(b"".join(digests), np.uint8).reshape(len(flat), _KEY_BYTES)
        return np.ascontiguousarray(raw).view(f"V{raw.shape[1]}").reshape(-1)

    def _unknown(self, k: int, keys: np.ndarray) -> np.ndarray:
        """Which examples a node does not have, the first of equal ones, ascending."""
        firsts = np.sort(np.unique(keys, return_index=True)[1])
        mine, asked = self._keys[k], keys[firsts]
        at = np.searchsorted(mine, asked)
        there = at < len(mine)
        there[there] = mine[at[there]] == asked[there]
        return firsts[~there]

    # -- in checkpoints

    def filed(self, ids: Sequence[int] | None = None) -> dict[str, Tensor]:
        """What nodes have gathered, by default all in the order of ``ids``, as tensors by name."""
        at = np.arange(len(self._ids)) if ids is None else np.array([self._place[i] for i in ids])
        pieces = [self._parts[k][self._dealt[k] :] for k in at.tolist()]
        split = self._split.take(np.concatenate(pieces))
        stay = [self._stay[k] for k in at.tolist()]
        return {
            "counts": torch.from_numpy(self.gathered[at]),
            "came": torch.from_numpy(self.came[at]),
            "dealt": torch.tensor([len(each) for each in stay], dtype=torch.int64),
            "stay": torch.from_numpy(np.concatenate(stay)),
            INPUTS: split.inputs,
            TARGETS: split.targets,
            **self._notes.filed(at.tolist(), self.sizes),
        }

    def restore(self, ids: np.ndarray, filed: Mapping[str, Tensor]) -> None:
        """Take up what those of the nodes ``ids`` that are here had gathered (:meth:`filed`)."""
        ends, deals = offsets(filed["counts"].numpy()), offsets(filed["dealt"].numpy())
        stays = filed["stay"].numpy()
        noted = offsets(np.diff(ends) + np.diff(offsets(stays)[deals]))
        for j, node in enumerate(ids.tolist()):
            if node not in self._place:
                continue
            k, span = self._place[node], slice(int(ends[j]), int(ends[j + 1]))
            self._deal_anew(k, stays[deals[j] : deals[j + 1]])
            inputs, targets = filed[INPUTS][span], filed[TARGETS][span]
            self._rearrange(k, np.arange(len(targets)), inputs, targets, {})
            self._notes.restore(k, filed, slice(int(noted[j]), int(noted[j + 1])))
            self.came[k] = int(filed["came"][j])

    def _deal_anew(self, k: int, stay: np.ndarray) -> None:
        """A node has of what it was dealt what stays, bool, and has gathered nothing."""
        self._split.pool.free(self._parts[k][self._dealt[k] :] - len(self._split))
        self._index[k], self._stay[k] = self._deal[k][stay], stay.copy()
        self._parts[k] = self._index[k][:]
        self._dealt[k] = len(self._index[k])
        self._notes.keep(k, np.arange(0))
        self._notes.put(k, 0, int(self._dealt[k]), {})
        if len(self._unique):
            self._keys[k] = np.sort(self._keyed(self._split.take(self._parts[k]).inputs))


class _Parts(Sequence["np.ndarray"]):
    """Some of the parts of a block, as they are when they are asked for."""

    def __init__(self, whole: list[np.ndarray], places: list[int]) -> None:
        self._whole, self._places = whole, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, at: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[np.ndarray]: ...

    def __getitem__(self, at: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        if isinstance(at, slice):
            return [self._whole[k] for k in self._places[at]]
        return self._whole[self._places[at]]


def _below(values: Tensor, limits: tuple[int, ...]) -> bool:
    """Whether all are from 0 on and below a limit, one for all or one a column; or finite."""
    if not limits:
        return bool(values.isfinite().all())
    return bool(((values >= 0) & (values < torch.tensor(limits))).all())


def _spans(dataset: Dataset, unique: np.ndarray) -> np.ndarray:
    """What each of these ids is multiplied with, so that the sums tell examples apart, int64.

    Empty where there are no ids, or more examples than int64 can tell apart.
    """
    spec = dataset.spec
    if spec.kind != "pairs" or not len(spec.vocabulary) or not len(unique):
        return np.zeros(0, dtype=np.int64)
    sizes = [spec.vocabulary[c] for c in unique.tolist()]
    if math.prod(sizes) >= 1 << 62:
        return np.zeros(0, dtype=np.int64)
    spans = [math.prod(sizes[c + 1 :]) for c in range(len(sizes))]
    return np.array(spans, dtype=np.int64)
