"""Batch normalization in merged models: its statistics are counted anew, never averaged.

A running mean and variance describe the activations of the very weights that they were counted
with. Those of a merged model are others, and the mean of the parts' statistics is that of no
model: variances collapse (Jordan et al. 2023, REPAIR). As in Izmailov et al. 2018 (stochastic
weight averaging), one pass over inputs counts them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from hansa.base.errors import ConfigError
from hansa.base.lazy import nn, torch, without_gradients

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def layers_with_statistics(names: Iterable[str]) -> tuple[str, ...]:
    """The layers of batch normalization among a model's tensors, by their names, sorted."""
    parts = (name.rpartition(".") for name in names)
    return tuple(sorted({layer for layer, _, last in parts if last == "running_mean"}))


def is_statistic(name: str) -> bool:
    """Whether a tensor is counted, not trained."""
    return name.rpartition(".")[2] in STATISTICS


def refuse_statistics(names: Iterable[str], field: str = "rebn") -> None:
    """Refuse a model with batch normalization where nothing says how to count anew.

    Raises:
        ConfigError: names the layers and the way out.
    """
    if layers := layers_with_statistics(names):
        some = ", ".join(layers[:3]) + (f" and {len(layers) - 3} more" if len(layers) > 3 else "")
        problem = f"is not set, and the statistics of batch normalization ({some}) cannot be merged"
        fix = "--rebn DATA with inputs of all tasks, by which they are counted anew"
        raise ConfigError(field, None, problem, fix)


@without_gradients
def reestimate(
    module: Module,
    batches: Iterable[Any],
    forward: Callable[[Module, Any], Any] | None = None,
) -> int:
    """Count the statistics of every layer of batch normalization anew; returns how many layers.

    Each becomes the mean over the batches, all alike; batches of one size are therefore best.
    Everything else is in evaluation mode meanwhile, and afterwards as it was before.

    Args:
        batches: inputs; some hundreds of examples of all tasks, in a mixed order, suffice.
        forward: runs the module on a batch; None calls it with the batch.

    Raises:
        ConfigError: there is no batch, a batch is of one example, or a statistic is not finite;
            the module's statistics are then as before.
    """
    # The base of all kinds of it is private in torch, and there is no other name for them.
    kind = nn.modules.batchnorm._BatchNorm
    layers = [m for m in module.modules() if isinstance(m, kind) and m.track_running_stats]
    modes = {part: part.training for part in module.modules()}
    momenta = [layer.momentum for layer in layers]
    before = [_statistics(layer) for layer in layers]
    try:
        module.eval()
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # the mean over all batches
            layer.train()
        count = 0
        for batch in batches if layers else ():
            (forward or _called)(module, batch)
            count += 1
        if layers and not count:
            raise ConfigError("rebn", None, "holds no batch", "inputs of all tasks")
        for layer in layers:
            if not all(bool(torch.isfinite(value).all()) for value in _statistics(layer)):
                raise ConfigError("rebn", None, "leads to statistics that are not finite")
    except BaseException as error:
        for layer, values in zip(layers, before, strict=True):
            for name, value in zip(STATISTICS, values, strict=True):
                getattr(layer, name).copy_(value)
        if isinstance(error, ValueError) and "more than 1 value" in str(error):
            problem, fix = "has a batch of a single example", "batches of two or more"
            raise ConfigError("rebn", None, problem, fix) from error
        raise
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for part, mode in modes.items():
            part.training = mode
    return len(layers)


def _called(module: Module, batch: Any) -> Any:
    return module(batch)


def _statistics(layer: Module) -> list[Tensor]:
    return [getattr(layer, name).clone() for name in STATISTICS]
