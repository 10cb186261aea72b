"""What liars among peers do to routing: the same queries, rows combined by several rules."""

from __future__ import annotations

from typing import Any

import numpy as np

from hansa.base.streams import Streams
from hansa.ensemble.aggregators.aggregator import Aggregator
from hansa.route.association import Exhaustive
from hansa.route.collaborative import Gathering, contributed, lie, split
from hansa.route.embeddings import embedded
from hansa.route.evaluation import normalised
from hansa.route.indexing import associate
from hansa.route.pool_scorer import answered
from hansa.route.pools import Setting
from hansa.route.route_file import Peers
from hansa.route.routing import Router


def aggregator_label(aggregator: Aggregator) -> str:
    """Its name, with its settings where it has some."""
    settings = {key: value for key, value in aggregator.dump().items() if key != "name"}
    shown = ", ".join(f"{key}={value}" for key, value in settings.items())
    return f"{type(aggregator).name} ({shown})" if shown else type(aggregator).name


def tried_peers(
    setting: Setting, peers: Peers, adapters: list[str], digests: dict[str, str],
    oracle: dict[str, float], k: int, temperature: float,
) -> dict[str, Any]:  # fmt: skip
    """A row for each rule, with and without liars, and what each peer sends.

    Args:
        oracle: its score by domain, to normalise with.
    """
    encoder = peers.encoder.fitted(())
    vectors = [embedded(encoder, task.texts()) for task in setting.tasks]
    batch, streams = setting.chosen.batch_size, Streams(setting.seed)
    matrix = associate(
        setting.model, setting.tasks, adapters, digests, Exhaustive(), setting.ledger,
        setting.seed, batch,
    ).matrix  # fmt: skip
    honest = {}
    for number, parts in enumerate(split([len(v) for v in vectors], peers.count, streams)):
        honest[f"peer {number:02d}"] = contributed(
            [rows[places] for rows, places in zip(vectors, parts, strict=True)],
            [rows[:, places] for rows, places in zip(matrix.scores, parts, strict=True)],
            peers.sigma, streams.numpy("centroid noise", node=number),
        )  # fmt: skip
    means = matrix.means()
    wanted = {t: int(means[t].argmin()) for t in range(len(means))}
    rows = []
    sent = 0
    for liars in dict.fromkeys((0, peers.liars)):
        gathering = Gathering(matrix.tasks, matrix.adapters, vectors[0].shape[1])
        for number, (peer, contribution) in enumerate(honest.items()):
            said = lie(contribution, wanted) if number < liars else contribution
            gathering.admit(peer, said.encoded())
        sent = max(gathering.received.values())
        for aggregator in peers.aggregators:
            score = _score(setting, gathering, aggregator, k, temperature)
            row = {"aggregator": aggregator_label(aggregator), "liars": liars}
            rows.append({**row, "domains": score, "score": normalised(score, oracle)})
    texts = sum(len(text.encode()) for task in setting.tasks for text in task.texts())
    return {
        "peers": peers.count, "sigma": peers.sigma, "rows": rows, "bytes_each": sent,
        "texts_kept": texts,
    }  # fmt: skip


def _score(
    setting: Setting, gathering: Gathering, aggregator: Aggregator, k: int, temperature: float
) -> dict[str, float]:
    """Scores by domain with everything there, by the router that the server makes."""
    centroids, matrix = gathering.combined(aggregator)
    router = Router(centroids, matrix.choices(), k, temperature)
    encoder = setting.chosen.peers.encoder.fitted(()) if setting.chosen.peers else None
    assert encoder is not None
    test = setting.test
    queries = [example.query for example in test.examples]
    routed = router.route(encoder.embed([query.text for query in queries]))
    slab = setting.model.slab
    index = np.array([slab.index(name) for name in gathering.adapters])
    mixtures = [
        type(one.mixture)(tuple(index[list(one.mixture.adapters)].tolist()), one.mixture.weights)
        for one in routed
    ]
    answers = answered(setting.model, queries, mixtures, setting.chosen.batch_size)
    return test.by_domain(test.scores(answers))
