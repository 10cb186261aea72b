"""Texts, characters, and pairs of a user and an item that somebody brings to a model, as ids."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.errors import ConfigError, DataError
from hansa.data import tablefile
from hansa.data.labels import missing, text
from hansa.data.signature import Signature
from hansa.data.sources.ratings_file import usual
from hansa.data.tokens import hashed, tokenized

if TYPE_CHECKING:
    from pathlib import Path

    import polars

LACKING = -1
"""Stands before the characters of a text that is shorter than what the model reads."""


def lines_of(path: Path) -> list[str]:
    """The lines of a text that hold anything.

    Raises:
        DataError: there is none, or it is no text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    said = [line for line in lines if line.strip()]
    if not said:
        raise DataError(f"{path} holds no text")
    return said


def texts_of(
    frame: polars.DataFrame, signature: Signature, where: str
) -> tuple[list[str], polars.DataFrame]:
    """(the texts of a table, its other columns).

    Raises:
        DataError: there is no column of texts, or a row has none.
    """
    name = str(signature.reading.get("text") or "text")
    if name not in frame.columns:
        raise DataError(
            f"{where}: there is no column {name!r}, which holds the texts; there are "
            f"{', '.join(frame.columns)}"
        )
    said = frame[name].to_list()
    for row, one in enumerate(said):
        if not isinstance(one, str) or not one.strip():
            raise DataError(f"{where}: row {row + 1} has no text in {name!r}")
    return said, frame.drop(name)


def rows_of_texts(texts: list[str], signature: Signature, where: str) -> np.ndarray:
    """int64 [m, T]: texts as the model's training made ids of them.

    Raises:
        ConfigError: the model takes no texts, or its training did not tell how it read them.
    """
    reading, length = signature.reading, signature.spec.shape[-1]
    if signature.spec.kind != "tokens":
        problem = f"are texts, the models take {signature.spec.kind}"
        raise ConfigError("input", where, problem, "what training read")
    if known := reading.get("characters"):
        place = {character: k for k, character in enumerate(known, 1)}
        rows = np.full((len(texts), length), LACKING, dtype=np.int64)
        for row, said in zip(rows, texts, strict=True):
            last = said[-length:]
            row[length - len(last) :] = [place.get(character, 0) for character in last]
        return rows
    if "hashes" not in reading:
        problem = "are texts, and it is not known how training made ids of them"
        raise ConfigError("input", where, problem, f"a .npy array of ids [m, {length}]")
    if reading.get("tokenizer"):
        return tokenized(texts, str(reading["tokenizer"]), length).ids
    return hashed(texts, int(reading["hashes"]), length).ids


def pairs_of(frame: polars.DataFrame, signature: Signature, where: str) -> tuple[np.ndarray, str]:
    """(int64 [m, 2]: a user and an item each, the column of ratings; empty where there is none).

    Raises:
        DataError: a user or an item is unknown to the model, or a row lacks one.
    """
    columns = tablefile.arrays(frame)
    ids = []
    spaces = (("user", signature.user_names), ("item", signature.item_names))
    for (part, names), size in zip(spaces, signature.spec.vocabulary, strict=True):
        column = named_column(part, frame.columns, signature, where)
        if column is None:
            raise DataError(f"{where}: there is no column of {part}s; there are "
                            f"{', '.join(frame.columns)}")  # fmt: skip
        ids.append(ids_of(columns[column], part, names, size, f"{where}: column {column!r}"))
    rating = named_column("rating", frame.columns, signature, where)
    return np.stack(ids, axis=1), rating or ""


def named_column(part: str, columns: list[str], signature: Signature, where: str) -> str | None:
    """The column of a part of a rating: as training called it, or by its usual names."""
    named = signature.reading.get(part)
    if named in columns:
        return str(named)
    return usual(part, columns, where, optional=True)


def ids_of(
    values: np.ndarray, part: str, names: tuple[str, ...], size: int, where: str
) -> np.ndarray:
    """int64 [m]: places of users or items among those that the model knows.

    Raises:
        DataError: one is unknown, or missing.
    """
    if missing(values).any():
        raise DataError(f"{where}: row {int(np.flatnonzero(missing(values))[0]) + 1} has no {part}")
    if values.dtype.kind == "f" and (values == np.rint(values)).all():
        values = values.astype(np.int64)
    said = [str(value) for value in text(values)]
    place = {name: k for k, name in enumerate(names or map(str, range(size)))}
    strange = next((name for name in said if name not in place), None)
    if strange is not None:
        near = difflib.get_close_matches(strange, place, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DataError(f"{where} holds {strange!r}, a {part} of whom training had no "
                        f"ratings{hint}")  # fmt: skip
    return np.array([place[name] for name in said], dtype=np.int64)
