"""A party's own ratings, read without the others', and numbered as in one table of all.

Each party tells the names of its users and of the items that they rated; users and items are then
numbered in the order of all names together. Ratings, test ratings among them, stay where they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hansa.base.errors import ConfigError, WireError
from hansa.base.streams import Streams
from hansa.data.dataset import Dataset
from hansa.data.own_table import NAMES
from hansa.data.raw import Arrays, RawSplits
from hansa.data.sources.ratings_source import RatingsSource

USERS, ITEMS = "users", "items"
_MOST, _LONGEST = 10_000_000, 200
_WHOLE = re.compile(r"0|-?[1-9]\d*")


class OwnRatings:
    """One party's ratings.

    Args:
        source: reads and splits them; it says the scale, as parties cannot.

    Attributes:
        raw: as read, numbered by its own names alone.
        needs: what it has to tell.

    Raises:
        ConfigError, DataError: the ratings cannot be used.
    """

    needs = (NAMES,)

    def __init__(self, source: RatingsSource, streams: Streams) -> None:
        self.source, self._streams = source, streams
        for field in ("public", "validation", "train_samples", "test_samples", "markers", USERS):
            if getattr(source, field):
                problem = "needs the ratings of all, and every site has its own"
                raise ConfigError(field, getattr(source, field), problem, "leave it out")
        if getattr(source, "scale", None) is None:
            problem = "sites do not see how far each other's ratings reach"
            raise ConfigError("scale", None, problem, "such as [0.5, 5], the same at all sites")
        self.raw = source.read()

    @property
    def columns(self) -> list[Any]:
        """What is the same at all parties."""
        return ["user", "item", "rating"]

    def tells(self) -> dict[str, Any]:
        """What it tells, plain data."""
        return {NAMES: {USERS: list(self.raw.group_names), ITEMS: list(self.raw.item_names)}}

    def dataset(self, tells: Sequence[Mapping[str, Any]], whose: Sequence[str]) -> Dataset:
        """The data set with this party's ratings, users and items numbered as at all others.

        Args:
            tells: what the parties told, this one among them.
            whose: what each is called.

        Raises:
            ConfigError: two parties have the same user.
            WireError: what one told is malformed.
        """
        users, items = self._together(tells, whose)
        moved = [
            np.array([place[name] for name in own], dtype=np.int64)
            for place, own in (
                ({name: k for k, name in enumerate(users)}, self.raw.group_names),
                ({name: k for k, name in enumerate(items)}, self.raw.item_names),
            )
        ]

        def part(of: Arrays) -> Arrays:
            pairs = np.stack([moved[c][of.inputs[:, c]] for c in range(2)], axis=1)
            return Arrays(pairs, of.targets, pairs[:, 0])

        raw: RawSplits = replace(
            self.raw,
            train=part(self.raw.train),
            test=part(self.raw.test),
            vocabulary=(len(users), len(items)),
            group_names=tuple(users),
            item_names=tuple(items),
        )
        return self.source.prepared(raw, self.source.parted(raw, self._streams))

    def _together(
        self, tells: Sequence[Mapping[str, Any]], whose: Sequence[str]
    ) -> tuple[list[str], list[str]]:
        """The names of all users and of all items, in order."""
        owner: dict[str, str] = {}
        items: set[str] = set()
        for told, who in zip(tells, whose, strict=True):
            users = users_of(told, who)
            names = told[NAMES].get(ITEMS)
            if not _names(names):
                raise WireError(f"what {who} tells of its items is none")
            items.update(names)
            for user in users:
                if user in owner:
                    problem = f"user {user!r} has ratings at {owner[user]} and at {who}"
                    fix = "every user at one site, by names that are one's own"
                    raise ConfigError("data.path", str(getattr(self.source, "path", "")),
                                      problem, fix)  # fmt: skip
                owner[user] = who
        return ordered(owner), ordered(items)


def users_of(told: Mapping[str, Any], who: str) -> list[str]:
    """The names of a party's users.

    Raises:
        WireError: it tells none.
    """
    names = told.get(NAMES)
    users = names.get(USERS) if isinstance(names, Mapping) else None
    if not _names(users):
        raise WireError(f"what {who} tells of its users is none")
    assert isinstance(users, list)
    return users


def ordered(names: Any) -> list[str]:
    """Names in the order in which one table of all numbers them: of whole numbers by size."""
    every = list(names)
    if all(_WHOLE.fullmatch(name) for name in every):
        return sorted(every, key=int)
    return sorted(every)


def _names(value: Any) -> bool:
    return (
        isinstance(value, list)
        and 0 < len(value) <= _MOST
        and all(isinstance(name, str) and len(name) <= _LONGEST for name in value)
        and len(set(value)) == len(value)
    )
