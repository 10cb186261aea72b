"""``hansa route index``: a pool and tasks on disk become an index, or bring one up to date."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hansa.base.errors import ConfigError
from hansa.engine.settings import Settings
from hansa.route.answering import BASE, Sees
from hansa.route.association import Association, Exhaustive
from hansa.route.base_models import fingerprint, generates, open_model
from hansa.route.embeddings import embedded
from hansa.route.encoders.encoder import Encoder
from hansa.route.encoders.tfidf import TfIdf
from hansa.route.fitting import KS, TEMPERATURES, fit
from hansa.route.indexing import associate, place_tasks
from hansa.route.pool_loading import folders_of, load_pool
from hansa.route.pool_scorer import answered, scored
from hansa.route.routing import Router
from hansa.route.routing_index import FILE, LEDGER, RoutingIndex, index_of
from hansa.route.score_ledger import ScoreLedger
from hansa.route.screening import Screening, admitted, screened
from hansa.route.sources.own_files import check_candidates
from hansa.route.sources.task_folder import read_tasks
from hansa.weights.lora_folder import LoraFolder

Say = Callable[[str], None]


class Indexing(Settings):
    """How an index is made."""

    encoder: Encoder = TfIdf()
    sees: Sees = "text"
    association: Association = Exhaustive()
    k: int | None = None
    temperature: float | None = None
    alpha: float = 0.05
    screen: Screening | None = None
    refit: bool = False
    seed: int = 1
    batch_size: int = 64
    max_tokens: int = 32


@dataclass(frozen=True)
class Indexed:
    """An index that was written.

    Attributes:
        evaluated: validation answers that were taken now.
        embedded: tasks whose texts were embedded now.
        refused: adapters that were not let in, and why.
    """

    index: RoutingIndex
    evaluated: int
    embedded: int
    refused: dict[str, tuple[str, ...]]


def make_index(
    pool: Path, tasks: Path, base: Path | None, out: Path, chosen: Indexing,
    say: Say = lambda text: None,
) -> Indexed:  # fmt: skip
    """Write an index of a pool over tasks, or bring the one that lies there up to date.

    Only cells of adapters and tasks that are new, or were changed, are measured; K and the
    temperature stay as they were fitted, unless ``refit`` is set.

    Args:
        base: the base's folder; None: that of the index which lies there.

    Raises:
        ConfigError: a task, an adapter or the base cannot be used, before anything is measured.
        CheckpointError: what lies at ``out`` is damaged.
    """
    exists = (out / FILE).is_file()
    before = RoutingIndex.open(out, chosen.encoder.dump()["name"]) if exists else None
    others = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if before is None and others and not (out / LEDGER).is_file():
        raise ConfigError("out", str(out), "is not empty and holds no index", "another folder")
    if base is None and before is None:
        raise ConfigError("base", None, "is not said", "--base FOLDER, the adapters' base")
    folder = base if base is not None else before.base if before is not None else out
    read = read_tasks(tasks)
    chosen.encoder.check()
    if not generates(folder):
        for task in read:
            check_candidates(task.name, task.validation)
    folders = folders_of(pool)
    digests = {name: LoraFolder.open(place).sha256() for name, place in folders.items()}
    sha = fingerprint(folder)
    if before is not None and before.base_sha256 != sha:
        problem = "is another base than the index was made with"
        raise ConfigError("base", str(folder), problem, "another --out, or the same base")
    model = open_model(folder, chosen.max_tokens)
    load_pool(model.slab, folders)
    ledger = ScoreLedger(out / LEDGER, sha)
    placed = place_tasks(read, chosen.encoder, before, chosen.sees)

    def measured(names: list[str]) -> Any:
        return associate(
            model, read, names, digests, chosen.association, ledger, chosen.seed,
            chosen.batch_size, say,
        )  # fmt: skip

    names = list(digests)
    result = measured(names)
    evaluated, refused = result.evaluated, {}
    if chosen.screen is not None:
        floor = []
        for task in read:
            queries = [example.query for example in task.validation]
            said = answered(model, queries, [BASE] * len(queries), chosen.batch_size)
            floor.append(float(scored(task.metric, said, task.validation).mean()))
        looked = screened(
            {name: model.slab.factors(name) for name in names}, chosen.screen,
            result.matrix.means(), result.matrix.counts(), np.array(floor),
        )  # fmt: skip
        refused = {one.name: one.refused for one in looked if one.refused}
        names = admitted(looked)
        if not names:
            raise ConfigError("pool", str(pool), "holds no adapter that is let in", "others")
        result = measured(names)
        evaluated += result.evaluated
    k, temperature = chosen.k, chosen.temperature
    if before is not None and not chosen.refit:
        k = before.k if k is None else k
        temperature = before.temperature if temperature is None else temperature
    if k is None or temperature is None:
        vectors = [embedded(placed.fitted, task.texts(chosen.sees)) for task in read]
        router = Router(placed.centroids, result.matrix.choices())
        fitted = fit(
            model, read, vectors, result.matrix, router, chosen.seed,
            ks=KS if k is None else (k,),
            temperatures=TEMPERATURES if temperature is None else (temperature,),
            batch=chosen.batch_size, say=say,
        )  # fmt: skip
        k, temperature = fitted.k, fitted.temperature
    index = index_of(
        result.matrix, placed.tasks, placed.centroids, base=folder.absolute(), base_sha256=sha,
        pool=pool.absolute(), adapters={name: digests[name] for name in names}, k=k,
        temperature=temperature, alpha=chosen.alpha, encoder=chosen.encoder,
        fitted=placed.fitted, sees=chosen.sees,
        facts={"seed": chosen.seed, "exhaustive": result.exhaustive},
    )  # fmt: skip
    index.save(out)
    return Indexed(index, evaluated, placed.embedded, refused)


def encoder_of(name: str) -> Encoder:
    """An encoder by its name, or a sentence encoder by its folder.

    Raises:
        ConfigError: it is neither.
    """
    if Path(name).expanduser().is_dir():
        return Encoder.resolve({"name": "sentence_transformer", "model": name})
    return Encoder.resolve(name)
