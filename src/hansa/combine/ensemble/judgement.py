"""What the proxies say of the rules, and which rule is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hansa.base.errors import ConfigError
from hansa.ensemble import Rule

JUDGING = ("auto", "robust")
"""Ways to choose that need every rule judged; all others are names of rules."""


@dataclass(frozen=True)
class Judged:
    """Sums over the clients: nobody has to tell which of its proxies a rule gets right.

    Attributes:
        rules: names.
        proxies: how many there are.
        right: int64 [R, R], how many proxies two rules both get right; on the diagonal, one. A
            fitted rule is judged on those that it has not been fitted on.
        robust: the same of what they get right whatever some members vote, where that was asked.
        bytes_sent: by name, to judge the rule: fitting it for each fold, and what was exchanged
            about it.
    """

    rules: tuple[str, ...]
    proxies: int
    right: np.ndarray
    robust: np.ndarray | None
    bytes_sent: Mapping[str, int]

    def accuracy(self, rule: str) -> float:
        """The share of proxies that a rule gets right."""
        return self._share(self.right, rule)

    def robust_accuracy(self, rule: str) -> float | None:
        """The share that it gets right whatever some members vote."""
        return None if self.robust is None else self._share(self.robust, rule)

    def gain(self, new: str, old: str, robust: bool = False) -> tuple[float, float]:
        """(mean, standard error) of the difference in hits.

        Only examples on which the two differ tell them apart; one is added to their number, so
        that a single example decides nothing.
        """
        both = self.robust if robust and self.robust is not None else self.right
        a, b = self.rules.index(new), self.rules.index(old)
        count = max(self.proxies, 1)
        differ = int(both[a, a] + both[b, b] - 2 * both[a, b])
        return int(both[a, a] - both[b, b]) / count, math.sqrt(differ + 1) / count

    def _share(self, both: np.ndarray, rule: str) -> float:
        at = self.rules.index(rule)
        return int(both[at, at]) / max(self.proxies, 1)


def choose(wanted: str, rules: Mapping[str, Rule], judged: Judged | None) -> tuple[str, str]:
    """(the rule that is kept, why).

    The best on the proxies, in the order of the file, plain rules first. A learned rule must win
    by more than a standard error of the paired difference, unless it starts from a plain one, so
    that it has less to lose. ``robust``: the same of what is right whatever some members vote.

    Raises:
        ConfigError: no such rule was tried.
    """
    if wanted not in JUDGING:
        if wanted not in rules:
            fix = f"{', '.join(JUDGING)} or one of {', '.join(rules)}"
            raise ConfigError("choose", wanted, "is not among the rules", fix)
        return wanted, "as asked"
    assert judged is not None
    lied = ", however members lie" if wanted == "robust" else ""
    best, *others = sorted(rules, key=lambda name: rules[name].learned)
    reason = f"no other rule got more proxies right{lied}"
    for name in others:
        gain, error = judged.gain(name, best, wanted == "robust")
        careful = rules[name].learned and not rules[name].starts_plain
        if gain > (error if careful else 0):
            reason = f"{100 * gain:.1f} points better than {best} on the proxies{lied}, out of fold"
            reason += f" (standard error {100 * error:.1f})" if careful else ""
            best = name
    return best, reason
