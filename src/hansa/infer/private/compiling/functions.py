"""Functions and methods that a network calls on its way: arithmetic, shapes, and what torch names.

Arguments that depend on the input come as expressions, all others as numbers or tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hansa.base.lazy import torch
from hansa.infer.private.compiling import layers
from hansa.infer.private.compiling.elementwise import one_number_each
from hansa.infer.private.compiling.expressions import Affine, Builder, Expression, Stepped
from hansa.infer.private.compiling.expressions import torch_shape as shape_of
from hansa.infer.private.compiling.real_net import Clip, Elementwise, Window
from hansa.infer.private.compiling.refusals import no_layer, refused
from hansa.infer.private.compiling.shapes import flattened, padded, reshaped, sliced

if TYPE_CHECKING:
    from torch import Tensor


class Call:
    """A call within a network's forward.

    Attributes:
        name: what it is called, without underscores: ``add``, ``relu``, ``max_pool2d``.
        function: what computes it, for tensors.
        layer: the module in which it stands and its own name there.
    """

    def __init__(
        self,
        builder: Builder,
        name: str,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        named: dict[str, Any],
        layer: str,
    ) -> None:
        self.builder, self.name, self.function, self.layer = builder, name, function, layer
        self.arguments, self.named = arguments, named

    def take(self, *names: str, **defaults: Any) -> list[Any]:
        """Arguments by name, behind the first; ``defaults`` are those that may be missing."""
        values = dict(zip((*names, *defaults), self.arguments[1:], strict=False)) | self.named
        return [values.get(name, defaults.get(name)) for name in (*names, *defaults)]

    @property
    def first(self) -> Expression:
        """What it is called on."""
        of = self.arguments[0] if self.arguments else self.named.get("input")
        if not isinstance(of, Affine | Stepped):
            raise refused(self.layer, self.name, "is not called on what the network computes", "")
        return of


def apply_function(call: Call) -> Any:
    """What a call gives: an expression, or sizes.

    Raises:
        ConfigError: it cannot be compiled; names it.
    """
    rule = RULES.get(call.name)
    if rule is not None:
        return rule(call)
    given = [*call.arguments, *call.named.values()]
    inner = [x for x in given if isinstance(x, list | tuple)]
    if any(isinstance(x, Affine | Stepped) for part in inner for x in part):
        raise no_layer(call.layer, call.name, call.name)
    return _elementwise(call)


def _elementwise(call: Call) -> Expression:
    """Any function of one number, or of several that are functions of the same."""
    places = [k for k, x in enumerate(call.arguments) if isinstance(x, Affine | Stepped)]
    keys = [k for k, x in call.named.items() if isinstance(x, Affine | Stepped)]
    expressions = [call.arguments[k] for k in places] + [call.named[k] for k in keys]

    def function(*numbers: Tensor) -> Tensor:
        arguments, named = list(call.arguments), dict(call.named)
        for place, number in zip(places, numbers, strict=False):
            arguments[place] = number
        for key, number in zip(keys, numbers[len(places) :], strict=True):
            named[key] = number
        return call.function(*arguments, **named)

    of, joined = expressions[0], function
    if len(expressions) > 1:
        of, joined = _of_one_number(call, expressions, function)
    if not one_number_each(joined, shape_of(of)):
        if len(expressions) > 1:
            problem = "multiplies or compares numbers that the network computes with each other"
            raise refused(call.layer, call.name, problem, "a sum, or a function of one number")
        raise no_layer(call.layer, call.name, call.name)
    call.builder.tell(call.layer, call.name, "client, a table")
    return call.builder.steps(of, Elementwise(joined, call.name))


def _of_one_number(
    call: Call, expressions: list[Expression], function: Callable[..., Tensor]
) -> tuple[Expression, Callable[..., Tensor]]:
    """(what all are functions of, the one function of it)."""
    parts = [call.builder.function_of(one) for one in expressions]
    if len({key for key, _, _ in parts}) > 1:
        problem = "multiplies or compares numbers that the network computes with each other"
        raise refused(call.layer, call.name, problem, "a sum, or a function of one number")
    return parts[0][1], lambda x: function(*(inner(x) for _, _, inner in parts))


def _constant(value: Any) -> bool:
    return isinstance(value, int | float | bool | torch.Tensor)


def _channels(call: Call, value: Any, of: Expression) -> Tensor | None:
    """A constant as a number for each channel (or each of a row), or None."""
    if not isinstance(value, torch.Tensor):
        return None
    value = value.detach().double()
    sizes = shape_of(of)
    if value.numel() == 1:
        return value.reshape(1).expand(sizes[0])
    while value.ndim > len(sizes) and value.shape[0] == 1:
        value = value[0]
    if value.ndim == len(sizes) and value.shape[0] == sizes[0] and value.numel() == sizes[0]:
        return value.reshape(-1)
    shown = list(value.shape)
    problem = "is a constant that is not one number a channel"
    raise refused(call.layer, shown, problem, "one number, or [C, 1, 1]")


def _scaled(call: Call, of: Expression, factor: Any, shift: Any = 0.0) -> Expression:
    """Times a constant and a constant added."""
    channels = shape_of(of)[0] if of.rank == 1 else of.shape[0]
    wide = [_channels(call, x, of) for x in (factor, shift)]
    if isinstance(of, Stepped) and all(x is None for x in wide):
        if float(factor) > 0 and float(shift) == 0:
            return call.builder.steps(of, gain=float(factor))
        a, b = float(factor), float(shift)
        return call.builder.steps(of, Elementwise(lambda x: x * a + b, call.name))
    if isinstance(of, Affine) and all(x is None for x in wide):
        return call.builder.multiple(of, float(factor), float(shift), call.layer)
    filled = [
        torch.full((channels,), float(x), dtype=torch.float64) if row is None else row
        for x, row in zip((factor, shift), wide, strict=True)
    ]
    return call.builder.scaled(of, filled[0], filled[1], call.layer)


def _add(call: Call, sign: float = 1.0) -> Any:
    one, two = call.arguments[0], (*call.arguments[1:], *call.named.values())[0]
    if not isinstance(one, Affine | Stepped | torch.Tensor) and not isinstance(
        two, Affine | Stepped | torch.Tensor
    ):
        return one + sign * two
    sign *= float(call.named.get("alpha", 1))
    if _constant(two):
        return _scaled(call, one, 1.0, sign * two)
    if _constant(one):
        return _scaled(call, two, sign, one)
    if isinstance(one, Stepped) or isinstance(two, Stepped):
        same = {call.builder.function_of(x)[0] for x in (one, two)}
        if len(same) == 1:
            return _elementwise(call)
    if sign != 1:
        two = _scaled(call, call.builder.affine(two), sign)
    call.builder.tell(call.layer, "add", "server")
    return call.builder.add(one, two, call.layer)


def _subtract(call: Call) -> Any:
    return _add(call, -1.0)


def _multiply(call: Call) -> Any:
    one, two = call.arguments[0], (*call.arguments[1:], *call.named.values())[0]
    if isinstance(one, int | float) and isinstance(two, int | float):
        return one * two
    if _constant(two):
        return _scaled(call, one, two)
    if _constant(one):
        return _scaled(call, two, one)
    return _elementwise(call)


def _divide(call: Call) -> Any:
    one, two = call.arguments[:2]
    if isinstance(one, int | float) and isinstance(two, int | float):
        return call.function(one, two)
    if _constant(two) and not _constant(one):
        return _scaled(call, one, 1 / two)
    return _elementwise(call)


def _floor_divide(call: Call) -> Any:
    one, two = call.arguments[:2]
    if isinstance(one, int) and isinstance(two, int):
        return one // two
    return _elementwise(call)


def _negative(call: Call) -> Any:
    return _scaled(call, call.first, -1.0)


def _relu(call: Call) -> Expression:
    call.builder.tell(call.layer, "relu", "client")
    return call.builder.steps(call.first, Clip(0.0))


def _relu6(call: Call) -> Expression:
    call.builder.tell(call.layer, "relu6", "client")
    return call.builder.steps(call.first, Clip(0.0, 6.0))


def _clamp(call: Call) -> Expression:
    low, high = call.take(min=None, max=None)
    if isinstance(low, torch.Tensor) or isinstance(high, torch.Tensor):
        return _elementwise(call)
    infinity = float("inf")
    call.builder.tell(call.layer, "clamp", "client")
    ends = (-infinity if low is None else float(low), infinity if high is None else float(high))
    return call.builder.steps(call.first, Clip(*ends))


def _same(call: Call) -> Expression:
    call.builder.tell(call.layer, call.name, "nothing")
    return call.first


def _flatten(call: Call) -> Expression:
    start, end = call.take(start_dim=0, end_dim=-1)
    return flattened(call.first, start, end, call.layer)


def _reshape(call: Call) -> Expression:
    given = call.arguments[1:] or tuple(call.named.values())
    wanted = list(given[0]) if isinstance(given[0], list | tuple) else list(given)
    sizes, total = shape_of(call.first), 1
    for n in sizes:
        total *= n
    rest = 1
    for n in wanted:
        rest *= n if n != -1 else 1
    if wanted and wanted[0] == -1 and rest == total:
        wanted[0] = 1
    wanted = [total // rest if n == -1 else int(n) for n in wanted]
    if not wanted or wanted[0] != 1:
        raise refused(call.layer, wanted, "mixes examples of a batch", "Flatten(1)")
    return reshaped(call.builder, call.first, tuple(wanted[1:]), call.layer)


def _squeeze(call: Call) -> Expression:
    sizes = (1, *shape_of(call.first))
    (dim,) = call.take(dim=None)
    dims = dim if isinstance(dim, list | tuple) else [dim]
    if dim is None:
        raise refused(call.layer, "squeeze()", "may also drop the batch", "name the dimensions")
    gone = {d % len(sizes) for d in dims}
    left = tuple(n for k, n in enumerate(sizes) if k and not (k in gone and n == 1))
    return reshaped(call.builder, call.first, left, call.layer)


def _unsqueeze(call: Call) -> Expression:
    sizes = [1, *shape_of(call.first)]
    (dim,) = call.take("dim")
    at = dim % (len(sizes) + 1)
    if at == 0:
        raise refused(call.layer, dim, "mixes examples of a batch", "a dimension above 0")
    return reshaped(call.builder, call.first, (*sizes[1:at], 1, *sizes[at:]), call.layer)


def _mean(call: Call, mean: bool = True) -> Expression:
    of = call.first
    dims, keep = call.take(dim=None, keepdim=False)
    given = [dims] if isinstance(dims, int) else list(dims or ())
    rank = of.rank
    wanted = {d % (rank + 1) for d in given}
    if rank == 1 or wanted != set(range(2, rank + 1)):
        problem = "runs over examples or channels" if given else "runs over everything"
        fix = "all sides of a map: dim=(2, 3)"
        raise refused(call.layer, call.name, problem, fix)
    high, wide = of.shape[1:]
    divisor = float(high * wide) if call.name == "mean" else float(call.name == "sum")
    made = call.builder.steps(of, Window((high, wide), (high, wide), divisor=divisor))
    call.builder.tell(call.layer, call.name, "client")
    return made if keep else reshaped(None, made, (of.shape[0],), call.layer)


def _concatenate(call: Call) -> Expression:
    parts = list(call.arguments[0])
    (dim,) = call.take(dim=0)
    if not all(isinstance(p, Affine | Stepped) for p in parts):
        raise refused(call.layer, call.name, "has a part that is no output of a layer", "outputs")
    if dim % (parts[0].rank + 1) != 1:
        raise refused(call.layer, dim, "is not the dimension of channels", "dim=1")
    call.builder.tell(call.layer, call.name, "server")
    return call.builder.concatenate(parts, call.layer)


def _index(call: Call) -> Any:
    of, index = call.arguments
    if not isinstance(of, Affine | Stepped):
        return of[index]
    return sliced(call.builder, of, index, call.layer)


def _pad(call: Call) -> Expression:
    sides, mode, value = call.take("pad", mode="constant", value=None)
    if mode != "constant" or value not in (None, 0, 0.0):
        raise refused(call.layer, mode, "does not pad with zeros", "zeros")
    return padded(call.builder, call.first, tuple(sides), call.layer)


def _max_pool(call: Call) -> Expression:
    kernel, stride, padding, dilation, ceil, indices = call.take(
        "kernel_size", stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
    )
    if indices:
        raise refused(call.layer, "return_indices", "gives where the largest were", "without it")
    return layers.pool(
        call.builder, call.first, kernel, stride, padding, call.layer, dilation=dilation, ceil=ceil
    )


def _average_pool(call: Call) -> Expression:
    kernel, stride, padding, ceil, counted, divisor = call.take(
        "kernel_size", stride=None, padding=0, ceil_mode=False, count_include_pad=True,
        divisor_override=None,
    )  # fmt: skip
    return layers.pool(
        call.builder, call.first, kernel, stride, padding, call.layer, ceil=ceil, mean=True,
        counted=counted, divisor=divisor,
    )  # fmt: skip


def _adaptive(call: Call) -> Expression:
    (size,) = call.take("output_size")
    mean = "avg" in call.name
    return layers.adaptive_pool(call.builder, call.first, size, call.layer, mean)


def _linear(call: Call) -> Expression:
    weight, bias = call.take("weight", bias=None)
    weight = _numbers(call, weight)
    zeros = torch.zeros(len(weight), dtype=torch.float64)
    call.builder.tell(call.layer, call.name, "server")
    given = zeros if bias is None else _numbers(call, bias)
    return call.builder.matrix(call.first, weight, given, call.layer)


def _matmul(call: Call) -> Expression:
    weight = _numbers(call, call.arguments[1]).T
    zeros = torch.zeros(len(weight), dtype=torch.float64)
    call.builder.tell(call.layer, call.name, "server")
    return call.builder.matrix(call.first, weight, zeros, call.layer)


def _convolve(call: Call) -> Expression:
    weight, bias, stride, padding, dilation, groups = call.take(
        "weight", bias=None, stride=1, padding=0, dilation=1, groups=1
    )
    weight = _numbers(call, weight)
    weight = weight.unsqueeze(2) if call.name == "conv1d" else weight
    zeros = torch.zeros(len(weight), dtype=torch.float64)
    return layers.convolution(
        call.builder, call.first, weight, zeros if bias is None else _numbers(call, bias),
        stride, padding, dilation, groups, call.layer, call.name,
    )  # fmt: skip


def _numbers(call: Call, value: Any) -> Tensor:
    if not isinstance(value, torch.Tensor):
        problem = "multiplies what the network computes with itself, as attention does"
        raise refused(call.layer, call.name, problem, "weights that do not depend on the input")
    return value.detach().double()


def _size(call: Call) -> Any:
    sizes = (1, *shape_of(call.first))
    (dim,) = call.take(dim=None)
    return torch.Size(sizes) if dim is None else sizes[dim]


def _attribute(call: Call) -> Any:
    name = call.arguments[1]
    sizes = (1, *shape_of(call.first))
    known = {"shape": torch.Size(sizes), "ndim": len(sizes), "dtype": torch.float32}
    if name in known:
        return known[name]
    if name == "device":
        return torch.device("cpu")
    raise no_layer(call.layer, name, name)


RULES: dict[str, Callable[[Call], Any]] = {
    "add": _add, "iadd": _add, "sub": _subtract, "isub": _subtract, "rsub": lambda c: _add(
        Call(c.builder, c.name, c.function, c.arguments[::-1], c.named, c.layer), -1.0),
    "mul": _multiply, "imul": _multiply, "multiply": _multiply, "subtract": _subtract,
    "truediv": _divide, "itruediv": _divide, "div": _divide, "divide": _divide,
    "true_divide": _divide, "floordiv": _floor_divide, "neg": _negative, "negative": _negative,
    "relu": _relu, "relu_": _relu, "relu6": _relu6, "clamp": _clamp, "clip": _clamp,
    "hardtanh": lambda c: c.builder.steps(
        c.first, Clip(*map(float, c.take(min_val=-1.0, max_val=1.0)[:2]))),
    "dropout": _same, "dropout2d": _same, "dropout1d": _same, "alpha_dropout": _same,
    "feature_dropout": _same, "contiguous": _same, "clone": _same, "detach": _same,
    "float": _same, "to": _same, "type_as": _same, "identity": _same,
    "flatten": _flatten, "view": _reshape, "reshape": _reshape, "squeeze": _squeeze,
    "unsqueeze": _unsqueeze, "mean": _mean, "sum": _mean, "amax": _mean,
    "cat": _concatenate, "concat": _concatenate, "concatenate": _concatenate,
    "getitem": _index, "pad": _pad,
    "max_pool2d": _max_pool, "max_pool1d": _max_pool, "boolean_dispatch": _max_pool,
    "avg_pool2d": _average_pool, "avg_pool1d": _average_pool,
    "adaptive_avg_pool2d": _adaptive, "adaptive_avg_pool1d": _adaptive,
    "adaptive_max_pool2d": _adaptive, "adaptive_max_pool1d": _adaptive,
    "linear": _linear, "matmul": _matmul, "mm": _matmul,
    "conv2d": _convolve, "conv1d": _convolve,
    "size": _size, "getattr": _attribute,
}  # fmt: skip
"""By the name of the function or method."""
