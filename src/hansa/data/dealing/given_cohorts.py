"""Cohorts that the run file lists, in which a client may also be left out."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.data.dealing.cohorts import Clients, Cohorts

ABSENT = -1


@register("given")
class GivenCohorts(Cohorts):
    """The cohort of every client, by number; -1 for a client that takes no part.

    A client that takes no part keeps its id, and so do the others, so that a run without it draws
    the same random numbers as one with it. A number that no client has is a cohort without clients.
    """

    sees_labels: ClassVar[bool] = False
    members: tuple[int, ...] = Field(
        ..., description="the cohort of each client: 0, 1, ...; -1: it takes no part"
    )

    def count(self, clients: int) -> int:
        return int(self._known(clients).max()) + 1

    def choose(self, clients: Clients, rng: np.random.Generator) -> np.ndarray:
        return self._known(clients.count)

    def assign(self, clients: Clients, rng: np.random.Generator) -> np.ndarray:
        """As in the base, but with -1 for those who take no part, and gaps between numbers."""
        return self._known(clients.count)

    def _known(self, clients: int) -> np.ndarray:
        cohort = np.array(self.members, dtype=np.int64)
        if len(cohort) != clients:
            problem = f"lists {len(cohort)} clients of {clients}"
            raise ConfigError("members", None, problem, "one number a client")
        if len(cohort) and cohort.min() < ABSENT:
            fix = "0, 1, ..., or -1 for a client that takes no part"
            raise ConfigError("members", int(cohort.min()), "is no cohort", fix)
        if not (cohort >= 0).any():
            raise ConfigError("members", None, "no client takes part", "at least one number >= 0")
        return cohort
