"""Whether a platform answers all agents alike: rows that several asked, compared.

A platform that knows its auditors may show them another face. Agents who ask about the same member
hear the same from one that does not. Each agent is compared with all others on the rows that both
asked, in two ways, exactly: whether it hears yes where others hear no more often than the other
way round (McNemar's test in its exact form, a binomial), and whether what it hears differs more
often than what others hear among themselves (Fisher's test). The level is shared out over agents
and tests (Bonferroni); who stands out most is set aside before the others are looked at.

A difference has another possible cause: an agent that does not report what it heard. The rows
alone cannot tell which; an agent's ledger, which the platform's log can be held against, can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hansa.audit.population import Asked
from hansa.base.lazy import stats


@dataclass(frozen=True)
class Compared:
    """One agent against all others, over the rows that both asked and were answered.

    Attributes:
        pairs: comparisons, one a row and other agent.
        differ: those in which the two heard different things.
        better: those of them in which this agent heard yes.
        p_direction: chance of so one-sided differences if none was meant.
        p_rate: chance of so many differences if they came as among others; 1 without others.
    """

    agent: str
    pairs: int
    differ: int
    better: int
    p_direction: float
    p_rate: float


@dataclass(frozen=True)
class Consistency:
    """What the rows say that several agents asked.

    Attributes:
        pairs: comparisons of two answers about one member.
        differ: those that differ.
        bound: the most that the share of differing answers can be, at the confidence; one-sided.
        agents: each against the others.
        singled_out: agents who are answered differently than the others, beyond chance.
        rows: some members about whom answers differ.
    """

    pairs: int
    differ: int
    bound: float
    agents: tuple[Compared, ...]
    singled_out: tuple[str, ...]
    rows: tuple[int, ...]

    @property
    def verdict(self) -> str:
        """Not checked, consistent, changes its answers, or singles out agents."""
        if not self.pairs:
            return "not checked"
        if self.singled_out:
            return f"answers {', '.join(self.singled_out)} differently"
        return "changes its answers" if self.differ else "consistent"


def compare(names: Sequence[str], asked: Sequence[Asked], confidence: float) -> Consistency:
    """Compare what agents report about the same members.

    Args:
        names: of the agents.
        asked: what each reports; refusals are left out.
        confidence: of the bound; 1 less it is the level of the tests, all together.
    """
    m = len(names)
    pairs, differ, better = (np.zeros((m, m), dtype=int) for _ in range(3))
    changed: dict[int, None] = {}
    reports = [_answers(one) for one in asked]
    for i in range(m):
        for j in range(i + 1, m):
            for row in sorted(reports[i].keys() & reports[j].keys()):
                pairs[i, j] += 1
                if reports[i][row] != reports[j][row]:
                    differ[i, j] += 1
                    better[i if reports[i][row] else j, j if reports[i][row] else i] += 1
                    changed[row] = None
    total, wrong = int(pairs.sum()), int(differ.sum())
    compared = tuple(_one(k, names[k], pairs, differ, better) for k in range(m))
    singled = _singled_out(names, pairs, differ, better, (1 - confidence) / (2 * m))
    return Consistency(
        total, wrong, _bound(wrong, total, confidence), compared, singled, tuple(changed)[:10]
    )


def _singled_out(
    names: Sequence[str], pairs: np.ndarray, differ: np.ndarray, better: np.ndarray, level: float
) -> tuple[str, ...]:
    """The agents who stand out, the clearest first, each among those who are left by then.

    Whoever is compared with one who is favoured differs too; that goes with the favoured. Of two
    alone nobody can tell which, so both are named.
    """
    left, singled = list(range(len(names))), []
    while len(left) > 1:
        grid = np.ix_(left, left)
        rows = [
            _one(k, names[left[k]], pairs[grid], differ[grid], better[grid])
            for k in range(len(left))
        ]
        chances = [min(one.p_direction, one.p_rate) for one in rows]
        least = min(chances)
        if least >= level:
            break
        clearest = [k for k, chance in enumerate(chances) if chance == least]
        singled += [names[left[k]] for k in clearest]
        left = [agent for k, agent in enumerate(left) if k not in clearest]
    return tuple(singled)


def _answers(asked: Asked) -> dict[int, int]:
    told = asked.answers >= 0
    return dict(zip(asked.rows[told].tolist(), asked.answers[told].tolist(), strict=True))


def _one(k: int, name: str, pairs: np.ndarray, differ: np.ndarray, better: np.ndarray) -> Compared:
    mine, wrong = (int(one[k].sum() + one[:, k].sum()) for one in (pairs, differ))
    others, others_wrong = int(pairs.sum()) - mine, int(differ.sum()) - wrong
    above = int(better[k].sum())
    direction = float(stats.binomtest(above, wrong, 0.5).pvalue) if wrong else 1.0
    rate = 1.0
    if others and wrong:
        table = [[wrong, mine - wrong], [others_wrong, others - others_wrong]]
        rate = float(stats.fisher_exact(table, alternative="greater").pvalue)
    return Compared(name, mine, wrong, above, direction, rate)


def _bound(differ: int, pairs: int, confidence: float) -> float:
    """Clopper and Pearson's upper bound of a share."""
    if differ >= pairs:
        return 1.0
    return float(stats.beta.ppf(confidence, differ + 1, pairs - differ))
