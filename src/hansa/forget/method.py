"""The kind of component that makes a model forget."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from hansa.base.component import Component
from hansa.base.errors import ConfigError
from hansa.forget.federation import Federation
from hansa.forget.request import Level

if TYPE_CHECKING:
    from torch import Tensor


class Forgetting(Component, kind="forgetting"):
    """Takes what a request names out of a model."""

    levels: ClassVar[tuple[Level, ...]] = ("class", "client")
    """What it can forget."""

    needs_images: ClassVar[bool] = False
    """Whether it works with the clients' synthetic images."""

    exact: ClassVar[bool] = False
    """Whether its model never saw what is forgotten, so that there is nothing to be judged."""

    several_servers: ClassVar[bool] = False
    """Whether it can change the models of a run with several cohorts, instead of one model."""

    def check(self, federation: Federation) -> None:
        """Refuse a request that it cannot serve.

        Raises:
            ConfigError: with what can be done instead.
        """
        name = type(self).name
        if federation.job.servers > 1 and not self.several_servers:
            raise ConfigError(
                "method",
                name,
                f"changes the model of one server, and this run has {federation.job.servers}, one "
                "for each cohort",
                "--method shards, which trains only the leavers' cohorts again, or --method "
                "retrain, which trains all of them",
            )
        for level in sorted(federation.request.levels - set(self.levels)):
            fix = f"--method {'retrain' if level == 'sample' else 'quickdrop'}"
            raise ConfigError("method", name, f"cannot forget a single {level}", fix)
        if self.needs_images and (federation.layout is None or not federation.images):
            raise ConfigError(
                "method",
                name,
                "needs the clients' synthetic images, and this run was trained without them",
                "--method sga or --method retrain, which work on the original examples; or train "
                "with algorithm: quickdrop",
            )

    def caveats(self, federation: Federation) -> list[str]:
        """What to know of this method on such a run before it begins, a line each."""
        return []

    @abstractmethod
    def forget(self, federation: Federation) -> tuple[Tensor, dict[str, Any]]:
        """(the model [D] without what the request names, what there is to say about it)."""
