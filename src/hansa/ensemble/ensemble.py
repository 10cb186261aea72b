"""The models of an ensemble run on the same inputs."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from hansa.base.lazy import nn, torch, without_gradients
from hansa.ensemble.combine import Combiner, average
from hansa.ensemble.inputs import Examples

if TYPE_CHECKING:
    from torch import Tensor

Scale = Literal["logits", "log_probabilities"]
"""What scores mean: as the models give them, or after a log-softmax."""


_SLICE = 64  # images that run through convolutions at a time


class Layout(Protocol):
    """What is needed of a ``ParameterLayout``."""

    def bind(self, module: nn.Module, row: Tensor) -> None:
        """Make the module's tensors views of a row [D]."""
        ...


class Teacher(Protocol):
    """What a student learns from."""

    def __call__(self, x: Tensor, scale: Scale, /) -> Tensor:
        """Inputs [b, ...] -> what the student should answer [b, C], without a graph."""
        ...


@dataclass(frozen=True)
class Rows:
    """n models of one form, each a row of numbers.

    Attributes:
        module: their form; it is copied, never changed.
        layout: where each tensor lies in a row.
        rows: float32 [n, D], never changed.
    """

    module: nn.Module
    layout: Layout
    rows: Tensor


Models: TypeAlias = "Rows | Sequence[nn.Module]"
"""n models: rows of one form, or modules that may all differ."""


class Ensemble:
    """n frozen models that answer as one.

    Args:
        models: rows of one form, or modules of any forms with the same number of outputs.
        combine: makes one prediction of theirs.

    Raises:
        ValueError: there is no model.
    """

    def __init__(self, models: Models, combine: Combiner = average) -> None:
        self.combine = combine
        self._forwards = _forwards(models)
        if not self._forwards:
            raise ValueError("an ensemble needs at least one model")

    def __len__(self) -> int:
        return len(self._forwards)

    @without_gradients
    def logits(self, x: Tensor, scale: Scale = "logits") -> Tensor:
        """Each model's scores in evaluation mode: x [b, ...] -> [n, b, C]."""
        scores = torch.stack([forward(x) for forward in self._forwards])
        return on_scale(scores, scale)

    @without_gradients
    def __call__(self, x: Tensor, scale: Scale = "logits", /) -> Tensor:
        """The combined scores: x [b, ...] -> [b, C]."""
        return self.combine(self.logits(x, scale))


def logits_of(
    models: Models,
    inputs: Tensor | Examples,
    batch_size: int = 512,
    scale: Scale = "logits",
) -> Tensor:
    """All scores of all models: [n, m, C], on the device of the inputs.

    Args:
        models: as in :class:`Ensemble`; they are run in evaluation mode and left as they were.
        inputs: [m, ...] model inputs, or what makes them.
        batch_size: examples a forward pass.

    Raises:
        ValueError: there is no model or no example.
    """
    ensemble = Ensemble(models)
    return in_batches(lambda x: ensemble.logits(x, scale), inputs, batch_size, dim=1)


def in_batches(
    work: Callable[[Tensor], Tensor], inputs: Tensor | Examples, batch_size: int, dim: int = 0
) -> Tensor:
    """``work`` on all examples, a batch at a time, put together along ``dim``.

    Raises:
        ValueError: there is no example.
    """
    examples = Examples.of(inputs)
    if examples.count == 0:
        raise ValueError("there is no example to run the models on")
    parts = torch.arange(examples.count).split(batch_size)
    whole: Tensor | None = None
    for index in parts:
        part = work(examples.take(index))
        if whole is None:  # filled in place: joining the parts at the end would hold them twice
            shape = list(part.shape)
            shape[dim] = examples.count
            whole = part.new_empty(shape)
        whole.narrow(dim, int(index[0]), len(index)).copy_(part)
    assert whole is not None
    return whole


def slice_size(module: nn.Module, x: Tensor) -> int:
    """How many examples of a batch to run at a time.

    On a CPU the maps between convolutions leave the cache beyond some 64 images, and a pass over
    512 takes two to four times as long as eight passes over 64.
    """
    convolves = any(isinstance(part, nn.modules.conv._ConvNd) for part in module.modules())
    return _SLICE if convolves and x.device.type == "cpu" else max(len(x), 1)


def on_scale(scores: Tensor, scale: Scale) -> Tensor:
    """Scores [..., C] as they are, or their log-softmax (which leaves log-probabilities alone)."""
    return scores if scale == "logits" else torch.log_softmax(scores, -1)


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; then every submodule is in the mode that it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _run(module: nn.Module, x: Tensor) -> Tensor:
    parts = [module(part) for part in x.split(slice_size(module, x))]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _forwards(models: Models) -> list[Callable[[Tensor], Tensor]]:
    """One forward pass in evaluation mode for each model."""
    if isinstance(models, Rows):
        if models.rows.ndim != 2:
            raise ValueError(f"rows are [n, D], not {list(models.rows.shape)}")
        shared = copy.deepcopy(models.module).eval()

        def bound(row: Tensor) -> Callable[[Tensor], Tensor]:
            def forward(x: Tensor) -> Tensor:
                models.layout.bind(shared, row)
                return _run(shared, x)

            return forward

        return [bound(row) for row in models.rows]

    def own(module: nn.Module) -> Callable[[Tensor], Tensor]:
        def forward(x: Tensor) -> Tensor:
            with evaluating(module):
                return _run(module, x)

        return forward

    return [own(module) for module in models]
