"""What the clients of a run told when they joined: known to every party, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hansa.base.errors import WireError

Told = frozenset[str]
"""What an algorithm asks every client to tell, some of :data:`TELLING`."""

TELLING: Mapping[str, tuple[str, ...]] = {
    "sizes": ("sizes", "held"),
    "labels": ("labels",),
    "keys": ("keys", "owned"),
}
"""What a client tells under each name: how many examples it trains on and how many it holds back;
how many of those it trains on are of each class; the key by which it signs, and whose ratings it
has, as words of 32 bits."""
_TABLES = {"labels", "keys", "owned"}


def _who(one: Mapping[str, Any], missing: np.ndarray) -> np.ndarray:
    """The clients that a party tells of, if they are some of those that are ``missing``."""
    who: Any = one.get("clients")
    good = isinstance(who, np.ndarray) and who.dtype.kind == "i" and who.ndim == 1
    within = good and not ((who < 0) | (who >= len(missing))).any()
    if not within or (np.bincount(who, minlength=1) > 1).any():
        raise WireError("a party that does not say of which clients it tells")
    if not missing[who].all():
        raise WireError(f"client {who[~missing[who]][0]} is told of by two parties")
    found: np.ndarray = who
    return found


def _counts(value: Any, shape: tuple[int, ...], many: bool) -> bool:
    """Whether these are numbers of examples, in this shape."""
    good = isinstance(value, np.ndarray) and value.dtype.kind == "i" and value.shape == shape
    return good and value.ndim == 1 + many and not (value < 0).any()


class NotTold(LookupError):
    """What an algorithm asks of the roster was not told, since it did not say that it must be."""


@dataclass(frozen=True)
class Roster:
    """What the nodes of a run told when they joined.

    Attributes:
        clients: how many nodes have data; servers come after them and tell nothing.
        told: names of :data:`TELLING`.
        arrays: int64, what was told: ``sizes`` and ``held`` [nodes], 0 for servers, ``labels``
            [clients, C], where there are classes, ``keys`` [clients, 8] and ``owned``
            [clients, words].
        method: the algorithm's name, for errors.
    """

    clients: int
    told: Told = frozenset()
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    method: str = "this algorithm"

    @classmethod
    def of(
        cls,
        tells: Iterable[Mapping[str, np.ndarray]],
        nodes: int,
        clients: int,
        told: Told,
        method: str,
    ) -> Roster:
        """What all parties told (see :meth:`Job.tells`), put together.

        Raises:
            NotTold: a client is missing.
            WireError: a party tells what it was not asked for, or of a client that another has
                told of.
        """
        arrays: dict[str, np.ndarray] = {}
        missing = np.ones(clients, dtype=bool)
        for one in tells:
            who = _who(one, missing)
            missing[who] = False
            for name in one.keys() - {"clients"}:
                value = one[name]
                shape = (clients if name in _TABLES else nodes, *np.shape(value)[1:])
                whole = arrays.setdefault(name, np.zeros(shape, dtype=np.int64))
                if not any(name in TELLING[asked] for asked in told) or not _counts(
                    value, (len(who), *whole.shape[1:]), name in _TABLES
                ):
                    raise WireError(f"what clients {who.tolist()[:8]} tell of {name!r:.40} is none")
                whole[who] = value
        if told and missing.any():
            raise NotTold(f"client {np.flatnonzero(missing)[0]} has told nothing")
        return cls(clients, told, arrays, method)

    @property
    def sizes(self) -> np.ndarray:
        """int64 [nodes], numbers of training examples; 0 for servers.

        Raises:
            NotTold: the algorithm did not ask for them.
        """
        return self._asked("sizes")["sizes"]

    @property
    def held(self) -> np.ndarray:
        """int64 [nodes], numbers of examples kept back to validate models.

        Raises:
            NotTold: the algorithm did not ask for sizes.
        """
        return self._asked("sizes")["held"]

    @property
    def labels(self) -> np.ndarray | None:
        """int64 [clients, C], training examples of each class; None for a regression.

        Raises:
            NotTold: the algorithm did not ask for them.
        """
        return self._asked("labels").get("labels")

    @property
    def keys(self) -> np.ndarray:
        """int64 [clients, 8], the public key by which each signs, in words of 32 bits.

        Raises:
            NotTold: the algorithm did not ask for them.
        """
        return self._asked("keys")["keys"]

    @property
    def owned(self) -> np.ndarray:
        """int64 [clients, words], whose ratings each has, a bit a user.

        Raises:
            NotTold: the algorithm did not ask for keys.
        """
        return self._asked("keys")["owned"]

    @property
    def nbytes(self) -> int:
        """Bytes that the clients told, 8 a number."""
        return 8 * sum(value[: self.clients].size for value in self.arrays.values())

    def event(self) -> dict[str, Any]:
        """For the record: what was told, and how much that is."""
        return {"told": sorted(self.told), "clients": self.clients, "bytes": self.nbytes}

    def _asked(self, what: str) -> Mapping[str, np.ndarray]:
        if what not in self.told:
            raise NotTold(
                f"{self.method} asks for the {what} of all clients, which nobody has told; "
                f'declare must_tell = frozenset({{"{what}"}}) in the algorithm'
            )
        return self.arrays
