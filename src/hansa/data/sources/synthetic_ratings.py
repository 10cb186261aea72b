"""Ratings made up from factors that are known, so that it is known how well they can be told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.data.ratings import Ratings
from hansa.data.sources.ratings_source import RatingsSource

LOW, HIGH, STEP = 0.5, 5.0, 0.5
MEAN = 3.5
_DAY = 86_400.0


@dataclass(frozen=True)
class Truth:
    """What the ratings were made from: mean + bias of user and item + product of their factors.

    Attributes:
        user_bias, item_bias: float32 [U] and [I].
        users, items: float32 [U, rank] and [I, rank].
    """

    user_bias: np.ndarray
    item_bias: np.ndarray
    users: np.ndarray
    items: np.ndarray

    def stars(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """The ratings of pairs [N] without noise, float32 [N], before they are rounded."""
        product = np.einsum("nk,nk->n", self.users[users], self.items[items])
        return np.float32(MEAN) + self.user_bias[users] + self.item_bias[items] + product


@register("synthetic_ratings")
class SyntheticRatings(RatingsSource):
    """Ratings from known factors of low rank, from half a star to five; no download.

    Users rate a few items that many rate and some that few do, as people do: an item's chance
    falls with its rank as Zipf's law has it, and how many a user rates is log-normal. A rating is
    mean + biases + product of factors + noise, rounded to half a star. Nobody can tell it better
    than the noise lets them: an error of about ``noise`` and what rounding adds.
    """

    people: int = Field(100, ge=2, description="how many users there are")
    items: int = Field(200, ge=2, description="how many items there are")
    per_user: float = Field(50.0, gt=0, description="ratings of a user, on average")
    spread: float = Field(
        0.7, ge=0, description="of how many a user rates: deviation of its logarithm; 0 = all alike"
    )
    rank: int = Field(2, ge=0, description="length of the factors; 0 = biases alone")
    bias: float = Field(0.4, ge=0, description="deviation of users' and of items' biases, stars")
    taste: float = Field(0.7, ge=0, description="deviation of the product of factors, stars")
    noise: float = Field(0.4, ge=0, description="deviation of what nobody can know, stars")
    popularity: float = Field(
        0.8,
        ge=0,
        description="exponent by which an item's chance falls with its rank; 0 = all alike",
    )
    seed: int = Field(0, ge=0, description="of what is made; apart from the run's seed")

    def truth(self) -> Truth:
        """What the ratings are made from."""
        rng = Streams(self.seed).numpy("synthetic ratings: truth")

        def drawn(scale: float, *shape: int) -> np.ndarray:
            return np.float32(scale) * rng.standard_normal(shape, dtype=np.float32)

        # The deviation of a sum of rank products of two numbers of deviation s is s^2 sqrt(rank).
        size = np.sqrt(self.taste / np.sqrt(max(self.rank, 1)))
        user_bias, item_bias = drawn(self.bias, self.people), drawn(self.bias, self.items)
        users, items = drawn(size, self.people, self.rank), drawn(size, self.items, self.rank)
        return Truth(user_bias, item_bias, users, items)

    def ratings(self) -> Ratings:
        truth = self.truth()
        rng = Streams(self.seed).numpy("synthetic ratings")
        users, items = self._pairs(rng)
        noise = np.float32(self.noise) * rng.standard_normal(len(users), dtype=np.float32)
        stars = truth.stars(users, items) + noise
        stars = np.clip(np.rint(stars / STEP) * STEP, LOW, HIGH).astype(np.float32)
        return Ratings(
            users,
            items,
            stars,
            self._times(users, rng),
            tuple(map(str, range(1, self.people + 1))),
            tuple(map(str, range(1, self.items + 1))),
            "synthetic_ratings",
            (LOW, HIGH),
        )

    def titles(self) -> dict[str, str]:
        return {str(item): f"Item {item}" for item in range(1, self.items + 1)}

    def _pairs(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Who rates what, each pair once, int64 [N] twice, sorted by user."""
        if self.per_user > self.items / 2:
            problem = f"is more than half of the {self.items} items"
            raise ConfigError("per_user", self.per_user, problem, f"at most {self.items // 2}")
        wish = rng.standard_normal(self.people) * self.spread - self.spread**2 / 2
        counts = np.clip(np.rint(self.per_user * np.exp(wish)), 1, self.items // 2).astype(np.int64)
        chance = np.arange(1, self.items + 1, dtype=np.float64) ** -self.popularity
        cumulated = np.cumsum(rng.permutation(chance))
        cumulated /= cumulated[-1]
        whole, codes = [], np.zeros(0, np.int64)
        users, lacking, eager = np.arange(self.people), counts, 1
        while len(users):
            draws = np.repeat(users, eager * lacking)
            items = np.searchsorted(cumulated, rng.random(len(draws)), side="right")
            new = draws * self.items + np.minimum(items, self.items - 1)
            codes = _firsts(np.concatenate([codes, new]), self.items, counts)
            missed = counts - np.bincount(codes // self.items, minlength=self.people)
            users = users[missed[users] > 0]
            lacking, eager = missed[users], 2 * eager  # who is left has what all like already
            done = missed[codes // self.items] == 0
            whole.append(codes[done])
            codes = codes[~done]
        codes = np.sort(np.concatenate(whole))
        return codes // self.items, codes % self.items

    def _times(self, users: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """When each was given: a user joins on some day of three years and rates for a month."""
        joined = rng.random(self.people) * 3 * 365 * _DAY
        return np.rint(1.5e9 + joined[users] + rng.random(len(users)) * 30 * _DAY)


def _firsts(codes: np.ndarray, items: int, counts: np.ndarray) -> np.ndarray:
    """Of codes user * items + item in the order of their draw: each user's first different ones.

    Args:
        counts: int64 [U], how many of each user at most.
    """
    _, at = np.unique(codes, return_index=True)
    different = codes[np.sort(at)]
    users = different // items
    order = np.argsort(users, kind="stable")
    sizes = np.bincount(users, minlength=len(counts))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return different[np.sort(order[rank < np.repeat(counts, sizes)])]
