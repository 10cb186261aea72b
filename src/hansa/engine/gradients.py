"""Two ways to run the models of k nodes: one module bound to a row, or all rows at once.

Both fill ``grads`` [k, P] and give losses [k], so that whatever uses them need not know which.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap

from hansa.models import ParameterLayout

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Per-example cross-entropy: outputs [m, C], targets [m] -> [m]."""
    return F.cross_entropy(outputs, targets, reduction="none")


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Per-example squared error, averaged over outputs: [m, ...], [m, ...] -> [m]."""
    return (outputs.reshape(len(outputs), -1) - targets.reshape(len(targets), -1)).square().mean(1)


class Passes(ABC):
    """Forward and backward passes of a few nodes, on their rows. Not safe to share by threads."""

    def __init__(self, module: nn.Module, layout: ParameterLayout, loss: Loss) -> None:
        self.module = copy.deepcopy(module)
        self.layout = layout
        self.loss = loss

    @abstractmethod
    def attach(self, rows: Tensor, grads: Tensor | None) -> None:
        """Work on these rows [k, D] from now on, in place; gradients go to ``grads`` [k, P]."""

    @abstractmethod
    def outputs(self, x: Tensor) -> Tensor:
        """Forward passes: x [k, B, ...] -> [k, B, ...]; x [1, B, ...] serves all k."""

    def backward(self, x: Tensor, y: Tensor, grads: Tensor) -> Tensor:
        """Fill ``grads`` with each node's gradient of its mean loss; returns the losses [k].

        Args:
            x: [k, B, ...] inputs.
            y: [k, B] targets.
        """
        outputs = self.outputs(x)
        losses = self.loss(outputs.flatten(0, 1), y.flatten(0, 1)).view(len(y), -1).mean(1)
        self._differentiate(losses.sum(), grads)
        return losses.detach()

    @abstractmethod
    def _differentiate(self, total: Tensor, grads: Tensor) -> None:
        """Fill ``grads`` with the gradient of ``total``."""


class Looped(Passes):
    """One node at a time: the module's tensors are views of its row."""

    def __init__(self, module: nn.Module, layout: ParameterLayout, loss: Loss) -> None:
        super().__init__(module, layout, loss)
        self._tensors = layout.tensors(self.module)

    def attach(self, rows: Tensor, grads: Tensor | None) -> None:
        self.layout.bind_tensors(self._tensors, rows[0])
        if grads is not None:
            self.layout.bind_grads(self.module, grads[0])

    def outputs(self, x: Tensor) -> Tensor:
        return self.module(x[0]).unsqueeze(0)

    def _differentiate(self, total: Tensor, grads: Tensor) -> None:
        grads.zero_()  # the parameters' gradients are views of it
        total.backward()


class Stacked(Passes):
    """All k nodes in one batched operation a layer."""

    def __init__(self, module: nn.Module, layout: ParameterLayout, loss: Loss) -> None:
        super().__init__(module, layout, loss)
        self._state: dict[str, Tensor] = {}
        self._leaves: list[Tensor] = []

        def forward(state: dict[str, Tensor], x: Tensor) -> Tensor:
            return functional_call(self.module, state, (x,))

        self._each = vmap(forward)
        self._shared = vmap(forward, in_dims=(0, None))

    def attach(self, rows: Tensor, grads: Tensor | None) -> None:
        # Not detach(): other threads change other rows of the same tensor while autograd holds
        # on to these, and .data gives views that do not share its version counter.
        self._state = {name: view.data for name, view in self.layout.views(rows).items()}
        if grads is not None:
            trained = [entry.name for entry in self.layout.entries if entry.trainable]
            self._leaves = [self._state[name].requires_grad_() for name in trained]

    def outputs(self, x: Tensor) -> Tensor:
        if len(x) == 1:
            # vmap cannot ask whether one input of all is channels-last, as normalizations do.
            return self._shared(self._state, x[0].clone(memory_format=torch.contiguous_format))
        return self._each(self._state, x)

    def _differentiate(self, total: Tensor, grads: Tensor) -> None:
        found = torch.autograd.grad(total, self._leaves, materialize_grads=True)
        torch.cat([grad.flatten(1) for grad in found], dim=1, out=grads)


def is_stochastic(module: nn.Module) -> bool:
    """Whether a training pass of the module draws random numbers (dropout)."""
    for part in module.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd) and part.p > 0:
            return True
        if isinstance(part, nn.RNNBase) and part.dropout > 0:
            return True
    return False


def has_convolution(module: nn.Module) -> bool:
    """Whether the module convolves, which stacks badly on a CPU."""
    return any(isinstance(part, nn.modules.conv._ConvNd) for part in module.modules())


def supports_stacking(module: nn.Module) -> bool:
    """Whether many copies can run under one ``vmap``: no buffers, no randomness, no RNN."""
    if is_stochastic(module) or any(True for _ in module.buffers()):
        return False
    return not any(isinstance(part, nn.RNNBase) for part in module.modules())


def no_grad_outputs(passes: Passes, x: Tensor) -> Tensor:
    """Outputs in evaluation mode, without a graph."""
    passes.module.eval()
    try:
        with torch.no_grad():
            return passes.outputs(x)
    finally:
        passes.module.train()
