"""What is served: a base, a pool of adapters, a router, and which of them answers a request.

``auto`` routes; an adapter's name pins; ``base`` (or the base's own name) is the base alone; a list
of adapters with weights is mixed as it stands. A name that is not there is an error with the list
of those that are, never the base.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from hansa.base.errors import ConfigError
from hansa.route.answering import BASE, AnsweringModel, Mixture, Query
from hansa.route.routing import Routed
from hansa.serving.requests_in import Refused

AUTO, BASE_NAME = "auto", "base"


class TextRouter(Protocol):
    """What routes queries, such as an index; counts adapters and tasks by its own names."""

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters, as its mixtures count them."""

    @property
    def task_names(self) -> tuple[str, ...]:
        """The tasks, as it counts them."""

    def route(self, queries: Sequence[Query]) -> list[Routed]:
        """Where queries go."""


@dataclass(frozen=True)
class Wish:
    """Who shall answer.

    Attributes:
        model: ``auto``, ``base``, the base's name, or an adapter's.
        text: that is routed.
        adapters: (name, weight); with any of them ``model`` has to be the base.
        candidates: what the answer is chosen from, which a router may see.
    """

    model: str
    text: str
    adapters: tuple[tuple[str, float], ...] = ()
    candidates: tuple[str, ...] = ()

    @property
    def query(self) -> Query:
        """What is routed."""
        return Query(self.text, self.candidates)


@dataclass(frozen=True)
class Chosen:
    """Who answers.

    Attributes:
        routing: what the answer says of it: tasks and their weights, whether it abstained, and the
            adapters with the digests that they had then.
    """

    mixture: Mixture
    routing: dict[str, Any]


@dataclass
class ServedPool:
    """A base with its adapters and its router.

    Attributes:
        name: of the base.
        router: None: nothing is routed, ``auto`` is refused.
        digests: of adapters, where they are known.
        aliases: names that stand for sums of adapters, as those of a pool that was compressed: the
            old adapter's name to (the adapter that it went into, weight).
    """

    name: str
    model: AnsweringModel
    router: TextRouter | None = None
    digests: dict[str, str] = field(default_factory=dict)
    aliases: Mapping[str, tuple[tuple[str, float], ...]] = field(default_factory=dict)

    def models(self) -> list[tuple[str, str | None]]:
        """(name, parent) of all that can be asked for."""
        auto = [(AUTO, self.name)] if self.router is not None else []
        names = dict.fromkeys((*self.model.slab.names, *self.aliases))
        adapters = [(name, self.name) for name in names]
        return [(self.name, None), *auto, *adapters]

    def check(self, wish: Wish) -> None:
        """Refuse what nobody can answer.

        Raises:
            Refused: 404, an unknown name; 400, adapters beside another model than the base.
        """
        if wish.adapters:
            if wish.model not in (BASE_NAME, self.name, AUTO):
                text = f"adapters are mixed on the base: model {BASE_NAME!r}, not {wish.model!r}"
                raise Refused(400, text)
            for name, weight in wish.adapters:
                self._check_name(name)
                if not math.isfinite(weight):
                    raise Refused(400, f"the weight of {name!r} is not finite")
        elif wish.model == AUTO:
            if self.router is None:
                raise Refused(404, f"nothing is routed here; {self._listed()}")
        elif wish.model not in (BASE_NAME, self.name):
            self._check_name(wish.model)

    def choose(self, wishes: Sequence[Wish]) -> list[Chosen | Refused]:
        """Who answers each of a batch; what is routed is embedded at once."""
        queries = [wish.query for wish in wishes if _routed(wish)]
        routes: dict[Query, Routed] = {}
        if queries and self.router is not None:
            once = list(dict.fromkeys(queries))
            routes = dict(zip(once, self.router.route(once), strict=True))
        chosen: list[Chosen | Refused] = []
        for wish in wishes:
            try:
                self.check(wish)  # again: adapters may have gone while it waited
                chosen.append(self._chosen(wish, routes.get(wish.query)))
            except Refused as refused:
                chosen.append(refused)
        return chosen

    def _chosen(self, wish: Wish, routed: Routed | None) -> Chosen:
        if wish.adapters:
            return self._of_names(wish.adapters, [], [], False)
        if _routed(wish):
            assert routed is not None
            return self._of_route(routed)
        if wish.model in (BASE_NAME, self.name):
            return self._of_names((), [], [], False)
        return self._of_names(((wish.model, 1.0),), [], [], False)

    def _of_route(self, routed: Routed) -> Chosen:
        assert self.router is not None
        tasks = [self.router.task_names[task] for task in routed.tasks]
        names = [self.router.names[adapter] for adapter in routed.mixture.adapters]
        if missing := [name for name in names if not self._loaded(name)]:
            # To answer with the others would be another mixture than the one that was validated.
            raise Refused(503, f"routed to adapters that are not loaded: {', '.join(missing)}")
        adapters = tuple(zip(names, routed.mixture.weights, strict=True))
        return self._of_names(adapters, tasks, list(routed.weights), routed.abstained)

    def _of_names(
        self, adapters: tuple[tuple[str, float], ...], tasks: list[str], weights: list[float],
        abstained: bool,
    ) -> Chosen:  # fmt: skip
        sums: dict[str, float] = {}
        for asked, share in adapters:
            for name, part in self.aliases.get(asked, ((asked, 1.0),)):
                sums[name] = sums.get(name, 0.0) + share * part
        indices = tuple(self.model.slab.index(name) for name in sums)
        mixture = Mixture(indices, tuple(sums.values())) if sums else BASE
        routing = {
            "tasks": tasks,
            "weights": weights,
            "abstained": abstained,
            "adapters": [
                {"name": name, "weight": weight, "sha256": self.digests.get(name)}
                for name, weight in sums.items()
            ],
        }
        return Chosen(mixture, routing)

    def _check_name(self, name: str) -> None:
        if not self._loaded(name):
            raise Refused(404, f"there is no model {name!r}; {self._listed()}")

    def _loaded(self, name: str) -> bool:
        """Whether all that a name stands for is in the pool."""
        slab = self.model.slab
        return all(part in slab for part, _ in self.aliases.get(name, ((name, 1.0),)))

    def _listed(self) -> str:
        names = [name for name, _ in self.models()]
        more = f" and {len(names) - 50} more (GET /v1/models)" if len(names) > 50 else ""
        return f"there are: {', '.join(names[:50])}{more}"


def check_adapter_name(name: str, base: str) -> None:
    """Refuse names that mean something else in requests.

    Raises:
        ConfigError: naming it.
    """
    if not name or name in (AUTO, BASE_NAME, base):
        raise ConfigError("adapter", name, "means something else in requests", "another name")


def _routed(wish: Wish) -> bool:
    return wish.model == AUTO and not wish.adapters
