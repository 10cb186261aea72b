"""What the reference's errors come from: its published behaviour, taken back one thing at a time.

A simulator of its own, plain and apart from hansa: 50 nodes with whole users, matrix factorization
in half stars, as the public code of Dhasade et al. (2022) does it. Each thing of :data:`QUIRKS` can
be as published or as it is meant. With all as published it traces the reference's curve, with none
hansa's at the same settings (``reference.py``): so what lies between is what these five cost.

Left out, since they have no part in errors: the network, encodings, threads. Its generators are
others, so that figures agree as far as another split and another walk let them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

sys.path.insert(0, str(Path(__file__).parent))
import rex_cases

from hansa.experiment.prepare import prepare
from hansa.recommend.recommend_file import RecommendFile

QUIRKS = {
    "draws": "a node draws the same places of its store in every epoch",
    "order": "a pass takes ratings in the order of user and item",
    "rows": "a new user or item begins at its initial numbers only where its index is above all "
    "before it; else vector and bias are zero",
    "tests": "whoever is tested gives test items that it lacks the initial vector without a bias, "
    "and holds and sends them from then on",
    "halved": "an item that a node was sent anew loses half of its bias",
}
"""What the published code does otherwise than it says, in the order in which it is taken back."""
FACTORS, RATE, DECAY, BIAS = 10, 0.005, 0.1, 1.0
STEPS, SENT = 300, 300


class Nodes:
    """The models and stores of all nodes.

    Attributes:
        rows: [user rows, item rows], float64 [n, count, FACTORS + 1], the bias last in each.
        tops: [user tops, item tops], int64 [n]: how many indices a node has room for.
        stores: bool [n, m]: which ratings each node has.
    """

    def __init__(
        self, known: tuple[int, int], parts: list[np.ndarray], ratings: int, seed: int
    ) -> None:
        random = np.random.default_rng(seed)
        self.initial = np.append(random.random(FACTORS) * (9 / FACTORS) ** 0.5, BIAS)
        self.rows = [np.zeros((len(parts), count, FACTORS + 1)) for count in known]
        self.tops = [np.zeros(len(parts), dtype=np.int64) for _ in known]
        self.stores = np.zeros((len(parts), ratings), dtype=bool)
        for store, part in zip(self.stores, parts, strict=True):
            store[part] = True

    def held(self, k: int, which: int) -> np.ndarray:
        """Which users (0) or items (1) a node holds: their vector is not zero, bool."""
        held: np.ndarray = (self.rows[which][k, :, :FACTORS] != 0).any(1)
        return held


@njit(cache=True)
def train(users, items, tops, initial, pairs, stars, anywhere):  # type: ignore[no-untyped-def]
    """Steps in the given order; a row that is new begins as the published code or ``anywhere``."""
    for s in range(len(pairs)):
        u, i = pairs[s]
        for which, row, index in ((0, users[u], u), (1, items[i], i)):
            if index >= tops[which] or (anywhere and not (row != 0).any()):
                row[:] = initial
            tops[which] = max(tops[which], index + 1)
        x, y = users[u], items[i]
        error = stars[s] - (x[:-1] * y[:-1]).sum() - x[-1] - y[-1]
        y[:-1] = (1 - RATE * DECAY) * y[:-1] + RATE * error * x[:-1]
        y[-1] += RATE * error
        x[:-1] = (1 - RATE * DECAY) * x[:-1] + RATE * error * y[:-1]
        x[-1] += RATE * error


def places(size: int, count: int, fractions: np.ndarray) -> np.ndarray:
    """Different places of a store in the order of these draws, int64 [min(size, count)]."""
    drawn = (fractions * size).astype(np.int64)
    firsts = np.sort(np.unique(drawn, return_index=True)[1])
    return drawn[firsts][:count] if size > count else np.arange(size)


def curve(
    pairs: np.ndarray,
    stars: np.ndarray,
    known: tuple[int, int],
    parts: list[np.ndarray],
    held: list[np.ndarray],
    neighbours: list[np.ndarray],
    quirks: list[str],
    models: bool,
    epochs: int,
    seed: int = 1,
) -> list[float]:
    """The error after each epoch, mean of nodes, in stars.

    Args:
        pairs: int64 [m, 2], users and items of all ratings, by user and then item.
        stars: float64 [m], half stars.
        known: how many users and items there are.
        parts, held: numbers of the ratings that nodes train and are tested on.
        neighbours: of each node.
        quirks: which of :data:`QUIRKS` are as published.
        models: whether models are shared, else ratings; by random walks.
        epochs: how many.
    """
    nodes, random = Nodes(known, parts, len(pairs), seed), np.random.default_rng(seed + 1)
    same, errors = random.random(100 * STEPS), []
    messages: list[tuple[int, int, Any]] = []
    for _ in range(epochs):
        for _, to, message in sorted(messages, key=lambda each: each[:2]):
            if models:
                merge(nodes, to, message, "halved" in quirks)
            else:
                nodes.stores[to, message] = True
        messages, each = [], []
        for k, hearing in enumerate(neighbours):
            store = np.flatnonzero(nodes.stores[k])
            some = store[_drawn(len(store), STEPS, same, random, "draws" in quirks)]
            if "order" in quirks:
                some = np.sort(some)
            tops = np.array([top[k] for top in nodes.tops])
            rows = [table[k] for table in nodes.rows]
            train(*rows, tops, nodes.initial, pairs[some], stars[some], "rows" not in quirks)
            for which in (0, 1):
                nodes.tops[which][k] = tops[which]
            if models:
                message = [np.where(nodes.held(k, w)[:, None], rows[w], 0) for w in (0, 1)]
            else:
                message = store[_drawn(len(store), SENT, same, random, "draws" in quirks)]
            messages.append((k, int(random.choice(hearing)), message))
            each.append(tested(nodes, k, pairs[held[k]], stars[held[k]], "tests" in quirks))
        errors.append(float(np.mean(each)) / 2)
    return errors


def _drawn(
    size: int, count: int, same: np.ndarray, random: np.random.Generator, again: bool
) -> np.ndarray:
    if again:
        return places(size, count, same)
    return random.choice(size, min(size, count), replace=False)


def merge(nodes: Nodes, k: int, message: list[np.ndarray], halved: bool) -> None:
    """A model that came: the mean of what both hold, a copy of what is new."""
    for which, came in enumerate(message):
        mine = nodes.rows[which][k]
        sent, has = (came[:, :FACTORS] != 0).any(1), nodes.held(k, which)
        new, bias = sent & ~has, mine[:, FACTORS].copy()
        silent = came[:, FACTORS] == 0  # what is zero is not sent, and so not averaged
        came = np.where(silent[:, None] & (np.arange(FACTORS + 1) == FACTORS), mine, came)
        mine[sent & has] = (mine[sent & has] + came[sent & has]) / 2
        mine[new] = came[new]
        if halved:
            mine[new, FACTORS] = (bias[new] + came[new, FACTORS]) / 2
        if sent.any():
            top = nodes.tops[which]
            top[k] = max(top[k], np.flatnonzero(sent)[-1] + 1)


def tested(nodes: Nodes, k: int, pairs: np.ndarray, stars: np.ndarray, published: bool) -> float:
    """A node's RMSE in half stars; of what it lacks the initial numbers are told."""
    tables = [table[k] if published else table[k].copy() for table in nodes.rows]
    for which, table in enumerate(tables):
        lacked = np.setdiff1d(pairs[:, which], np.flatnonzero(nodes.held(k, which)))
        table[lacked, :FACTORS] = nodes.initial[:FACTORS]
        if not published:
            table[lacked, FACTORS] = BIAS
        elif len(lacked):
            nodes.tops[which][k] = max(nodes.tops[which][k], lacked.max() + 1)
    x, y = tables[0][pairs[:, 0]], tables[1][pairs[:, 1]]
    told = (x[:, :-1] * y[:, :-1]).sum(1) + x[:, -1] + y[:, -1]
    return float(np.sqrt(np.mean((stars - told) ** 2)))


def variant(models: bool, back: int, epochs: int, data: str = "movielens") -> list[float]:
    """The error after each epoch with the first so many of :data:`QUIRKS` taken back."""
    nodes = 50 if data == "movielens" else 8
    job = prepare(RecommendFile.parse(rex_cases.chosen(nodes, 1, "reference", 1, data=data)))
    train, graph = job.dataset.train, job.network.graph(0)
    pairs, stars = train.inputs.numpy(), 2 * train.targets.numpy().astype(np.float64)
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))
    rank = np.argsort(order)
    quirks = [*QUIRKS][back:]
    return curve(
        pairs[order], stars[order], job.dataset.spec.vocabulary, [rank[p] for p in job.parts],
        [rank[h] for h in job.held], [graph.row(k) for k in range(nodes)], quirks, models, epochs,
    )  # fmt: skip
