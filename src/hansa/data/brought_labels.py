"""Labels beside examples that somebody brings: then it can be said how good a model is."""

from __future__ import annotations

import numpy as np

from hansa.base.errors import DataError
from hansa.base.words import is_number
from hansa.data.labels import missing, text
from hansa.data.signature import Signature


def labels_of(column: np.ndarray, signature: Signature, where: str) -> np.ndarray:
    """int64 [m] classes, -1 where there is none; of a regression float32 [m], nan where none.

    Raises:
        DataError: a label is no class of the model, or no number; names it.
    """
    gaps = missing(column)
    if signature.spec.task == "regression":
        if column.dtype.kind not in "fiubO":
            raise DataError(f"{where} holds text, and the model gives amounts")
        amounts = np.full(len(column), np.nan, dtype=np.float32)
        amounts[~gaps] = column[~gaps].astype(np.float32)
        return amounts
    names = signature.named_classes
    words = _words(column[~gaps])
    place = {name: k for k, name in enumerate(names)}
    strange = sorted(set(words) - set(place))
    if strange and not any(map(is_number, names)) and all(map(str.isdecimal, words)):
        place, strange = _by_number(words, len(names))  # numbers of classes that have names
    if strange:
        shown = ", ".join(names[:20]) + (" ..." if len(names) > 20 else "")
        raise DataError(f"{where} holds {strange[0]!r}, which is no class of the model ({shown})")
    classes = np.full(len(column), -1, dtype=np.int64)
    classes[~gaps] = [place[word] for word in words]
    return classes


def _words(values: np.ndarray) -> list[str]:
    """Labels as training named them: whole numbers without a point."""
    if values.dtype.kind == "O":
        values = np.array(values.tolist())
    if values.dtype.kind == "f" and (values == np.rint(values)).all():
        values = values.astype(np.int64)
    return [str(value) for value in text(values)]


def _by_number(words: list[str], count: int) -> tuple[dict[str, int], list[str]]:
    place = {word: int(word) for word in words if int(word) < count}
    return place, sorted(set(words) - set(place))
