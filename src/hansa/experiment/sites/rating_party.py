"""A site with ratings of its own: of its users, whom no other site has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hansa.base.streams import Streams
from hansa.data.dataset import Dataset
from hansa.data.own_ratings import OwnRatings, users_of
from hansa.data.own_table import NAMES
from hansa.engine import Job, node_keys
from hansa.engine.party import Tells
from hansa.experiment.prepare import Frame, completed, try_job, within
from hansa.experiment.sites.own_job import own_job


@dataclass
class RatingParty:
    """One client's ratings, at a site of their own.

    Attributes:
        node: the client.
        names: what each site is called, by number.
    """

    frame: Frame
    ratings: OwnRatings
    node: int
    site: int
    names: tuple[str, ...]
    secret: bytes | None = None

    @property
    def columns(self) -> list[Any]:
        """What is the same at all sites."""
        return self.ratings.columns

    @property
    def needs(self) -> tuple[str, ...]:
        """What the run asks this site to tell."""
        return (*sorted(self.frame.run.algorithm.must_tell), *self.ratings.needs)

    def tells(self) -> Tells:
        """What it tells all parties when it joins."""
        told = self.frame.run.algorithm.must_tell
        me = np.array([self.node], dtype=np.int64)
        said: dict[str, Any] = {**self.ratings.tells(), "clients": me}
        if "sizes" in told:
            raw = self.ratings.raw
            said["sizes"] = np.array([len(raw.train.targets)], dtype=np.int64)
            said["held"] = np.array([len(raw.test.targets)], dtype=np.int64)
        if "keys" in told:
            said["keys"] = node_keys.public(Streams(self.frame.run.seed, self.secret), me)
        return said

    def joins(self, tells: Sequence[Tells]) -> Job:
        """Its job, with what all parties told.

        Raises:
            ConfigError: two sites have the same user.
            WireError: what another told is malformed.
        """
        dataset = self.ratings.dataset(tells, self.names)
        job = self._job(dataset)
        job.joins([self._numbered(one, who, dataset) for one, who in
                   zip(tells, self.names, strict=True)])  # fmt: skip
        ids = np.array([self.node], dtype=np.int64)
        within("data", lambda: try_job(job, ids, here=False), self.frame.run.nodes)
        return job

    def rehearsed(self) -> Job:
        """A job of all nodes, each with this site's ratings, whose messages are as large as those
        of the run if the others know no other users and items."""
        dataset = self.ratings.dataset([self.tells()], [self.names[self.site]])
        whole, kept, held = self._held(dataset, 0)
        clients = range(self.frame.network.clients)
        return completed(self.frame, whole, [kept[0] for _ in clients], [held[0] for _ in clients])

    def _numbered(self, told: Tells, who: str, dataset: Dataset) -> dict[str, Any]:
        """What a party told, with whose ratings it has by the numbers of all."""
        rest = {name: value for name, value in told.items() if name != NAMES}
        if "keys" in self.frame.run.algorithm.must_tell:
            place = {name: k for k, name in enumerate(dataset.group_names)}
            mine = np.array([place[user] for user in users_of(told, who)], dtype=np.int64)
            rest["owned"] = node_keys.owned([mine], len(place))
        return rest

    def _held(
        self, dataset: Dataset, node: int
    ) -> tuple[Dataset, Mapping[int, np.ndarray], dict[int, np.ndarray]]:
        parts = {node: np.arange(len(dataset.train))}
        return self.frame.run.hold_back(dataset, parts, self.frame.streams)

    def _job(self, dataset: Dataset) -> Job:
        whole, kept, held = self._held(dataset, self.node)
        return own_job(self.frame, whole, kept, held, bool(held), self.secret)
