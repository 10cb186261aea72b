"""German credit (Hofmann 1994): 1,000 applicants, grouped as in the paper on collaborations."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from hansa.audit.grouping import two
from hansa.audit.population import Population
from hansa.audit.population_source import PopulationSource
from hansa.base.component import register
from hansa.base.errors import DataError
from hansa.data.fetch import Remote, fetch

REMOTE = Remote(
    "https://archive.ics.uci.edu/ml/machine-learning-databases/statlog/german/german.data", ""
)
CONTENT = "ac9ec88c978af873d82ec6aaa26b4cc2e61387722645c57a28880ad28b6fd355"
"""Of the cells with one space between them: copies differ in tabs, spaces and blank lines."""
EMPLOYMENT, PERSON, AGE, TELEPHONE, CREDIT = 6, 8, 12, 18, 20


def cells(path: Path) -> np.ndarray:
    """The table, words [1000, 21].

    Raises:
        DataError: it is another table than the published one. Names the file.
    """
    lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    rows = [line.split() for line in lines if line.strip()]
    digest = hashlib.sha256("\n".join(" ".join(row) for row in rows).encode()).hexdigest()
    if digest != CONTENT:
        raise DataError(
            f"{path} is not the published table: {len(rows)} rows, not 1000, or other values\n"
            "  fix: replace it by a good copy of german.data"
        )
    return np.array(rows)


@register(
    "german",
    paper="Hofmann",
    year=1994,
    url="https://archive.ics.uci.edu/dataset/144/statlog+german+credit+data",
)
class German(PopulationSource):
    """German credit: whether 1,000 applicants are good risks; five binary attributes.

    Male is everybody but code A92, single is A93 (so that there is no single woman), employed long
    is 4 years or more, and old is *above* 25.
    """

    def read(self) -> Population:
        table = cells(fetch("german", REMOTE))
        long = np.isin(table[:, EMPLOYMENT], ("A74", "A75"))
        person = table[:, PERSON]
        attributes = [
            two("age", table[:, AGE].astype(int) > 25, "<= 25", "> 25"),
            two("sex", person != "A92", "female", "male"),
            two("marital", person != "A93", "single", "not single"),
            two("telephone", table[:, TELEPHONE] == "A192", "none", "registered"),
            two("employment", long, "< 4 years", ">= 4 years"),
        ]
        answers = (table[:, CREDIT] == "1").astype(np.int8)
        return Population({a.name: a for a in attributes}, answers, name="German credit")
