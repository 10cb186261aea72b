"""One aggregator under a suite of attacks: the rows of the table, and what the answers cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.errors import OwnCodeError
from hansa.base.lazy import torch, without_gradients
from hansa.base.own_code import in_own_code
from hansa.base.streams import Streams
from hansa.ensemble.kvote import kvote
from hansa.infer.robust.attacks.liars import InferenceAttack, LiarScene
from hansa.infer.robust.attacks.white_box import similarity
from hansa.infer.robust.identities import WorstLiars, fixed_liars, worst_liars
from hansa.infer.robust.score_aggregator import ScoreAggregator
from hansa.infer.robust.server_set import ServerSet

if TYPE_CHECKING:
    from torch import Tensor

CLEAN, WORST, WORST_QUERY, ANY = "none", "worst", "worst_per_query", "any"
"""Names of rows: honest answers; the attack that does worst on all queries; the one that does
worst on each; whatever liars do (certified)."""


@dataclass
class Suite:
    """What aggregators are measured with.

    Attributes:
        attacks: by the names that the table calls them.
        f: how many members lie.
        identities: ``fixed``, ``worst`` and ``certified``, or some of them.
        budgets: numbers of liars that the K-vote is tried with and answers are certified for.
    """

    attacks: dict[str, InferenceAttack]
    f: int
    identities: Sequence[str]
    budgets: Sequence[int]
    streams: Streams
    server: ServerSet | None = None
    say: Callable[[str], None] = field(default=lambda text: None)


@dataclass
class Measured:
    """What became of an aggregator.

    Attributes:
        rows: of the table, each with ``attack``, ``identity``, ``f`` and ``accuracy``.
        how: how the worst liars were looked for.
        seconds: of the measuring, by attack.
        query_ms: milliseconds an answer takes, of many at once; certify_ms, its certificate.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    how: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    query_ms: float = 0.0
    certify_ms: float = 0.0

    def add(self, attack: str, identity: str, f: int, right: Tensor) -> None:
        """A row of the share that is right, bool [m]."""
        accuracy = float(right.double().mean())
        self.rows.append({"attack": attack, "identity": identity, "f": f, "accuracy": accuracy})


@without_gradients
def measure(rule: ScoreAggregator, test: ServerSet, suite: Suite) -> Measured:
    """The rows of one aggregator on test examples."""
    result = Measured()
    begun = time.perf_counter()
    clean = rule.scores(test.probabilities).argmax(-1) == test.labels
    result.query_ms = 1e3 * (time.perf_counter() - begun) / len(test)
    result.add(CLEAN, "fixed", 0, clean)
    likeness = _similarity(rule, suite)
    fixed = fixed_liars(test.members, suite.f, suite.streams)
    scene = _scene(rule, test, fixed, suite, likeness)
    worst: WorstLiars | None = None
    if "worst" in suite.identities and suite.f:
        suite.say("looking for the worst liars")
        worst = worst_liars(rule, test.probabilities, test.labels, suite.f, fixed)
        result.how = worst.how
    under: dict[str, list[Tensor]] = {"fixed": [], "worst": []}
    for name, attack in suite.attacks.items():
        suite.say(f"attack {name}")
        begun = time.perf_counter()
        right = _right(rule, attack, test, scene)
        if "fixed" in suite.identities:
            result.add(name, "fixed", suite.f, right)
        under["fixed"].append(right)
        if worst is not None:
            if attack.name == "kvote":
                both = worst.margin > 0
            else:  # a rule is not asked to do worse with liars it would rather have
                chosen = LiarScene(rule, test.labels, worst.liars, suite.streams, likeness)
                both = right & _right(rule, attack, test, chosen)
            result.add(name, "worst", suite.f, both)
            under["worst"].append(both)
        result.seconds[name] = time.perf_counter() - begun
    for identity, answers in under.items():
        if answers and identity in suite.identities:
            each = torch.stack(answers)
            least = each[int(each.double().mean(1).argmin())]
            result.add(WORST, identity, suite.f, least)
            result.add(WORST_QUERY, identity, suite.f, each.all(0))
    _budgets(rule, test, suite, result, clean)
    return result


def _budgets(
    rule: ScoreAggregator, test: ServerSet, suite: Suite, result: Measured, clean: Tensor
) -> None:
    """The K-vote by fixed liars and the certificates, for several numbers of liars."""
    measured = {(row["attack"], row["identity"], row["f"]) for row in result.rows}
    for f in suite.budgets if "fixed" in suite.identities else ():
        if ("kvote", "fixed", f) not in measured:
            who = fixed_liars(test.members, f, suite.streams)
            right = kvote(rule.scores, test.probabilities, who, test.labels) if f else clean
            result.add("kvote", "fixed", f, right)
    if "certified" in suite.identities:
        begun = time.perf_counter()
        largest = rule.largest_f(test.probabilities)
        result.certify_ms = 1e3 * (time.perf_counter() - begun) / len(test)
        # A rule of which no bound is known has no such rows: 0 would say that it was looked at.
        for f in sorted({*suite.budgets, suite.f}) if bool((largest >= 0).any()) else ():
            result.add(ANY, "certified", f, clean & (largest >= f))


def _scene(
    rule: ScoreAggregator, test: ServerSet, who: np.ndarray, suite: Suite, likeness: Tensor | None
) -> LiarScene:
    liars = torch.from_numpy(who).expand(len(test), -1)
    return LiarScene(rule, test.labels, liars, suite.streams, likeness)


def _right(
    rule: ScoreAggregator, attack: InferenceAttack, test: ServerSet, scene: LiarScene
) -> Tensor:
    forged = _forged(attack, test.probabilities, scene)
    return rule.scores(forged).argmax(-1) == test.labels


def _forged(attack: InferenceAttack, rows: Tensor, scene: LiarScene) -> Tensor:
    """What an attack makes of rows; one of the user's own is held to its contract.

    Raises:
        OwnCodeError: it fails, or changes more than the liars' rows.
    """
    if type(attack).__module__.startswith("hansa."):
        return attack.forge(rows, scene)
    due = "forge(probabilities, scene) gives rows [m, n, K] with the liars' replaced"
    try:
        forged = attack.forge(rows.clone(), scene)
    except Exception as error:
        own = in_own_code(error, "attacks", due, attack)
        if own is None:
            raise
        raise own from error
    shape = list(getattr(forged, "shape", ()))
    problem = ""
    if shape != list(rows.shape):
        problem = f"gave {shape or type(forged).__name__} of {list(rows.shape)}"
    elif not bool(torch.isfinite(forged).all()):
        problem = "gave numbers that are not finite"
    elif not torch.equal(forged, scene.send(rows, scene.own(forged))):
        problem = "changed rows of clients who do not lie"
    if problem:
        raise OwnCodeError("attacks", type(attack).name, problem, due)
    return forged


def _similarity(rule: ScoreAggregator, suite: Suite) -> Tensor | None:
    asked = any(attack.needs_similarity for attack in suite.attacks.values())
    if not asked or suite.server is None:
        return None
    return similarity(rule.shares(rule.scores(suite.server.probabilities)))
