"""What a run file may say of a table beforehand, so that nobody has to read it from all rows."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from hansa.base.errors import ConfigError
from hansa.data.features import Feature
from hansa.data.table_form import TableForm, sorted_names


def _text(value: Any) -> Any:
    """A name that YAML takes for a number or a yes, as a table's reader writes it."""
    return str(value) if isinstance(value, bool | int | float) else value


Name = Annotated[str, BeforeValidator(_text)]


class Declared(BaseModel):
    """What is known of a table's columns, whoever has the rows.

    Where several sites train on tables of their own, what is declared need not be told when they
    join. All of it holds in a simulation too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    classes: tuple[Name, ...] = Field((), description="names of all classes, in any order")
    words: dict[str, tuple[Name, ...]] = Field(
        {}, description="by column of words: all words that there are"
    )
    means: dict[str, float] = Field(
        {}, description="by column of numbers: the mean that is subtracted from it"
    )
    deviations: dict[str, float] = Field(
        {}, description="by column of numbers: the standard deviation that it is divided by"
    )

    @property
    def scales(self) -> bool:
        """Whether it says how columns are scaled."""
        return bool(self.means or self.deviations)

    def tells_names(self, form: TableForm) -> bool:
        """Whether it has all names of a table of this form."""
        return (bool(self.classes) or not form.classes) and {*form.worded} <= {*self.words}

    def form(self, read: TableForm) -> TableForm:
        """The form of a table with what is declared in it.

        Raises:
            ConfigError: words are declared of a column that holds none, or is not there.
        """
        strange = [name for name in self.words if name not in read.worded]
        if strange:
            problem = f"no input column {strange[0]!r} holds words"
            raise ConfigError("declared.words", None, problem, f"of {list(read.worded)}")
        if self.classes and not read.classes:
            problem = "the labels are amounts, which have no classes"
            raise ConfigError("declared.classes", None, problem, "leave it out")
        features = []
        for feature in read.features:
            words = self.words.get(feature["name"])
            if words is not None:
                listed = sorted(set(words))
                feature = Feature(name=feature["name"], words=listed, width=len(listed))
            features.append(feature)
        classes = sorted_names(self.classes) if self.classes else read.classes
        return TableForm(tuple(features), classes)

    def scaling(self, form: TableForm) -> tuple[np.ndarray, np.ndarray]:
        """(mean, standard deviation) of each number of a row [F], float64; words stay 0 and 1.

        Raises:
            ConfigError: a column of numbers has none, or one is declared that is not there.
        """
        mean, deviation = np.zeros(form.width), np.ones(form.width)
        numeric = {f["name"] for f in form.features if f["words"] is None}
        for field, known in (("means", self.means), ("deviations", self.deviations)):
            odd = sorted(known.keys() ^ numeric)
            if odd:
                lacks = "is no input column of numbers" if odd[0] in known else "is not among them"
                fix = "one of each column of numbers, in means and in deviations"
                raise ConfigError(f"declared.{field}", None, f"{odd[0]!r} {lacks}", fix)
        low = [name for name, value in self.deviations.items() if value <= 0]
        if low:
            value = self.deviations[low[0]]
            problem = f"the deviation of {low[0]!r} is not above 0"
            raise ConfigError("declared.deviations", value, problem, "1 for a constant column")
        at = 0
        for feature in form.features:
            place = slice(at, at + feature["width"])
            if feature["words"] is None:
                mean[place] = self.means[feature["name"]]
                deviation[place] = self.deviations[feature["name"]]
            at += feature["width"]
        return mean, deviation
