"""Functions of one number: those that need no table, and a probe for all the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hansa.base.lazy import torch
from hansa.infer.private.compiling.real_net import Clip

if TYPE_CHECKING:
    from torch import Tensor

_TRIED = 4
"""Examples of a probe."""


def known_function(module: Any) -> Clip | None:
    """What clips alone: ReLU, ReLU6, Hardtanh."""
    if not type(module).__module__.startswith("torch.nn"):
        return None
    kind = type(module).__name__
    if kind == "ReLU":
        return Clip(0.0)
    if kind in ("ReLU6", "Hardtanh"):
        return Clip(float(module.min_val), float(module.max_val))
    return None


def one_number_each(function: Any, shape: tuple[int, ...]) -> bool:
    """Whether each output depends on the one input in its place, and on that alone.

    A function is held to three laws on numbers drawn at random: it is the same twice, it commutes
    with any permutation of all numbers, and numbers that others change beside stay as they were.
    So means, sums, softmax and weights of channels are found out.

    Args:
        shape: of one example.
    """
    generator = torch.Generator().manual_seed(0)
    size = (_TRIED, *shape)
    with torch.no_grad():
        for spread in (1.0, 30.0):
            x = spread * torch.randn(size, generator=generator, dtype=torch.float64)
            order = torch.randperm(x.numel(), generator=generator)
            try:
                y = function(x.clone())
                again = function(x.clone())
                moved = function(x.reshape(-1)[order].reshape(size))
                touched = torch.rand(size, generator=generator) < 0.5
                other = function(torch.where(touched, 3 * x + spread, x))
            except Exception:  # noqa: BLE001 - whatever it raises, it is no such function
                return False
            if not (isinstance(y, torch.Tensor) and y.shape == x.shape):
                return False
            flat = y.reshape(-1)[order].reshape(size)
            if not (_same(y, again) and _same(flat, moved)):
                return False
            if not _same(torch.where(touched, 0.0, y), torch.where(touched, 0.0, other)):
                return False
    return True


def _same(one: Tensor, two: Tensor) -> bool:
    return bool(torch.allclose(one, two, rtol=1e-9, atol=1e-12, equal_nan=True))
