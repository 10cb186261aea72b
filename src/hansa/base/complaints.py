"""What pydantic complains of, in the words of this project: as the end of a sentence."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_LIST = "is no list, such as [a, b]"
_MAPPING = "is no mapping, such as {{name: value}}"
_WORDS = {
    "missing": "is required",
    "extra_forbidden": "there is no such setting",
    "unexpected_keyword_argument": "there is no such setting",
    "int_type": "is no whole number",
    "int_parsing": "is no whole number",
    "int_parsing_size": "is too large a number",
    "int_from_float": "is no whole number",
    "float_type": "is no number",
    "float_parsing": "is no number",
    "finite_number": "is no finite number",
    "bool_type": "is neither true nor false",
    "bool_parsing": "is neither true nor false",
    "string_type": "is no text",
    "path_type": "is no path",
    "tuple_type": _LIST,
    "list_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "dict_type": _MAPPING,
    "mapping_type": _MAPPING,
    "dataclass_type": _MAPPING,
    "model_type": "is a group of settings",
    "model_attributes_type": "is a group of settings",
    "none_required": "has to be null",
    "literal_error": "is none of {expected}",
    "enum": "is none of {expected}",
    "greater_than": "has to be greater than {gt}",
    "greater_than_equal": "has to be greater than or equal to {ge}",
    "less_than": "has to be less than {lt}",
    "less_than_equal": "has to be less than or equal to {le}",
    "multiple_of": "has to be a multiple of {multiple_of}",
    "string_too_short": "needs at least {min_length} characters",
    "string_too_long": "may have at most {max_length} characters",
    "string_pattern_mismatch": "does not fit the pattern {pattern}",
    "too_short": "has {actual_length} entries, and needs at least {min_length}",
    "too_long": "has {actual_length} entries, and may have at most {max_length}",
    "value_error": "{error}",
    "assertion_error": "{error}",
}


def said(complaint: ErrorDetails) -> str:
    """One complaint: what is wrong with the value, whatever it is called."""
    words = _WORDS.get(complaint["type"])
    if words is None:  # of a type that no setting has as yet
        return "does not fit: " + complaint["msg"].replace("Input", "it")
    facts = complaint.get("ctx", {}).items()
    return words.format_map({k: f"{v:g}" if isinstance(v, float) else v for k, v in facts})


def place(complaint: ErrorDetails, cls: type[BaseModel]) -> list[str]:
    """Where in the settings of a class it is: names and numbers, as one would write them.

    pydantic adds which of several types a value was tried as, and that a key was meant.
    """
    kinds: list[Any] = [cls]
    path = []
    for part in complaint["loc"]:
        if len(kinds) > 1:  # it was tried as each of them
            named = [kind for kind in kinds if part == getattr(kind, "__name__", None)]
            kinds = named or [kind for kind in kinds if _begins(kind, str(part))][:1] or [None]
            continue
        if part == "[key]":
            continue
        path.append(str(part))
        kinds = _inside(kinds[0], part)
    return path


def _begins(kind: Any, part: str) -> bool:
    """Whether a part of a place may stand for a type that values are tried as."""
    name = getattr(get_origin(kind) or kind, "__name__", "")
    return bool(name) and part.removeprefix("constrained-").startswith(name)


def _inside(kind: Any, part: int | str) -> list[Any]:
    """The types that a part of a value of a type may have."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return _each(kind.model_fields[part].annotation) if part in kind.model_fields else [None]
    origin, inner = get_origin(kind), [arg for arg in get_args(kind) if arg is not Ellipsis]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _each(inner[1])
    if isinstance(part, int) and inner:
        return _each(inner[min(part, len(inner) - 1)])
    return [None]


def _each(kind: Any) -> list[Any]:
    """The types that a value of a type is tried as; not that it is null."""
    if get_origin(kind) is Annotated:
        return _each(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [one for arg in get_args(kind) if arg is not type(None) for one in _each(arg)]
    return [kind]
