"""Modules of torch, one after the other, as convolutions, sums and steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hansa.base.lazy import torch
from hansa.infer.private.client_steps import Pair, Sides
from hansa.infer.private.compiling.elementwise import known_function, one_number_each
from hansa.infer.private.compiling.expressions import Builder, Expression, torch_shape
from hansa.infer.private.compiling.real_net import Convolution, Elementwise, Window
from hansa.infer.private.compiling.refusals import no_layer, refused
from hansa.infer.private.compiling.shapes import flattened, padded

if TYPE_CHECKING:
    from torch import Tensor, nn

NORMS = ("BatchNorm1d", "BatchNorm2d")
NOTHING = ("Identity", "Dropout", "Dropout1d", "Dropout2d", "AlphaDropout", "FeatureAlphaDropout")


def pair(number: Any) -> Pair:
    """One number, or two, as two."""
    if isinstance(number, int):
        return number, number
    numbers = tuple(int(n) for n in number)
    return (numbers[0], numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])


def upright(number: Any, rank: int) -> Pair:
    """Rows and columns; of a row, one row and what is told of its columns."""
    if rank == 3:
        return pair(number)
    return 1, int(number if isinstance(number, int) else number[0])


def apply_module(builder: Builder, of: Expression, module: nn.Module, name: str) -> Expression:
    """A leaf of the network, applied.

    Raises:
        ConfigError: it cannot be compiled; names it.
    """
    kind = type(module).__name__
    if kind in NOTHING:
        builder.tell(name, kind, "nothing")
        return of
    rule = RULES.get(kind)
    if rule is not None and type(module).__module__.startswith("torch.nn"):
        return rule(builder, of, module, name)
    clip = known_function(module)
    if clip is not None:
        builder.tell(name, kind, "client")
        return builder.steps(of, clip)
    if one_number_each(module, torch_shape(of)):
        builder.tell(name, kind, "client, a table")
        return builder.steps(of, Elementwise(module, kind))
    raise no_layer(name, kind, str(module).split("\n")[0])


def _convolution(builder: Builder, of: Expression, m: Any, name: str) -> Expression:
    rank = 2 if type(m).__name__ == "Conv1d" else 3
    _rank(of, rank, name, m)
    if m.padding_mode != "zeros":
        problem = f"pads with {m.padding_mode}, which is not zeros"
        raise refused(name, m.padding_mode, problem, "padding_mode='zeros'")
    weight = m.weight.detach().double()
    weight = weight.unsqueeze(2) if rank == 2 else weight
    return convolution(
        builder, of, weight, _bias(m, len(weight)), m.stride, m.padding, m.dilation, m.groups,
        name, type(m).__name__,
    )  # fmt: skip


def convolution(
    builder: Builder,
    of: Expression,
    weight: Tensor,
    bias: Tensor,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    name: str,
    kind: str,
) -> Expression:
    """A convolution with the arguments of torch's; ``weight`` [C_out, C_in / groups, kh, kw]."""
    rank, dilations = of.rank, upright(dilation, of.rank)
    if weight.shape[1] * groups != of.shape[0]:
        problem = f"reads {weight.shape[1] * groups} channels, not {of.shape[0]}"
        raise refused(name, list(torch_shape(of)), problem, "as many as there are")
    sides = sides_of(padding, (weight.shape[2], weight.shape[3]), dilations, rank)
    layer = Convolution(weight, upright(stride, rank), sides, dilations, groups)
    made = builder.convolve(of, layer, bias, name)
    builder.tell(name, kind, "server")
    return _with_rank(made, rank)


def sides_of(padding: Any, kernel: Pair, dilation: Pair, rank: int) -> Sides:
    """Zeros on each side; torch puts the odd one of ``same`` below and to the right."""
    if padding == "valid":
        return 0, 0, 0, 0
    if padding == "same":
        down, across = ((k - 1) * d for k, d in zip(kernel, dilation, strict=True))
        return down // 2, down - down // 2, across // 2, across - across // 2
    tall, broad = upright(padding, rank)
    tall = 0 if rank == 2 else tall
    return tall, tall, broad, broad


def _linear(builder: Builder, of: Expression, m: Any, name: str) -> Expression:
    weight = m.weight.detach().double()
    made = builder.matrix(of, weight, _bias(m, len(weight)), name)
    builder.tell(name, type(m).__name__, "server")
    return made


def _norm(builder: Builder, of: Expression, m: Any, name: str) -> Expression:
    if m.running_mean is None or m.running_var is None:
        problem = "has no running statistics and normalizes with what it sees"
        raise refused(name, type(m).__name__, problem, "track_running_stats=True")
    if of.rank == 1 and type(m).__name__ == "BatchNorm2d":
        _rank(of, 3, name, m)
    scale = (m.running_var.double() + m.eps).rsqrt()
    shift = -m.running_mean.double() * scale
    if m.weight is not None:
        scale, shift = scale * m.weight.detach().double(), shift * m.weight.detach().double()
    if m.bias is not None:
        shift = shift + m.bias.detach().double()
    made = builder.scaled(of, scale, shift, name)
    home = made.layer if hasattr(made, "layer") else name
    builder.tell(name, type(m).__name__, f"folded into {home}" if home != name else "server")
    return made


def _max_pool(builder: Builder, of: Expression, m: Any, name: str) -> Expression:
    if getattr(m, "return_indices", False):
        raise refused(name, "return_indices", "gives where the largest were", "without it")
    return pool(
        builder, of, m.kernel_size, m.stride, m.padding, name, dilation=m.dilation,
        ceil=m.ceil_mode,
    )  # fmt: skip


def _average_pool(builder: Builder, of: Expression, m: Any, name: str) -> Expression:
    return pool(
        builder, of, m.kernel_size, m.stride, m.padding, name, ceil=m.ceil_mode, mean=True,
        counted=m.count_include_pad, divisor=getattr(m, "divisor_override", None),
    )  # fmt: skip


def pool(
    builder: Builder,
    of: Expression,
    kernel: Any,
    stride: Any,
    padding: Any,
    name: str,
    *,
    dilation: Any = 1,
    ceil: bool = False,
    mean: bool = False,
    counted: bool = True,
    divisor: int | None = None,
) -> Expression:
    """Windows of the client, with the arguments of torch's pooling."""
    rank = of.rank
    if rank == 1:
        raise refused(name, list(torch_shape(of)), "is a row: pooling reads maps", "a map")
    size, step = upright(kernel, rank), upright(stride or kernel, rank)
    tall, broad = upright(padding, rank)
    tall = 0 if rank == 2 else tall
    if pair(dilation) != (1, 1):
        raise refused(name, dilation, "spreads a window", "dilation=1")
    if mean and (tall or broad) and not counted:
        problem = "divides windows at the border by less than those within"
        raise refused(name, "count_include_pad=False", problem, "padding=0, or count_include_pad")
    window = Window(
        size, step, (tall, tall, broad, broad), float(divisor or size[0] * size[1]) if mean else 0.0
    )
    shape = window.output_shape(of.shape)
    if min(shape) < 1:
        raise refused(name, list(torch_shape(of)), "is smaller than the window", "larger inputs")
    rests = [
        (side + 2 * pad - k) % s
        for side, pad, k, s in zip(of.shape[1:], (tall, broad), size, step, strict=True)
    ]
    if ceil and any(rests):
        problem = "lets windows stand out over the border"
        raise refused(name, "ceil_mode=True", problem, "ceil_mode=False, or sides that fit")
    kind = "mean of windows" if mean else "largest of windows"
    builder.tell(name, "pooling", f"client, {kind}")
    return builder.steps(of, window)


def _adaptive(mean: bool) -> Callable[[Builder, Expression, Any, str], Expression]:
    def rule(builder: Builder, of: Expression, m: Any, name: str) -> Expression:
        return adaptive_pool(builder, of, m.output_size, name, mean)

    return rule


def adaptive_pool(builder: Builder, of: Expression, size: Any, name: str, mean: bool) -> Expression:
    """Windows that make a map of a size, where they are all alike."""
    rank = of.rank
    if rank == 1:
        raise refused(name, list(torch_shape(of)), "is a row: pooling reads maps", "a map")
    sizes = (size, size) if isinstance(size, int) or size is None else tuple(size)
    sizes = (None, sizes[-1]) if rank == 2 else sizes
    sides = of.shape[1:]
    wanted = [side if n is None else int(n) for n, side in zip(sizes, sides, strict=True)]
    if any(side % n for n, side in zip(wanted, sides, strict=True)):
        problem = f"does not divide {sides[0]} x {sides[1]}: its windows differ in size"
        raise refused(name, list(wanted), problem, "a divisor of the sides")
    kernel = tuple(side // n for n, side in zip(wanted, sides, strict=True))
    given = kernel if rank == 3 else kernel[1]
    return pool(builder, of, given, given, 0, name, mean=mean)


def _flatten(builder: Builder, of: Expression, m: Any, name: str) -> Expression:
    return flattened(of, m.start_dim, m.end_dim, name)


def _pad(builder: Builder, of: Expression, m: Any, name: str) -> Expression:
    if getattr(m, "value", 0) != 0:
        raise refused(name, m.value, "pads with a number that is not 0", "zeros")
    sides = m.padding if not isinstance(m.padding, int) else (m.padding,) * (2 * of.rank - 2)
    return padded(builder, of, tuple(sides), name)


def _prelu(builder: Builder, of: Expression, m: Any, name: str) -> Expression:
    if m.weight.numel() != 1:
        raise no_layer(name, "PReLU", f"PReLU({m.weight.numel()})")
    slope = float(m.weight.detach())
    builder.tell(name, "PReLU", "client, a table")
    return builder.steps(of, Elementwise(lambda x: torch.where(x < 0, x * slope, x), "PReLU"))


def _bias(m: Any, outputs: int) -> Tensor:
    if m.bias is None:
        return torch.zeros(outputs, dtype=torch.float64)
    return m.bias.detach().double()


def _rank(of: Expression, rank: int, name: str, m: Any) -> None:
    if of.rank != rank:
        shown = list(torch_shape(of))
        form = {2: "[channels, length]", 3: "[channels, height, width]"}[rank]
        raise refused(name, shown, f"is no input of {type(m).__name__}", f"examples {form}")


def _with_rank(of: Any, rank: int) -> Expression:
    return of if of.rank == rank else replace(of, rank=rank)


RULES: dict[str, Callable[[Builder, Expression, Any, str], Expression]] = {
    "Conv1d": _convolution,
    "Conv2d": _convolution,
    "Linear": _linear,
    "BatchNorm1d": _norm,
    "BatchNorm2d": _norm,
    "MaxPool1d": _max_pool,
    "MaxPool2d": _max_pool,
    "AvgPool1d": _average_pool,
    "AvgPool2d": _average_pool,
    "AdaptiveAvgPool1d": _adaptive(True),
    "AdaptiveAvgPool2d": _adaptive(True),
    "AdaptiveMaxPool1d": _adaptive(False),
    "AdaptiveMaxPool2d": _adaptive(False),
    "Flatten": _flatten,
    "ZeroPad1d": _pad,
    "ZeroPad2d": _pad,
    "ConstantPad1d": _pad,
    "ConstantPad2d": _pad,
    "PReLU": _prelu,
}
