"""Cohorts as lists of clients, as a person writes them down."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.data.dealing.cohorts import Clients, Cohorts, UniformCohorts


@register("listed")
class ListedCohorts(Cohorts):
    """The clients of each cohort, by number: [[0, 1, 2], [3, 4]]; every client is in one."""

    sees_labels: ClassVar[bool] = False
    lists: tuple[tuple[int, ...], ...] = Field(..., description="the clients of each cohort")

    def count(self, clients: int) -> int:
        self._known(clients)
        return len(self.lists)

    def choose(self, clients: Clients, rng: np.random.Generator) -> np.ndarray:
        return self._known(clients.count)

    def _known(self, clients: int) -> np.ndarray:
        """The cohort of each client, int64 [clients]."""
        cohort = np.full(clients, -1, dtype=np.int64)
        there = f"clients are 0..{clients - 1}"
        if not self.lists:
            raise ConfigError("lists", None, "lists nobody", "a list of clients a cohort")
        for k, members in enumerate(self.lists):
            if not members:
                raise ConfigError(
                    f"lists.{k}", [], "has no client", "at least one, or no such list"
                )
            for client in members:
                if not 0 <= client < clients:
                    raise ConfigError(f"lists.{k}", client, "is no client of the run", there)
                if cohort[client] >= 0:
                    other = f"in {cohort[client]} too" if cohort[client] != k else "listed twice"
                    raise ConfigError(f"lists.{k}", client, f"is {other}", "each client once")
                cohort[client] = k
        left = np.flatnonzero(cohort < 0)
        if len(left):
            problem = f"has no list with client {left[0]} ({len(left)} in all are left out)"
            raise ConfigError("lists", None, problem, "each client once")
        return cohort


def short_form(value: Any) -> Any:
    """A rule of cohorts from its short form: a number, lists of clients, or the path of a file."""
    if isinstance(value, int) and not isinstance(value, bool):
        return UniformCohorts(cohorts=value)
    if isinstance(value, list | tuple):
        return {"name": "listed", "lists": value}
    if isinstance(value, str) and ("/" in value or value.endswith((".txt", ".csv"))):
        return {"name": "file", "path": value}
    return value
