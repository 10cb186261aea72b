"""The seam of methods: queries of a regime in, answers out."""

from __future__ import annotations

from abc import abstractmethod

from hansa.base.component import Component
from hansa.route.answering import Mixture
from hansa.route.bench import Bench


class RoutingMethod(Component, kind="routing_method"):
    """A way to answer queries with a pool of adapters."""

    def label(self) -> str:
        """The name in tables: settings that are not the usual ones stand behind it."""
        usual = {key: info.default for key, info in type(self).model_fields.items()}
        own = {k: v for k, v in self.model_dump(mode="json").items() if v != usual[k]}
        shown = ", ".join(f"{key}={value}" for key, value in own.items())
        name = type(self).name.rpartition(":")[2]
        return f"{name} ({shown})" if shown else name

    @abstractmethod
    def answers(self, bench: Bench) -> tuple[list[str], float]:
        """The answers to a bench's queries, and how many adapters each touched in the mean."""


class MixtureMethod(RoutingMethod):
    """A method that gives every query one mixture over the pool."""

    @abstractmethod
    def mixtures(self, bench: Bench) -> list[Mixture]:
        """One for each query; adapters are counted as in the bench's matrix."""

    def answers(self, bench: Bench) -> tuple[list[str], float]:
        chosen = [mixture.folded() for mixture in self.mixtures(bench)]
        touched = sum(len(mixture.adapters) for mixture in chosen) / max(1, len(chosen))
        return bench.answers(chosen), touched
