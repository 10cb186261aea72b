"""A population that can be audited: who is in it, told apart by protected attributes.

What an auditor knows before any question is asked is the table of attributes: who belongs to which
group. Answers of the platform, and true outcomes, are there in studies only.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hansa.base.errors import ConfigError

UNKNOWN = -1
"""The code of a row whose value is not known."""
Key = str | tuple[str, ...]
"""An attribute's name, or the names of those whose intersections are meant."""


@dataclass(frozen=True)
class Attribute:
    """One protected attribute of every row.

    Attributes:
        name: of an intersection, the names with a cross between them.
        values: names of the groups; differences are those of the others against the first.
        codes: int16 [N], the place of a row's value among ``values``, -1 where it is unknown.
    """

    name: str
    values: tuple[str, ...]
    codes: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """int64 [k]: rows of each group."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.values))

    @property
    def unknown(self) -> int:
        """How many rows have no known value."""
        return int((self.codes < 0).sum())


@dataclass(frozen=True)
class Strata:
    """The cells that some attributes cut a population into; only those that somebody is in.

    Attributes:
        ids: int64 [N], the cell of each row.
        sizes: int64 [C], rows of each cell.
        codes: int16 [C, m], the cell's value of each attribute, -1 where it is unknown; in
            lexicographic order.
    """

    ids: np.ndarray
    sizes: np.ndarray
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.sizes)

    def count(self, rows: np.ndarray) -> np.ndarray:
        """int64 [C]: how many of the rows [n] are in each cell."""
        return np.bincount(self.ids[rows], minlength=len(self))


@dataclass(frozen=True)
class Population:
    """Rows with attributes, and in studies what the platform answers about each.

    Attributes:
        attributes: by name.
        answers: int8 [N], 1 = the favourable decision; None where only the platform knows.
        labels: int8 [N], the outcome that would have been right; None where nobody knows.
        ids: [N] names of the rows as the platform knows them; None = their numbers.
        name: what it is called in errors and on pages.
        notes: what a person should know of how it was read.
    """

    attributes: dict[str, Attribute]
    answers: np.ndarray | None = None
    labels: np.ndarray | None = None
    ids: np.ndarray | None = None
    name: str = "population"
    notes: tuple[str, ...] = field(default=())

    @property
    def rows(self) -> int:
        """N."""
        return len(next(iter(self.attributes.values())).codes)

    def attribute(self, key: Key) -> Attribute:
        """An attribute by name, or the intersection of several: the combinations that occur.

        Raises:
            ConfigError: there is none of that name.
        """
        names = (key,) if isinstance(key, str) else tuple(key)
        for name in names:
            if name not in self.attributes:
                near = difflib.get_close_matches(name, self.attributes, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                fix = f"{hint}it has {', '.join(self.attributes)}"
                raise ConfigError("attribute", name, f"is not in {self.name}", fix)
        if len(names) == 1:
            return self.attributes[names[0]]
        cells = self.cells(names)
        known = (cells.codes >= 0).all(axis=1)
        places = np.where(known, np.cumsum(known) - 1, UNKNOWN)
        values = tuple(
            " × ".join(
                self.attributes[name].values[code] for name, code in zip(names, codes, strict=True)
            )
            for codes in cells.codes[known]
        )
        return Attribute(" × ".join(names), values, places[cells.ids].astype(np.int16))

    def cells(self, names: Sequence[Key]) -> Strata:
        """The cells of some attributes (or intersections), in lexicographic order.

        A row whose value is unknown is in a cell of its likes. No names: one cell with all.
        """
        chosen = [self.attribute(name) for name in names]
        keys = np.zeros(self.rows, np.int64)
        for attribute in chosen:
            # Ranks anew after each attribute: the product of 20 of them would not fit.
            keys = keys * (len(attribute.values) + 1) + attribute.codes + 1
            keys = np.unique(keys, return_inverse=True)[1]
        _, first, ids = np.unique(keys, return_index=True, return_inverse=True)
        columns = [attribute.codes[first] for attribute in chosen]
        codes = np.stack(columns, axis=1) if columns else np.zeros((len(first), 0), np.int16)
        return Strata(ids.astype(np.int64), np.bincount(ids), codes)


@dataclass(frozen=True)
class Agent:
    """An auditor: the attribute that it answers for, and how many questions it may ask.

    Attributes:
        name: unique among the agents.
        attribute: a name, or several whose intersections it audits.
        budget: questions.
    """

    name: str
    attribute: Key
    budget: int


@dataclass(frozen=True)
class Asked:
    """What an agent asked and was answered.

    Attributes:
        rows: int64 [n].
        answers: int8 [n], 1 = favourable, 0 = not, -1 = refused.
    """

    rows: np.ndarray
    answers: np.ndarray


def check(population: Population, agents: Sequence[Agent]) -> list[Attribute]:
    """The agents' attributes, once it is sure that each can be audited.

    Raises:
        ConfigError: an attribute is unknown, constant or has a group with nobody in it, a budget
            is not positive or above the population, or two agents share a name.
    """
    if not agents:
        raise ConfigError("agents", None, "nobody audits", "give at least one agent")
    names = [agent.name for agent in agents]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError("agents", twice[0], "is the name of two agents", "name them apart")
    attributes = []
    for place, agent in enumerate(agents):
        field = f"agents.{place}"
        try:
            attribute = population.attribute(agent.attribute)
        except ConfigError as error:
            raise error.under(field) from None
        sizes = attribute.sizes
        shown = attribute.name
        if (sizes > 0).sum() < 2:
            only = [v for v, size in zip(attribute.values, sizes, strict=True) if size]
            raise ConfigError(
                f"{field}.attribute",
                shown,
                f"is constant in {population.name}: {only[0] if only else 'unknown'} in every row",
                "audit another attribute, or change its rule",
            )
        if not sizes.all():
            empty = attribute.values[int(np.argmin(sizes))]
            raise ConfigError(
                f"{field}.attribute",
                shown,
                f"nobody in {population.name} is {empty!r}: an empty stratum",
                "leave that value out",
            )
        if agent.budget < len(attribute.values):
            raise ConfigError(
                f"{field}.budget",
                agent.budget,
                f"{shown} has {len(attribute.values)} groups; each needs a question at least",
                f"at least {len(attribute.values)}",
            )
        if agent.budget > population.rows:
            raise ConfigError(
                f"{field}.budget",
                agent.budget,
                f"is above the {population.rows} rows of {population.name}, none asked twice",
                f"at most {population.rows}",
            )
        attributes.append(attribute)
    return attributes
