"""Which clients a server invites to a round."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field

from hansa.base.component import Component, register


@dataclass(frozen=True)
class Pool:
    """The clients that are available.

    Attributes:
        clients: int64 [m], their ids.
        sizes: int64 [m], their numbers of training examples.
        stays: float64 [m], modelled seconds for which each will be available; inf if always.
    """

    clients: np.ndarray
    sizes: np.ndarray
    stays: np.ndarray


class Sampler(Component, kind="sampler"):
    """Chooses clients for a round from those that are there."""

    independent: ClassVar[bool] = False
    """Whether each client is drawn by itself, of all that the server has, by a stream of its own:
    how many that are is then chance, and accountants of privacy can count on it."""

    @abstractmethod
    def choose(self, pool: Pool, count: int, random: np.random.Generator) -> np.ndarray:
        """``count`` different clients of a pool that has at least as many."""


@register("uniform", paper="McMahan et al.", year=2017, url="https://arxiv.org/abs/1602.05629")
class UniformSampler(Sampler):
    """Every available client is as likely as any other (McMahan et al., 2017)."""

    def choose(self, pool: Pool, count: int, random: np.random.Generator) -> np.ndarray:
        return random.choice(pool.clients, count, replace=False)


@register("poisson", paper="McMahan et al.", year=2018, url="https://arxiv.org/abs/1710.06963")
class PoissonSampler(Sampler):
    """Each client by itself, so that ``count`` are expected; who is away then is not invited.

    With ``privacy: central`` a round costs less by that (McMahan et al., 2018).
    """

    independent: ClassVar[bool] = True

    def choose(self, pool: Pool, count: int, random: np.random.Generator) -> np.ndarray:
        return pool.clients[random.random(len(pool.clients)) < count / len(pool.clients)]


@register("size", paper="Li et al.", year=2020, url="https://arxiv.org/abs/1907.02189")
class SizeSampler(Sampler):
    """In proportion to the clients' numbers of examples, without replacement.

    With ``weighting: uniform`` that is the second scheme of Li et al. (2020), but for the
    replacement.
    """

    def choose(self, pool: Pool, count: int, random: np.random.Generator) -> np.ndarray:
        # Gumbel's trick: the largest of log(size) + noise are a draw without replacement.
        keys = np.log(pool.sizes) + random.gumbel(size=len(pool.sizes))
        return pool.clients[np.argsort(-keys)[:count]]


@register("availability")
class AvailabilitySampler(Sampler):
    """Uniform among the clients that will stay long enough; the others only if there are too few.

    It needs to know for how long a client stays, which a trace says and a real server guesses.
    """

    seconds: float = Field(600.0, gt=0, description="how long a client should stay available")

    def choose(self, pool: Pool, count: int, random: np.random.Generator) -> np.ndarray:
        order = random.permutation(len(pool.clients))
        brief = pool.stays[order] < self.seconds
        return pool.clients[order[np.argsort(brief, kind="stable")[:count]]]
