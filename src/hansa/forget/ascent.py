"""Driving out what is to be forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from hansa.forget.federation import Asking, Federation
from hansa.forget.phases import HALVINGS, WORSE, Settings, shortened
from hansa.forget.portions import Held
from hansa.forget.stopping import Goal, foretold_losses, guessing
from hansa.forget.telling import Told, only, tell

if TYPE_CHECKING:
    from torch import Tensor

PACE = 0.3
"""By how much of its aim a round of ascent is to raise the loss; the rate is adapted to that."""
_ADAPT = 4.0  # the rate changes at most so many times between two rounds,
_FASTEST = 1e6  # and is at most so many times what it began with
_STUCK = 3  # after so many steps none of which fits, recovery has its turn


class Ascent(Settings):
    """Gradient ascent on what is to be forgotten, by all who hold some, until it is forgotten.

    Whether it is, its holders judge, who tell the server three numbers for each class. By the
    original examples: synthetic images are forgotten sooner than what they stand for. A class is
    to have the loss of guessing, and no more hits; clients and samples the loss that
    :mod:`hansa.forget.stopping` foretells. The rate is adapted to the progress from round to
    round; a step that goes too far, or after which what remains is no better than guessed, is
    halved until it does not.
    """

    lr: float = Field(
        0.02, gt=0, description="step size at first; from then on it adapts, unless the rounds are"
        " fixed",
    )  # fmt: skip
    until: float = Field(
        1.0,
        gt=0,
        description="for classes: stop when their cross-entropy is this many times log K, that of "
        "a model that knows nothing, and at most one in K of their examples is right",
    )
    judge: Literal["real", "synthetic"] = Field(
        "real",
        description="whose cross-entropy says when: the original examples', for whom this takes "
        "forward passes only; or the synthetic images', where the examples are gone already",
    )
    margin: float = Field(
        4.0,
        ge=1,
        description="for classes judged by their synthetic images: how many times further the "
        "loss of those is to go, as what they stand for is forgotten later",
    )
    local_steps: int = Field(1, ge=1, description="steps of a client in each round")
    max_rounds: int = Field(40, ge=1, description="rounds after which it ends in any case")
    class_rounds: int | None = Field(
        None, ge=1, description="for classes: so many rounds at this rate, whatever the loss"
    )
    client_rounds: int | None = Field(
        None,
        ge=1,
        description="for clients and single examples: so many rounds, whatever the loss; none: "
        "until the loss is that of a model without them, foretold from how many examples of each "
        "class the others hold",
    )

    def goal(self, federation: Federation, row: Tensor, holdings: Sequence[Held]) -> Asking[Goal]:
        """Where it ends, for a model [D] that still knows all of it."""
        judges = yield from self.judges(federation, holdings)
        if federation.request.levels == {"class"}:
            if self.class_rounds is not None:
                return Goal(None)
            further = self.margin if self.judge == "synthetic" else 1.0
            return guessing(federation, judges, further * self.until)
        if self.client_rounds is not None:
            return Goal(None)
        with federation.ledger.phase("checks"):
            return Goal(*(yield from foretold_losses(federation, row, judges)), gently=True)

    def run(
        self,
        federation: Federation,
        row: Tensor,
        holdings: Sequence[Held],
        term: str = "",
        goal: Goal | None = None,
        spare: Sequence[Held] = (),
    ) -> Asking[tuple[Tensor, dict[str, Any]]]:
        """(the model after the ascent, its rounds and losses).

        Args:
            term: the name of what clients add to their gradients.
            spare: what remains, which is not to be lost.
        """
        if goal is None:
            goal = yield from self.goal(federation, row, holdings)
        judges = yield from self.judges(federation, holdings)
        if goal.target is None:
            return (yield from self._fixed(federation, row, holdings, term, goal))
        now = yield from self.look(federation, row, judges)
        pace, stuck = goal.pace or self.lr, 0
        course = [goal.mean(now.losses)]
        with federation.ledger.phase("checks"):
            bound = 0.0
            if spare:
                loss = yield from federation.loss(row, spare)
                bound = max(federation.chance, WORSE * loss)

        def look(at: Tensor) -> Asking[Told]:
            return tell(federation, at, judges)

        def fits(at: Tensor, after: Told) -> Asking[bool]:
            if not goal.fits(now, after, low):
                return False
            return not spare or (yield from federation.loss(at, spare)) <= bound

        while len(course) + stuck <= self.max_rounds and (low := goal.low(now)).any():
            driven = only(holdings, low)
            if not driven or stuck == _STUCK:
                break  # nobody has an image of what is left, or recovery has to come first
            with federation.ledger.phase("ascent"):
                new = yield from federation.round(row, driven, self.local_steps, pace, True, term)
            with federation.ledger.phase("checks"):
                new, after = yield from shortened(row, new, look, fits)
            if after is None:  # not even a small step
                pace, stuck = pace / 2**HALVINGS, stuck + 1
                continue
            wanted = PACE / max(goal.gain(now, after, low), 1e-9)
            pace = min(pace * float(np.clip(wanted, 1 / _ADAPT, _ADAPT)), _FASTEST * self.lr)
            row, now, goal.pace, stuck = new, after, pace, 0
            course.append(goal.mean(now.losses))
        goal.ascended = now.losses
        return row, self._story(goal, course, now)

    def _fixed(
        self,
        federation: Federation,
        row: Tensor,
        holdings: Sequence[Held],
        term: str,
        goal: Goal,
    ) -> Asking[tuple[Tensor, dict[str, Any]]]:
        """So many rounds at one rate."""
        by_class = federation.request.levels == {"class"}
        rounds = (self.class_rounds if by_class else self.client_rounds) or 0
        for _ in range(rounds):
            with federation.ledger.phase("ascent"):
                row = yield from federation.round(
                    row, holdings, self.local_steps, self.lr, True, term
                )
        return row, self._story(goal, [], None) | {"rounds": rounds}

    def judges(self, federation: Federation, holdings: Sequence[Held]) -> Asking[Sequence[Held]]:
        """What it is judged by whether the forgotten is forgotten."""
        if self.judge == "real":
            return (yield from federation.real(forget=True))
        return holdings

    def look(self, federation: Federation, row: Tensor, judges: Sequence[Held]) -> Asking[Told]:
        """What holders tell of a model [D] on what is to be forgotten."""
        with federation.ledger.phase("checks"):
            return (yield from tell(federation, row, judges))

    def _story(self, goal: Goal, course: list[float], now: Told | None) -> dict[str, Any]:
        return {
            "rounds": max(len(course) - 1, 0),
            "losses": course,
            "target": None if goal.target is None else goal.mean(goal.target),
            "right": None if now is None else float(now.right.max()),
            "reached": now is None or not goal.low(now).any(),
        }
