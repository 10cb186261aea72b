"""What changes the shape of an example, and slices and borders as convolutions."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from hansa.base.lazy import torch
from hansa.infer.private.compiling.expressions import (
    INPUT,
    Affine,
    Builder,
    Expression,
    torch_shape,
)
from hansa.infer.private.compiling.real_net import Convolution
from hansa.infer.private.compiling.refusals import refused


def flattened(of: Expression, start: int, end: int, name: str) -> Expression:
    """One example as a row; ``start`` and ``end`` count the batch."""
    dimensions = of.rank + 1
    first, last = start % dimensions, end % dimensions
    if (first, last) == (1, of.rank):
        return replace(of, rank=1)
    sizes = torch_shape(of)
    if first == 0:
        raise refused(name, (start, end), "mixes examples of a batch", "Flatten(1)")
    merged = (*sizes[: first - 1], prod(sizes[first - 1 : last]), *sizes[last:])
    return reshaped(None, of, merged, name)


def reshaped(
    builder: Builder | None, of: Expression, wanted: tuple[int, ...], name: str
) -> Expression:
    """One example in another shape: as a row, a row as the map that it was, or without sides of 1.

    Raises:
        ConfigError: the numbers would be read in an order that no convolution reads.
    """
    sizes = torch_shape(of)
    if wanted == sizes:
        return of
    if prod(wanted) == prod(sizes):
        if len(wanted) == 1:
            return replace(of, rank=1)
        if len(wanted) == 2 and (wanted[0], 1, wanted[1]) == of.shape:
            return replace(of, rank=2)
        if len(wanted) == 3 and wanted == of.shape:
            return replace(of, rank=3)
        if builder is not None and of is builder.input and len(wanted) in (2, 3):
            return _read_anew(builder, wanted)
    problem = f"makes {list(wanted)} of {list(sizes)}"
    fix = "Flatten, or the shape that the layer before it gives; attention is beyond any of them"
    raise refused(name, list(wanted), problem, fix)


def _read_anew(builder: Builder, wanted: tuple[int, ...]) -> Affine:
    """The input as a map, where nothing has read it as a row."""
    shape = (int(wanted[0]), 1 if len(wanted) == 2 else int(wanted[1]), int(wanted[-1]))
    builder.net.input_shape = shape
    builder.input = builder.read(INPUT, shape, len(wanted))
    return builder.input


def padded(builder: Builder, of: Expression, sides: tuple[int, ...], name: str) -> Expression:
    """Zeros around a map and zero channels, counted as torch's ``pad`` does: last side first."""
    if of.rank == 1 or len(sides) > 2 * of.rank or len(sides) % 2:
        raise refused(name, sides, "pads what is no map", "maps")
    pairs = [(int(sides[k]), int(sides[k + 1])) for k in range(0, len(sides), 2)]
    pairs += [(0, 0)] * (of.rank - len(pairs))
    broad = pairs[0]
    tall = pairs[1] if of.rank == 3 else (0, 0)
    before, behind = pairs[-1]
    if min(*broad, *tall, before, behind) < 0:
        raise refused(name, sides, "cuts off", "a slice")
    channels = of.shape[0]
    weight = torch.zeros(channels + before + behind, channels, 1, 1, dtype=torch.float64)
    weight[before : before + channels, :, 0, 0] = torch.eye(channels, dtype=torch.float64)
    layer = Convolution(weight, padding=(*tall, *broad), exact=True)
    if before == behind == 0:
        ones = torch.ones(channels, 1, 1, 1, dtype=torch.float64)
        layer = Convolution(ones, padding=(*tall, *broad), groups=channels, exact=True)
    bias = torch.zeros(len(layer.weight), dtype=torch.float64)
    made = builder.convolve(of, layer, bias, name)
    builder.tell(name, "padding", "server")
    return replace(made, rank=of.rank)


def sliced(builder: Builder, of: Expression, index: Any, name: str) -> Expression:
    """Channels, rows and columns of a map: ``x[:, :, ::2, ::2]``.

    Raises:
        ConfigError: it takes examples of the batch, or sides that no stride gives.
    """
    parts = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in parts:
        at = parts.index(Ellipsis)
        parts[at : at + 1] = [slice(None)] * (of.rank + 2 - len(parts))
    sizes = torch_shape(of)
    parts += [slice(None)] * (of.rank + 1 - len(parts))
    whole = all(isinstance(p, slice | int) for p in parts)
    if not whole or parts[0] != slice(None) or len(parts) != of.rank + 1:
        raise refused(name, str(index), "is no slice of channels, rows and columns", "a slice")
    ranges = [
        range(p % n, p % n + 1) if isinstance(p, int) else range(n)[p]
        for p, n in zip(parts[1:], sizes, strict=True)
    ]
    if any(not len(r) or r.step < 0 for r in ranges):
        raise refused(name, str(index), "takes nothing, or backwards", "a slice")
    if of.rank == 1:
        of = builder.vector(of, name)
    rank = of.rank
    tall = ranges[1] if rank == 3 else range(1)
    broad = ranges[-1] if rank > 1 else range(1)
    made = _picked(builder, of, (ranges[0], tall, broad), name)
    left = tuple(len(r) for r, p in zip(ranges, parts[1:], strict=True) if not isinstance(p, int))
    return reshaped(None, replace(made, rank=rank), left, name)


def _picked(
    builder: Builder, of: Expression, ranges: tuple[range, range, range], name: str
) -> Affine:
    channels, tall, broad = ranges
    weight = torch.zeros(
        len(channels), of.shape[0], tall.start + 1, broad.start + 1, dtype=torch.float64
    )
    weight[torch.arange(len(channels)), torch.tensor(list(channels)), -1, -1] = 1
    stride = tuple(
        r.step if len(r) > 1 else side for r, side in zip((tall, broad), of.shape[1:], strict=True)
    )
    layer = Convolution(weight, (max(stride[0], 1), max(stride[1], 1)), exact=True)
    if layer.output_shape(of.shape) != (len(channels), len(tall), len(broad)):
        problem = "ends before the border, where no stride does"
        raise refused(name, list(of.shape), problem, "a slice up to the border")
    bias = torch.zeros(len(channels), dtype=torch.float64)
    builder.tell(name, "slice", "server")
    return builder.convolve(of, layer, bias, name)
