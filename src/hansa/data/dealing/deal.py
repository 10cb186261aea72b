"""Index arrays of very many clients without an object for each of them."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import overload

import numpy as np


@cache
def _nothing() -> np.ndarray:
    return np.zeros(0, dtype=np.int64)


class _Lazy(Sequence["np.ndarray"]):
    """Arrays that are made when they are asked for."""

    sizes: np.ndarray
    """int64 [len]: the length of each."""

    @abstractmethod
    def at(self, place: int) -> np.ndarray:
        """The array at a place, which there is."""

    @overload
    def __getitem__(self, at: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[np.ndarray]: ...

    def __getitem__(self, at: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        if isinstance(at, slice):
            return [self.at(i) for i in range(*at.indices(len(self)))]
        place = operator.index(at)
        place += len(self) * (place < 0)
        if not 0 <= place < len(self):
            raise IndexError(f"there is no part {at} of {len(self)}")
        return self.at(place)

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self.at, range(len(self)))


class Deal(_Lazy):
    """Parts of one array, in compressed-row form: 8 bytes a part beside their numbers.

    Args:
        numbers: int64 [N], the parts one after the other.
        starts: int64 [parts + 1]; part i is ``numbers[starts[i]:starts[i + 1]]``, a view.
    """

    def __init__(self, numbers: np.ndarray, starts: np.ndarray) -> None:
        self.numbers, self.starts = numbers, starts

    @classmethod
    def of(cls, parts: Sequence[np.ndarray]) -> Deal:
        """A copy of these parts."""
        starts = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        return cls(np.concatenate([_nothing(), *parts]), starts)

    @property
    def sizes(self) -> np.ndarray:  # type: ignore[override]
        return np.diff(self.starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def at(self, place: int) -> np.ndarray:
        return self.numbers[self.starts[place] : self.starts[place + 1]]


class ByClient(Mapping[int, "np.ndarray"]):
    """A deal to all clients of a run, by their ids."""

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts = parts

    def __getitem__(self, client: int) -> np.ndarray:
        if not 0 <= client < len(self.parts):
            raise KeyError(client)
        return self.parts[client]

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.parts)))


class OfNodes(_Lazy):
    """The parts of some nodes; servers, whose ids come after the clients', have nothing.

    Args:
        parts: one a client of the run, or none at all: then nobody has anything.
        ids: int64 [k], the nodes.
        clients: how many of the run's nodes are clients.
    """

    def __init__(self, parts: Sequence[np.ndarray], ids: np.ndarray, clients: int) -> None:
        self._ids, self._clients = ids, clients if len(parts) else 0
        if not isinstance(parts, _Lazy):  # what is not held here shows now
            parts = [parts[i] if i < self._clients else _nothing() for i in ids.tolist()]
        self._parts: Sequence[np.ndarray] = parts

    @property
    def sizes(self) -> np.ndarray:  # type: ignore[override]
        if not isinstance(self._parts, _Lazy):
            return sizes_of(self._parts)
        has = self._ids < self._clients
        sizes = np.zeros(len(self._ids), dtype=np.int64)
        sizes[has] = self._parts.sizes[self._ids[has]]
        return sizes

    def __len__(self) -> int:
        return len(self._ids)

    def at(self, place: int) -> np.ndarray:
        if not isinstance(self._parts, _Lazy):
            return self._parts[place]
        client = int(self._ids[place])
        return self._parts[client] if client < self._clients else _nothing()


def listed(parts: Mapping[int, np.ndarray]) -> Sequence[np.ndarray]:
    """The parts of a mapping in its order."""
    return parts.parts if isinstance(parts, ByClient) else list(parts.values())


def sizes_of(parts: Sequence[np.ndarray]) -> np.ndarray:
    """int64 [len(parts)]: how many numbers each part has."""
    if isinstance(parts, _Lazy):
        return parts.sizes
    return np.fromiter(map(len, parts), dtype=np.int64, count=len(parts))
