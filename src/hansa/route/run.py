"""Runs of ``hansa route run``: a world is made or read, a pool is tried, spoilt, and tried again.

::

    config.yaml, environment.json, events.jsonl, summary.json, report.html   as of any run
    worlds/1/            of each seed: base, pool and tasks, where they are made here
    scores/1.jsonl       of each seed: every validation answer's score
    measured/1-clean.json, 1-noisy.json   what methods came to, as soon as they are measured
    index/               of the first seed: what ``hansa route serve`` and ``ask`` read
    table.json           the table
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hansa.base.errors import ConfigError
from hansa.experiment.hosting import HostedWork, Hosting
from hansa.report import RunFolder
from hansa.route.base_models import fingerprint, open_model
from hansa.route.embeddings import embedded
from hansa.route.encoders.encoder import FittedEncoder
from hansa.route.evaluation import TestSets
from hansa.route.indexing import Placed, place_tasks
from hansa.route.noisy_pool import spoilt
from hansa.route.peers_trial import tried_peers
from hansa.route.pool_loading import folders_of, load_pool
from hansa.route.pools import Setting, TriedPool
from hansa.route.route_file import RouteFile
from hansa.route.routing_index import index_of
from hansa.route.score_ledger import ScoreLedger
from hansa.route.sets import RoutedTask, check_tasks
from hansa.route.summing_up import CLEAN, NOISY, oracle_of, summed_up
from hansa.route.world import World

Say = Callable[[str], None]
TABLE = "table.json"


def route(
    settings: RouteFile | Mapping[str, Any],
    out: str | Path | None = None,
    say: Say = lambda text: None,
    report: bool = True,
) -> RunFolder:
    """Try a pool of adapters, in a new run folder.

    Raises:
        ConfigError: a setting that cannot work, before anything is trained or asked.
    """
    return _hosted_work(say).begin(settings, out, report)


def resume(
    run: str | Path,
    changes: Mapping[str, Any] | None = None,
    say: Say = lambda text: None,
    report: bool = True,
) -> RunFolder:
    """Go on with a run that was interrupted: what was trained and measured is kept.

    Raises:
        CheckpointError: the folder is another verb's, or is damaged.
        ConfigError: it has finished, or a setting cannot change any more.
    """
    return _hosted_work(say).resume(run, report, changes)


def _hosted_work(say: Say) -> HostedWork[RouteFile, None]:
    def work(hosting: Hosting, chosen: RouteFile, prepared: None) -> None:
        _Work(hosting, chosen, say).do()

    return HostedWork(RouteFile, check, work)


def check(chosen: RouteFile) -> None:
    """All that can be checked before anything is made.

    Raises:
        ConfigError: settings that cannot work; names the field.
    """
    chosen.check()


class _Work:
    """A run under way."""

    def __init__(self, hosting: Hosting, chosen: RouteFile, say: Say) -> None:
        self.folder, self.chosen, self.say = hosting.folder, chosen, say
        self.measured: list[dict[str, Any]] = []
        self.about: dict[str, Any] = {}
        hosting.facts = self.facts

    def facts(self) -> dict[str, Any]:
        """What the summary says, as far as the work has come."""
        seeds = sorted({one["seed"] for one in self.measured})
        return {**self.about, "seeds": seeds, "final": summed_up(self.measured)}

    def do(self) -> None:
        """All seeds, pool by pool."""
        first = self.chosen.seed
        for seed in range(first, first + self.chosen.repeats):
            self._seed(seed)
        self.folder.write_json(TABLE, {**self.about, **summed_up(self.measured)})

    def _seed(self, seed: int) -> None:
        chosen, path = self.chosen, self.folder.path
        world = chosen.tasks.build(seed, path / "worlds" / str(seed), self.say)
        check_tasks(world.tasks)
        base = fingerprint(world.base)
        model = open_model(world.base, chosen.max_tokens)
        load_pool(model.slab, folders_of(world.pool), self._loading)
        digests = self._digests(world)
        placed_tasks = place_tasks(world.tasks, chosen.encoder, sees=chosen.sees)
        setting = self._setting(seed, world, placed_tasks, model, base)
        if not self.about:
            self._tell(world, list(digests))
        clean = self._pool(setting, CLEAN, world.tasks, list(digests), digests)
        if seed == chosen.seed:
            self._index(world, base, placed_tasks, clean, digests)
        if chosen.peers is not None and "peers" not in clean.result:
            self.say("peers")
            clean.result["peers"] = tried_peers(
                setting, chosen.peers, list(digests), digests, oracle_of(clean.result),
                clean.router.k, clean.router.temperature,
            )  # fmt: skip
            clean.keep()
        if chosen.noise is not None:
            names, others, called = spoilt(model.slab, list(digests), chosen.noise, seed)
            tasks = tuple(
                dataclasses.replace(task, own=called.get(task.own or "")) for task in world.tasks
            )
            self._pool(setting, NOISY, tasks, names, others)

    def _pool(
        self, setting: Setting, name: str, tasks: tuple[RoutedTask, ...], adapters: list[str],
        digests: dict[str, str],
    ) -> TriedPool:  # fmt: skip
        file = self.folder.path / "measured" / f"{setting.seed}-{name}.json"
        pool = TriedPool(setting, name, tasks, adapters, digests, file, self.say)
        self.measured.append(pool.result)
        pool.try_all()
        return pool

    def _setting(self, seed: int, world: World, where: Placed, model: Any, base: str) -> Setting:
        fitted, sees = where.fitted, self.chosen.sees
        vectors = [embedded(fitted, task.texts(sees)) for task in world.tasks]
        width = where.centroids.shape[1]
        asked = [
            _vectors(fitted, [e.query.seen(sees) for e in task.test], width) for task in world.tasks
        ]
        if not sum(map(len, asked)):
            raise ConfigError("tasks", None, "have no test queries", "test.jsonl for some task")
        ledger = ScoreLedger(self.folder.path / "scores" / f"{seed}.jsonl", base)
        return Setting(
            self.chosen, seed, model, world.tasks, vectors, TestSets(world.tasks, asked),
            _vectors(fitted, world.foreign, width), where.centroids, ledger,
        )  # fmt: skip

    def _digests(self, world: World) -> dict[str, str]:
        from hansa.weights.lora_folder import LoraFolder

        folders = folders_of(world.pool)
        return {name: LoraFolder.open(folder).sha256() for name, folder in folders.items()}

    def _index(
        self, world: World, base: str, where: Placed, clean: TriedPool, digests: dict[str, str]
    ) -> None:
        """What serves: the clean pool, as it was let in."""
        chosen = self.chosen
        kept = {name: digests[name] for name in clean.adapters}
        index_of(
            clean.associated.matrix, where.tasks, where.centroids,
            base=world.base.absolute(), base_sha256=base, pool=world.pool.absolute(),
            adapters=kept, k=clean.router.k, temperature=clean.router.temperature,
            alpha=chosen.alpha, encoder=chosen.encoder, fitted=where.fitted, sees=chosen.sees,
            facts={"association": clean.result["association"], "seed": chosen.seed},
        ).save(self.folder.path / "index")  # fmt: skip

    def _tell(self, world: World, adapters: list[str]) -> None:
        self.about = {
            "tasks": [task.name for task in world.tasks],
            "domains": sorted({task.domain for task in world.tasks}),
            "adapters": len(adapters),
            "test_queries": sum(len(task.test) for task in world.tasks),
            "validation_examples": sum(len(task.validation) for task in world.tasks),
            "encoder": self.chosen.encoder.dump()["name"],
            "association": self.chosen.association.dump()["name"],
            "notes": list(world.notes),
        }

    def _loading(self, count: int, total: int) -> None:
        if count == total or count % 50 == 0:
            self.say(f"{count} of {total} adapters are loaded")


def _vectors(fitted: FittedEncoder, texts: Sequence[str], width: int) -> np.ndarray:
    """Vectors of queries; one without a direction stays zero: the base will answer it."""
    if not len(texts):
        return np.zeros((0, width), np.float32)
    rows = np.asarray(fitted.embed(list(texts)), dtype=np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)
