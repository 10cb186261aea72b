"""The kind of component that makes a model forget."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hansa.base.component import Component
from hansa.base.errors import ConfigError
from hansa.experiment.played import HERE, Place
from hansa.forget.again import Again
from hansa.forget.case import Case
from hansa.forget.federation import Asking, Federation
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
    """Whether its model never saw what is forgotten, so that there is nothing to be judged. Then it
    is trained before the program is played (see :class:`Exact`)."""

    without_updates: ClassVar[bool] = False
    """Whether its model took no update of those who leave, forged or not."""

    several_servers: ClassVar[bool] = False
    """Whether it can change the models of a run with several cohorts, instead of one model."""

    def check(self, case: Case) -> None:
        """Refuse a request that it cannot serve.

        Raises:
            ConfigError: with what can be done instead.
        """
        name = type(self).name
        if case.job.servers > 1 and not self.several_servers:
            raise ConfigError(
                "method",
                name,
                f"changes the model of one server, and this run has {case.job.servers}, one "
                "for each cohort",
                "--method shards, which trains only the leavers' cohorts again, or --method "
                "retrain, which trains all of them",
            )
        for level in sorted(case.request.levels - set(self.levels)):
            fix = f"--method {'retrain' if level == 'sample' else 'quickdrop'}"
            raise ConfigError("method", name, f"cannot forget a single {level}", fix)
        if self.needs_images and (case.layout is None or not len(case.imaged)):
            raise ConfigError(
                "method",
                name,
                "needs the clients' synthetic images, and this run was trained without them",
                "--method sga or --method retrain, which work on the original examples; or train "
                "with algorithm: quickdrop",
            )

    def caveats(self, case: Case) -> list[str]:
        """What to know of this method on such a run before it begins, a line each."""
        return []

    def forget(self, federation: Federation) -> Asking[tuple[Tensor, dict[str, Any]]]:
        """What the server does.

        Returns:
            The model [D] without what the request names, and what there is to say about it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define forget")
        yield


class Exact(Forgetting):
    """Trains again without what is to be forgotten, in a job of its own."""

    levels: ClassVar[tuple[Level, ...]] = ("class", "client", "sample")
    exact: ClassVar[bool] = True
    without_updates: ClassVar[bool] = True
    several_servers: ClassVar[bool] = True

    @abstractmethod
    def train_again(self, case: Case, folder: Path, place: Place = HERE) -> Again:
        """The run once more without it.

        Args:
            folder: where the training is written down.
            place: where the nodes live.
        """

    def forget(self, federation: Federation) -> Asking[tuple[Tensor, dict[str, Any]]]:
        """Nothing is left to be done: the model is given."""
        yield from ()
        assert federation.given is not None  # it was trained before
        return federation.given, {}
