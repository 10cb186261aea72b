"""A platform whose decisions are in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from hansa.audit.black_box import NO, REFUSED, YES, Ask, BlackBox, Value, word
from hansa.audit.features import check_columns, check_whole, joined
from hansa.base.component import register
from hansa.base.errors import ConfigError

if TYPE_CHECKING:
    from hansa.audit.population import Population


@register("table")
class TableBox(BlackBox):
    """Decisions in a table (.csv, .tsv, .parquet); a value that is missing is a refusal."""

    path: Path = Field(description="the table")
    decision: str = Field(description="column of the decisions")
    positive: Value = Field(description="the decision that counts as yes: nothing is guessed")
    id: str = Field(
        "",
        description="column that names the member, as the population's ids do; empty: the lines "
        "are in the population's order",
    )
    missing: Literal["error", "refused"] = Field(
        "error", description="a member without a line: an error, or a platform that refuses"
    )

    def opened(self, population: Population, agents: Sequence[str]) -> Ask:
        """Read the decisions.

        Raises:
            ConfigError: the table does not fit the population, or nobody has the positive decision.
        """
        frame, order = joined(self.path, "path", self.id, population)
        if self.missing == "error":
            check_whole(order, population, "path", self.path)
        check_columns([self.decision], frame.columns, "decision", self.path)
        words = [word(value) for value in frame[self.decision].to_list()]
        wanted = word(self.positive)
        if wanted not in words:
            kinds = sorted({one for one in words if one is not None})
            problem = f"nobody has this decision in column {self.decision}"
            raise ConfigError("positive", self.positive, problem, f"one of {', '.join(kinds[:20])}")
        codes = {None: REFUSED, wanted: YES}
        answers = np.array([*(codes.get(one, NO) for one in words), REFUSED], dtype=np.int8)[order]

        def ask(rows: np.ndarray, agent: str, key: str) -> np.ndarray:
            return answers[rows]

        return ask
