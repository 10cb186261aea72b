"""What liars among peers do to routing: the same queries, rows combined by several rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hansa.base.streams import Streams
from hansa.ensemble.aggregators.aggregator import Aggregator
from hansa.route.association import Exhaustive
from hansa.route.collaborative import Contribution, Gathering, contributed, lie, split
from hansa.route.embeddings import embedded
from hansa.route.evaluation import bench_of, normalised
from hansa.route.indexing import associate
from hansa.route.methods.lorauter import Lorauter
from hansa.route.pools import Setting
from hansa.route.regimes import Regime
from hansa.route.route_file import Peers
from hansa.route.routing import Router
from hansa.route.score_matrix import ScoreMatrix

REGIMES: tuple[Regime, ...] = ("id", "semi")


def aggregator_label(aggregator: Aggregator) -> str:
    """Its name, with its settings where it has some."""
    settings = {key: value for key, value in aggregator.dump().items() if key != "name"}
    shown = ", ".join(f"{key}={value}" for key, value in settings.items())
    return f"{type(aggregator).name} ({shown})" if shown else type(aggregator).name


def tried_peers(
    setting: Setting, peers: Peers, adapters: Sequence[str], digests: Mapping[str, str],
    oracle: dict[str, float], k: int, temperature: float,
) -> dict[str, Any]:  # fmt: skip
    """A row for each rule, with and without liars, and what each peer sends.

    The liars agree: on each task the adapter that does worst is said to be right always, all
    others never, and the task to lie where it does not.

    Args:
        oracle: its score by domain, to normalise with.
    """
    encoder = peers.encoder.fitted(())
    sees = setting.chosen.sees
    vectors = [embedded(encoder, task.texts(sees)) for task in setting.tasks]
    matrix = associate(
        setting.model, setting.tasks, adapters, digests, Exhaustive(), setting.ledger,
        setting.seed, setting.chosen.batch_size,
    ).matrix  # fmt: skip
    honest = _honest(peers, vectors, matrix, Streams(setting.seed))
    wanted = dict(enumerate(matrix.means().argmin(1).tolist()))
    asked = setting.test.with_vectors(
        [
            encoder.embed([e.query.seen(sees) for e in task.test])
            for task in setting.tasks
            if task.test
        ]
    )
    rows, sent = [], 0
    for liars in dict.fromkeys((0, peers.liars)):
        gathering = Gathering(matrix.tasks, matrix.adapters, vectors[0].shape[1])
        for number, (peer, contribution) in enumerate(honest.items()):
            said = lie(contribution, wanted) if number < liars else contribution
            gathering.admit(peer, said.encoded())
        sent = max(gathering.received.values())
        for aggregator in peers.aggregators:
            row: dict[str, Any] = {"aggregator": aggregator_label(aggregator), "liars": liars}
            centroids, combined = gathering.combined(aggregator)
            combined = replace(combined, own=matrix.own)
            router = Router(centroids, combined.choices(), k, temperature)
            for regime in REGIMES:
                bench = bench_of(
                    setting.model, asked, vectors, combined, router, regime, setting.seed,
                    setting.chosen.batch_size,
                )  # fmt: skip
                answers, _ = Lorauter().answers(bench)
                row[regime] = normalised(asked.by_domain(asked.scores(answers)), oracle)
            rows.append(row)
    texts = sum(len(text.encode()) for task in setting.tasks for text in task.texts())
    return {"peers": peers.count, "sigma": peers.sigma, "rows": rows, "bytes_each": sent,
            "texts_kept": texts}  # fmt: skip


def _honest(
    peers: Peers, vectors: Sequence[np.ndarray], matrix: ScoreMatrix, streams: Streams
) -> dict[str, Contribution]:
    """What each peer would send."""
    honest = {}
    for number, parts in enumerate(split([len(v) for v in vectors], peers.count, streams)):
        honest[f"peer {number:03d}"] = contributed(
            [rows[places] for rows, places in zip(vectors, parts, strict=True)],
            [rows[:, places] for rows, places in zip(matrix.scores, parts, strict=True)],
            peers.sigma, streams.numpy("centroid noise", node=number),
        )  # fmt: skip
    return honest
