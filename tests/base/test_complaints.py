"""Whatever is written for a setting, nobody hears of pydantic or of Python's types."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import pytest
from pydantic import BaseModel, Field, ValidationError

import hansa.experiment.runfile
import hansa.experiment.sites.site_file  # noqa: F401 - settings of files, beside components
from hansa.base.checks import explain
from hansa.base.component import catalogue
from hansa.base.errors import ConfigError
from hansa.base.homes import ROOMS

WRONG = ("two", -1, 3.5, [[1]], {"a": "b"})
RAW = re.compile(
    r"Input|Field req|Value error|valid |constrained|\[key\]|function-|dict\[|does not fit:"
)


class Group(BaseModel):
    """Settings of many forms."""

    count: int = Field(1, ge=1, description="how many")
    several: tuple[int, ...] = Field((), max_length=2)
    either: int | tuple[int, ...] = 1
    names: dict[str, float | list[int]] = {}
    way: Literal["up", "down"] = "up"
    share: float = Field(0.5, gt=0, le=1)


def settings(of: type[BaseModel] = BaseModel) -> Iterator[type[BaseModel]]:
    """All classes of settings that hansa has."""
    for cls in of.__subclasses__():
        if cls.__module__.startswith("hansa.") and not getattr(cls, "__abstractmethods__", None):
            yield cls
        yield from settings(cls)


def complaint(cls: type[BaseModel], field: str, value: object) -> ConfigError | None:
    """What is said of a value, if there is anything."""
    try:
        cls.model_validate({field: value})
    except ConfigError as error:
        return error
    except ValidationError as error:
        return explain(error, cls)
    return None


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("count", "two", "count = 'two': is no whole number\n  fix: count is: how many"),
        ("count", 1.5, "count = 1.5: is no whole number\n  fix: count is: how many"),
        ("count", 0, "has to be greater than or equal to 1"),
        ("several", 3, "several = 3: is no list, such as [a, b]"),
        ("several", [1, 2, 3], "several = [1, 2, 3]: has 3 entries, and may have at most 2"),
        ("several", [1, "x"], "several.1 = 'x': is no whole number"),
        ("either", "x", "either = 'x': is no whole number, and is no list, such as [a, b]"),
        ("either", [1, "x"], "also: either.1: is no whole number"),
        ("names", 3, "names = 3: is no mapping, such as {name: value}"),
        ("names", {"a": ["x"]}, "also: names.a.0: is no whole number"),
        ("way", "left", "way = 'left': is none of 'up' or 'down'"),
        ("share", 2, "share = 2: has to be less than or equal to 1"),
        ("share", 0, "share = 0: has to be greater than 0"),
    ],
)
def test_what_is_wrong_is_said_of_the_setting(field: str, value: object, said: str) -> None:
    assert said in str(complaint(Group, field, value))


def test_no_setting_of_any_kind_has_a_raw_complaint() -> None:
    for kind in ROOMS:
        catalogue(kind)
    classes = list(dict.fromkeys(settings()))
    assert len(classes) > 300
    heard = 0
    for cls in classes:
        for field in cls.model_fields:
            for value in WRONG:
                if (error := complaint(cls, field, value)) is not None:
                    heard += 1
                    other = error.fix.partition("\n")[2]
                    assert not RAW.search(f"{error.field} {error.problem} {other}"), str(error)
    assert heard > 3000
