"""Cohorts in a text file, in CPFL's format: ``index,id-id-id``, a line for each cohort."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError, DataError
from hansa.base.files import atomic_write
from hansa.data.dealing.cohorts import Clients, Cohorts


@register("file")
class CohortFile(Cohorts):
    """The cohorts that a file lists, a line each: its number, a comma, client-client-client."""

    sees_labels: ClassVar[bool] = False
    path: Path = Field(..., description="the file, such as one that write_cohorts made")

    def count(self, clients: int) -> int:
        return int(self._read(clients).max()) + 1

    def choose(self, clients: Clients, rng: np.random.Generator) -> np.ndarray:
        return self._read(clients.count)

    def _read(self, clients: int) -> np.ndarray:
        if not self.path.is_file():
            raise ConfigError("path", str(self.path), "there is no such file", "give its path")
        return read_cohorts(self.path, clients)


def write_cohorts(path: Path, cohort_of: np.ndarray) -> None:
    """Write the cohort of each client [M] as a file that :func:`read_cohorts` reads."""
    with atomic_write(path, "w") as file:
        for cohort in range(int(cohort_of.max()) + 1):
            members = np.flatnonzero(cohort_of == cohort)
            file.write(f"{cohort},{'-'.join(map(str, members))}\n")


def read_cohorts(path: Path, clients: int) -> np.ndarray:
    """The cohort of each of the clients 0 to M - 1, int64 [M].

    Raises:
        DataError: a line has another form, a cohort is empty or listed twice, or a client is
            unknown, missing or in two cohorts. Names the file and the line.
    """
    cohort_of = np.full(clients, -1, np.int64)
    seen: set[int] = set()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        cohort, members = _parse(line, where)
        if cohort in seen:
            raise DataError(f"{where}: cohort {cohort} is listed twice")
        seen.add(cohort)
        for member in members:
            if member >= clients:
                raise DataError(f"{where}: there is no client {member}, only 0 to {clients - 1}")
            if cohort_of[member] >= 0:
                raise DataError(
                    f"{where}: client {member} is listed twice, first in cohort {cohort_of[member]}"
                )
            cohort_of[member] = cohort
    if seen != set(range(len(seen))):
        gap = min(set(range(len(seen))) - seen)
        raise DataError(f"{path}: cohorts must be numbered 0, 1, ...; there is no cohort {gap}")
    if (missing := np.flatnonzero(cohort_of < 0)).size:
        raise DataError(f"{path}: client {missing[0]} is in no cohort ({missing.size} in all)")
    return cohort_of


def _parse(line: str, where: str) -> tuple[int, list[int]]:
    index, comma, rest = line.strip().partition(",")
    names = rest.split("-") if rest else []
    if not comma or not all(text.isascii() and text.isdigit() for text in (index, *names)):
        raise DataError(f"{where}: {line!r} is not of the form 0,4-8-15")
    if not names:
        raise DataError(f"{where}: cohort {index} is empty")
    return int(index), [int(name) for name in names]
