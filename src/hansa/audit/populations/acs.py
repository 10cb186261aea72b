"""American Community Survey, PrivMRF's extract (Cai et al. 2021): 47,461 rows, 23 questions."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from hansa.audit.grouping import two
from hansa.audit.population import Population
from hansa.audit.population_source import PopulationSource
from hansa.base.component import register
from hansa.base.errors import DataError
from hansa.base.files import sha256
from hansa.data.fetch import Remote, fetch

REMOTE = Remote(
    "https://raw.githubusercontent.com/caicre/PrivMRF/"
    "61ef5fe63777e5f2ac93687d3693d7f2f7ba58b4/data/acs.csv",
    "89e337a3431f9b3f76d84142cb048495fec93ff10018b1f38b25a19491582cc8",
)
QUESTIONS = 23


@register("acs", paper="Cai et al.", year=2021, url="https://github.com/caicre/PrivMRF")
class Acs(PopulationSource):
    """Survey answers, each yes or no: many attributes for many agents.

    What the questions were is not in the file; they are ``q0`` to ``q22``. One of them stands for
    the platform's answer.
    """

    answer: int = Field(0, ge=0, lt=QUESTIONS, description="the question that is the answer")

    def read(self) -> Population:
        path = fetch("acs", REMOTE)
        if sha256(path) != REMOTE.sha256:
            raise DataError(f"{path} is not the published file\n  fix: replace it by a good copy")
        table = np.loadtxt(path, dtype=np.int8, delimiter=",", skiprows=1)
        attributes = {
            f"q{k}": two(f"q{k}", table[:, k] == 1, "no", "yes")
            for k in range(QUESTIONS)
            if k != self.answer
        }
        return Population(attributes, table[:, self.answer], name="ACS extract")
