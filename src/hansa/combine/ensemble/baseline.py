"""What an ensemble is compared with, in one harness: all of each client's examples, one table.

Methods that are measured more than once are credited with their best measurement on the test set,
as in FENS's paper: that favours them, never the ensemble.

A baseline is a component of the kind ``baseline``; one of a user's own is named by its import path
in ``baselines.methods``::

    class Guess(Baseline):
        def run(self, harness):
            return Compared(type(self).name, 1 / harness.dataset.spec.classes, 0.0, 0.0)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hansa.base.component import Component
from hansa.base.errors import ConfigError
from hansa.combine.ensemble.ensemble_settings import EnsembleSettings
from hansa.data import Dataset

if TYPE_CHECKING:
    from hansa.combine.ensemble.harness import Harness
    from hansa.combine.ensemble.members import Member

FIELD = "baselines.methods"


@dataclass(frozen=True)
class Compared:
    """One line of the table.

    Attributes:
        formula, counted: bytes that one client sends and receives.
        curve: (round, accuracy on the test set, counted bytes so far) of what takes rounds.
        figures: what the metrics of the ensemble's file say of the same model, by name.
    """

    name: str
    accuracy: float
    formula: float
    counted: float
    note: str = ""
    curve: Sequence[tuple[int, float, float]] = ()
    figures: Mapping[str, float | None] = field(default_factory=dict)

    def line(self) -> dict[str, Any]:
        """As plain data; figures where there are some."""
        return {name: value for name, value in vars(self).items() if name != "figures" or value}


class Baseline(Component, kind="baseline"):
    """A way to one model that an ensemble is compared with; how long and how it trains is said for
    all of them in ``baselines``."""

    def check(self, settings: EnsembleSettings, dataset: Dataset) -> None:
        """Refuse what cannot run, before anything does.

        Raises:
            ConfigError: of the field ``baselines.methods``.
        """

    def check_members(self, brought: Sequence[Member]) -> None:
        """Refuse members that are trained already and that it can make nothing of.

        Raises:
            ConfigError: of the field ``baselines.methods``.
        """

    @abstractmethod
    def run(self, harness: Harness) -> Compared:
        """Its line of the table.

        Raises:
            RunError: training failed.
        """


def chosen_baselines(settings: EnsembleSettings) -> list[Baseline]:
    """Those that an ensemble is compared with."""
    return [method for method in settings.baselines.methods if isinstance(method, Baseline)]


def check(settings: EnsembleSettings, dataset: Dataset) -> None:
    """Refuse baselines that cannot run, before anything does.

    Raises:
        ConfigError: one is named twice, cannot run here, or there is no network to train.
    """
    methods = chosen_baselines(settings)
    names = [type(method).name for method in methods]
    if methods and not settings.models:
        raise ConfigError(FIELD, names, "need a network", "models: [mlp]")
    if len(set(names)) < len(names):
        raise ConfigError(FIELD, names, "has a name twice", "each baseline once")
    for method in methods:
        method.check(settings, dataset)


def check_members(settings: EnsembleSettings, brought: Sequence[Member]) -> None:
    """Refuse baselines that brought members do not allow.

    Raises:
        ConfigError: names one.
    """
    for method in chosen_baselines(settings):
        method.check_members(brought)
