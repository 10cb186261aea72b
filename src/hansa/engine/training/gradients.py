"""Two ways to run the models of k nodes: one module bound to a row, or all rows at once.

Both fill ``grads`` [k, P] and give losses [k], so that whatever uses them need not know which.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from hansa.base.lazy import functional as F
from hansa.base.lazy import nn, torch
from hansa.base.losses import Loss, cross_entropy
from hansa.engine.training.precision import Precision, computing, widened
from hansa.models import ParameterLayout, shared_copy
from hansa.models.draws import Chance, Draws, give_generator

if TYPE_CHECKING:
    from torch import Tensor


def mean_loss(loss: Loss) -> Loss:
    """The mean over examples as one scalar, in as few operations as there are."""
    if loss is cross_entropy:
        return F.cross_entropy
    return lambda outputs, targets: loss(outputs, targets).mean()


class Passes(ABC):
    """Forward and backward passes of a few nodes, on their rows. Not safe to share by threads."""

    def __init__(self, module: nn.Module, layout: ParameterLayout, loss: Loss) -> None:
        self.module = shared_copy(module)
        self.layout = layout
        self.loss = loss
        self.kept: dict[str, Any] = {}  # what else works on them, and lives as long
        self._chance: Chance = ""
        self._draws: AbstractContextManager[None] = nullcontext()  # entered where passes draw
        self._generator: torch.Generator | None = None
        self._precision: Precision = "float32"
        self._computing: AbstractContextManager[object] = nullcontext()  # entered for each forward

    def compute_in(self, precision: Precision) -> None:
        """Let the forward passes from now on compute in this; outputs and gradients are float32."""
        if precision != self._precision:
            device = next(self.module.parameters()).device
            self._precision, self._computing = precision, computing(precision, device)

    def expect(self, chance: Chance) -> None:
        """Be told what draws in the passes; on the CPU, and before the first of them."""
        self._chance = chance
        if chance == "dropout":
            self._generator = give_generator(self.module)

    def draw_from(self, stream: int | None) -> None:
        """Seed what training passes draw from now on; None: that is not for them to do."""
        self._draws = nullcontext()
        if self._generator is not None and stream is not None:
            self._generator.manual_seed(stream)
        elif stream is not None:
            self._draws = Draws(stream)

    @property
    def draws(self) -> bool:
        """Whether training passes draw random numbers."""
        return bool(self._chance)

    def drawing(self) -> AbstractContextManager[None]:
        """What a training pass, both ways, is done in."""
        return self._draws

    def computing(self) -> AbstractContextManager[object]:
        """What every forward pass is done in; :func:`widened` is for its outputs."""
        return self._computing

    @abstractmethod
    def attach(self, rows: Tensor, grads: Tensor | None) -> None:
        """Work on these rows [k, D] from now on, in place; gradients go to ``grads`` [k, P]."""

    @abstractmethod
    def outputs(self, x: Tensor) -> Tensor:
        """Forward passes: x [k, B, ...] -> [k, B, ...]; x [1, B, ...] serves all k."""

    @abstractmethod
    def backward(
        self, x: Tensor, y: Tensor, grads: Tensor, lengths: Tensor | None = None
    ) -> Tensor:
        """Fill ``grads`` with each node's gradient of its mean loss; returns the losses [k].

        Args:
            x: [k, B, ...] inputs.
            y: [k, B] targets.
            lengths: int64 [k], how many of each node's examples count, the others being filling;
                None: all.
        """


class Looped(Passes):
    """One node at a time: the module's tensors are views of its row."""

    def __init__(self, module: nn.Module, layout: ParameterLayout, loss: Loss) -> None:
        super().__init__(module, layout, loss)
        self._tensors = layout.tensors(self.module)
        self._mean = mean_loss(loss)
        self._bound = 0

    def attach(self, rows: Tensor, grads: Tensor | None) -> None:
        self.layout.bind_tensors(self._tensors, rows[0])
        if grads is not None and grads.data_ptr() != self._bound:
            self.layout.bind_grads(self.module, grads[0])
            self._bound = grads.data_ptr()

    def outputs(self, x: Tensor) -> Tensor:
        return self._forward(x[0]).unsqueeze(0)

    def _forward(self, x: Tensor) -> Tensor:
        """x [B, ...] -> [B, ...]."""
        with self._computing:
            return widened(self.module(x))

    def backward(
        self, x: Tensor, y: Tensor, grads: Tensor, lengths: Tensor | None = None
    ) -> Tensor:
        inputs, targets = x[0], y[0]
        if lengths is not None:
            inputs, targets = inputs[: int(lengths[0])], targets[: int(lengths[0])]
        with self._draws:
            outputs = self._forward(inputs)
            if self._chance == "any":
                return self._way_back(outputs, targets, grads)
        return self._way_back(outputs, targets, grads)

    def _way_back(self, outputs: Tensor, targets: Tensor, grads: Tensor) -> Tensor:
        loss = self._mean(outputs, targets)
        grads.zero_()  # the parameters' gradients are views of it
        loss.backward()
        return loss.detach()


class Stacked(Passes):
    """All k nodes in one batched operation a layer."""

    def __init__(self, module: nn.Module, layout: ParameterLayout, loss: Loss) -> None:
        super().__init__(module, layout, loss)
        self._state: dict[str, Tensor] = {}
        self._leaves: list[Tensor] = []

        def forward(state: dict[str, Tensor], x: Tensor) -> Tensor:
            return torch.func.functional_call(self.module, state, (x,))

        self._each = torch.func.vmap(forward)
        self._shared = torch.func.vmap(forward, in_dims=(0, None))

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
            x = x[0].clone(memory_format=torch.contiguous_format)
            with self._computing:
                return widened(self._shared(self._state, x))
        with self._computing:
            return widened(self._each(self._state, x))

    def backward(
        self, x: Tensor, y: Tensor, grads: Tensor, lengths: Tensor | None = None
    ) -> Tensor:
        outputs = self.outputs(x)
        each = self.loss(outputs.flatten(0, 1), y.flatten(0, 1)).view(len(y), -1)
        if lengths is None:
            losses = each.mean(1)
        else:
            filling = torch.arange(each.shape[1], device=each.device) >= lengths.unsqueeze(1)
            losses = each.masked_fill(filling, 0).sum(1) / lengths
        leaf_grads = torch.autograd.grad(losses.sum(), self._leaves, materialize_grads=True)
        torch.cat([grad.flatten(1) for grad in leaf_grads], dim=1, out=grads)
        return losses.detach()


def is_stochastic(module: nn.Module) -> bool:
    """Whether a training pass of the module draws random numbers, as far as its layers tell.

    What it draws by functions shows a trial alone (see :mod:`hansa.engine.training.trial`).
    """
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


def mixes_examples(module: nn.Module) -> bool:
    """Whether an example's output depends on the others of its batch, so that filling shows."""
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules())


def no_grad_outputs(passes: Passes, x: Tensor) -> Tensor:
    """Outputs in evaluation mode, without a graph."""
    passes.module.eval()
    try:
        with torch.no_grad():
            return passes.outputs(x)
    finally:
        passes.module.train()
