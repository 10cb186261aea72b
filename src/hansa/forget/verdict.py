"""Whether a request is served: the same yardstick for every method that is not exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from hansa.forget.federation import Asking, Federation
from hansa.forget.measure import Judge, right_by_label
from hansa.forget.request import Request
from hansa.forget.stopping import Goal, foretold_losses, guessing
from hansa.forget.telling import tell

if TYPE_CHECKING:
    from torch import Tensor

MARGIN = 0.05
"""What may still be right beyond the retrained model's share."""
_ROUNDING = 1e-9
Judged: TypeAlias = "Asking[tuple[dict[str, Any], list[str]]]"


@dataclass(frozen=True)
class Verdict:
    """What is missing of a request's goal.

    Attributes:
        missing: a sentence for each part that is still known too well.
        goal: the goals as plain data, part by part, with what was reached.
    """

    missing: tuple[str, ...]
    goal: dict[str, Any]

    @property
    def status(self) -> str:
        """``done``, or ``incomplete``: it is still known too well."""
        return "incomplete" if self.missing else "done"


def judge_outcome(
    federation: Federation,
    after: Tensor,
    oracle: Tensor | None = None,
    exact: bool = False,
    until: float = 1.0,
    names: tuple[str, ...] = (),
    served: Request | None = None,
) -> Asking[Verdict]:
    """Hold a model [D] to the goal of a request.

    A class is forgotten when its holders' loss is log K and no more than one in K of its examples
    is right, theirs or those of the test set, class by class. Clients and single examples are when
    their loss is that foretold. Where there is an oracle, a share that is right within
    :data:`MARGIN` of the oracle's counts as well, and no more than that, or one in K, may be right.
    Classes that were forgotten before must not have come back.

    Args:
        federation: with the model from before.
        oracle: the retrained model [D], if there is one.
        exact: the model never saw what is forgotten: nothing can be missing.
        until: the loss that classes are to have, in log K, where that is less than 1.
        names: of the classes.
        served: what earlier requests have forgotten.
    """
    if exact:
        return Verdict((), {"exact": True})
    missing: list[str] = []
    goals, back = _came_back(federation, served or Request(), after, oracle, names)
    # To be measured costs nothing: it has a ledger of its own.
    for part in federation.relabelled(federation.request, federation.past).by_level():
        level = next(iter(part.request.levels))
        look = _classes if level == "class" else _others
        goals[level], failures = yield from look(part, after, oracle, min(until, 1.0), names)
        missing += failures
    return Verdict((*missing, *back), goals)


def _came_back(
    federation: Federation,
    served: Request,
    after: Tensor,
    oracle: Tensor | None,
    names: tuple[str, ...],
) -> tuple[dict[str, Any], list[str]]:
    """Classes that earlier requests have forgotten and recovery has brought back.

    By the test set: nobody is to use the examples of those classes any more.
    """
    past = sorted(set(served.classes) - set(federation.request.classes))
    if not past:
        return {}, []
    unseen = right_by_label(federation, after)
    bounds = np.full(federation.classes, 1 / federation.classes)
    if oracle is not None:
        bounds = np.maximum(bounds, np.nan_to_num(right_by_label(federation, oracle)) + MARGIN)
    back, plain = [], {}
    for label in past:
        called = names[label] if label < len(names) else str(label)
        right, most = float(np.nan_to_num(unseen[label])), float(bounds[label])
        plain[called] = {"right": right, "at_most": most}
        if right > most + _ROUNDING:
            back.append(
                f"{100 * right:.1f} % of class {called}, which was forgotten before, are right "
                f"again, more than {100 * most:.1f} %"
            )
    return {"past": plain}, back


def _classes(
    part: Federation, after: Tensor, oracle: Tensor | None, until: float, names: tuple[str, ...]
) -> Judged:
    judges = yield from part.real(forget=True)
    goal = guessing(part, judges, until)
    answers = yield from tell(part, after, judges)
    unseen = right_by_label(part, after)
    bounds = np.full(part.classes, 1 / part.classes)
    if oracle is not None:
        own = np.nan_to_num(right_by_label(part, oracle)) + MARGIN
        theirs = yield from tell(part, oracle, judges)
        bounds = np.maximum(bounds, np.maximum(own, theirs.right + MARGIN))
    missing, plain = [], {}
    assert goal.target is not None
    for label in part.request.classes:
        still_right = max(float(answers.right[label]), float(np.nan_to_num(unseen[label])))
        loss = float(answers.losses[label])
        called = names[label] if label < len(names) else str(label)
        plain[called] = {
            "right": still_right, "at_most": float(bounds[label]),
            "loss": loss, "at_least": float(goal.target[label]),
        }  # fmt: skip
        if not np.isfinite(loss):
            missing.append(f"the model gives no numbers for class {called}")
        elif still_right > bounds[label] + _ROUNDING:
            missing.append(
                f"{100 * still_right:.1f} % of class {called} are still right, more than "
                f"{100 * bounds[label]:.1f} %"
            )
        elif loss < goal.target[label] and bounds[label] <= 1 / part.classes:
            missing.append(
                f"class {called} has a loss of {loss:.2f}, less than that of guessing, "
                f"{goal.target[label]:.2f}"
            )
    return plain, missing


def _others(
    part: Federation, after: Tensor, oracle: Tensor | None, until: float, names: tuple[str, ...]
) -> Judged:
    judges = yield from part.real(forget=True)
    goal = Goal(*(yield from foretold_losses(part, part.row, judges)), gently=True)
    assert goal.target is not None
    answers = yield from tell(part, after, judges)
    judge = yield from Judge.of(part)
    right, what = (yield from judge.still_right(after)), str(part.request)
    plain = {"right": right, "loss": goal.mean(answers.losses), "foretold": goal.mean(goal.target)}
    if not answers.finite:
        return plain, [f"the model gives no numbers for {what}"]
    if oracle is not None:
        bound = max(1 / part.classes, (yield from judge.still_right(oracle)) + MARGIN)
        plain["at_most"] = bound
        if right > bound + _ROUNDING:
            return plain, [
                f"{100 * right:.1f} % of {what} are right, more than the retrained model's share "
                f"and {100 * MARGIN:.0f} points, {100 * bound:.1f} %"
            ]
        return plain, []
    if not goal.reached(answers):
        # Their mean may be high enough: what is beyond in one class makes up for no other.
        lacking = goal.share * np.maximum(goal.target - answers.losses, 0.0)
        label = int(lacking.argmax())
        called = names[label] if label < len(names) else str(label)
        return plain, [
            f"the loss on class {called} of {what} is {answers.losses[label]:.3f}, less than the "
            f"{goal.target[label]:.3f} that are foretold of a model without it"
        ]
    return plain, []
