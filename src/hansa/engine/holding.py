"""What only its holder knows of a run: its clients' examples, and its secret."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import overload

import numpy as np

from hansa.data.dataset import Dataset, Planted, Split


class NotHeld(LookupError):
    """Somebody asked for the examples of a client that is held elsewhere."""


class Parts(Sequence["np.ndarray"]):
    """An index array for each client of a run, of which a party has its own only.

    Args:
        own: the arrays by client, int64.
        clients: how many clients the run has.
    """

    def __init__(self, own: Mapping[int, np.ndarray], clients: int) -> None:
        self.own, self.clients = dict(own), clients

    def __len__(self) -> int:
        return self.clients

    @overload
    def __getitem__(self, at: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[np.ndarray]: ...

    def __getitem__(self, at: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        """The examples of a client, or of several.

        Raises:
            NotHeld: they are not here.
            IndexError: there is no such client.
        """
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(self.clients))]
        client = operator.index(at)
        client += self.clients * (client < 0)
        if not 0 <= client < self.clients:
            raise IndexError(f"there is no client {client}, they are 0 to {self.clients - 1}")
        if client not in self.own:
            here = ", ".join(map(str, sorted(self.own))) or "none"
            raise NotHeld(f"the examples of client {client} are not held here (here: {here})")
        return self.own[client]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(self.clients))


@dataclass(frozen=True)
class Holding:
    """What only its holder knows.

    Attributes:
        clients: int64 [k], ids of the clients whose examples are here, ascending.
        train: their examples, those of the first before those of the next; with them those that
            they hold back.
        parts: positions in ``train`` that each of them trains on, int64.
        held: positions that each holds back to validate models, or nothing.
        numbers: int64 [len(train)], what the run's own numbering calls each of them.
        planted: what markers have spoiled among them.
        secret: seeds what the holder draws for itself, 16 bytes or more; None: the run's seed
            does.
    """

    clients: np.ndarray
    train: Split
    parts: tuple[np.ndarray, ...]
    numbers: np.ndarray
    held: tuple[np.ndarray, ...] = ()
    planted: tuple[Planted, ...] = ()
    secret: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        clients: np.ndarray,
        dataset: Dataset,
        parts: Sequence[np.ndarray],
        held: Sequence[np.ndarray] = (),
        numbers: np.ndarray | None = None,
        secret: bytes | None = None,
    ) -> Holding:
        """A copy of what some clients have of a data set, with their examples at new positions.

        The order of a client's examples stays, so that whoever draws of them by place draws alike.

        Args:
            numbers: of the data set's training examples; None: their positions.
        """
        groups = [parts, held] if held else [parts]
        whole = [np.unique(np.concatenate([g[c] for g in groups])) for c in clients.tolist()]
        starts = np.cumsum([0, *map(len, whole)])
        new = dict(zip(clients.tolist(), zip(whole, starts, strict=False), strict=True))

        def moved(client: int, index: np.ndarray) -> np.ndarray:
            own, start = new[client]
            return np.searchsorted(own, index) + start

        def group(of: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
            return tuple(moved(c, np.asarray(of[c])) for c in clients.tolist()) if of else ()

        nothing = np.zeros(0, dtype=np.int64)
        every = np.concatenate([nothing, *whole])
        train = dataset.train.take(every)
        numbers = every if numbers is None else numbers[every]
        planted = tuple(
            replace(one, index=moved(one.client, one.index))
            for one in dataset.planted
            if one.client in new
        )
        return cls(clients, train, group(parts), numbers, group(held), planted, secret)

    def dataset(self, public: Dataset) -> Dataset:
        """The data set of a plan with these examples in it."""
        mine = [*self.planted]
        planted = [p if p.client not in self.clients else mine.pop(0) for p in public.planted]
        return replace(public, train=self.train, planted=tuple(planted))


def public_part(dataset: Dataset) -> Dataset:
    """What every party may know of a data set: all but its training examples.

    The largest and smallest values, and which clients hold spoiled examples, stay known.
    """
    nothing = np.zeros(0, dtype=np.int64)
    planted = tuple(
        replace(one, index=nothing, before=nothing, labels=nothing) for one in dataset.planted
    )
    train = dataset.train.take(nothing)
    return replace(dataset, train=train, planted=planted, known_limits=dataset.limits)
