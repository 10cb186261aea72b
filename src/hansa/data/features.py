"""Input columns made into one matrix: numbers as they are, words as 0/1 columns if asked for."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

import numpy as np

from hansa.base.errors import ConfigError, DataError
from hansa.base.words import is_number
from hansa.data.labels import FEW, missing, text

Categories = Literal["refuse", "one_hot"]
MOST = 100
"""More different words than this are names or free text, not categories."""
_MONTH = (
    "jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?|"
    "oct(ober)?|nov(ember)?|dec(ember)?"
)
_DATE = re.compile(
    r"\d{4}([-/.])\d{1,2}\1\d{1,2}([ T].*)?|\d{1,2}[./-]\d{1,2}[./-]\d{2,4}( .*)?|"
    r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?( ?[ap]m)?|"
    rf"([a-z]{{3,9}},? )?(\d{{1,2}}[ .-]+)?({_MONTH})[ .,-]+\d{{1,4}}(\D.*)?",
    re.IGNORECASE,
)
_MARK = "['. \u00a0\u202f]"
_COMMA = re.compile(
    rf"[+-]?\d{{1,3}}({_MARK}\d{{3}})*,\d+|[+-]?\d+,\d+|[+-]?\d{{1,3}}(,\d{{3}})+(\.\d+)?|"
    r"[+-]?\d{1,3}(['\u00a0\u202f ]\d{3})+(\.\d+)?|[+-]?\d{1,3}(\.\d{3}){2,}"
)
_SIGN = re.compile(r"[+-]?[€$£¥] ?[+-]?\d[\d.,']*|[+-]?\d[\d.,']* ?[%€$£¥]")
_UNIT = re.compile(r"[+-]?\d[\d.,']*( ?[^\d\s.,]\D*)")


class Feature(TypedDict):
    """How a column was read, in plain data: its ``words``, a number each, or None of numbers,
    ``width`` of them."""

    name: str
    words: list[str] | None
    width: int


def matrix(
    columns: Mapping[str, np.ndarray], where: str, categories: Categories
) -> tuple[np.ndarray, list[Feature]]:
    """Columns [N] or of vectors [N, k] side by side, float32 [N, F], and how each was read; nan
    where there is no value.

    With ``one_hot`` a column of words becomes one column of 0 and 1 for each of them, in sorted
    order. Booleans are 0 and 1.

    Raises:
        ConfigError: columns hold words, and nobody said what to do with them.
        DataError: there is no column, or one cannot be made into numbers. Names the column.
    """
    if not columns:
        raise DataError(f"{where}: there is no input column besides label and group")
    plain = {name: _plain(column, f"{where}: column {name!r}") for name, column in columns.items()}
    words = {name: column for name, column in plain.items() if column.dtype.kind in "OUS"}
    for name, column in words.items():
        _refuse_misread(name, column, where)
    if words and categories == "refuse":
        raise _worded(words, where)
    blocks: list[np.ndarray] = []
    features: list[Feature] = []
    for name, column in plain.items():
        vocabulary = _words(name, column, where) if name in words else None
        if vocabulary is None:
            blocks.append(_floats(name, column, where))
            _refuse_empty(name, blocks[-1], where)
        else:
            blocks.append(_one_hot(name, column, vocabulary, where))
        features.append(Feature(name=name, words=vocabulary, width=blocks[-1].shape[1]))
    return np.concatenate(blocks, axis=1), features


def encode(
    columns: Mapping[str, np.ndarray], features: Sequence[Feature], where: str
) -> np.ndarray:
    """Other rows of the same columns as :func:`matrix` read the first, float32 [N, F].

    Raises:
        DataError: a column is not there, or holds what the first rows did not. Names the column.
    """
    blocks = []
    for feature in features:
        name, words = feature["name"], feature["words"]
        if name not in columns:
            needed = ", ".join(other["name"] for other in features)
            raise DataError(
                f"{where}: there is no column {name!r}; needed are {needed}, in any order, and "
                f"there are {', '.join(columns)}"
            )
        column = _plain(columns[name], f"{where}: column {name!r}")
        if words is not None:
            blocks.append(_one_hot(name, column, words, where))
            continue
        if column.dtype.kind in "OUS":
            raise DataError(f"{where}: column {name!r} holds text, and numbers are needed")
        blocks.append(_floats(name, column, where))
        if blocks[-1].shape[1] != feature["width"]:
            raise DataError(
                f"{where}: column {name!r} holds {blocks[-1].shape[1]} numbers a row, and "
                f"{feature['width']} are needed"
            )
    return np.concatenate(blocks, axis=1)


def _plain(column: np.ndarray, where: str) -> np.ndarray:
    """A column without lists, and without what is neither number nor word."""
    filled = column[~missing(column)] if column.dtype.kind == "O" else column[:0]
    if column.dtype.kind in "mM" or (
        len(filled) and isinstance(filled[0], datetime.date | datetime.time | datetime.timedelta)
    ):
        raise DataError(
            f"{where} holds dates or times; make numbers of them (days since the first, hour of "
            "the day), or leave it out: exclude"
        )
    if column.dtype.kind in "cV":
        held = "complex numbers" if column.dtype.kind == "c" else f"records ({column.dtype})"
        raise DataError(f"{where} holds {held}; make a column of numbers of each part")
    if column.dtype.kind == "O":
        if len(filled) and isinstance(filled[0], list | tuple | np.ndarray):
            lengths = {len(item) if item is not None else -1 for item in column}
            if len(lengths) > 1:
                raise DataError(f"{where} holds lists of different lengths; make them equal")
            plain = np.array([list(item) for item in column])
            if plain.dtype.kind in "OUS" and plain.ndim == 2:
                plain = np.array([_numbers(item, where) for item in plain], np.float64)
            return plain
        if len(filled) == 0:
            return np.full(len(column), np.nan)
        if all(isinstance(item, bool | int | float | np.generic) for item in filled):
            return np.array([np.nan if item is None else item for item in column], np.float64)
    return column


def _numbers(items: np.ndarray, where: str) -> list[float]:
    """A list of numbers, some of which may be missing."""
    try:
        return [np.nan if item is None else float(item) for item in items.tolist()]
    except (TypeError, ValueError):
        raise DataError(
            f"{where} holds lists of words or of lists; make a column of each part"
        ) from None


def _floats(name: str, column: np.ndarray, where: str) -> np.ndarray:
    with np.errstate(over="ignore"):  # told below
        block = column.astype(np.float32).reshape(len(column), math.prod(column.shape[1:]))
    if infinite := int(np.isinf(block).any(axis=1).sum()):
        raise DataError(
            f"{where}: column {name!r} has {infinite} rows with infinite values, or values too "
            "large for 32 bits; fill, scale or drop them"
        )
    return block


def _refuse_empty(name: str, block: np.ndarray, where: str) -> None:
    if len(block) and np.isnan(block).all(axis=0).any():
        raise DataError(
            f"{where}: column {name!r} has no value in any row; leave it out: exclude: [{name}]"
        )


def _words(name: str, column: np.ndarray, where: str) -> list[str]:
    """The different words of a column in sorted order."""
    gaps = missing(column) if column.dtype.kind == "O" else np.zeros(len(column), bool)
    distinct = np.unique(text(column[~gaps]))
    if len(distinct) > MOST:
        raise DataError(
            f"{where}: column {name!r} holds {len(distinct)} different words such as "
            f"{distinct[0]!r}: names or free text, and at most {MOST} are taken as categories; "
            f"leave it out: exclude: [{name}]"
        )
    return [str(word) for word in distinct]


def _one_hot(name: str, column: np.ndarray, words: Sequence[str], where: str) -> np.ndarray:
    gaps = missing(column)
    said = text(column[~gaps].astype(str))
    place = {word: k for k, word in enumerate(words)}
    strange = sorted(set(said.tolist()) - set(place))
    if strange:
        raise DataError(
            f"{where}: column {name!r} holds {strange[0]!r}, which training did not; known are "
            f"{', '.join(words)}"
        )
    block = np.full((len(column), len(words)), np.nan, np.float32)
    block[~gaps] = np.eye(len(words), dtype=np.float32)[[place[word] for word in said.tolist()]]
    return block


def _worded(words: Mapping[str, np.ndarray], where: str) -> ConfigError:
    name, column = next(iter(words.items()))
    distinct = np.unique(text(column[~missing(column)]))
    shown = ", ".join(repr(str(word)) for word in distinct[:3]) + (
        " ..." if len(distinct) > 3 else ""
    )
    more = [repr(other) for other in words if other != name]
    rest = f"; so do {', '.join(more[:8])}{' ...' if len(more) > 8 else ''}" if more else ""
    return ConfigError(
        "categories",
        "refuse",
        f"{where}: column {name!r} holds text, {len(distinct)} different words ({shown}){rest}",
        "categories: one_hot makes a column of 0 and 1 of each word; exclude: [...] leaves "
        "columns out; inputs: [...] names those to use",
    )


def _refuse_misread(name: str, column: np.ndarray, where: str) -> None:
    """Words that are meant as numbers or dates must not become categories."""
    filled = np.unique(text(column[~missing(column)]))
    first = f"{where}: column {name!r} holds"
    if _most(filled, _DATE):
        raise DataError(
            f"{first} dates or times such as {str(filled[0])!r}; make numbers of them (days since "
            f"the first, the hour), or leave it out: exclude: [{name}]"
        )
    refuse_commas(name, filled, where)
    units = [match[1] for word in filled if (match := _UNIT.fullmatch(word))]
    measured = len(filled) > FEW and 2 * max((units.count(u) for u in set(units)), default=0)
    if _most(filled, _SIGN) or measured > len(filled):
        raise DataError(
            f"{first} numbers with a sign or a unit such as {str(filled[0])!r}; write numbers "
            f"alone, or leave it out: exclude: [{name}]"
        )
    numeric = np.array([is_number(word) for word in filled])
    if numeric.sum() > max(10, 0.5 * len(filled)):  # not the categories 0, 1, 2, 3+
        odd = filled[~numeric]
        shown = ", ".join(repr(str(word)) for word in odd[:3])
        raise DataError(
            f"{first} numbers and {len(odd)} words that are none ({shown}); if they "
            f"stand for missing ones: missing_values: [{', '.join(map(str, odd[:3]))}]"
        )


def refuse_commas(name: str, words: np.ndarray, where: str) -> None:
    """Numbers with commas are no words.

    Raises:
        DataError: most of them are numbers with a comma for the point or marks between thousands.
    """
    meant = [word for word in words if _COMMA.fullmatch(word)]
    numeric = sum(is_number(word) for word in words)
    if meant and 2 * (len(meant) + numeric) > len(words):
        raise DataError(
            f"{where}: column {name!r} holds {len(meant)} numbers with commas or marks such as "
            f"{str(meant[0])!r}; write them with a point and without marks between thousands"
        )


def _most(words: Sequence[str] | np.ndarray, pattern: re.Pattern[str]) -> bool:
    return 2 * sum(bool(pattern.fullmatch(word)) for word in words) > len(words)
