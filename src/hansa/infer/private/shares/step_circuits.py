"""A program's steps as circuits: from a masked accumulator to a share of the next value.

The first stage takes of every accumulator y the client's z and the server's r, both modulo
2^(width + guard), with z - r = y * 2^guard + a rounding error, and comes to y. Pools are stages of
their own, whose instances are windows. The last stage adds the server's share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hansa.infer.private.client_steps import MaxPool, Relu, Shift, Step, SumPool, Table
from hansa.infer.private.shares import arithmetic
from hansa.infer.private.shares.arithmetic import Number, width_of
from hansa.infer.private.shares.circuit import Builder, Circuit

MOST_THRESHOLDS = 2048
"""A table costs some 32 to 64 bytes a threshold and number; longer ones are refused."""


MOST_READ = 1 << 25
"""Numbers that the windows of a pool read, all together."""


@dataclass(frozen=True)
class Group:
    """Instances of one circuit.

    Attributes:
        reads: int64 [instances, operands]: places in the flat result of the stage before.
        makes: int64 [instances]: places in the flat result of this stage.
    """

    circuit: Circuit
    reads: np.ndarray
    makes: np.ndarray


@dataclass(frozen=True)
class Stage:
    """Circuits over all places of an array, [count, width] bits to [count, width] bits."""

    groups: tuple[Group, ...]
    count: int
    width: int


@dataclass(frozen=True)
class StepCircuits:
    """An activation in stages.

    Attributes:
        width: bits of the accumulator, without the guard bits.
        guard: bits under its lowest, to which z and r are rounded.
        offset: what the server subtracts from its r, so that roundings are part of z - r.
        shape: of the result, (channels, height, width).
        share_bits: of the server's share that the last stage adds; 0: the result is disclosed.
        signed: whether what is disclosed has a sign.
    """

    width: int
    guard: int
    offset: int
    stages: tuple[Stage, ...]
    shape: tuple[int, int, int]
    share_bits: int
    signed: bool

    @property
    def count(self) -> int:
        """Accumulators that go in."""
        return self.stages[0].count

    @property
    def masked_bits(self) -> int:
        """Bits of one z, and of one r."""
        return self.width + self.guard

    @property
    def blocks(self) -> int:
        """Blocks of 16 bytes of all garbled gates."""
        return sum(
            group.circuit.blocks * len(group.reads)
            for stage in self.stages
            for group in stage.groups
        )


def guard_bits(plain_bits: int) -> int:
    """Bits under an accumulator's lowest: more where its unit is few words of what is decrypted.

    Two roundings to g bits err by 2^-g of the unit at most; noise may take the rest of its half.
    From 23 bits on words are wider (``noise.word_bits``).
    """
    return 3 if plain_bits in (21, 22) else 2


class NotInCircuits(ValueError):
    """A step that costs too much in a garbled circuit; says which."""


def ordered(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Steps to the same effect that cost less: shifts early, a ReLU as a shift's lower bound.

    What never decreases may change places with the largest of a window: shifts come before it, so
    that fewer bits are compared, tables after it.
    """
    out = list(steps)
    changed = True
    while changed:
        changed = False
        for i, (one, two) in enumerate(pairwise(out)):
            late = isinstance(one, MaxPool) and isinstance(two, (Relu, Shift))
            if late or (_rises(one) and isinstance(two, MaxPool)):
                out[i : i + 2] = [two, one]
                changed = True
            elif isinstance(one, Relu) and isinstance(two, Shift):
                # (0 + half) >> bits is zero.
                out[i : i + 2] = [Shift(two.bits, min(max(two.low, 0), two.high), two.high)]
                changed = True
            if changed:
                break
    return tuple(out)


def _rises(step: Step) -> bool:
    return isinstance(step, Table) and list(step.values) == sorted(step.values)


def _elementwise(build: Builder, value: Number, step: Step) -> Number:
    if isinstance(step, Relu):
        return arithmetic.clip(build, value, 0, max(value.high, 0))
    if isinstance(step, Shift):
        return arithmetic.clip(
            build, arithmetic.shift_right(build, value, step.bits), step.low, step.high
        )
    assert isinstance(step, Table)
    if len(step.thresholds) > MOST_THRESHOLDS:
        raise NotInCircuits(
            f"a table of {len(step.thresholds)} thresholds, {MOST_THRESHOLDS} at most"
        )
    return arithmetic.stairs(build, value, step.thresholds, step.values)


def _windows(step: MaxPool | SumPool, shape: tuple[int, int, int]) -> list[np.ndarray]:
    """Of every window, in order of the result, the places that it covers."""
    channels, high, wide = shape
    made = pooled_shape(step, shape)
    if made[0] * made[1] * made[2] * step.kernel[0] * step.kernel[1] > MOST_READ:
        raise NotInCircuits(f"a pool whose windows read more than {MOST_READ} numbers")
    places = np.arange(channels * high * wide).reshape(1, channels, high, wide)
    windows = step.windowed(places, -1)[0]
    return [row[row >= 0] for row in windows.reshape(-1, step.kernel[0] * step.kernel[1])]


def pooled_shape(step: MaxPool | SumPool, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """(channels, height, width) after a pool."""
    channels, high, wide = shape
    return step.windowed(np.zeros((1, channels, high, wide), np.int8), 0).shape[1:4]


@dataclass(frozen=True)
class _Plan:
    """What one stage has to do: a pool or nothing, then elementwise steps."""

    pool: MaxPool | SumPool | None
    steps: tuple[Step, ...]


def _plans(steps: Sequence[Step]) -> list[_Plan]:
    plans = [_Plan(None, ())]
    for step in steps:
        if isinstance(step, (MaxPool, SumPool)):
            plans.append(_Plan(step, ()))
        else:
            plans[-1] = _Plan(plans[-1].pool, (*plans[-1].steps, step))
    return plans


def _finish(build: Builder, value: Number, share_bits: int) -> list[int]:
    if not share_bits:
        return list(value.bits)
    return arithmetic.add_modulo(build, value, build.known_inputs(share_bits))


def _elements(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(count).reshape(-1, 1), np.arange(count)


def _leading(steps: Sequence[Step]) -> int:
    """The shift that the first subtraction can take along, in bits."""
    return steps[0].bits if steps and isinstance(steps[0], Shift) else 0


def rounded_width(steps: Sequence[Step], low: int, high: int) -> int:
    """Bits of an accumulator of [low, high] with its first step's half added: at least its own.

    Both sides know circuits by this width alone: exact bounds would tell of the weights.
    """
    half = (1 << _leading(ordered(steps))) >> 1
    return width_of(min(low, -1), max(high + half, 0))


def _first_stage(
    width: int, guard: int, count: int, steps: Sequence[Step], share_bits: int | None
) -> tuple[Stage, Number, int]:
    """The stage, its number (only the range counts), the offset."""
    leading = _leading(steps)
    build = Builder()
    masked = build.open_inputs(width + guard)
    mask = build.known_inputs(width + guard)
    bits = arithmetic.subtract_modulo(build, masked, mask)[guard:]
    low, high = -(1 << (width - 1)), (1 << (width - 1)) - 1
    value = arithmetic.floor_shift(Number(tuple(bits), low, high), leading)
    if leading:
        first = steps[0]
        assert isinstance(first, Shift)
        steps = [Shift(0, first.low, first.high), *steps[1:]]
    for step in steps:
        value = _elementwise(build, value, step)
    out = list(value.bits) if share_bits is None else _finish(build, value, share_bits)
    reads, makes = _elements(count)
    group = Group(build.circuit(out), reads, makes)
    offset = ((1 << leading) >> 1 << guard) + ((1 << guard) >> 1)
    return Stage((group,), count, len(out)), value, offset


def _pool_stage(
    value: Number, shape: tuple[int, int, int], plan: _Plan, share_bits: int | None
) -> tuple[Stage, Number]:
    assert plan.pool is not None
    windows = _windows(plan.pool, shape)
    sizes = np.array([len(row) for row in windows])
    groups: list[Group] = []
    numbers: dict[int, Number] = {}
    builds: dict[int, Builder] = {}
    # Windows at a padded border cover fewer places: a circuit for each size.
    for size in sorted(set(sizes.tolist())):
        build = builds[size] = Builder()
        width = len(value.bits)
        operands = [
            Number(tuple(build.open_inputs(width)), value.low, value.high) for _ in range(size)
        ]
        if isinstance(plan.pool, MaxPool):
            if not operands:
                raise NotInCircuits("a window of a max pool that covers padding only")
            result = arithmetic.largest(build, operands)
        else:
            result = arithmetic.total(build, operands) if operands else arithmetic.constant(0)
        for step in plan.steps:
            result = _elementwise(build, result, step)
        numbers[size] = result
    low = min(one.low for one in numbers.values())
    high = max(one.high for one in numbers.values())
    places = range(width_of(low, high))
    for size, result in numbers.items():
        build = builds[size]
        wide = Number(tuple(result.bit(place) for place in places), low, high)
        out = list(wide.bits) if share_bits is None else _finish(build, wide, share_bits)
        at = np.flatnonzero(sizes == size)
        reads = np.array([windows[i] for i in at], np.int64).reshape(len(at), size)
        groups.append(Group(build.circuit(out), reads, at))
    width = share_bits or len(places)
    made = Number(tuple(range(len(places))), low, high)
    return Stage(tuple(groups), len(windows), width), made


def _knockout(value: Number, count: int) -> list[Stage]:
    """Stages to the place of the first largest of ``count`` numbers: pairs, then pairs of winners.

    A number that is left over plays against itself. What a winner carries is its place among those
    that it beat: the lowest bit first, one more in every stage.
    """
    width, stages = len(value.bits), [] if count > 1 else [_nothing()]
    for depth in range((count - 1).bit_length()):
        build, last = Builder(), count == 2
        sides = [build.open_inputs(width + depth) for _ in range(2)]
        left, right = (Number(tuple(side[:width]), value.low, value.high) for side in sides)
        stays = arithmetic.at_least(build, left, right)
        out = [build.choose(stays, *pair) for pair in zip(*sides, strict=True)]
        found = out[width:] if last else out
        pairs = -(-count // 2)
        reads = np.minimum(np.arange(2 * pairs), count - 1).reshape(pairs, 2)
        group = Group(build.circuit([*found, stays ^ 1]), reads, np.arange(pairs))
        stages.append(Stage((group,), pairs, len(found) + 1))
        count = pairs
    return stages


def _nothing() -> Stage:
    """The place of the only number: no bit."""
    group = Group(Builder().circuit([]), np.zeros((1, 0), np.int64), np.zeros(1, np.int64))
    return Stage((group,), 1, 0)


def step_circuits(
    steps: Sequence[Step],
    shape: tuple[int, int, int],
    width: int,
    share_bits: int,
    *,
    guard: int = 2,
    largest: bool = False,
) -> StepCircuits:
    """An activation as circuits.

    Args:
        shape: (channels, height, width) of the accumulator.
        width: bits of its two's complement, from :func:`rounded_width`. What lies outside, as only
            a lying client makes it, comes out as some other number.
        share_bits: of the server's share; the result is x + share modulo 2^share_bits. 0: the
            result is disclosed as it is.
        guard: bits under the accumulator's lowest.
        largest: end in the place of the first largest number of all, instead.

    Raises:
        NotInCircuits: a table of too many thresholds.
    """
    plans = _plans(ordered(steps))
    count = shape[0] * shape[1] * shape[2]

    def share(position: int) -> int | None:
        return share_bits if position == len(plans) - 1 and not largest else None

    stage, value, offset = _first_stage(width, guard, count, plans[0].steps, share(0))
    stages = [stage]
    for position, plan in enumerate(plans[1:], 1):
        assert plan.pool is not None
        stage, value = _pool_stage(value, shape, plan, share(position))
        shape = pooled_shape(plan.pool, shape)
        stages.append(stage)
    signed = value.low < 0
    if largest:
        stages += _knockout(value, shape[0] * shape[1] * shape[2])
        shape, share_bits, signed = (1, 1, 1), 0, False
    return StepCircuits(width, guard, offset, tuple(stages), shape, share_bits, signed)


def to_bits(numbers: np.ndarray, width: int) -> np.ndarray:
    """Bits bool [n, width] of integers [n] modulo 2^width, the lowest first."""
    unsigned = np.asarray(numbers).astype(np.int64).view(np.uint64)
    return (unsigned[:, None] >> np.arange(width, dtype=np.uint64) & np.uint64(1)).astype(bool)


def from_bits(bits: np.ndarray, *, signed: bool) -> np.ndarray:
    """Integers int64 [n] of bits [n, width], the lowest first."""
    width = bits.shape[1]
    weights = np.int64(1) << np.arange(width, dtype=np.int64)
    if signed and width:
        weights[-1] = -weights[-1]
    return bits.astype(np.int64) @ weights
