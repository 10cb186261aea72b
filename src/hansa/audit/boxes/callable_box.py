"""A platform that is a function in Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from hansa.audit.black_box import NO, REFUSED, YES, Ask, Value, word
from hansa.audit.features import FeatureBox
from hansa.base.component import register
from hansa.base.errors import ConfigError, HansaError, OwnCodeError
from hansa.base.modules import load_object
from hansa.base.own_code import in_own_code
from hansa.base.paths import ObjectPath

if TYPE_CHECKING:
    from hansa.audit.population import Population

_EXPECTED = "a function that takes a list of rows (mappings) and returns a decision for each"


@register("callable")
class CallableBox(FeatureBox):
    """A function of yours: it takes a list of rows, mappings with ``id``, and returns decisions."""

    adjustable: ClassVar[frozenset[str]] = frozenset({"most"})

    function: ObjectPath = Field(description="module:function or file.py:function")
    positive: Value | None = Field(
        None, description="the decision that counts as yes; none: decisions are 0 and 1"
    )
    most: int = Field(1024, ge=1, description="rows that it is given at a time")

    @property
    def batch(self) -> int:
        """As it is set."""
        return self.most

    def opened(self, population: Population, agents: Sequence[str]) -> Ask:
        """Import the function; it is not called yet.

        Raises:
            ConfigError: there is no such function, or the features do not fit the population.
        """
        function = _function(self.function)
        records = self.records(population)

        def ask(rows: np.ndarray, agent: str, key: str) -> np.ndarray:
            try:
                decisions = list(function(list(records.of(rows))))
            except HansaError:
                raise
            except Exception as error:
                told = in_own_code(error, "function", _EXPECTED, function)
                if told is None:
                    raise
                raise told from error
            if len(decisions) != len(rows):
                problem = f"gave {len(decisions)} decisions for {len(rows)} rows"
                raise OwnCodeError("function", self.function, problem, _EXPECTED)
            return np.array([self._code(_scalar(one)) for one in decisions], dtype=np.int8)

        return ask

    def _code(self, decision: Any) -> int:
        said = word(decision)
        if said is None:
            return REFUSED
        if self.positive is not None:
            return YES if said == word(self.positive) else NO
        codes = {"1": YES, "true": YES, "0": NO, "false": NO}
        if said not in codes:
            problem = f"decided {decision!r}, and without the setting positive 0 or 1 is needed"
            raise OwnCodeError("function", self.function, problem, "0, 1 or None; or set positive")
        return codes[said]


def _function(path: str) -> Callable[[list[dict[str, Any]]], Any]:
    try:
        function = load_object(path)
    except ConfigError as error:
        raise ConfigError("function", path, error.problem, error.fix) from None
    if not callable(function):
        raise ConfigError("function", path, "is no function", _EXPECTED)
    return function


def _scalar(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
