"""A site as a party of its run: what it tells the others, and the job that comes of what all tell.

A site has its share of a data set that everybody can read, or a table of its own. In the second
case nothing about the table is known elsewhere but what is told (``data/own_table.py``) or was
declared in the run file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hansa.base.errors import ConfigError, WireError
from hansa.base.telling import doing
from hansa.data.own_ratings import OwnRatings
from hansa.data.own_table import MOMENTS, NAMES, OwnTable
from hansa.data.sources.ratings_source import RatingsSource
from hansa.data.sources.table_source import TableSource
from hansa.data.table_form import TableForm
from hansa.engine import BySite, Job
from hansa.engine.party import Tells
from hansa.experiment.held_back import hold_back_parts
from hansa.experiment.prepare import (
    Frame,
    completed,
    framed,
    prepare,
    try_job,
    within,
)
from hansa.experiment.runfile import RunFile
from hansa.experiment.sites.own_job import own_job
from hansa.experiment.sites.rating_party import RatingParty
from hansa.experiment.sites.site_file import SiteFile


@dataclass
class SharedParty:
    """A site with its share of the run file's data.

    Attributes:
        whole: the job as who holds everything has it.
        ids: int64, this site's nodes.
        secret: seeds what it draws for itself; None: the run's seed does.
    """

    whole: Job
    ids: np.ndarray
    secret: bytes | None = None
    columns = None

    @cached_property
    def job(self) -> Job:
        """This site's, which lacks what the others tell."""
        return Job.of(self.whole.plan, self.whole.holding(self.ids, self.secret))

    @property
    def needs(self) -> tuple[str, ...]:
        """What the run asks this site to tell."""
        return tuple(sorted(self.whole.algorithm.must_tell))

    def tells(self) -> Tells:
        """What it tells all parties when it joins."""
        return self.job.tells()

    def joins(self, tells: Sequence[Tells]) -> Job:
        """Its job, with what all parties told."""
        return self.job.joins(tells)

    def rehearsed(self) -> Job:
        """A job of all nodes whose messages are as large as those of the run."""
        return self.whole


@dataclass
class OwnParty:
    """A site with a table of its own, or a server with test examples of its own.

    Attributes:
        node: the one client here; None: only a server is.
        names: what each site is called, by number.
        trains: which sites have clients, by number.
    """

    frame: Frame
    table: OwnTable
    ids: np.ndarray
    node: int | None
    site: int
    names: tuple[str, ...]
    trains: tuple[bool, ...]
    secret: bytes | None = None

    @property
    def columns(self) -> list[Any]:
        """Names and kinds of the table's columns, which are the same at all sites."""
        return self.table.columns

    @property
    def needs(self) -> tuple[str, ...]:
        """What the run asks this site to tell."""
        told = self.frame.run.algorithm.must_tell if self.node is not None else ()
        needs = (
            self.table.needs if self.node is not None else (NAMES,) * (NAMES in self.table.needs)
        )
        return (*sorted(told), *needs)

    def tells(self) -> Tells:
        """What it tells all parties when it joins."""
        said: dict[str, Any] = self.table.tells()
        said["clients"] = np.array([] if self.node is None else [self.node], dtype=np.int64)
        if self.node is None:
            said.pop(MOMENTS, None)
        told = self.frame.run.algorithm.must_tell
        kept, held = self._parts(len(self.table.targets))
        if "sizes" in told:
            for name, group in (("sizes", kept), ("held", held)):
                counts = [len(group.get(c, ())) for c in said["clients"].tolist()]
                said[name] = np.array(counts, dtype=np.int64)
        if "labels" in told and self.table.form.classes:
            said["labels"] = self._labels(kept)
        return said

    def joins(self, tells: Sequence[Tells]) -> Job:
        """Its job, with what all parties told.

        Raises:
            ConfigError, DataError: the tables of the sites are no parts of one.
            WireError: what another told is malformed.
        """
        dataset, forms = self.table.dataset(tells, self.names, self.trains)
        classes = dataset.class_names
        job = self._job(dataset)
        rest = [
            _numbered({k: v for k, v in one.items() if k not in (NAMES, MOMENTS)}, form, classes)
            for one, form in zip(tells, forms, strict=True)
        ]
        job.joins(rest)
        within("data", lambda: try_job(job, self.ids, here=False), self.frame.run.nodes)
        return job

    def rehearsed(self) -> Job:
        """A job of all nodes whose messages are as large as those of the run, if all classes and
        words of the others are known here."""
        alone, _ = self.table.dataset([self.tells()], [self.names[self.site]])
        clients = range(self.frame.network.clients)
        kept, held = self._parts(len(alone.train), self.node or 0)
        parts, back = (list(group.values()) for group in (kept, held))
        return completed(
            self.frame, alone, [parts[0] for _ in clients], [back[0] for _ in clients if back]
        )

    def _parts(
        self, rows: int, node: int | None = None
    ) -> tuple[Mapping[int, np.ndarray], dict[int, np.ndarray]]:
        """(what the client here trains on, what it keeps back), by its id."""
        client = self.node if node is None else node
        mine = {} if client is None else {client: np.arange(rows)}
        return (
            hold_back_parts(self.frame.run.evaluate, mine, self.frame.streams) if mine else ({}, {})
        )

    def _labels(self, kept: Mapping[int, np.ndarray]) -> np.ndarray:
        classes = len(self.table.form.classes)
        counts = [
            np.bincount(self.table.targets[part], minlength=classes) for part in kept.values()
        ]
        return np.array(counts, dtype=np.int64).reshape(len(kept), classes)

    def _job(self, dataset: Any) -> Job:
        kept, held = self._parts(len(dataset.train))
        holds_back = bool(self.frame.run.evaluate.local_validation)
        return own_job(self.frame, dataset, kept, held, holds_back, self.secret)


def party_of(
    run: RunFile,
    site: SiteFile,
    owner: Sequence[int],
    names: tuple[str, ...],
    secret: bytes | None = None,
) -> SharedParty | OwnParty | RatingParty:
    """A site's party, with its examples read and all checked that it can check alone.

    Args:
        owner: the site of each node.
        names: what sites are called, by number.
        secret: seeds what it draws for itself.

    Raises:
        ConfigError: a setting of the run or of the site cannot work.
        DataError: the examples are missing or damaged.
    """
    run = run.model_copy(update={"runtime": BySite()})
    check_run(run)
    for sink in run.sinks:
        within("sinks", sink.check, run.nodes, sink)
    ids = np.array(sorted(site.nodes), dtype=np.int64)
    if site.data.share:
        whole = prepare(run, place=False)
        return SharedParty(whole, ids, secret)
    frame = framed(run)
    clients = [node for node in ids.tolist() if node < frame.network.clients]
    if len(clients) > 1:
        problem = f"{len(clients)} clients live here, and a table of one's own is one client's"
        raise ConfigError("nodes", list(site.nodes), problem, "one node, or data: share")
    source = own_source(run, site, bool(clients))
    if isinstance(source, RatingsSource):
        doing(f"reading {source.path}")  # type: ignore[attr-defined]
        ratings = within("data", lambda: OwnRatings(source, frame.streams), run.nodes, source)
        return RatingParty(frame, ratings, clients[0], owner[ids[0]], names, secret)
    doing(f"reading {source.path}")  # type: ignore[attr-defined]
    limits = run.algorithm.uses_limits
    table = within("data", lambda: OwnTable(source, frame.streams, limits), run.nodes, source)
    node = clients[0] if clients else None
    trains = tuple(at in owner[: frame.network.clients] for at in range(len(names)))
    return OwnParty(frame, table, ids, node, owner[ids[0]], names, trains, secret)


def own_source(run: RunFile, site: SiteFile, client: bool) -> TableSource | RatingsSource:
    """What reads a site's own table: the run file's reader of tables, with the site's paths.

    Raises:
        ConfigError: the run's data are no table in a file, or the site names none.
    """
    source, own = run.data, site.data
    fields = type(source).model_fields
    if isinstance(source, RatingsSource) and "path" in fields:
        if own.path is None or own.test_path is not None or not client:
            problem = "a site of a recommender has ratings of its own users, of which some are "
            problem += "held back to test"
            fix = "data: {path: ratings.csv}, or data: share"
            raise ConfigError("data.path", None, problem, fix)
        settings = {**source.model_dump(), "path": own.path, "partition": source.partition}
        return type(source).model_validate(settings)
    if not isinstance(source, TableSource) or not {"path", "test_path"} <= {*fields}:
        name = type(source).name
        problem = f"a site's own table needs a run whose data are a file, and these are {name}"
        raise ConfigError("data.path", str(own.path), problem, "data: share, or name: file")
    if own.path is None and client:
        problem = "this site trains, and has no examples"
        raise ConfigError("data.path", None, problem, "data: {path: own.csv}, or data: share")
    if own.path is None and own.test_path is None:
        problem = "a server measures the models, and has nothing to measure them on"
        raise ConfigError("data.test_path", None, problem, "a table of test examples")
    path = own.path or own.test_path
    test = own.test_path
    settings = source.model_dump() | {"path": path, "test_path": test}
    settings["partition"] = source.partition
    return type(source).model_validate(settings)


def check_run(run: RunFile) -> None:
    """Refuse runs that need one who sees more than a site does.

    Raises:
        ConfigError: naming the setting.
    """
    attack, method = run.attack, run.algorithm
    if attack is not None and attack.colluding:
        problem = "attackers agree among themselves, and sites do not"
        raise ConfigError("attack", type(attack).name, problem, "an attack that does not collude")
    if run.evaluate.asks_clients and method.servers(run.nodes):
        problem = "hands servers' models to all to be judged, outside the algorithm's messages"
        field = "evaluate.per_client" if run.evaluate.per_client else "evaluate.own"
        fix = f"without {field}; each site measures on its own test examples"
        raise ConfigError(field, run.evaluate.per_client or None, problem, fix)


def _numbered(told: dict[str, Any], form: TableForm, classes: Sequence[str]) -> dict[str, Any]:
    """What a party told, its labels counted by the classes of all."""
    labels = told.get("labels")
    if labels is None:
        return told
    if not isinstance(labels, np.ndarray) or labels.shape[1:] != (len(form.classes),):
        raise WireError("labels of a party are not counted by its classes")
    place = [classes.index(name) for name in form.classes]
    counts = np.zeros((len(labels), len(classes)), dtype=np.int64)
    counts[:, place] = labels
    return {**told, "labels": counts}
