"""How clients are put into cohorts that learn side by side (CPFL, Dhasade et al. 2024).

Like a partition, but of clients instead of examples: a pure function of what is known of them.
The functions can be used alone; the components name them in run files.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field

from hansa.base.component import Component, register
from hansa.base.errors import ConfigError


@dataclass(frozen=True)
class Clients:
    """What is known of the clients.

    Attributes:
        count: M.
        histogram: int64 [M, C], training examples of each class; None where there are none.
        pace: float64 [M], seconds that each takes for the same work; None if unknown.
    """

    count: int
    histogram: np.ndarray | None = None
    pace: np.ndarray | None = None


class Cohorts(Component, kind="cohorts"):
    """A rule that gives every client its cohort; a subclass defines ``choose``."""

    sees_labels: ClassVar[bool] = True
    """Whether it looks at how many examples of each class clients have, which they then tell."""

    def assign(self, clients: Clients, rng: np.random.Generator) -> np.ndarray:
        """The cohort of every client, int64 [M]: 0, 1, ... with none left out.

        Args:
            rng: decides what is left to chance.

        Raises:
            ConfigError: the setting named in it cannot work with these clients.
        """
        if clients.count < 1:
            problem = "there must be at least one client"
            raise ConfigError("nodes", clients.count, problem, "1 or more")
        cohort = np.asarray(self.choose(clients, rng), np.int64)
        if cohort.shape != (clients.count,) or cohort.min() < 0:
            raise ConfigError("", None, "gave no cohort to some client", "one number a client")
        empty = np.flatnonzero(np.bincount(cohort) == 0)
        if len(empty):
            raise ConfigError("cohorts", None, f"cohort {empty[0]} has no client", "use fewer")
        return cohort

    @abstractmethod
    def count(self, clients: int) -> int:
        """How many cohorts there will be."""

    @abstractmethod
    def choose(self, clients: Clients, rng: np.random.Generator) -> np.ndarray:
        """The cohort of every client [M]; the one method of a subclass."""


class Counted(Cohorts):
    """A rule that makes as many cohorts as it is told."""

    cohorts: int = Field(4, ge=1, description="how many; at most one a client")

    def count(self, clients: int) -> int:
        return len(block_sizes(clients, self.cohorts))


@register("uniform", paper="Dhasade et al.", year=2024, url="https://arxiv.org/abs/2405.15644")
class UniformCohorts(Counted):
    """Equal cohorts drawn at random (sizes differ by one at most)."""

    sees_labels: ClassVar[bool] = False

    def choose(self, clients: Clients, rng: np.random.Generator) -> np.ndarray:
        return uniform_cohorts(clients.count, self.cohorts, rng)


@register("by_class")
class CohortsByClass(Counted):
    """A cohort for every class, of the clients who have most of that class."""

    def choose(self, clients: Clients, rng: np.random.Generator) -> np.ndarray:
        return by_class(_known(clients.histogram, self), self.cohorts)


@register("by_device")
class CohortsByDevice(Counted):
    """Cohorts of devices that are about as fast: the fastest first, in equal blocks."""

    sees_labels: ClassVar[bool] = False

    def choose(self, clients: Clients, rng: np.random.Generator) -> np.ndarray:
        if clients.pace is None:
            raise ConfigError(
                "name",
                "by_device",
                "needs to know how fast the devices are",
                "a clock with device traces, or uniform cohorts",
            )
        return by_device(clients.pace, self.cohorts)


@register("label_balanced")
class LabelBalancedCohorts(Counted):
    """Equal cohorts that together hold about the same number of examples of every class."""

    def choose(self, clients: Clients, rng: np.random.Generator) -> np.ndarray:
        return label_balanced(_known(clients.histogram, self), self.cohorts, rng)


def block_sizes(clients: int, cohorts: int) -> np.ndarray:
    """Sizes of even cohorts [n]: the first M mod n have one client more.

    Raises:
        ConfigError: there are more cohorts than clients, or none.
    """
    if not 1 <= cohorts <= clients:
        raise ConfigError(
            "cohorts",
            cohorts,
            f"there are {clients} clients and none of the cohorts may be empty",
            f"between 1 and {clients}",
        )
    sizes = np.full(cohorts, clients // cohorts, np.int64)
    sizes[: clients % cohorts] += 1
    return sizes


def uniform_cohorts(clients: int, cohorts: int, rng: np.random.Generator) -> np.ndarray:
    """Shuffled clients cut into consecutive even blocks: the cohort of each, int64 [M]."""
    return _in_blocks(rng.permutation(clients), cohorts)


def by_device(pace: np.ndarray, cohorts: int) -> np.ndarray:
    """Clients in the order of the seconds they take [M], cut into even blocks; ties by number."""
    pace = np.asarray(pace, np.float64)
    if not np.isfinite(pace).all():
        raise ConfigError("pace", None, "is not known of every client", "name another rule")
    return _in_blocks(np.argsort(pace, kind="stable"), cohorts)


def by_class(histogram: np.ndarray, cohorts: int) -> np.ndarray:
    """The class that a client [M, C] has most of, the lowest of several: int64 [M].

    Raises:
        ConfigError: there are not as many cohorts as classes, or a class has no client.
    """
    classes = histogram.shape[1]
    if cohorts != classes:
        raise ConfigError(
            "cohorts",
            cohorts,
            f"by_class makes one cohort of each of the {classes} classes",
            f"write {classes}",
        )
    cohort = histogram.argmax(axis=1).astype(np.int64)
    empty = np.flatnonzero(np.bincount(cohort, minlength=classes) == 0)
    if len(empty):
        raise ConfigError(
            "cohorts",
            cohorts,
            f"no client has most of its examples in class {empty[0]}, so a cohort would be empty",
            "use label_balanced or uniform cohorts",
        )
    return cohort


def label_balanced(histogram: np.ndarray, cohorts: int, rng: np.random.Generator) -> np.ndarray:
    """Greedy: the largest client first joins the cohort that has least of what it brings.

    With h_k what cohort k has and x what the client brings, the sum of squared distances of all
    cohorts from an even share grows by 2 h_k . x + a constant, so the smallest h_k . x is taken
    (then the fewest examples). Sizes stay even, as in :func:`block_sizes`.

    Args:
        histogram: [M, C] examples of each class.
        rng: decides the order of equally large clients.

    Returns:
        The cohort of each client, int64 [M].
    """
    clients = len(histogram)
    sizes = block_sizes(clients, cohorts)
    floor, spare = clients // cohorts, int((sizes > clients // cohorts).sum())
    counts = np.asarray(histogram, np.float64)
    order = rng.permutation(clients)
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    held = np.zeros((cohorts, counts.shape[1]))
    members = np.zeros(cohorts, np.int64)
    cohort = np.empty(clients, np.int64)
    for client in order:
        # Only as many cohorts as there are clients left over may hold one more than the others.
        room = members < floor if spare == 0 else members <= floor
        overlap = np.where(room, held @ counts[client], np.inf)
        best = np.flatnonzero(overlap == overlap.min())
        chosen = best[np.argmin(held[best].sum(axis=1))]
        spare -= int(members[chosen] == floor)
        members[chosen] += 1
        held[chosen] += counts[client]
        cohort[client] = chosen
    return cohort


def _in_blocks(order: np.ndarray, cohorts: int) -> np.ndarray:
    """The cohort of each client when ``order`` is cut into even blocks."""
    cohort = np.empty(len(order), np.int64)
    cohort[order] = np.repeat(np.arange(cohorts), block_sizes(len(order), cohorts))
    return cohort


def _known(histogram: np.ndarray | None, rule: Component) -> np.ndarray:
    if histogram is None:
        raise ConfigError(
            "name",
            type(rule).name,
            "looks at classes, but the targets of this data set are numbers",
            "use uniform or by_device",
        )
    return np.asarray(histogram)
