"""From a torch module and some examples to a program of integers, held against the module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.infer.private.compiling.a2q import train_held
from hansa.infer.private.compiling.quantize import Bits, quantize
from hansa.infer.private.compiling.real_net import RealNet
from hansa.infer.private.compiling.tracing import read_network
from hansa.infer.private.program import Program

if TYPE_CHECKING:
    from torch import nn

_TRIED = 8
"""Examples on which what was read is held against the module."""
CALIBRATION = 128
"""Examples that choose scales: more change little."""


@dataclass(frozen=True)
class Compiled:
    """A program and how it came about.

    Attributes:
        net: the network in real numbers.
        ending: what follows the logits in the module and is left to the reader, or nothing.
    """

    program: Program
    net: RealNet
    ending: str


def compile_network(
    module: nn.Module,
    rows: np.ndarray,
    bits: Bits | None = None,
    *,
    classes: tuple[str, ...] = (),
    facts: dict[str, object] | None = None,
    epochs: int = 0,
) -> Compiled:
    """Compile a torch module.

    Args:
        module: maps [n, *shape] to [n, outputs], each example alone.
        rows: float [n, *shape] of examples as the module reads them: they choose the scales.
        epochs: over the rows, in which weights are trained for the width of the accumulators
            that ``bits`` names; none by default.

    Raises:
        ConfigError: a layer cannot be compiled; names it and the way out.
    """
    rows = np.asarray(rows, np.float32)
    if rows.ndim < 2 or not len(rows):
        problem = "are no examples of a network"
        raise ConfigError("rows", list(rows.shape), problem, "an array [n, *shape]")
    if not np.isfinite(rows).all():
        raise ConfigError("rows", None, "hold numbers that are not finite", "finite numbers")
    for name, tensor in module.state_dict().items():
        if torch.is_tensor(tensor) and not bool(torch.isfinite(tensor).all()):
            problem = "holds a number that is not finite"
            raise ConfigError(f"network.{name}", None, problem, "a network whose training held")
    shape = tuple(int(n) for n in rows.shape[1:])
    net, ending = read_network(module, torch.from_numpy(rows[:_TRIED]))
    more: dict[str, Any] = {"network": type(module).__name__, "ending": ending}
    if epochs:
        more["a2q_epochs"] = epochs
    more |= {"calibrated_on": min(len(rows), CALIBRATION), "layers": [list(s) for s in net.story]}
    program = quantize(
        net, rows[:CALIBRATION], bits or Bits(), shape, classes, more | dict(facts or {})
    )
    if epochs:
        program = train_held(net, program, rows, bits or Bits(), epochs)
    return Compiled(program, net, ending)
