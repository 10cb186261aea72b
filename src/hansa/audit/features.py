"""What a platform is told of a member of a population: its features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from hansa.audit.black_box import BlackBox, word
from hansa.base.errors import ConfigError, DataError

if TYPE_CHECKING:
    from hansa.audit.population import Population

SHOWN = 3


class FeatureBox(BlackBox):
    """A platform that is shown rows of features."""

    features: Path | None = Field(
        None,
        description="table (.csv, .tsv, .parquet) whose columns are sent, a line a member of the "
        "population; none: its attributes, as words",
    )
    id: str = Field(
        "",
        description="column of the table that names the member, as the population's ids do; empty: "
        "the lines are in the population's order",
    )
    columns: tuple[str, ...] = Field(
        (), description="columns that are sent; none = all but the one that names the member"
    )

    def records(self, population: Population) -> Records:
        """The features of every member.

        Raises:
            ConfigError: the table does not fit the population.
        """
        if self.features is None:
            return _attributes(population, self.columns)
        frame, order = joined(self.features, "features", self.id, population)
        check_whole(order, population, "features", self.features)
        names = self.columns or tuple(name for name in frame.columns if name != self.id)
        check_columns(names, frame.columns, "columns", self.features)
        columns = {name: frame[name].to_list() for name in names}
        return Records(columns, order, ids_of(population))


class Records:
    """Rows of features.

    Args:
        columns: values by name, a list each.
        order: int64 [N], the line of each member.
        ids: of the members.
    """

    def __init__(self, columns: dict[str, list[Any]], order: np.ndarray, ids: Any) -> None:
        self.columns, self.order, self.ids = columns, order, ids

    def of(self, rows: np.ndarray) -> Iterator[dict[str, Any]]:
        """What is told of members ``rows`` [k]; ``id`` is the member's."""
        for row in rows.tolist():
            line = self.order[row]
            told = {name: values[line] for name, values in self.columns.items()}
            yield {"id": _plain(self.ids[row]), **told}


def ids_of(population: Population) -> np.ndarray:
    """What the platform calls each member [N]: their numbers, where they have no names."""
    return np.arange(population.rows) if population.ids is None else population.ids


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _attributes(population: Population, names: Sequence[str]) -> Records:
    check_columns(names, list(population.attributes), "columns", None)
    columns = {}
    for name in names or population.attributes:
        attribute = population.attributes[name]
        words = (*attribute.values, None)  # a code of -1 is unknown
        columns[name] = [words[code] for code in attribute.codes.tolist()]
    return Records(columns, np.arange(population.rows), ids_of(population))


def check_columns(names: Sequence[str], held: Sequence[str], field: str, path: Path | None) -> None:
    """Refuse columns that are not there.

    Raises:
        ConfigError: names the first.
    """
    for name in names:
        if name not in held:
            where = path.name if path else "the population"
            raise ConfigError(field, name, f"{where} has no such column", f"one of {_some(held)}")


def joined(path: Path, field: str, id: str, population: Population) -> tuple[Any, np.ndarray]:
    """A table and the line of each member in it: (polars.DataFrame, int64 [N]).

    A member without a line has -1; lines of others are left out of account.

    Raises:
        ConfigError: there is no such table, or lines and members do not fit.
    """
    from hansa.data.tablefile import cleaned, read_frame

    if not path.is_file():
        raise ConfigError(field, str(path), "there is no such file", "the path of a table")
    try:
        frame = cleaned(read_frame(path))
    except DataError as error:
        raise ConfigError(field, str(path), str(error), "a table with a line of names") from None
    if not id:
        if len(frame) != population.rows:
            problem = f"has {len(frame)} lines, the population {population.rows} members"
            fix = "a line for each member in the population's order, or the setting id"
            raise ConfigError(field, str(path), problem, fix)
        return frame, np.arange(population.rows)
    check_columns([id], frame.columns, "id", path)
    lines: dict[str | None, int] = {}
    for line, value in enumerate(frame[id].to_list()):
        key = word(value)
        if key in lines and frame.row(line) != frame.row(lines[key]):
            problem = f"says two things of {id} {key}: a platform that changes its answer"
            raise ConfigError(field, str(path), problem, "one line a member")
        lines.setdefault(key, line)
    order = np.array(
        [lines.get(word(_plain(one)), -1) for one in ids_of(population)], dtype=np.int64
    )
    if (order < 0).all():
        some = _some([str(word(_plain(one))) for one in ids_of(population)[:SHOWN]])
        problem = f"its column {id} names no member of the population"
        raise ConfigError(field, str(path), problem, f"ids of the population are such as {some}")
    return frame, order


def check_whole(order: np.ndarray, population: Population, field: str, path: Path) -> None:
    """Refuse a table that leaves members out.

    Raises:
        ConfigError: says how many, and names some.
    """
    left = np.flatnonzero(order < 0)
    if len(left):
        some = _some([str(ids_of(population)[row]) for row in left[:SHOWN].tolist()])
        problem = f"leaves out {len(left)} members of the population, such as {some}"
        raise ConfigError(field, str(path), problem, "a line for every member")


def _some(words: Sequence[str]) -> str:
    return ", ".join(map(str, list(words)[:20]))
