"""What is simple, or has all ratings in one place: what a recommender is held against.

All are measured by the run's own judge, on the same test ratings, with the same ties and masks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hansa.base.telling import doing
from hansa.engine import Algorithm, Job, Network
from hansa.engine.own_judge import Tallies, Tally
from hansa.engine.runtimes.measuring import Models, own_tallies
from hansa.models import ParameterLayout
from hansa.recommend.baseline_settings import Baseline, CentralSettings
from hansa.recommend.evaluation.own_figures import Rate, Score
from hansa.recommend.evaluation.ratings_judge import RatingsJudge

DAMPING_ITEMS, DAMPING_USERS = 5.0, 5.0
_SWEEPS = 10
_STEPS = 300_000  # of central matrix factorization, at least
_ROOM = 1 << 28  # bytes of models that are trained alone at a time


@dataclass(frozen=True)
class Predictor:
    """A baseline that was fitted.

    Attributes:
        score: None: it ranks nothing.
        guesses: bool [users], for whom it falls back on what holds for all.
    """

    rate: Rate
    score: Score | None
    guesses: np.ndarray | None = None


@dataclass(frozen=True)
class Known:
    """All training ratings, which nobody has in the run itself.

    Attributes:
        pairs: int64 [t, 2], user and item.
        stars: float64 [t].
    """

    pairs: np.ndarray
    stars: np.ndarray
    users: int
    items: int

    @classmethod
    def of(cls, job: Job) -> Known:
        """Those of a job's clients whose examples are here."""
        rows = np.concatenate([np.asarray(job.parts[c]) for c in job.clients_here.tolist()])
        data = job.dataset
        pairs, stars = data.train.inputs.numpy()[rows], data.train.targets.numpy()[rows]
        users, items = data.spec.vocabulary
        return cls(pairs, stars.astype(np.float64), users, items)


def global_mean(known: Known) -> Predictor:
    """The mean of all ratings for everyone."""
    mean = known.stars.mean()
    return Predictor(lambda pairs: np.full(len(pairs), mean), None)


def user_mean(known: Known) -> Predictor:
    """Each user's own mean: what a node can do that never hears anybody."""
    counts = np.bincount(known.pairs[:, 0], minlength=known.users)
    sums = np.bincount(known.pairs[:, 0], known.stars, known.users)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), known.stars.mean())
    return Predictor(lambda pairs: means[pairs[:, 0]], None, counts == 0)


def biases(known: Known) -> tuple[float, np.ndarray, np.ndarray]:
    """(mean, users' biases [U], items' biases [I]), fitted by turns.

    Each is a sum of residuals over their count and a damping, so that few ratings move it little
    (Koren, 2010, section 2.1); who has none has 0.
    """
    users, items = known.pairs.T
    mean = known.stars.mean()
    many = np.bincount(users, minlength=known.users) + DAMPING_USERS
    often = np.bincount(items, minlength=known.items) + DAMPING_ITEMS
    of_user, of_item = np.zeros(known.users), np.zeros(known.items)
    for _ in range(_SWEEPS):
        rest = known.stars - mean
        of_item = np.bincount(items, rest - of_user[users], known.items) / often
        of_user = np.bincount(users, rest - of_item[items], known.users) / many
    return mean, of_user, of_item


def bias(known: Known) -> Predictor:
    """Mean + bias of the user + bias of the item, damped."""
    mean, of_user, of_item = biases(known)
    cold = np.bincount(known.pairs[:, 0], minlength=known.users) == 0
    return Predictor(
        lambda pairs: mean + of_user[pairs[:, 0]] + of_item[pairs[:, 1]],
        lambda users: np.repeat(of_item[None], len(users), axis=0),
        cold,
    )


def popularity(known: Known) -> Predictor:
    """Items in the order of how many rated them, the same for all; it predicts the mean of all."""
    counts = np.bincount(known.pairs[:, 1], minlength=known.items).astype(np.float64)
    return replace(
        global_mean(known), score=lambda users: np.repeat(counts[None], len(users), axis=0)
    )


def central_mf(known: Known, how: CentralSettings, factors: int, seed: int) -> Predictor:
    """Matrix factorization of all ratings together."""
    import torch

    from hansa.models.rating_networks import Factors

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed % 2**63)
        mean = float(known.stars.mean())
        module = Factors(known.users, known.items, factors, start=mean).eval()
    layout = ParameterLayout.of(module)
    rows = layout.flatten(module)[None].clone()
    rng = np.random.default_rng(seed % 2**63)
    stars, every = known.stars.astype(np.float32), np.array([0, len(known.stars)])
    for _ in range(how.epochs or max(30, _STEPS // len(stars))):
        order = rng.permutation(len(stars))
        module.descend_(rows, every, known.pairs[order], stars[order], how.lr, how.decay)
    layout.load_(module, rows[0])

    def rate(pairs: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(pairs)).reshape(-1).numpy()

    def score(users: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module.scores(torch.from_numpy(users)).numpy()

    cold = np.bincount(known.pairs[:, 0], minlength=known.users) == 0
    return Predictor(rate, score, cold)


def measure_baselines(
    job: Job, names: Sequence[Baseline], central: CentralSettings
) -> dict[str, dict[str, Any]]:
    """The figures of baselines by name; nothing where the run judges something else.

    At a site they are of its own clients' ratings, and there is no ``central_mf``: nobody has all.

    ``fallback_ratings`` are those of the test for whose user a baseline knows nothing but what
    holds for all.
    """
    judge = job.evaluate.own
    if not isinstance(judge, RatingsJudge) or not names:
        return {}
    known = Known.of(job)
    factors = central.factors or int(getattr(job.form, "factors", 10))
    seed = job.streams.integer("central baseline")
    fits: dict[str, Callable[[], Predictor]] = {
        "global_mean": lambda: global_mean(known),
        "user_mean": lambda: user_mean(known),
        "bias": lambda: bias(known),
        "popularity": lambda: popularity(known),
        "central_mf": lambda: central_mf(known, central, factors, seed),
    }
    table: dict[str, dict[str, Any]] = {}
    alone = len(job.clients_here) < job.network.clients
    for name in names:
        if alone and name == "central_mf":
            continue
        doing(f"measuring what is simple: {name}")
        if name == "isolated":
            table[name] = _isolated(judge, job)
            continue
        predictor = fits[name]()
        table[name] = _figures(judge, _joined(_tallies(judge, job, predictor)))
        if name == "popularity":  # a ranking alone
            table[name] = {k: v for k, v in table[name].items() if "@" in k}
        elif predictor.guesses is not None:
            users = job.dataset.train.inputs[:, 0].numpy()
            held = [job.held[c] for c in job.clients_here.tolist()]
            guessed = [int(predictor.guesses[users[each]].sum()) for each in held]
            table[name]["fallback_ratings"] = sum(guessed)
    return table


def _tallies(judge: RatingsJudge, job: Job, predictor: Predictor) -> list[Tally]:
    """Of one predictor, at every node that has test ratings."""
    held = [(job.parts[c], job.held[c]) for c in job.clients_here.tolist()]
    return [
        judge.tally_of(predictor.rate, predictor.score, job.dataset, np.asarray(part), own)
        for part, own in held
        if len(own)
    ]


def _isolated(judge: RatingsJudge, job: Job) -> dict[str, Any]:
    """The run's own nodes, model and local work, without a message; ``round`` is their best.

    Who trains alone learns its few ratings by heart sooner or later. So the figures are those of
    the round that is measured in which they are best on the test ratings, which flatters them.
    Where there is a server, or nodes keep no step, the local work is that of the algorithm
    ``isolated``.
    """
    if job.servers or job.algorithm.own_pace:
        net = job.network
        network = Network(net.topology, net.clients, job.streams)
        job = replace(job, algorithm=Algorithm.resolve("isolated"), network=network, joined=None)
    job, here = replace(job, attackers=None, faults=None), job.clients_here
    size = ParameterLayout.of(job.module).nbytes
    measured = [done for done in range(1, job.rounds + 1) if job.evaluates(done)]
    gathered: dict[int, list[Tallies]] = {done: [] for done in measured}
    for ids in np.array_split(here, -(-len(here) * size // _ROOM)):
        block = job.block(ids)
        for t in range(job.rounds):
            block.report, block.log = {}, {}
            job.algorithm.local(block, t)
            if t + 1 in gathered:
                _, *sums = own_tallies(judge, job, block, Models(*block.models()))
                gathered[t + 1].append(Tallies(*sums))
        block.trainer.close()
    by_round = {done: _figures(judge, _together(parts)) for done, parts in gathered.items()}
    known = [done for done in measured if by_round[done]["rmse_pooled"] is not None]
    best = min(known or measured[-1:], key=lambda done: by_round[done]["rmse_pooled"] or 0.0)
    return {**by_round[best], "round": best}


def _together(parts: list[Tallies]) -> Tallies:
    """Of all clients, from those of some at a time; without those of none of whom any is tested."""
    parts = [one for one in parts if one.sums]
    sums = {name: np.concatenate([one.sums[name] for one in parts]) for name in parts[0].sums}
    counts = {name: _sum_of([one.counts[name] for one in parts]) for name in parts[0].counts}
    return Tallies(sums, counts)


def _joined(tallies: list[Tally]) -> Tallies:
    sums = {name: np.array([one.sums[name] for one in tallies]) for name in tallies[0].sums}
    counts = {name: _sum_of([one.counts[name] for one in tallies]) for name in tallies[0].counts}
    return Tallies(sums, counts)


def _sum_of(arrays: list[np.ndarray]) -> np.ndarray:
    """Their sum, [I], without a copy of them all."""
    total = np.zeros_like(arrays[0])
    for array in arrays:
        total += array
    return total


def _figures(judge: RatingsJudge, tallies: Tallies) -> dict[str, Any]:
    """Means over nodes, and figures of the whole; what is not finite is None."""
    by_node = judge.by_node(tallies)
    known = {name: values[~np.isnan(values)] for name, values in by_node.items()}
    figures = {name: float(values.mean()) for name, values in known.items() if len(values)}
    figures |= judge.figures(tallies)
    return {name: value if np.isfinite(value) else None for name, value in figures.items()}
