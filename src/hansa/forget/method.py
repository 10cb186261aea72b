"""The kind of component that makes a model forget, and the two phases that most of them have."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from hansa.base.component import Component
from hansa.base.errors import ConfigError
from hansa.forget.federation import Federation, Hook
from hansa.forget.holdings import Holding
from hansa.forget.request import Level
from hansa.forget.stopping import Goal, Watch, foretold_losses, mean_losses, only, shortened

if TYPE_CHECKING:
    from torch import Tensor


class Forgetting(Component, kind="forgetting"):
    """Takes what a request names out of a model."""

    levels: ClassVar[tuple[Level, ...]] = ("class", "client")
    """What it can forget."""

    needs_images: ClassVar[bool] = False
    """Whether it works with the clients' synthetic images."""

    several_servers: ClassVar[bool] = False
    """Whether it can change the models of a run with several cohorts, instead of one model."""

    def check(self, federation: Federation) -> None:
        """Refuse a request that it cannot serve.

        Raises:
            ConfigError: with what can be done instead.
        """
        name = type(self).name
        if federation.job.servers > 1 and not self.several_servers:
            raise ConfigError(
                "method",
                name,
                f"changes the model of one server, and this run has {federation.job.servers}, one "
                "for each cohort",
                "--method shards, which trains only the leavers' cohorts again, or --method "
                "retrain, which trains all of them",
            )
        for level in sorted(federation.request.levels - set(self.levels)):
            fix = f"--method {'retrain' if level == 'sample' else 'quickdrop'}"
            raise ConfigError("method", name, f"cannot forget a single {level}", fix)
        if self.needs_images and (federation.layout is None or not federation.images):
            raise ConfigError(
                "method",
                name,
                "needs the clients' synthetic images, and this run was trained without them",
                "--method sga or --method retrain, which work on the original examples; or train "
                "with algorithm: quickdrop",
            )

    def caveats(self, federation: Federation) -> list[str]:
        """What to know of this method on such a run before it begins, a line each."""
        return []

    @abstractmethod
    def forget(self, federation: Federation) -> tuple[Tensor, dict[str, Any]]:
        """(the model [D] without what the request names, what there is to say about it)."""


class Settings(BaseModel):
    """A frozen group of settings that refuses unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Ascent(Settings):
    """Gradient ascent on what is to be forgotten, by all who hold some, until it is forgotten.

    Whether it is, its holders judge by its cross-entropy, of which they tell the server one number
    each (of clients and samples, at first, one for each class). By that of the original examples:
    synthetic images are forgotten sooner than what they stand for. A class is to have the loss of
    guessing; clients and samples what :mod:`hansa.forget.stopping` foretells.
    """

    lr: float = Field(0.02, gt=0, description="step size")
    until: float = Field(
        1.0,
        gt=0,
        description="for classes: stop when their cross-entropy is this many times log K, that of "
        "a model that knows nothing",
    )
    judge: Literal["real", "synthetic"] = Field(
        "real",
        description="whose cross-entropy says when: the original examples', for whom this takes "
        "forward passes only; or the synthetic images', where the examples are gone already",
    )
    local_steps: int = Field(1, ge=1, description="steps of a client in each round")
    max_rounds: int = Field(20, ge=1, description="rounds after which it ends in any case")
    client_rounds: int | None = Field(
        None,
        ge=1,
        description="for clients and single examples: so many rounds, whatever the loss; none: "
        "until the loss is that of a model without them, foretold from how many examples of each "
        "class the others hold",
    )

    def goal(self, federation: Federation, row: Tensor, holdings: Sequence[Holding]) -> Goal:
        """At which loss it ends, for a model [D] that still knows all of it."""
        if federation.request.levels == {"class"}:
            return Goal(np.array([self.until * federation.chance]))
        if self.client_rounds is not None:
            return Goal(None)
        with federation.ledger.phase("checks"):
            judges = self.judges(federation, holdings)
            return Goal(*foretold_losses(federation, row, judges), gently=True)

    def run(
        self,
        federation: Federation,
        row: Tensor,
        holdings: Sequence[Holding],
        hook: Hook | None = None,
        goal: Goal | None = None,
    ) -> tuple[Tensor, dict[str, Any]]:
        """(the model after the ascent, its rounds and losses)."""
        goal = goal or self.goal(federation, row, holdings)
        judges = self.judges(federation, holdings)
        losses = [self.look(federation, row, judges, goal)]
        limit = self.max_rounds if goal.target is not None else self.client_rounds or 0
        rounds = 0
        while rounds < limit and (low := goal.low(losses[-1])).any():
            driven = only(holdings, low) if goal.gently else holdings
            if not driven:
                break  # nobody has an image of what is left
            with federation.ledger.phase("ascent"):
                new = federation.round(row, driven, self.local_steps, self.lr, True, hook)
            if goal.gently:
                with federation.ledger.phase("checks"):
                    row, found = shortened(federation, row, new, judges, goal)
            else:
                row, found = new, self.look(federation, new, judges, goal)
            losses.append(found)
            rounds += 1
        goal.ascended = losses[-1]
        return row, {
            "rounds": rounds,
            "losses": [goal.mean(found) for found in losses],
            "target": None if goal.target is None else goal.mean(goal.target),
        }

    def judges(self, federation: Federation, holdings: Sequence[Holding]) -> Sequence[Holding]:
        """What it is judged by whether the forgotten is forgotten."""
        return federation.real(forget=True) if self.judge == "real" else holdings

    def look(
        self, federation: Federation, row: Tensor, judges: Sequence[Holding], goal: Goal
    ) -> np.ndarray:
        """Cross-entropy of what is to be forgotten: of each class [C], or [1] of all."""
        with federation.ledger.phase("checks"):
            if goal.gently:
                return mean_losses(federation, row, judges)
            return np.array([federation.loss(row, judges)])


class Recovery(Settings):
    """Federated averaging on what remains."""

    rounds: int = Field(2, ge=0, description="rounds")
    steps: int = Field(10, ge=1, description="local steps in each")
    lr: float = Field(0.05, gt=0, description="step size")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty")
    rechecks: int = Field(
        2,
        ge=0,
        description="how often what has come back is driven out again, after any recovery round",
    )

    def run(
        self,
        federation: Federation,
        row: Tensor,
        remaining: Sequence[Holding],
        ascent: Ascent | None = None,
        watches: Sequence[Watch] = (),
        hook: Hook | None = None,
    ) -> tuple[Tensor, dict[str, Any]]:
        """(the recovered model, what came back on the way).

        Recovering slowly brings back what was forgotten. So it is looked at after each round; if
        it has not the loss of its goal any more, it is ascended on again, and another round of
        recovery follows. ``losses`` has those of each round, part after part of the request.

        Args:
            ascent: how to drive out again.
            watches: the parts of the request that are looked at.
            hook: a term of the gradients, also in ascents.
        """
        losses: list[float] = []
        rounds, left = self.rounds, self.rechecks
        came_back = False
        while rounds:
            with federation.ledger.phase("recovery"):
                row = federation.round(
                    row, remaining, self.steps, self.lr, False, hook, self.weight_decay
                )
            rounds -= 1
            if ascent is None:
                continue
            back = []
            for watch in watches:
                judges = ascent.judges(watch.federation, watch.holdings)
                now = ascent.look(watch.federation, row, judges, watch.goal)
                losses.append(watch.goal.mean(now))
                if not watch.goal.reached(now):
                    watch.goal.aim_beyond(now, federation.chance)
                    back.append(watch)
            came_back = bool(back)
            if came_back and left:
                for watch in back:
                    row, _ = ascent.run(watch.federation, row, watch.holdings, hook, watch.goal)
                left, rounds = left - 1, max(rounds, 1)
        found = {"losses": losses, "driven_out_again": self.rechecks - left}
        return row, {**found, "came_back": came_back}
