"""Dataset condensation: few images that stand for many, since a network takes them alike.

Zhao, Mopuri and Bilen (ICLR 2021), in the form that QuickDrop (Dhasade et al., Middleware 2024)
runs during federated training. A *cell* is one client's examples of one class; c cells are worked
on at once, each at a model of its own. Its synthetic images S move so that the gradient of the mean
loss on S points where that on a batch of real examples does:

    d(A, B) = sum over weight tensors with two or more dimensions, over their output rows j, of
              1 - <a_j, b_j> / (|a_j| |b_j| + 1e-6)

Biases and the scales of normalizations do not count. Two cheaper things can be matched, which need
no gradient of a gradient: the gradients of the output layer alone, which follow from one pass
forward; or the mean features, the inputs of that layer (distribution matching, Zhao and Bilen, WACV
2023; they draw fresh random networks, here it is the network in training).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from hansa.base.lazy import nn, torch

if TYPE_CHECKING:
    from torch import Tensor

Distance = Literal["rows", "mse", "cos"]
Match = Literal["gradients", "output", "features"]
Gradients: TypeAlias = "dict[str, torch.Tensor]"
"""Gradients by parameter name; of several cells, each with a leading [c]."""

PASSES: dict[Match, float] = {"gradients": 3, "output": 2 / 3, "features": 2 / 3}
"""What moving an image once costs in examples of plain training (3 units: forward, and backward to
inputs and to weights). Gradients: such a pass, whose graph of twice that is gone through once more
(9 units). The others: forward, and backward to the pixels alone (2 units)."""
_EPS = 1e-6


class Condensation(BaseModel):
    """How synthetic images are made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scale: float = Field(
        0.01, gt=0, le=1, description="synthetic images for each example of a class, rounded up"
    )
    initial: Literal["real", "noise"] = Field(
        "real",
        description="they start as copies of random examples of the class, or as normal noise "
        "(which shows nobody's example, and learns more slowly)",
    )
    distance: Distance = Field(
        "rows",
        description="rows: 1 - cosine for each output row of each weight tensor; mse: squared "
        "L2 of all gradients; cos: 1 - cosine of all of them",
    )
    match: Match = Field(
        "gradients",
        description="what is to be alike: the gradients of all layers (published); those of the "
        "output layer alone; or the mean features, its inputs. The last two take a fifth of the "
        "compute of the first",
    )
    every: int = Field(
        1, ge=1, description="the images move at every so many-th local step of a run"
    )
    lr: float = Field(0.1, gt=0, description="step size of the pixels")
    momentum: float = Field(0.5, ge=0, lt=1, description="of the pixels, within a round")
    weight_decay: float = Field(0.001, ge=0, description="L2 penalty on the pixels")
    clamp: bool = Field(True, description="keep pixels within the range of the data")
    persist: bool = Field(
        True, description="go on with last time's images; false: start anew (the released code)"
    )

    def moves(self, t: int, steps: int, step: int) -> bool:
        """Whether the images move at a local step of round t, in a run of ``steps`` a round."""
        return (t * steps + step) % self.every == 0

    @property
    def passes(self) -> float:
        """What an image costs a local step on average, in examples of plain training."""
        return PASSES[self.match] / self.every


def set_sizes(examples: np.ndarray, scale: float) -> np.ndarray:
    """ceil(scale * n) synthetic images for each count of examples: int64, any shape."""
    # 0.07 * 100 is 7.000000000000001, which has to stay 7.
    return np.ceil(np.round(np.asarray(examples) * scale, 9)).astype(np.int64)


def row_distance(a: Tensor, b: Tensor) -> Tensor:
    """Sum over output rows of 1 - cosine: tensors [out, ...] -> scalar; 0 below two dimensions."""
    if a.ndim < 2:
        return a.new_zeros(())
    a, b = a.flatten(1), b.flatten(1)
    norms = torch.linalg.vector_norm(a, dim=1) * torch.linalg.vector_norm(b, dim=1)
    return (1 - (a * b).sum(1) / (norms + _EPS)).sum()


def gradient_distance(a: Gradients, b: Gradients, distance: Distance = "rows") -> Tensor:
    """The distance of two gradients of one model, a scalar."""
    if distance == "rows":
        return torch.stack([row_distance(a[name], b[name]) for name in a]).sum()
    one, other = (torch.cat([g[name].flatten() for name in a]) for g in (a, b))
    if distance == "mse":
        return (one - other).square().sum()
    norms = torch.linalg.vector_norm(one) * torch.linalg.vector_norm(other)
    return 1 - one @ other / (norms + _EPS)


def matched_rows(module: nn.Module, match: Match = "gradients") -> int:
    """How many rows the distance of a module's gradients sums over; 1 for features."""
    if match == "features":
        return 1
    last = None if match == "gradients" else f"{output_layer(module)}.weight"
    return sum(
        p.shape[0]
        for name, p in module.named_parameters()
        if p.requires_grad and p.ndim >= 2 and last in (None, name)
    )


def output_layer(module: nn.Module) -> str | None:
    """Name of the last linear layer of a module; None if there is none."""
    names = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    return names[-1] if names else None


class Cells:
    """Gradients of one network at many models at once.

    Args:
        module: without dropout and without running statistics. Not to be shared by threads.
        loss: per-example loss, (outputs [m, C], targets [m]) -> [m].
        distance: of gradients.
        match: what the images are to have in common with the examples.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        distance: Distance = "rows",
        match: Match = "gradients",
    ) -> None:
        self.match = match
        last = output_layer(module)
        seen: Gradients = {}  # what the last pass saw
        self.matched = [name for name, p in module.named_parameters() if p.requires_grad]
        if match != "gradients":
            assert last is not None  # whoever chose it saw to it
            self.matched = [f"{last}.weight"]
        if match == "features":
            part = module.get_submodule(last or "")
            part.register_forward_pre_hook(lambda _, inputs: seen.update(features=inputs[0]))

        def mean_loss(
            state: Gradients, x: Tensor, y: Tensor, weight: Tensor
        ) -> tuple[Tensor, Gradients]:
            total = (loss(torch.func.functional_call(module, state, (x,)), y) * weight).sum()
            return total, {name: weight @ value for name, value in seen.items()}

        def some_loss(
            part: Gradients, state: Gradients, x: Tensor, y: Tensor, weight: Tensor
        ) -> Tensor:
            return mean_loss(state | part, x, y, weight)[0]

        def mismatch(
            images: Tensor, state: Gradients, y: Tensor, weight: Tensor, target: Gradients
        ) -> Tensor:
            if match == "features":
                mean = mean_loss(state, images, y, weight)[1]["features"]
                return (mean - target["features"]).square().sum()
            part = {name: state[name] for name in self.matched}
            return gradient_distance(
                torch.func.grad(some_loss)(part, state, images, y, weight), target, distance
            )

        self._first = torch.func.grad_and_value(mean_loss, has_aux=True)
        self._second = torch.func.grad_and_value(mismatch)

    def real(
        self, state: Gradients, x: Tensor, y: Tensor, weight: Tensor, apart: bool = False
    ) -> tuple[Gradients, Tensor, Gradients]:
        """Each cell's gradient of its weighted loss, that loss [c], and what images are to match.

        Args:
            state: the models' parameters, each [c, ...].
            x: [c, b, ...] examples.
            y: [c, b] targets.
            weight: [c, b] of the examples; 0 for filling, 1 / b for the mean of b examples.
            apart: one cell after the other.
        """
        gradients, (losses, features) = _each(self._first, state, x, y, weight, apart=apart)
        if self.match == "features":
            return gradients, losses, {name: value.detach() for name, value in features.items()}
        return gradients, losses, {name: gradients[name].detach() for name in self.matched}

    def gradients(
        self, state: Gradients, x: Tensor, y: Tensor, weight: Tensor
    ) -> tuple[Gradients, Tensor]:
        """The first two of :meth:`real`."""
        return self.real(state, x, y, weight)[:2]

    def mismatch(
        self, images: Tensor, state: Gradients, y: Tensor, weight: Tensor, target: Gradients
    ) -> tuple[Tensor, Tensor]:
        """(gradient [c, s, ...] of each cell's distance in its pixels, the distances [c]).

        Cells whose gradient is not finite get 0 instead: they stay as they are.
        """
        gradients, distances = _each(self._second, images, state, y, weight, target)
        finite = gradients.flatten(1).isfinite().all(1)
        shape = (-1,) + (1,) * (gradients.ndim - 1)
        return torch.where(finite.view(shape), gradients, 0.0), distances.detach()


def _each(work: Callable[..., Any], *arguments: Tensor | Gradients, apart: bool = False) -> Any:
    """``work`` on every cell, each argument and each result with a leading [c].

    ``vmap`` makes grouped convolutions, which save calls but are slower than plain ones.
    """
    first = arguments[0]
    count = len(first) if isinstance(first, torch.Tensor) else len(next(iter(first.values())))
    if count > 1 and not apart:
        return torch.func.vmap(work)(*arguments)
    results = [work(*(_merge(lambda v: v[0][k], [a]) for a in arguments)) for k in range(count)]  # noqa: B023
    return _merge(torch.stack, results)


def _merge(how: Callable[[list[Tensor]], Tensor], values: list[Any]) -> Any:
    """``how`` of the tensors at the same place of nested tuples and dicts."""
    first = values[0]
    if isinstance(first, torch.Tensor):
        return how(values)
    if isinstance(first, dict):
        return {name: _merge(how, [v[name] for v in values]) for name in first}
    return tuple(_merge(how, list(parts)) for parts in zip(*values, strict=True))


def image_step_(
    images: Tensor,
    grads: Tensor,
    velocity: Tensor,
    how: Condensation,
    bounds: tuple[Tensor, Tensor] | None = None,
) -> None:
    """One step of SGD with momentum on the pixels, in place.

    Args:
        bounds: lowest and highest values of a pixel; None: unbounded.
    """
    velocity.mul_(how.momentum).add_(grads).add_(images, alpha=how.weight_decay)
    images.add_(velocity, alpha=-how.lr)
    if bounds is not None and how.clamp:
        torch.clamp(images, *bounds, out=images)


def nearest(images: Tensor, examples: Tensor) -> tuple[Tensor, Tensor]:
    """(root mean squared distance, index) of the example [n, ...] nearest to each image [m, ...].

    A distance near 0 is a copy: what to look at before synthetic images are shown to anybody.
    """
    apart = torch.cdist(images.flatten(1), examples.flatten(1))
    closest = apart.min(1)
    return closest.values / images[0].numel() ** 0.5, closest.indices
