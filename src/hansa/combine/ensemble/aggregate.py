"""Phase 2: rules are fitted on the clients' proxies, and anew without each fold of them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch, without_gradients
from hansa.base.losses import LOSSES, predicted
from hansa.base.streams import Streams
from hansa.base.threads import one_thread
from hansa.combine.ensemble.ensemble_settings import (
    BETA1,
    BETA2,
    TAU,
    AggregateSettings,
    algorithm,
    federated_adam,
)
from hansa.combine.ensemble.judging import OutOfFold, fold_of, used_folds
from hansa.combine.ensemble.peers_mean import ThenMean
from hansa.combine.ensemble.proxies import Scores
from hansa.combine.ensemble.rule_model import RuleModel
from hansa.combine.ensemble.tallying import tallied
from hansa.engine import SGD, Adam, Algorithm, Constant, Full, Network
from hansa.engine.exchange.attackers import Attackers
from hansa.ensemble import LearnedRule, Rule, initial_rule
from hansa.ensemble.aggregators import Mean
from hansa.experiment.played import HERE, Place, job_of, play, round_bytes
from hansa.models import ParameterLayout

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Fit:
    """A rule with its numbers.

    Attributes:
        module: rows [m, M * C] -> [m, C], in evaluation mode.
        bytes_sent: by all clients and the server in phase 2, counted.
        parameters: q.
        votes: what a rule that counts votes was built from.
        curve: (round, accuracy on the test set) where phase 2 was measured, the mean over peers.
        peers: accuracy on the test set of each peer's own rule at the end, where peers train it;
            the module is their mean.
    """

    rule: Rule
    module: nn.Module
    bytes_sent: int = 0
    parameters: int = 0
    seconds: float = 0.0
    votes: Tensor | None = None
    curve: tuple[tuple[int, float], ...] = ()
    peers: tuple[float, ...] = ()

    @without_gradients
    def answers(self, rows: Tensor) -> Tensor:
        """Scores [m, C]."""
        return torch.cat([self.module(piece) for piece in rows.split(4096)])

    def hits(self, rows: Tensor, targets: Tensor) -> Tensor:
        """Which examples it gets right, bool [m]."""
        return predicted(self.answers(rows)) == targets


def fit(
    rule: Rule,
    scores: Scores,
    settings: AggregateSettings,
    seed: int,
    path: Path,
    place: Place = HERE,
    attackers: Attackers | None = None,
) -> Fit:
    """A rule with numbers from the clients' proxies.

    Args:
        path: a folder for the run of phase 2, for a rule that is learned or counts votes.
        place: where its clients live.
        attackers: members whose clients send other updates than they should.

    Raises:
        ConfigError: the algorithm, the topology or the rule does not fit.
        RunError: training failed.
    """
    began = time.perf_counter()
    streams = Streams(Streams(seed).integer(f"phase 2 {rule.name}"))
    votes, sent = None, 0
    if rule.counts_votes:
        votes, sent = tallied(rule, scores, streams.seed, path, place)
    module = initial_rule(rule, scores.panel, streams, votes)
    if not rule.learned:
        if scores.panel.counts is not None and rule.name == "label_weighted":
            sent = scores.panel.counts.numel() * 4  # each client tells its own
        seconds = time.perf_counter() - began
        return Fit(rule, module.eval(), sent, 0, seconds, votes)
    assert isinstance(rule, LearnedRule)
    parts = [part for part in scores.parts if len(part)]
    train, chosen = settings, chosen_algorithm(settings, rule.lr)
    if settings.over != "clients" and (settings.over == "server" or settings.algorithm is None):
        train = _with_adam(settings, rule.lr)
    if settings.over == "server":
        # Scores and a label of every proxy, once.
        sent = len(scores.targets) * (scores.rows(rule).shape[1] * 4 + 8)
        parts = [np.concatenate(parts)]
    elif settings.over == "peers" and not chosen.servers(len(parts)):
        chosen = ThenMean(algorithm=chosen)
    if attackers is not None:
        attackers = attackers.among([k for k, part in enumerate(scores.parts) if len(part)])
    with one_thread(not rule.sees_input):
        job = job_of(
            dataset=scores.dataset(rule, f"scores for {rule.name}"),
            parts=parts,
            module=module,
            algorithm=chosen,
            train=train,
            rounds=settings.rounds,
            seed=streams.seed,
            every=settings.every,
            topology=settings.topology,
            form=RuleModel.of(rule, scores.panel),
            plugins=place.plugins,
            attackers=attackers,
        )
        played = play(path, job, config={"rule": rule.dump(), "over": settings.over}, place=place)
    layout = ParameterLayout.of(module)
    sent += played.bytes_sent
    layout.load_(module, played.rows[0])  # a server's, or what all peers have
    seconds = time.perf_counter() - began
    curve = tuple(played.curve)
    return Fit(
        rule,
        module.eval(),
        sent,
        layout.trainable,
        seconds,
        curve=curve,
        peers=played.accuracies if settings.over == "peers" else (),
    )


def chosen_algorithm(settings: AggregateSettings, lr: float) -> Algorithm:
    """What a rule is learned by, at its rate where none is given."""
    if settings.algorithm is not None:
        return settings.algorithm
    robust = None if isinstance(settings.aggregator, Mean) else settings.aggregator
    if settings.over == "clients":
        return federated_adam(lr, robust)
    if settings.over == "server":
        return algorithm("isolated")
    return algorithm("dpsgd", **({"aggregator": robust} if robust else {}))


def check_learning(
    settings: AggregateSettings, clients: int, rules: Iterable[Rule], streams: Streams
) -> None:
    """Refuse what rules cannot be learned by, before anything is trained.

    Args:
        clients: how many have proxies.

    Raises:
        ConfigError: with the setting's full name.
    """
    given = settings.algorithm is not None
    if not isinstance(settings.aggregator, Mean) and (given or settings.over == "server"):
        problem, fix = "is that of an algorithm that is given too", "aggregate.algorithm.aggregator"
        if settings.over == "server":
            problem, fix = "has nothing to aggregate: a server has all proxies", "over: clients"
        raise ConfigError("aggregate.aggregator", settings.aggregator.name, problem, fix)
    if settings.over == "server":
        return
    for rule in rules:
        if isinstance(rule, LearnedRule):
            chosen = chosen_algorithm(settings, rule.lr)
            servers = chosen.servers(clients)
            try:
                if chosen.uses_topology:
                    settings.topology.check(clients)
            except ConfigError as error:
                raise error.under("aggregate.topology") from None
            try:
                chosen.check(Network(settings.topology, clients + servers, streams, servers))
            except ConfigError as error:
                raise error.under("aggregate.algorithm" if given else "aggregate") from None


def _with_adam(settings: AggregateSettings, lr: float) -> AggregateSettings:
    return settings.model_copy(update={"optimizer": Adam(lr=lr)})


def _quick(
    rule: Rule,
    scores: Scores,
    settings: AggregateSettings,
    seed: int,
    place: Place = HERE,
    attackers: Attackers | None = None,
) -> Fit:
    """What :func:`fit` gives, by the shortest way: for one that is thrown away again.

    With one local step, a round of FedAdam is a step of Adam on the clients' weighted loss (a test
    holds :func:`fit` to it), so no client has to be simulated. Bytes are those of the real way,
    of which one round is done: all have as many.
    """
    plain = settings.over == "clients" and settings.algorithm is None
    plain = plain and settings.local_steps == 1 and settings.local_epochs is None
    plain = plain and settings.optimizer == SGD(lr=settings.optimizer.lr)
    plain = plain and isinstance(settings.schedule, Constant) and settings.clip_norm is None
    plain = plain and isinstance(settings.budget, Full)
    plain = plain and isinstance(settings.aggregator, Mean) and attackers is None
    if not (isinstance(rule, LearnedRule) and plain):
        with tempfile.TemporaryDirectory() as folder:
            return fit(rule, scores, settings, seed, Path(folder) / "fold", place, attackers)
    streams = Streams(Streams(seed).integer(f"phase 2 {rule.name}"))
    module, random = initial_rule(rule, scores.panel, streams), streams.numpy("batches")
    rows, loss = scores.rows(rule), LOSSES["binary" if scores.panel.binary else "classification"]
    parts = [part for part in scores.parts if len(part)]
    total = sum(map(len, parts))
    parameters = list(module.parameters())
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    size = settings.batch_size
    whole = all(len(part) <= size for part in parts)
    x = y = share = torch.zeros(0)
    module.train()
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(streams.integer("dropout"))
        for t in range(settings.rounds):
            if t == 0 or not whole:
                drawn = [p if len(p) <= size else random.choice(p, size, False) for p in parts]
                index = torch.from_numpy(np.concatenate(drawn))
                shares = [
                    np.full(len(d), len(p) / total / len(d))
                    for d, p in zip(drawn, parts, strict=True)
                ]
                x, y = rows[index], scores.targets[index]
                share = torch.from_numpy(np.concatenate(shares)).float()
            grads = torch.autograd.grad((loss(module(x), y) * share).sum(), parameters)
            with torch.no_grad():
                for p, grad, (mean, square) in zip(parameters, grads, moments, strict=True):
                    step = grad * -settings.optimizer.lr
                    mean.lerp_(step, 1 - BETA1)
                    square.lerp_(step.square(), 1 - BETA2)
                    p.addcdiv_(mean, square.sqrt().add_(TAU), value=rule.lr)
    count = sum(p.numel() for p in parameters)
    with one_thread():
        each = round_bytes(
            job_of(
                dataset=scores.dataset(rule, f"scores for {rule.name}"),
                parts=parts,
                module=initial_rule(rule, scores.panel, streams),
                algorithm=federated_adam(rule.lr),
                train=settings,
                rounds=settings.rounds,
                seed=streams.seed,
                every=settings.rounds,
            )
        )
    return Fit(rule, module.eval(), settings.rounds * each, count)


def out_of_fold(
    rule: Rule,
    scores: Scores,
    settings: AggregateSettings,
    seed: int,
    place: Place = HERE,
    attackers: Attackers | None = None,
) -> OutOfFold:
    """A learned rule, fitted anew on all but a fold of each client's proxy, for every fold.

    Args:
        place: where clients live; FedAdam with one local step takes the short way, here.
        attackers: members whose clients send other updates than they should.
    """
    streams = Streams(seed)
    cuts = [
        fold_of(len(part), client, settings.folds, streams)
        for client, part in enumerate(scores.parts)
    ]
    quiet = settings.model_copy(update={"every": settings.rounds})
    rows, sent = [], 0
    for fold in used_folds(cuts, settings.folds):
        parts = [part[cut != fold] for part, cut in zip(scores.parts, cuts, strict=True)]
        kept = np.sort(np.concatenate(parts))
        new = np.full(len(scores.targets), -1)
        new[kept] = np.arange(len(kept))
        at = torch.from_numpy(kept)
        some = replace(
            scores,
            train=scores.train[:, at],
            targets=scores.targets[at],
            inputs=None if scores.inputs is None else scores.inputs[at],
            parts=[new[part] for part in parts],
            # Never looked at here: whatever is chosen, is chosen without the test set.
            test=scores.train[:, :1],
            test_targets=scores.targets[:1],
            test_inputs=None if scores.inputs is None else scores.inputs[:1],
        )
        fitted = _quick(rule, some, quiet, seed, place, attackers)
        sent += fitted.bytes_sent
        rows.append(ParameterLayout.of(fitted.module).flatten(fitted.module))
    return OutOfFold(torch.stack(rows) if rows else torch.zeros(0, 0), sent)
