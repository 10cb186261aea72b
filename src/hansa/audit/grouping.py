"""Columns made into groups: every value one, or two by a rule such as ``> 25``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence

import numpy as np

from hansa.audit.population import UNKNOWN, Attribute
from hansa.base.errors import ConfigError

MOST = 50
"""So many different values are a measurement that needs a rule, not groups."""
_RULE = re.compile(r"\s*(>=|<=|>|<|!=|==|=)\s*(.+?)\s*")
_TESTS: dict[str, tuple[Callable[..., np.ndarray], str]] = {
    ">": (operator.gt, "<="),
    ">=": (operator.ge, "<"),
    "<": (operator.lt, ">="),
    "<=": (operator.le, ">"),
}


def two(name: str, chosen: np.ndarray, no: str, yes: str) -> Attribute:
    """Two groups from bool [N]; differences are those of the second against the first."""
    return Attribute(name, (no, yes), np.asarray(chosen).astype(np.int16))


def levels(
    name: str,
    column: Sequence[str | None] | np.ndarray,
    values: Sequence[str] | None = None,
    field: str = "attributes",
) -> Attribute:
    """A group for each value; None, and values that are not listed, are unknown.

    Args:
        name: of the attribute.
        column: [N] words.
        values: the groups in their order; None = all values that occur, most frequent first.
        field: what the setting is called in errors.

    Raises:
        ConfigError: there are too many values for groups, or a listed one does not occur.
    """
    words = np.array(["" if word is None else str(word) for word in column])
    missing = np.array([word is None for word in column])
    present, codes, counts = np.unique(words, return_inverse=True, return_counts=True)
    names = [str(word) for word in present]
    if values is None:
        order = sorted(range(len(names)), key=lambda k: (-counts[k], names[k]))
        values = [names[k] for k in order if not (names[k] == "" and missing.any())]
        if len(values) > MOST:
            raise ConfigError(
                f"{field}.{name}",
                None,
                f"has {len(values)} different values, such as {', '.join(values[:3])}",
                "give a rule such as '> 25', or list the values that are groups",
            )
    for value in values:
        if value not in names:
            raise ConfigError(
                f"{field}.{name}", value, "is no value of it", f"it has {', '.join(names[:10])}"
            )
    place = {value: number for number, value in enumerate(values)}
    table = np.array([place.get(word, UNKNOWN) for word in names], np.int16)
    return Attribute(name, tuple(values), np.where(missing, UNKNOWN, table[codes]).astype(np.int16))


def by_rule(
    name: str, column: Sequence[str | None] | np.ndarray, rule: str, field: str = "attributes"
) -> Attribute:
    """Two groups: those for whom ``> 25`` (or >=, <, <=, =, !=) does not hold, and those it does.

    Args:
        name: of the attribute.
        column: [N] words, None where there is no value.
        rule: a comparison.
        field: what the setting is called in errors.

    Raises:
        ConfigError: the rule cannot be read, or the values are no numbers.
    """
    match = _RULE.fullmatch(rule)
    if match is None:
        raise ConfigError(
            f"{field}.{name}", rule, "is no rule", "write a comparison such as '> 25' or '= male'"
        )
    sign, value = match[1], match[2]
    missing = np.array([word is None for word in column])
    if sign in ("=", "==", "!="):
        same = np.array([word == value for word in column])
        if not same.any():
            some = ", ".join(sorted({str(word) for word in column if word is not None})[:10])
            raise ConfigError(f"{field}.{name}", rule, "holds for nobody", f"values are {some}")
        chosen = same if sign != "!=" else ~same
        names = (f"not {value}", value) if sign != "!=" else (value, f"not {value}")
    else:
        compare, opposite = _TESTS[sign]
        try:
            edge = float(value)
            numbers = np.array([np.nan if word is None else float(word) for word in column])
        except ValueError as error:
            raise ConfigError(
                f"{field}.{name}", rule, f"compares numbers, and {error}", "use '= value'"
            ) from None
        chosen = compare(numbers, edge)
        names = (f"{opposite} {value}", f"{sign} {value}")
    codes = np.where(missing, UNKNOWN, chosen.astype(np.int16)).astype(np.int16)
    return Attribute(name, names, codes)


def favourable(
    column: Sequence[str | None] | np.ndarray, positive: str | None, field: str
) -> np.ndarray:
    """int8 [N]: 1 where a column says the favourable value.

    Without a value given, the column has to hold 0 and 1, or true and false.

    Raises:
        ConfigError: values are missing, or which one is favourable is not clear.
    """
    words = ["" if word is None else str(word) for word in column]
    present = sorted(set(words))
    if any(word is None for word in column):
        count = sum(word is None for word in column)
        raise ConfigError(field, None, f"{count} rows have no value", "leave those rows out")
    if positive is None:
        lower = {word.lower().removesuffix(".0") for word in present}
        if not lower <= {"0", "1"} and not lower <= {"true", "false"}:
            raise ConfigError(
                field,
                None,
                f"is not binary: it has {', '.join(present[:5])}",
                "say which value is favourable",
            )
        yes = [word.lower().removesuffix(".0") in ("1", "true") for word in words]
        return np.array(yes, np.int8)
    if positive not in present:
        raise ConfigError(
            field, positive, "is no value of the column", f"it has {', '.join(present[:10])}"
        )
    return np.array([word == positive for word in words], np.int8)
