"""Which of a client's data are meant: said by the server, found by the client alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from hansa.forget.request import Request

StandIn = Literal["none", "random_real", "noise"]


@dataclass(frozen=True)
class Portion:
    """What is to be forgotten of a client's data, or what remains.

    Attributes:
        forget: what the request names; or what neither it nor an earlier one names.
        request: what is to be forgotten now.
        past: what was forgotten before.
        source: ``real`` examples, or ``synthetic`` images.
        stand_in: what takes the place of the synthetic images.
        share: of real examples of what remains, which are drawn beside synthetic images.
        drawn: (examples a step, of how many that there are), which a client draws in proportion
            to what it holds whatever their class; none: batches of every class.
        classes: only these; none: all.
    """

    forget: bool
    request: Request = field(default_factory=Request)
    past: Request = field(default_factory=Request)
    source: Literal["real", "synthetic"] = "real"
    stand_in: StandIn = "none"
    share: float = 0.0
    drawn: tuple[int, int] | None = None
    classes: tuple[int, ...] | None = None

    def dump(self) -> dict[str, Any]:
        """Plain data."""
        requests = {"request": self.request.dump(), "past": self.past.dump()}
        return {**vars(self), **requests}

    @classmethod
    def parse(cls, plain: Mapping[str, Any]) -> Portion:
        """From what :meth:`dump` gave."""
        values = dict(plain)
        for name in ("request", "past"):
            values[name] = Request.parse(values[name])
        for name in ("drawn", "classes"):
            if values[name] is not None:
                values[name] = tuple(map(int, values[name]))
        return cls(**values)


@dataclass(frozen=True)
class Held:
    """What a client has told of a portion of its data.

    Attributes:
        mass: what its model counts in an average, as a number of examples.
        counts: int64 [C], how much there is of each class.
    """

    client: int
    portion: Portion
    mass: float
    counts: np.ndarray
