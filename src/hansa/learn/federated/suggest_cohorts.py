"""CPFL's dial: what so many cohorts would cost, and how many to try first.

From one cohort (FedAvg) to as many as clients (one-shot learning), more cohorts are fewer
clients each: rounds wait for fewer stragglers and end sooner, but each cohort sees less of the
data and its own mix of classes. Times and bytes follow from the run's clock and messages as in
``invitation.py``, for clients that are always there and never fail. How many rounds a cohort will
need, nobody knows before.

The suggestion is OUR HEURISTIC, not the paper's (Dhasade et al., 2024, leave the number to the
user): the most cohorts whose class mixes are, on average, no further than ``distance`` from that
of all clients, in total variation, and that have at least ``examples`` training examples of a
class each. The defaults lie between what cost little and what cost much in one small experiment
of ours (digits, 40 clients, 5 seeds). With Dirichlet alpha 0.1, 4 cohorts lost 0.7 points and 8
lost 2.8, at distances of 0.24 and 0.37 (0.31 and 0.44 where the partition draws by class); with
alpha 1 they lost 0.7 and 1.5, at 0.10 and 0.16. Cohorts had 25 and 12 examples of a class.
Distance alone would not see that last loss, hence the examples. Harder tasks need more of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hansa.base.errors import ConfigError
from hansa.data import label_histogram
from hansa.data.dealing.cohorts import Clients, Counted, UniformCohorts
from hansa.engine import Job
from hansa.learn.federated.federated import Federated
from hansa.learn.federated.invitation import invitation_bytes

DISTANCE = 0.34
EXAMPLES = 20.0


@dataclass(frozen=True)
class Dial:
    """What a number of cohorts comes to, averaged over random assignments.

    Attributes:
        cohorts: how many.
        clients: of a cohort, on average.
        examples: of a class in a cohort, on average.
        distance: mean total variation between a cohort's mix of classes and that of all, 0 to 1.
        slowest, mean: modelled seconds of a round of the slowest cohort and of the mean one; NaN
            without a clock that models time.
        device_seconds: modelled seconds that all clients train in a round; NaN without.
        nbytes: bytes that all clients and servers send in a round of each cohort.
    """

    cohorts: int
    clients: float
    examples: float
    distance: float
    slowest: float
    mean: float
    device_seconds: float
    nbytes: float


@dataclass(frozen=True)
class Suggestion:
    """All that were tried, by ascending number, and which of them to try first."""

    cohorts: int
    tried: list[Dial]


def suggest_cohorts(
    job: Job,
    rule: Counted | None = None,
    distance: float = DISTANCE,
    examples: float = EXAMPLES,
    draws: int = 20,
) -> Suggestion:
    """Try 1, 2, 4 ... cohorts of a federated run's clients; nothing is trained.

    Args:
        job: of a federated algorithm; its cohorts, if any, do not matter.
        rule: how clients would be put into cohorts; None: at random.
        distance: the most that cohorts may differ from all clients.
        examples: the fewest of a class that a cohort may have.
        draws: random assignments.

    Raises:
        ConfigError: the algorithm has no servers that invite clients, or the data no classes.
    """
    if not isinstance(job.algorithm, Federated):
        raise ConfigError("algorithm", job.algorithm.name, "has no rounds of clients", "cpfl")
    classes = job.dataset.spec.classes
    if not classes:
        raise ConfigError("data", None, "has no classes for cohorts to differ in", "another")
    clients, targets = job.network.clients, job.dataset.train.targets.cpu().numpy()
    labels = label_histogram(targets, job.parts, classes)
    counts = sorted({*(1 << k for k in range(clients.bit_length())), clients})
    counts = [n for n in counts if n <= clients]
    costs = _Costs.of(job)
    tried = [_dial(job, costs, labels, rule or UniformCohorts(), n, draws) for n in counts]
    good = [d.cohorts for d in tried if d.distance <= distance and d.examples >= examples]
    return Suggestion(max(good, default=1), tried)


@dataclass(frozen=True)
class _Costs:
    """What a round takes each client: arrays [clients]."""

    pace: np.ndarray | None
    seconds: np.ndarray
    training: np.ndarray
    nbytes: np.ndarray

    @classmethod
    def of(cls, job: Job) -> _Costs:
        """For the steps of the first round."""
        clients = job.network.clients
        everyone = np.arange(clients)
        block = job.block(np.array([clients]))
        assert isinstance(job.algorithm, Federated)
        terms = job.algorithm.terms(block, 0, everyone, clients)
        clock, sizes = job.clock, block.sizes[:clients]
        pace = clock.pace(block, everyone) * terms.effort if clock.modelled else None
        steps, samples = block.trainer.planned(everyone, sizes, job.streams, 0, pace)
        down = np.broadcast_to(terms.down_bytes, clients)
        up = np.broadcast_to(terms.up_bytes, clients)
        training = np.full(clients, np.nan) if pace is None else samples * pace
        links = clock.down_seconds(block, everyone, down) + clock.up_seconds(block, everyone, up)
        block.trainer.close()
        return cls(pace, links + training, training, down + up + invitation_bytes(steps))


def _dial(job: Job, costs: _Costs, labels: np.ndarray, rule: Counted, n: int, draws: int) -> Dial:
    """The figures of ``n`` cohorts."""
    assert isinstance(job.algorithm, Federated)
    rule = rule.model_copy(update={"cohorts": n})
    whole = labels.sum(0) / labels.sum()
    samples = []
    for draw in range(draws):
        # The same for every n, so that they are compared on the same chances.
        random = job.streams.numpy("suggest cohorts", draw)
        members = rule.assign(Clients(len(labels), labels, costs.pace), random)
        held = np.zeros((n, labels.shape[1]))
        np.add.at(held, members, labels)
        mix = held / np.maximum(held.sum(1, keepdims=True), 1)
        rounds = [
            _round(job.algorithm, costs, np.flatnonzero(members == k), random) for k in range(n)
        ]
        seconds, training, nbytes = np.array(rounds).T
        apart = np.abs(mix - whole).sum(1).mean() / 2
        samples.append((apart, seconds.max(), seconds.mean(), training.sum(), nbytes.sum()))
    figures = [float(x) for x in np.mean(samples, axis=0)]
    return Dial(n, len(labels) / n, labels.sum() / n / labels.shape[1], *figures)


def _round(
    method: Federated, costs: _Costs, cohort: np.ndarray, random: np.random.Generator
) -> tuple[float, float, float]:
    """(modelled seconds, seconds of training, bytes) of a round of one cohort.

    Clients that are surplus are charged to the end, a little more than they are in a run.
    """
    wanted = min(method.sampled or len(cohort), len(cohort))
    invited = min(len(cohort), math.ceil(wanted * method.over_selection))
    chosen = cohort
    if invited < len(cohort):
        chosen = random.choice(cohort, invited, replace=False)
    last = float(np.sort(costs.seconds[chosen])[wanted - 1])
    return last, float(costs.training[chosen].sum()), float(costs.nbytes[chosen].sum())
