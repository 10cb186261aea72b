"""A node's local work: some ratings of its store, each once a pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import Lazy
from hansa.codec.table_messages import offsets
from hansa.engine import SGD, Block, Trainer
from hansa.engine.block import TRAIN_LOSS

if TYPE_CHECKING:
    from hansa.models.rating_networks import RatingNetwork

networks = Lazy("hansa.models.rating_networks")  # they need torch


def network_of(block: Block) -> RatingNetwork:
    """The block's network of ratings.

    Raises:
        ConfigError: it is another one.
    """
    network = block.trainer.module
    if not isinstance(network, networks.RatingNetwork):
        problem = "is no model of ratings, whose numbers go by user and by item"
        fix = "model: matrix_factorization or neural_recommender"
        raise ConfigError("model", type(network).__name__, problem, fix)
    return cast("RatingNetwork", network)


_DECAYING = "{name: sgd, lr: 0.01, weight_decay: 0.05}, as hansa recommend has it"


def check(block: Block, averages: bool = False) -> None:
    """Refuse what steps on single ratings do not know.

    Args:
        averages: models are averaged too, which the optimizer that nobody chose (lr 0.05 and no
            decay) does not stand: what one node's factors grow by, others multiply.

    Raises:
        ConfigError: naming it.
    """
    if not isinstance(network_of(block), networks.Factors):
        return
    settings, why = cast(Trainer, block.trainer).settings, "matrix_factorization takes plain steps"
    if type(settings.optimizer) is not SGD or settings.optimizer.momentum:
        fix = _DECAYING if averages else "{name: sgd}, with lr and weight_decay alone"
        raise ConfigError("train.optimizer", settings.optimizer.dump(), why, fix)
    if averages and settings.optimizer == SGD():
        problem = "diverges where models of ratings are averaged"
        raise ConfigError("train.optimizer", settings.optimizer.dump(), problem, _DECAYING)
    if settings.clip_norm is not None:
        raise ConfigError("train.clip_norm", settings.clip_norm, why, "none")
    if settings.precision != "float32":
        problem = "has matrix_factorization take its steps one by one, in float32"
        raise ConfigError("", None, problem, "train.precision: float32")
    if block.rows.device.type != "cpu":
        problem = "matrix_factorization takes its steps one by one"
        raise ConfigError("device", str(block.rows.device), problem, "device: cpu")


def drawn(
    block: Block,
    t: int,
    steps: int,
    passes: int,
    pools: Sequence[np.ndarray] | None = None,
) -> list[np.ndarray]:
    """What each node of the block trains on in round t: positions in its training examples.

    A pass has ``min(steps, examples)`` of them, all different; each has a draw of its own. Who is
    away or asleep trains on none.

    Args:
        pools: which of a node's examples may be drawn; None: all.
    """
    chosen = []
    parts = block.parts if pools is None else pools
    for node, part, able in zip(block.ids.tolist(), parts, block.able(t), strict=True):
        random = block.streams.own.numpy("rex steps", node, t)
        some = min(steps, len(part)) if able else 0
        places = [
            random.choice(len(part), some, replace=False) for _ in range(passes if some else 0)
        ]
        chosen.append(part[np.concatenate(places)] if places else part[:0])
    return chosen


def train(
    block: Block, t: int, chosen: list[np.ndarray], item_rate: float | np.ndarray = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Local steps on these positions, in place, at the round's learning rate.

    Matrix factorization takes them one by one, in their order and with the optimizer's
    ``weight_decay`` on the factors alone; its step is on half of the squared error. Other networks
    go over them in mini-batches, as ``train`` says.

    Args:
        item_rate: items' learning rate beside users', of all nodes or, [n], of each.

    Returns:
        (indptr int64 [n+1], pairs int64 [m, 2]): the users and items of each node's.
    """
    trainer, network = cast(Trainer, block.trainer), network_of(block)
    sizes = np.array([len(some) for some in chosen], dtype=np.int64)
    indptr = offsets(sizes)
    split = trainer.dataset.train.take(np.concatenate(chosen))
    pairs = split.inputs.cpu().numpy()
    if not isinstance(network, networks.Factors):
        steps = trainer.settings.batching.per_pass(sizes)
        trainer.train(replace(block, parts=chosen), t, steps=steps)
        return indptr, pairs
    decay = trainer.settings.optimizer.weight_decay
    stars = split.targets.numpy()
    rate = block.trainer.learning_rate(t)
    rates, losses = np.broadcast_to(item_rate, len(sizes)), np.full(len(sizes), np.nan)
    for each in np.unique(rates).tolist():
        mine = rates == each
        which = np.repeat(mine, sizes)
        these = (offsets(sizes * mine), pairs[which], stars[which])
        losses[mine] = network.descend_(block.rows, *these, rate, decay, each)[mine]
    # NaN is for nodes at rest, so a loss that is not a number is reported as infinite.
    some = sizes > 0
    losses[some] = np.nan_to_num(losses[some], nan=np.inf, posinf=np.inf)
    block.report[TRAIN_LOSS] = losses
    for name in ("steps", "samples"):
        block.state[name].numpy()[:] += sizes
    return indptr, pairs
