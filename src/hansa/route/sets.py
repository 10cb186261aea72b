"""Tasks that queries come from: examples that choose adapters, and others that judge the choice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from hansa.base.errors import ConfigError
from hansa.route.answering import Query, Sees


@dataclass(frozen=True)
class Example:
    """A query and the answer that is right."""

    query: Query
    answer: str


@dataclass(frozen=True)
class RoutedTask:
    """One task.

    Attributes:
        name: no other task has it.
        domain: scores are reported by domain, never by task: an oracle at zero divides nothing.
        validation: chooses adapters; the task's place among texts is the mean of their embeddings.
        test: judges; empty where nothing is measured, as in serving.
        own: the name of the adapter that was trained on this task, if there is one.
        metric: how answers are scored (``answer_scores.py``).
    """

    name: str
    domain: str
    validation: tuple[Example, ...]
    test: tuple[Example, ...] = ()
    own: str | None = None
    metric: str = "exact_match"

    def texts(self, sees: Sees = "text") -> list[str]:
        """What a router sees of the validation set."""
        return [example.query.seen(sees) for example in self.validation]

    def digest(self) -> str:
        """SHA-256 of what a validation score depends on: the examples and the metric."""
        rows = [[e.query.text, list(e.query.candidates), e.answer] for e in self.validation]
        text = json.dumps([self.metric, rows], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def plain(text: str) -> str:
    """What two texts are compared by: case, punctuation's spaces and line ends do not count."""
    return " ".join(text.casefold().split())


def check_tasks(tasks: Sequence[RoutedTask]) -> None:
    """Refuse tasks that cannot be routed to, or whose scores would mean nothing.

    Raises:
        ConfigError: there are none, two have one name, one lacks validation examples, or a
            validation set holds what stands in any test set.
    """
    if not tasks:
        raise ConfigError("tasks", None, "are none", "name at least one with a validation set")
    names: set[str] = set()
    for task in tasks:
        if task.name in names:
            raise ConfigError("tasks", task.name, "is there twice", "each name once")
        names.add(task.name)
        if not task.validation:
            problem = "has no validation set: no adapter can be chosen for it"
            raise ConfigError(f"tasks.{task.name}", None, problem, "some 20 to 200 examples")
    tested = {plain(e.query.text): task.name for task in tasks for e in task.test}
    for task in tasks:
        shared = [e.query.text for e in task.validation if plain(e.query.text) in tested]
        if shared:
            where = tested[plain(shared[0])]
            problem = f"{len(shared)} of its validation texts stand in the test set of {where}"
            fix = f"take them out of one of the two; the first: {shared[0][:60]!r}"
            raise ConfigError(f"tasks.{task.name}", None, problem, fix)
