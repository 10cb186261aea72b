"""A client's stages as integer steps: shifts by powers of two where they suffice, else tables.

An accumulator takes finitely many values, so that any function of it is a table: the places where
its rounded value changes. It is exact in the sense that all machines agree on it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, prod
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch
from hansa.infer.private.client_steps import MaxPool, Relu, Shift, Step, SumPool, Table
from hansa.infer.private.compiling.real_net import Clip, Elementwise, RealValue, Window
from hansa.infer.private.compiling.refusals import refused

if TYPE_CHECKING:
    from torch import Tensor

_AT_ONCE = 1 << 20
WIDEST = 1 << 28
"""The most values that a table is made for."""
FINER = 4
"""Bits that a function keeps beyond those of the value, where a mean follows it."""


def needs_table(value: RealValue) -> bool:
    """Whether any of its stages is no mere clipping."""
    return any(isinstance(stage, Elementwise) for stage in value.stages)


def divided(value: RealValue) -> float:
    """What the sums of its windows are divided by, over its gain."""
    divisors = [s.divisor for s in value.stages if isinstance(s, Window) and s.divisor]
    return float(prod(divisors)) / value.gain


def steps_of(
    value: RealValue,
    layer: str,
    scale: float,
    ends: tuple[int, int],
    made_scale: float,
    low: int,
    high: int,
    shift: int,
) -> tuple[Step, ...]:
    """The steps of a value.

    Args:
        layer: named in errors.
        scale: what one of the block's accumulator stands for.
        ends: the least and the largest accumulator.
        made_scale, low, high: of the value that is made.
        shift: bits of the last division, where no table is needed.

    Raises:
        ConfigError: a function gives no number somewhere in the range, or the range is too wide.
    """
    steps: list[Step] = []
    at, now, done = scale, ends, False
    rest_sums = divided(value) * value.gain
    for k, stage in enumerate(value.stages):
        after = value.stages[k + 1 :]
        sums_follow = any(isinstance(s, Window) and s.divisor for s in after)
        if isinstance(stage, Window):
            step, now = _window(stage, now)
            steps.append(step)
            if stage.divisor:
                at /= stage.divisor
                rest_sums /= stage.divisor
        elif isinstance(stage, Clip):
            if stage.nothing or not (
                k + 1 < len(value.stages) or stage.low != 0 or stage.high < inf
            ):
                if not stage.nothing:
                    steps.append(Relu())
                    now = max(now[0], 0), max(now[1], 0)
                continue
            step, now = _clip(stage, at, now)
            steps.append(step)
        else:
            if now[1] - now[0] > WIDEST:
                problem = f"would need a table over {now[1] - now[0]} values"
                raise refused(layer, stage.name, problem, "fewer bits of weights or activations")
            to = made_scale / value.gain
            bounds = (low, high)
            if sums_follow:
                # Fine enough that the mean decides: the last division is by a power of two again.
                to = made_scale * rest_sums / value.gain / (1 << FINER)
                span = (high - low + 1) << FINER
                bounds = (-span, span)
            table = table_of(stage, at, to, now, bounds, layer, stage.name)
            steps.append(table)
            at, now = to, (min(table.values), max(table.values))
            done, shift = not sums_follow, FINER
    if not done:
        steps.append(Shift(shift, low, high))
    return tuple(steps)


def _clip(clip: Clip, scale: float, ends: tuple[int, int]) -> tuple[Step, tuple[int, int]]:
    if clip.low == 0 and clip.high == inf:
        return Relu(), (max(ends[0], 0), max(ends[1], 0))
    low = ends[0] if clip.low == -inf else round(clip.low / scale)
    high = ends[1] if clip.high == inf else round(clip.high / scale)
    return Shift(0, low, high), (min(max(ends[0], low), high), min(max(ends[1], low), high))


def _window(window: Window, ends: tuple[int, int]) -> tuple[Step, tuple[int, int]]:
    if not window.divisor:
        return MaxPool(window.kernel, window.stride, window.padding), ends
    count = prod(window.kernel)
    low, high = (min(ends[0], 0), max(ends[1], 0)) if any(window.padding) else ends
    return SumPool(window.kernel, window.stride, window.padding), (low * count, high * count)


def table_of(
    function: Callable[[Tensor], Tensor],
    scale: float,
    made_scale: float,
    ends: tuple[int, int],
    clip: tuple[int, int],
    layer: str,
    name: str,
) -> Table:
    """round(f(scale * y) / made_scale), clipped, for every integer y between ``ends``.

    Raises:
        ConfigError: the function is no number at one of them.
    """
    thresholds, values = [], []
    last = None
    for start in range(ends[0], ends[1] + 1, _AT_ONCE):
        numbers = np.arange(start, min(start + _AT_ONCE, ends[1] + 1), dtype=np.int64)
        with torch.no_grad():
            made = function(torch.from_numpy(numbers * scale)).double().numpy()
        if np.isnan(made).any():
            where = float(numbers[np.isnan(made)][0] * scale)
            problem = f"is no number at {where:.4g}, which its input can be"
            raise refused(layer, name, problem, "a function that is defined everywhere")
        whole = np.clip(np.rint(made / made_scale), *clip).astype(np.int64)
        if last is None:
            values.append(int(whole[0]))
            changes = np.flatnonzero(np.diff(whole)) + 1
        else:
            changes = np.flatnonzero(np.diff(np.concatenate([[last], whole])))
        thresholds += numbers[changes].tolist()
        values += whole[changes].tolist()
        last = whole[-1]
    return Table(tuple(thresholds), tuple(values))
