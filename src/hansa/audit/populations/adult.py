"""Adult (Kohavi and Becker 1996): 32,561 people of the 1994 census and whether they earn much."""

from __future__ import annotations

import numpy as np

from hansa.audit.grouping import levels, two
from hansa.audit.population import Population
from hansa.audit.population_source import PopulationSource
from hansa.base.component import register
from hansa.base.errors import DataError
from hansa.base.files import sha256
from hansa.data.fetch import Remote, fetch

REMOTE = Remote(
    "https://archive.ics.uci.edu/ml/machine-learning-databases/adult/adult.data",
    "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
)
AGE, MARITAL, RACE, SEX, COUNTRY, INCOME = 0, 5, 8, 9, 13, 14


@register("adult", paper="Kohavi", year=1996, url="https://archive.ics.uci.edu/dataset/2/adult")
class Adult(PopulationSource):
    """Who earns above $50,000; two attributes of several values, and rows of unknown country."""

    def read(self) -> Population:
        path = fetch("adult", REMOTE)
        if sha256(path) != REMOTE.sha256:
            raise DataError(f"{path} is not the published file\n  fix: replace it by a good copy")
        lines = path.read_text(encoding="ascii").splitlines()
        table = np.array([line.split(", ") for line in lines if line])
        country = table[:, COUNTRY]
        born = np.where(country == "United-States", "native", "elsewhere")
        known: list[str | None] = [
            None if word == "?" else str(place) for word, place in zip(country, born, strict=True)
        ]
        attributes = [
            levels("race", table[:, RACE]),
            two("sex", table[:, SEX] == "Female", "male", "female"),
            two("age", table[:, AGE].astype(int) > 40, "<= 40", "> 40"),
            levels("marital", table[:, MARITAL]),
            levels("origin", known, ("native", "elsewhere")),
        ]
        answers = (table[:, INCOME] == ">50K").astype(np.int8)
        return Population({a.name: a for a in attributes}, answers, name="Adult")
