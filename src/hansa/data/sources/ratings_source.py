"""The base of all sources of ratings: a subclass reads them, this class parts and numbers them."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from pydantic import Field

from hansa.base.errors import DataError
from hansa.base.paths import short
from hansa.data.dealing.rating_splits import Rule, split_ratings
from hansa.data.ratings import Ratings, Repeats, first_users, once
from hansa.data.raw import Arrays, RawSplits
from hansa.data.source import DataSource


class RatingsSource(DataSource):
    """(user, item) in, the rating out; groups are the users.

    A subclass defines :meth:`ratings`, and :meth:`titles` where items have some.
    """

    split: Rule = Field(
        "random_user",
        description="which ratings are the test. random_user: test_fraction of every user's, "
        "drawn at random; user_time: the latest of every user's; global_time: all after a moment; "
        "leave_last: the last of every user's",
    )
    test_fraction: float = Field(
        0.3, gt=0, lt=1, description="share of the test ratings, but with leave_last"
    )
    split_seed: int = Field(
        0, ge=0, description="of random_user; apart from the run's seed: test sets stay the same"
    )
    users: int | None = Field(
        None, ge=1, description="use only so many users, those of the lowest ids; none = all"
    )
    repeats: Repeats = Field(
        "refuse",
        description="what to do with a user's different ratings of one item: refuse, or let the "
        "first, the last or the mean count; equal ones are one",
    )

    def interface(self) -> dict[str, Any]:
        named = {part: getattr(self, part, None) for part in ("user", "item", "rating")}
        return super().interface() | named

    @abstractmethod
    def ratings(self) -> Ratings:
        """The ratings as stored; the one method of a subclass.

        Raises:
            DataError: they are missing, damaged or not of the expected form.
        """

    def titles(self) -> dict[str, str]:
        """What a person calls an item, by its name in the ratings; of those that have a title."""
        return {}

    def chosen(self) -> Ratings:
        """The ratings that the settings ask for, each once."""
        ratings = self.ratings()
        if not len(ratings):
            raise DataError(f"{ratings.where}: there is no rating")
        return once(first_users(ratings, self.users), self.repeats)

    def read(self) -> RawSplits:
        ratings = self.chosen()
        purpose = short(type(self).name) or type(self).__name__
        train, test, notes = split_ratings(
            ratings, self.split, self.test_fraction, purpose, self.split_seed
        )
        pairs = np.stack([ratings.users, ratings.items], axis=1)

        def part(rows: np.ndarray) -> Arrays:
            return Arrays(pairs[rows], ratings.stars[rows], ratings.users[rows])

        return RawSplits(
            part(train),
            part(test),
            kind="pairs",
            outputs=1,
            vocabulary=(len(ratings.user_names), len(ratings.item_names)),
            group_names=ratings.user_names,
            item_names=ratings.item_names,
            scale=ratings.scale,
            notes=(*ratings.notes, *notes),
        )
