"""Bringing back what remains, and nothing of what was forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from hansa.forget.ascent import Ascent
from hansa.forget.federation import Asking, Federation
from hansa.forget.phases import WORSE, Settings, shortened
from hansa.forget.portions import Held
from hansa.forget.stopping import Watch
from hansa.forget.telling import Told

if TYPE_CHECKING:
    from torch import Tensor

_LITTLE = 0.05  # a loss below so many times log K is never worse


class Recovery(Settings):
    """Federated averaging on what remains."""

    rounds: int = Field(2, ge=0, description="rounds")
    steps: int = Field(10, ge=1, description="local steps in each")
    lr: float = Field(
        0.05, gt=0, description="step size; halved whenever a round makes the loss worse"
    )
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
        remaining: Sequence[Held],
        ascent: Ascent | None = None,
        watches: Sequence[Watch] = (),
        term: str = "",
    ) -> Asking[tuple[Tensor, dict[str, Any]]]:
        """(the recovered model, what came back on the way).

        Recovering slowly brings back what was forgotten. So it is looked at after each round; if
        it has not reached its goal any more, it is ascended on again, a little beyond, and another
        round of recovery follows. Where that can be done no more, the last recovery goes only so
        far that the goal holds. ``losses`` has those of each round, part after part of the request.

        Args:
            ascent: how to drive out again.
            watches: the parts of the request that are looked at.
            term: the name of what clients add to their gradients, also in ascents.
        """
        losses: list[float] = []
        rounds, left, lr = self.rounds, self.rechecks, self.lr
        watches = watches if ascent is not None and self.rechecks else ()
        back: list[tuple[Watch, Told]] = []
        safe, cut = row, False
        loss = 0.0
        if rounds:
            loss = yield from self._loss(federation, row, remaining)
        while rounds:
            with federation.ledger.phase("recovery"):
                new = yield from federation.round(
                    row, remaining, self.steps, lr, False, term, self.weight_decay
                )
            settled = yield from self._settled(federation, row, new, remaining, loss)
            row, loss, halved = settled
            lr, rounds = lr / 2 if halved else lr, rounds - 1
            if ascent is None or not watches:
                continue
            back = yield from come_back(row, ascent, watches)
            losses += [watch.goal.mean(now.losses) for watch, now in back]
            back = [(watch, now) for watch, now in back if not watch.goal.reached(now)]
            if back and left:
                for watch, now in back:
                    watch.goal.aim_beyond(now, federation.chance)
                    row, _ = yield from ascent.run(
                        watch.federation, row, watch.holdings, term, watch.goal, remaining
                    )
                safe, left, rounds = row, left - 1, max(rounds, 1)
                loss = yield from self._loss(federation, row, remaining)
            elif back and not rounds:
                row, back = yield from as_far_as_it_holds(safe, row, ascent, watches, back)
                cut = not back
        return row, {
            "losses": losses,
            "driven_out_again": self.rechecks - left,
            "shortened": cut,
            "came_back": bool(back),
        }

    def _loss(
        self, federation: Federation, row: Tensor, remaining: Sequence[Held]
    ) -> Asking[float]:
        with federation.ledger.phase("checks"):
            return (yield from federation.loss(row, remaining))

    def _settled(
        self,
        federation: Federation,
        row: Tensor,
        new: Tensor,
        remaining: Sequence[Held],
        loss: float,
    ) -> Asking[tuple[Tensor, float, bool]]:
        """(a model from ``row`` to ``new`` that is no worse, its loss, whether it stops short)."""
        bound = WORSE * loss + _LITTLE * federation.chance

        def look(at: Tensor) -> Asking[float]:
            return self._loss(federation, at, remaining)

        def fits(at: Tensor, now: float) -> Asking[bool]:
            yield from ()
            return now <= bound

        at, kept_loss = yield from shortened(row, new, look, fits)
        return (row, loss, True) if kept_loss is None else (at, float(kept_loss), at is not new)


def come_back(
    row: Tensor, ascent: Ascent, watches: Sequence[Watch]
) -> Asking[list[tuple[Watch, Told]]]:
    """What is told of a model [D] on each part of a request."""
    states = []
    for watch in watches:
        judges = yield from ascent.judges(watch.federation, watch.holdings)
        states.append((watch, (yield from ascent.look(watch.federation, row, judges))))
    return states


def as_far_as_it_holds(
    safe: Tensor,
    row: Tensor,
    ascent: Ascent,
    watches: Sequence[Watch],
    back: list[tuple[Watch, Told]],
) -> Asking[tuple[Tensor, list[tuple[Watch, Told]]]]:
    """(a model between the last ascent's and the recovered one, what it still knows too well)."""

    def known(at: Tensor) -> Asking[list[tuple[Watch, Told]]]:
        states = yield from come_back(at, ascent, watches)
        return [(w, now) for w, now in states if not w.goal.reached(now)]

    def fits(_: Tensor, still: list[tuple[Watch, Told]]) -> Asking[bool]:
        yield from ()
        return not still

    at, holds = yield from shortened(safe, row, known, fits)
    if holds is None:
        holds = yield from known(safe)
    return (row, back) if holds else (at, [])
