"""Errors in code of the user's own, a model, a data set, a plugin: where, and what was due."""

from __future__ import annotations

import sys
import sysconfig
import traceback
from pathlib import Path

from hansa.base.errors import OwnCodeError

_OURS = str(Path(__file__).parents[1])
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})
loaded: set[str] = set()
"""Files that were loaded by name, as models, data sets or plugins: own wherever they lie."""


def place_of(error: BaseException) -> str | None:
    """Where in the user's own code an error arose, ``file.py, line 12, in forward``.

    None where it arose in hansa, or nowhere that can be told.
    """
    if isinstance(error, SyntaxError) and error.filename and _is_own(error.filename):
        return f"{error.filename}, line {error.lineno}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if _is_own(frame.filename):
            return f"{frame.filename}, line {frame.lineno}, in {frame.name}"
        if frame.filename.startswith(_OURS):
            return None
    return None


def in_own_code(
    error: Exception, field: str, expected: str, foreign: object = None
) -> OwnCodeError | None:
    """An error as one of a setting, if the user's own code is at fault; None if hansa's is.

    Args:
        field: the setting that brought the code in.
        expected: what the code has to do.
        foreign: the component whose work failed: where it is not hansa's, it is at fault even if
            the error shows only later, on what it gave.
    """
    place = place_of(error)
    if place is None and (foreign is None or type(foreign).__module__.startswith("hansa.")):
        return None
    if place is None:
        module = sys.modules.get(type(foreign).__module__)
        file = str(getattr(module, "__file__", None) or module)
        place = f"{file}, {type(foreign).__qualname__}"
        for frame in traceback.extract_tb(error.__traceback__):  # the last is what asked for it
            if frame.filename == file:
                place = f"{file}, line {frame.lineno}, in {frame.name}"
    return OwnCodeError(field, None, f"{place}: {said(error)}", expected)


def said(error: BaseException) -> str:
    """An error's kind and first line."""
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _is_own(file: str) -> bool:
    if file.startswith(("<", _OURS)):
        return False
    return file in loaded or not file.startswith(_LIBRARIES)
