"""The base of everything that a population can be read from, or made by."""

from __future__ import annotations

from abc import abstractmethod

from hansa.audit.population import Population
from hansa.base.component import Component


class PopulationSource(Component, kind="population"):
    """Where the rows of an audit come from, and their protected attributes."""

    @abstractmethod
    def read(self) -> Population:
        """The population.

        Raises:
            DataError: its files are missing or damaged.
            ConfigError: a setting does not fit them.
        """
