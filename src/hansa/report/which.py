"""Which of a run's models is meant, and how it is asked."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from hansa.base.errors import ConfigError


@dataclass(frozen=True)
class Which:
    """Which of a run's models is meant, and how it is asked.

    Attributes:
        node: the node, client or member whose model it is.
        average: the average of all nodes' models.
        task: of a merge, whose model.
        size: of a merge, in models of its origin's size.
        rule: what makes one answer of many: an aggregator of robust inference, an algorithm of
            a merge.
        top: of a recommender, how many items a user gets.
        candidates: of a pool of adapters, answers to choose from.
        trust: also build what is named by import path, which runs its code.
    """

    node: int | None = None
    average: bool = False
    task: str | None = None
    size: float | None = None
    rule: str | None = None
    top: int = 10
    candidates: tuple[str, ...] = ()
    trust: bool = False

    def only(self, what: str, *allowed: str) -> None:
        """Refuse a choice that a product does not have.

        Raises:
            ConfigError: names it.
        """
        for one in fields(self):
            if one.name not in (*allowed, "trust") and getattr(self, one.name) != one.default:
                problem, fix = f"says nothing of {what}", "leave it out"
                if allowed:
                    fix += f"; there is {', '.join(allowed)}"
                raise ConfigError(one.name, _plain(getattr(self, one.name)), problem, fix)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
