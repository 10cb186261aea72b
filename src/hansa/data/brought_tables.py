"""Tables that somebody brings to a model: by the names of their columns, or without any names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hansa.base.errors import DataError
from hansa.data import tablefile
from hansa.data.features import Feature, encode
from hansa.data.signature import Signature

_MARKS = r"[,;\t|]"


def numbers_of(columns: Mapping[str, np.ndarray], signature: Signature, where: str) -> np.ndarray:
    """Columns as numbers [m, F], by the features of a table; of others, in their order.

    Raises:
        DataError: a column is missing or holds what training did not.
    """
    features = signature.features
    if features:
        _refuse_missing(columns, signature, where)
        table = encode(columns, features, where)
    else:
        owned = (signature.reading.get("label"), signature.reading.get("group"))
        plain = [Feature(name=n, words=None, width=1) for n in columns if n not in owned]
        table = encode(columns, plain, where)
    return _wide(table, signature, where)


def without_header(path: Path, signature: Signature) -> np.ndarray | None:
    """Rows of numbers in the order in which the model takes them; None where columns have names."""
    if path.suffix.lower() not in tablefile.TEXT:
        return None
    cells = _first_line(path)
    names = {feature["name"] for feature in signature.features}
    named = 2 * len(names & set(cells)) > len(names)  # a header, though one may be missing
    if named or not _are_numbers(cells):
        return None
    try:
        lines = re.sub(_MARKS, ",", path.read_text(encoding="utf-8-sig"))
        table = np.loadtxt(lines.splitlines(), delimiter=",", ndmin=2)
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    return _wide(table, signature, str(path))


def _wide(table: np.ndarray, signature: Signature, where: str) -> np.ndarray:
    width = int(np.prod(signature.stored_shape))
    if table.shape[1] != width:
        raise DataError(f"{where}: rows have {table.shape[1]} numbers, the models take {width}")
    return table


def _refuse_missing(columns: Mapping[str, np.ndarray], signature: Signature, where: str) -> None:
    """Name every column that is needed and not there, with what it may be called here."""
    lacking = [f["name"] for f in signature.features if f["name"] not in columns]
    if len(lacking) < 2:
        return  # encode says it
    near = {name: difflib.get_close_matches(name, columns, n=1) for name in lacking}
    hints = [f"{name!r} ({found[0]!r}?)" if found else repr(name) for name, found in near.items()]
    needed = ", ".join(feature["name"] for feature in signature.features)
    raise DataError(
        f"{where}: there are no columns {', '.join(hints)}; needed are {needed}, in any order, and "
        f"there are {', '.join(columns)}"
    )


def _first_line(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return [cell.strip(' "\r\n') for cell in re.split(_MARKS, file.readline())]


def _are_numbers(cells: list[str]) -> bool:
    """Whether the first line of a file holds numbers, not names."""
    try:
        return bool([float(cell) for cell in cells])
    except ValueError:
        return False
