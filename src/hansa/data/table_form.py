"""The form of a table: what its columns and classes are called, and which words there are.

Who sees all rows reads the form from them. Parties that see their own rows alone put their forms
together, or take one that was declared beforehand; either way every party's rows then become the
same numbers as they would in one table of all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hansa.base.errors import ConfigError, DataError
from hansa.data.features import MOST, Feature
from hansa.data.raw import Arrays, RawSplits

_WHOLE = re.compile(r"0|-?[1-9]\d*")
"""A whole number as it is written when it was read as one."""


@dataclass(frozen=True)
class TableForm:
    """How a table is to be understood.

    Attributes:
        features: its input columns in their order.
        classes: names of the classes in the order of their numbers; empty: a regression.
    """

    features: tuple[Feature, ...]
    classes: tuple[str, ...]

    @classmethod
    def of(cls, raw: RawSplits) -> TableForm:
        """What was read from some rows."""
        return cls(raw.features, raw.class_names)

    @property
    def width(self) -> int:
        """How many numbers a row has."""
        return sum(feature["width"] for feature in self.features)

    @property
    def worded(self) -> tuple[str, ...]:
        """The columns that hold words."""
        return tuple(f["name"] for f in self.features if f["words"] is not None)


def sorted_names(names: Iterable[str]) -> tuple[str, ...]:
    """Names of classes or words as a table of all would number them: numbers by their size."""
    distinct = sorted(set(names))
    if all(_WHOLE.fullmatch(name) for name in distinct):
        distinct.sort(key=int)
    return tuple(distinct)


def joined(forms: Sequence[TableForm], whose: Sequence[str]) -> TableForm:
    """The form of a table of all parties' rows.

    Args:
        whose: what each party is called.

    Raises:
        ConfigError: the parties' columns are no parts of one table; names the setting that says
            what was meant, and the parties.
    """
    first, name = forms[0], whose[0]
    for form, other in zip(forms, whose, strict=True):
        if bool(form.classes) != bool(first.classes):
            one, two = (other, name) if form.classes else (name, other)
            problem = f"labels are classes at {one} and amounts at {two}"
            raise ConfigError("task", None, problem, "task: classification, or task: regression")
        names, known = ([f["name"] for f in each.features] for each in (form, first))
        if names != known:
            differ = sorted({*names} ^ {*known}) or ["their order"]
            problem = f"the columns at {other} are others than at {name}: {', '.join(differ[:8])}"
            raise ConfigError("inputs", None, problem, "inputs: [...] names them for all, in order")
        for mine, theirs in zip(form.features, first.features, strict=True):
            kinds = [each["words"] is None for each in (mine, theirs)]
            if kinds[0] != kinds[1] or (kinds[0] and mine["width"] != theirs["width"]):
                held = f"holds {_held(mine)} at {other} and {_held(theirs)} at {name}"
                problem = f"column {mine['name']!r} {held}"
                raise ConfigError("exclude", None, problem, "make them alike, or leave it out")
    features = []
    for k, feature in enumerate(first.features):
        if feature["words"] is None:
            features.append(feature)
            continue
        words = sorted({word for form in forms for word in form.features[k]["words"] or ()})
        if len(words) > MOST:
            problem = f"column {feature['name']!r} holds {len(words)} different words at all sites"
            raise ConfigError("exclude", None, problem, f"leave it out: at most {MOST}")
        features.append(Feature(name=feature["name"], words=words, width=len(words)))
    classes = sorted_names(name for form in forms for name in form.classes)
    return TableForm(tuple(features), classes)


def recast(raw: RawSplits, form: TableForm, where: str) -> RawSplits:
    """Rows that were read by their own form, in another that has room for all that is in them.

    Raises:
        DataError: they hold a class or a word that the form does not know.
    """
    classes = {name: k for k, name in enumerate(form.classes)}
    strange = [name for name in raw.class_names if name not in classes]
    if strange:
        known = ", ".join(form.classes) or "none: the labels are amounts"
        raise DataError(f"{where}: class {strange[0]!r} is not among those declared ({known})")
    number = np.array([classes[name] for name in raw.class_names], dtype=np.int64)

    def moved(part: Arrays) -> Arrays:
        targets = number[part.targets] if raw.class_names else part.targets
        blocks, at = [], 0
        for own, wanted in zip(raw.features, form.features, strict=True):
            block = part.inputs[:, at : at + own["width"]]
            at += own["width"]
            blocks.append(_spread(block, own, wanted, where))
        return replace(part, inputs=np.concatenate(blocks, axis=1), targets=targets)

    return replace(
        raw,
        train=moved(raw.train),
        test=moved(raw.test),
        outputs=len(form.classes) or 1,
        class_names=form.classes,
        features=form.features,
    )


def _spread(block: np.ndarray, own: Feature, wanted: Feature, where: str) -> np.ndarray:
    """Columns of 0 and 1 by a party's own words, at the places of all parties' words."""
    if own["words"] is None or own["words"] == wanted["words"]:
        return block
    place = {word: k for k, word in enumerate(wanted["words"] or ())}
    strange = [word for word in own["words"] if word not in place]
    if strange:
        raise DataError(
            f"{where}: column {own['name']!r} holds {strange[0]!r}, which is not among the words "
            f"declared ({', '.join(place) or 'none'})"
        )
    whole = np.zeros((len(block), len(place)), dtype=block.dtype)
    whole[np.isnan(block).any(axis=1)] = np.nan
    whole[:, [place[word] for word in own["words"]]] = block
    return whole


def _held(feature: Feature) -> str:
    if feature["words"] is not None:
        return "words"
    return "numbers" if feature["width"] == 1 else f"{feature['width']} numbers a row"
