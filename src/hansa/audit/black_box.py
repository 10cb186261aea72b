"""Black boxes: platforms under audit, which answer yes or no about a member of a population.

A kind of one's own is one class::

    @register("mine")
    class Mine(BlackBox):
        def opened(self, population, agents):
            def ask(rows, agent, key):
                return np.array([my_decision(population.ids[row]) for row in rows], dtype=np.int8)
            return ask
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from hansa.base.component import Component
from hansa.base.errors import HansaError
from hansa.base.files import sha256

if TYPE_CHECKING:
    from hansa.audit.population import Population

YES, NO, REFUSED, LOST = 1, 0, -1, -2
"""Answers. Lost is a query that was sent and whose answer never came: it is spent all the same."""
Ask: TypeAlias = "Callable[[np.ndarray, str, str], np.ndarray]"
"""(rows int64 [k], agent's name, key of the call) -> answers int8 [k]: 1, 0, or -1 refused."""
Value = str | int | float | bool


class NotServed(HansaError):
    """The platform did not take a call: the same one may be sent again, after a wait.

    Args:
        why: what it said.
        wait: seconds that it asks for; None: it did not say.
    """

    def __init__(self, why: str, wait: float | None = None) -> None:
        self.why, self.wait = why, wait
        super().__init__(why)


class Unanswered(HansaError):
    """A call went out and no answer came: the platform may have counted it."""


class Barred(HansaError):
    """The platform refuses the call, and would refuse it again: an account, a form, an address."""


class BlackBox(Component, kind="black_box"):
    """A platform under audit."""

    adjustable: ClassVar[frozenset[str]] = frozenset()
    """Settings that may be others when an audit is resumed: how it is asked, not what it is."""

    def identity(self) -> dict[str, Any]:
        """What makes it this platform: what is not adjustable, files by their digests."""
        facts = {"name": self.dump()["name"]}
        for field in type(self).model_fields:
            value = getattr(self, field)
            if field in self.adjustable:
                continue
            if isinstance(value, BlackBox):
                facts[field] = value.identity()
            elif isinstance(value, Path):
                facts[field] = sha256(value) if value.is_file() else str(value)
            else:
                facts[field] = value
        return facts

    @property
    def batch(self) -> int:
        """Most queries in one call."""
        return 1 << 20

    @property
    def repeatable(self) -> bool:
        """Whether a call that may have been lost can be made again at no cost."""
        return True

    @property
    def pace(self) -> tuple[float, int] | None:
        """(queries a second, queries at once) that may be asked; None: as many as one likes."""
        return None

    @property
    def one_pace(self) -> bool:
        """Whether the pace is that of all agents together, and not each agent's."""
        return False

    @property
    def patience(self) -> float:
        """Seconds after which a call that is not served ends the audit, which can be resumed."""
        return 0.0

    @abstractmethod
    def opened(self, population: Population, agents: Sequence[str]) -> Ask:
        """Check everything that can be checked without a query, and get ready.

        ``ask`` raises :class:`NotServed`, :class:`Unanswered` or :class:`Barred`.

        Raises:
            ConfigError: a setting that cannot work, or does not fit the population.
        """


def word(value: Any) -> str | None:
    """A value as it is compared: 1, 1.0 and "1" are one word; None where there is no value."""
    if value is None:
        return None
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        number = float(value)
        if math.isnan(number):
            return None
        return str(int(number)) if number.is_integer() else repr(number)
    return str(value).strip()
