"""How a run ends for messages that did not come: who was waited for, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable

from hansa.base.errors import RunError


def silent(nodes: Iterable[int], round: int, seconds: float) -> RunError:
    """Nodes that said nothing for so many seconds, in a round counted from 0."""
    return _error(
        nodes,
        round,
        f"waited {seconds:g} s in vain for a message of {{}}; raise runtime.deadline if their work "
        "takes longer",
    )


def went_on(nodes: Iterable[int], round: int) -> RunError:
    """Nodes that gave this site up."""
    return _error(
        nodes,
        round,
        "{} went on without this site, which was silent for too long; raise runtime.deadline if "
        "its work takes longer",
    )


def gone(nodes: Iterable[int], round: int, why: str) -> RunError:
    """Nodes whose site has ended, where the algorithm needs all: it says why."""
    return _error(
        nodes,
        round,
        f"the site of {{}} is gone, and nobody can go on without it: the algorithm {why}; begin "
        "the run anew, or with an algorithm such as dpsgd",
    )


def _error(nodes: Iterable[int], round: int, problem: str) -> RunError:
    who = sorted(nodes)
    names = f"node{'s' * (len(who) > 1)} {', '.join(map(str, who[:8]))}"
    problem = problem.replace("{}", names + f" and {len(who) - 8} more" * (len(who) > 8))
    return RunError(problem, node=who[0], round=round + 1, phase="exchange")
