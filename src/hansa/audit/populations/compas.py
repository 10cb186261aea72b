"""COMPAS scores (ProPublica 2016): 6,172 defendants of Broward County, filtered as published."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from hansa.audit.grouping import levels, two
from hansa.audit.population import Population
from hansa.audit.population_source import PopulationSource
from hansa.base.component import register
from hansa.base.errors import DataError
from hansa.base.files import sha256
from hansa.data.fetch import Remote, fetch

REMOTE = Remote(
    "https://raw.githubusercontent.com/propublica/compas-analysis/master/compas-scores-two-years.csv",
    "c451db85908b2f7fef1d83203bedf6b71ecda0d5af468d82ae62178f91d0cc7d",
)


def columns(path: Path) -> dict[str, np.ndarray]:
    """The columns of the filtered rows, words [6172]; of two that share a name the first.

    Raises:
        DataError: it is not the published file.
    """
    if sha256(path) != REMOTE.sha256:
        raise DataError(
            f"{path} is not the published file\n  fix: replace it by a good copy from {REMOTE.url}"
        )
    header, *rows = csv.reader(io.StringIO(path.read_text(encoding="utf-8")))
    table = np.array(rows)
    named = {name: table[:, header.index(name)] for name in header}
    days = named["days_b_screening_arrest"]
    near = np.array([day != "" and abs(int(day)) <= 30 for day in days])
    kept = (
        near
        & (named["is_recid"] != "-1")
        & (named["c_charge_degree"] != "O")
        & (named["score_text"] != "N/A")
    )
    return {name: column[kept] for name, column in named.items()}


@register(
    "compas",
    paper="Angwin et al.",
    year=2016,
    url="https://www.propublica.org/article/how-we-analyzed-the-compas-recidivism-algorithm",
)
class Compas(PopulationSource):
    """Defendants and whether they reoffend, or what the score said of them.

    Five binary attributes as in the paper on collaborative audits, and ``race`` and ``age group``
    with all their values. An answer of 1 is unfavourable here, as in that paper.
    """

    answer: Literal["recidivism", "score"] = Field(
        "recidivism",
        description="recidivism: a new charge within two years, as in the paper; score: a score of "
        "medium or high, with recidivism as the true outcome",
    )

    def read(self) -> Population:
        column = columns(fetch("compas", REMOTE))
        attributes = [
            two("sex", column["sex"] == "Female", "male", "female"),
            two("african_american", column["race"] == "African-American", "other", "yes"),
            two("young", column["age"].astype(int) < 25, ">= 25", "< 25"),
            two("misdemeanor", column["c_charge_degree"] == "M", "felony", "misdemeanor"),
            two("priors", column["priors_count"].astype(int) > 0, "none", "some"),
            levels("race", column["race"]),
            levels("age_group", column["age_cat"]),
        ]
        again = column["two_year_recid"].astype(np.int8)
        high = (column["score_text"] != "Low").astype(np.int8)
        score = self.answer == "score"
        return Population(
            {a.name: a for a in attributes},
            high if score else again,
            again if score else None,
            ids=column["id"],
            name="COMPAS",
        )
