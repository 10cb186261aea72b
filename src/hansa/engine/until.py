"""When a run ends before its last round: a budget is spent, a figure reached or no longer better.

What counts is what the run's tables say: bytes of messages, modelled seconds of the slowest node
(with servers, of the slowest server) and modelled joules of all nodes. What ending itself costs,
such as a last merge, comes on top.
"""

from __future__ import annotations

import math
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from hansa.base.byte_size import byte_size
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.data import Dataset
from hansa.engine.block import Block
from hansa.engine.settings import EvaluateSettings, Settings
from hansa.metrics import MetricSet

MARK = "(until."
"""In the reason why a run ended: it was for its budget or its patience, so that a larger one may
let it go on."""
OF_RUN = "until."
"""Begins the names of what a block's state holds of the run, the same for all nodes."""


class UntilSettings(Settings):
    """What ends a run before its last round; whichever comes first."""

    bytes: int | None = Field(
        None, description="all nodes together have sent so much, such as 20MB; none = unlimited"
    )
    seconds: float | None = Field(
        None, gt=0, description="so much modelled time has passed, in s; none = unlimited"
    )
    joules: float | None = Field(
        None, gt=0, description="all nodes together have spent so much modelled energy, in J"
    )
    metric: str | None = Field(
        None,
        description="the figure that reaches and patience look at, a mean over nodes; none: the "
        "first metric, for patience on the validation examples",
    )
    reaches: float | None = Field(
        None, description="the metric has come to this, or to better; 0.9 of a share is 90 %"
    )
    patience: int | None = Field(
        None, ge=1, description="so many evaluations in a row have not bettered the metric"
    )
    min_delta: float = Field(0.0, ge=0, description="what counts as better, for patience")

    @field_validator("bytes", mode="before")
    @classmethod
    def _amount(cls, value: Any) -> Any:
        return None if value is None else byte_size(value, "until.bytes")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.metric is not None and self.reaches is None and self.patience is None:
            problem = "is looked at by nothing"
            raise ConfigError("until.metric", self.metric, problem, "reaches: 0.9, or patience: 5")
        if self.min_delta and self.patience is None:
            problem, fix = "is of patience", "until.patience: 5"
            raise ConfigError("until.min_delta", self.min_delta, problem, fix)
        return self

    @property
    def watches(self) -> bool:
        """Whether a figure is looked at."""
        return self.reaches is not None or self.patience is not None

    def figure(self, metrics: MetricSet, evaluate: EvaluateSettings, data: Dataset) -> str:
        """The figure that is looked at.

        Raises:
            ConfigError: nothing measures it, or it would be chosen by test examples unasked.
        """
        first = metrics.first.figure
        if self.metric is None:
            if data.validation is not None:
                return f"validation_{first}"
            if self.patience is None and len(data.test):
                return first
            if evaluate.own is not None:
                problem = "has to be named: clients measure in their own way"
                raise ConfigError("metric", None, problem, "a figure of the run's tables")
            field = "reaches" if self.patience is None else "patience"
            problem = "has no validation examples to go by, and test examples are for the end"
            fix = f"data.validation: 0.1; or until.metric: {first}, to go by the test all the same"
            raise ConfigError(field, getattr(self, field), problem, fix)
        known = [*metrics.names] * bool(len(data.test))
        if data.validation is not None:
            known += [f"validation_{name}" for name in metrics.names]
        if evaluate.per_client:
            known += [f"{name}_per_client" for name in metrics.names]
        if self.metric not in known and evaluate.own is None:
            raise ConfigError(
                "metric", self.metric, "is not measured", f"one of {', '.join(known)}"
            )
        if not self.better(self.metric, metrics, evaluate):
            problem = "is no figure of which it is known whether more or less is better"
            raise ConfigError("metric", self.metric, problem, f"such as {first}")
        return self.metric

    def better(self, name: str, metrics: MetricSet, evaluate: EvaluateSettings) -> str:
        """``higher`` or ``lower``, as a better figure of this name is; empty: nobody knows."""
        facts = metrics.facts()
        stem = name.removeprefix("validation_").removesuffix("_per_client")
        for own in (name, stem):
            if own in facts:
                return str(facts[own]["better"])
        return "" if evaluate.own is None else evaluate.own.better(name)

    def start(self, block: Block, figure: str) -> None:
        """Put what patience remembers of a figure into a block that begins."""
        best, waited = memory(figure)
        block.state[best] = torch.full((len(block),), math.nan, dtype=torch.float64)
        block.state[waited] = torch.zeros(len(block), dtype=torch.int64)


def memory(figure: str) -> tuple[str, str]:
    """The names, in a block's state, of the best of a figure so far (NaN before the first) and of
    the evaluations that have not bettered it; a run that goes on by another figure begins anew."""
    return f"{OF_RUN}best {figure}", f"{OF_RUN}waited {figure}"
