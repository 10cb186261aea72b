"""Routing over whole networks, a task each: which one should answer an example without a label?

LORAUTER's router (``routing.py``) with networks in the place of adapters. An encoder makes vectors
of examples: the numbers themselves, or what a common network has before its last layer. A task lies
where its owner's examples lie, in a few places of their own (k-means): images of ten classes have
no one middle. A query goes to the network whose place is nearest, or to a mixture of those of the K
nearest. An owner's examples stay with it: its places are all that a router holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import nn, torch, without_gradients
from hansa.base.streams import Streams
from hansa.route.routing import Routed, Router

if TYPE_CHECKING:
    from torch import Tensor

Seen = Literal["auto", "inputs", "features"]
ENCODERS: tuple[Literal["inputs", "features"], ...] = ("inputs", "features")
_HELD = 0.2  # of an owner's examples, by which the encoder is chosen
_AT_ONCE = 512


@dataclass(frozen=True)
class NetworkRouter:
    """Sends examples to networks.

    Attributes:
        sees: what the encoder takes of an example.
        centre: float64 [d], the mean of the tasks' means; cosines are taken from there.
        router: over places; its choices are networks.
        found: share of held-out examples that the encoder sent to their own task, by encoder.
    """

    sees: Literal["inputs", "features"]
    centre: np.ndarray
    router: Router
    found: Mapping[str, float]

    def route(self, base: nn.Module, x: Tensor) -> list[Routed]:
        """Where examples [m, ...] go.

        Args:
            base: the common network, whose features may be what is seen.
        """
        return self.router.route(encoded(self.sees, base, x) - self.centre)


def fit_router(
    base: nn.Module,
    own: Sequence[Tensor],
    *,
    sees: Seen = "auto",
    places: int = 10,
    k: int = 1,
    temperature: float = 0.05,
    seed: int = 1,
) -> NetworkRouter:
    """A router over tasks, by the examples of their owners.

    Args:
        base: the common network.
        own: of each task examples [n_t, ...], as the network reads them.
        sees: what vectors are made of; auto: what sends a fifth of the own examples best, when the
            places are made of the others.
        places: of a task, at most as many as it has examples.
        k: places that a query keeps.

    Raises:
        ConfigError: there is one task, or a number is out of range.
    """
    if len(own) < 2:
        raise ConfigError("tasks", len(own), "is nothing to choose from", "two tasks or more")
    if places < 1:
        raise ConfigError("places", places, "leaves a task nowhere", "1 or more")
    streams = Streams(seed)
    found: dict[str, float] = {}
    if sees == "auto":
        for encoder in ENCODERS:
            vectors = [encoded(encoder, base, x) for x in own]
            held = [_held(len(rows), streams, t) for t, rows in enumerate(vectors)]
            kept = [rows[~out] for rows, out in zip(vectors, held, strict=True)]
            centre, router = _fitted(kept, places, k, temperature, seed)
            right = [
                float((sent(router.route(rows[out] - centre)) == t).mean())
                for t, (rows, out) in enumerate(zip(vectors, held, strict=True)) if out.any()
            ]  # fmt: skip
            found[encoder] = float(np.mean(right)) if right else 0.0
        chosen = max(ENCODERS, key=lambda encoder: found[encoder])
    else:
        chosen = sees
    vectors = [encoded(chosen, base, x) for x in own]
    return NetworkRouter(chosen, *_fitted(vectors, places, k, temperature, seed), found)


def sent(routed: Sequence[Routed]) -> np.ndarray:
    """int64 [m]: the network that weighs most; -1: none."""
    return np.array(
        [r.mixture.adapters[int(np.argmax(r.mixture.weights))] if r.mixture.adapters else -1
         for r in routed],
        dtype=np.int64,
    )  # fmt: skip


def _held(count: int, streams: Streams, task: int) -> np.ndarray:
    """bool [n]: which examples judge; of one alone, none."""
    held = np.zeros(count, dtype=bool)
    held[streams.numpy("route.held", task).permutation(count)[: int(_HELD * count)]] = True
    return held


def _fitted(
    vectors: Sequence[np.ndarray], places: int, k: int, temperature: float, seed: int
) -> tuple[np.ndarray, Router]:
    from sklearn.cluster import KMeans

    centre = np.mean([rows.mean(0) for rows in vectors], axis=0)
    spots, choices = [], []
    for task, rows in enumerate(vectors):
        apart = _unit(rows - centre)
        count = min(places, len(np.unique(apart, axis=0)))
        means = KMeans(count, n_init=2, random_state=seed % 2**32).fit(apart).cluster_centers_
        spots.append(_unit(means))
        choices += [task] * count
    found = np.concatenate(spots).astype(np.float32)
    return centre, Router(found, np.array(choices), k, temperature)


def _unit(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


@without_gradients
def encoded(sees: Literal["inputs", "features"], base: nn.Module, x: Tensor) -> np.ndarray:
    """float64 [m, d]: examples as vectors.

    Features are what goes into the network's last linear layer; of a network without one, what
    comes out of it.
    """
    if sees == "inputs":
        return x.flatten(1).double().cpu().numpy()
    linear = [module for module in base.modules() if isinstance(module, nn.Linear)]
    caught: list[Tensor] = []
    hook = (
        linear[-1].register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
        if linear else None
    )  # fmt: skip
    try:
        out = [base(some) for some in x.split(_AT_ONCE)]
    finally:
        if hook is not None:
            hook.remove()
    return torch.cat(caught or out).flatten(1).double().cpu().numpy()


@without_gradients
def answered_by(
    routed: Sequence[Routed], networks: Sequence[nn.Module], base: nn.Module, x: Tensor
) -> Tensor:
    """float32 [m, C]: the mixture of probabilities for each example; the base's where none is near.

    Each network sees only the examples that come to it.
    """
    shares = torch.zeros(len(networks) + 1, len(x))
    for m, one in enumerate(routed):
        for network, weight in zip(one.mixture.adapters, one.mixture.weights, strict=True):
            shares[network, m] = weight
        if not one.mixture.adapters:
            shares[-1, m] = 1.0
    answers: Tensor | None = None
    for asked, share in zip([*networks, base], shares, strict=True):
        here = share.nonzero().flatten()
        if not len(here):
            continue
        part = torch.cat([probabilities(asked(x[some])) for some in here.split(_AT_ONCE)])
        if answers is None:
            answers = part.new_zeros(len(x), part.shape[1])
        answers[here] += share[here, None] * part
    assert answers is not None
    return answers


def probabilities(scores: Tensor) -> Tensor:
    """[m, C] of scores [m, C]; of one score the two classes that it tells apart."""
    if scores.shape[1] == 1:
        one = torch.sigmoid(scores)
        return torch.cat([1 - one, one], 1)
    return torch.softmax(scores, 1)


@dataclass(frozen=True)
class Trial:
    """What routing is worth on test examples.

    Attributes:
        right: by method, float64 [T], the share of each task's examples that are right.
        passes: by method, networks that an example goes through, on average.
        sent: float64 [T, T], shares of a task's examples that went to each network.
    """

    right: Mapping[str, np.ndarray]
    passes: Mapping[str, float]
    sent: np.ndarray

    def facts(self) -> dict[str, Any]:
        """As plain data."""
        return {
            name: {"accuracy": float(each.mean()), "worst": float(each.min()),
                   "by_task": each.tolist(), "passes": self.passes[name]}
            for name, each in self.right.items()
        }  # fmt: skip


@without_gradients
def try_routing(
    router: NetworkRouter,
    networks: Sequence[nn.Module],
    base: nn.Module,
    tests: Sequence[tuple[Tensor, Tensor]],
    own: Sequence[tuple[Tensor, Tensor]],
) -> Trial:
    """Routed answers beside those of who is told the task, and of who uses no router.

    Args:
        tests: of each task examples and their classes.
        own: the owners', by which the one best network is chosen.
    """

    def plain(network: nn.Module, x: Tensor) -> Tensor:
        return torch.cat([probabilities(network(some)) for some in x.split(_AT_ONCE)])

    def share(answers: Tensor, y: Tensor) -> float:
        return float((answers.argmax(1) == y).double().mean())

    went = [router.route(base, x) for x, _ in tests]
    routed, each, average, of_base = [], [], [], []
    for routes, (x, y) in zip(went, tests, strict=True):
        answers = torch.stack([plain(network, x) for network in networks])
        routed.append(share(answered_by(routes, networks, base, x), y))
        each.append([share(one, y) for one in answers])
        average.append(share(answers.mean(0), y))
        of_base.append(share(plain(base, x), y))
    scores = [np.mean([share(plain(network, x), y) for x, y in own]) for network in networks]
    by_network = np.array(each)  # [T, T]
    right = {
        "routed": np.array(routed),
        "told": by_network.diagonal(),
        "single": by_network[:, int(np.argmax(scores))],
        "average": np.array(average),
        "base": np.array(of_base),
    }
    passes = {
        "routed": float(np.mean([len(r.mixture.adapters) or 1 for rs in went for r in rs])),
        "told": 1.0, "single": 1.0, "average": float(len(networks)), "base": 1.0,
    }  # fmt: skip
    places = np.stack([
        np.bincount(sent(rs) + 1, minlength=len(networks) + 1)[1:] / len(rs) for rs in went
    ])  # fmt: skip
    return Trial(right, passes, places)
