"""Mode shares: circuits against plain functions, garbling against circuits, transfers."""

from __future__ import annotations

import secrets

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.errors import WireError
from hansa.infer.private.client_steps import MaxPool, Relu, Shift, Step, SumPool, Table, apply
from hansa.infer.private.shares import arithmetic, circuit, extension, garbling, hashing
from hansa.infer.private.shares.base_transfer import COUNT, BaseReceiver, BaseSender
from hansa.infer.private.shares.circuit import Builder
from hansa.infer.private.shares.step_circuits import (
    NotInCircuits,
    StepCircuits,
    from_bits,
    rounded_width,
    step_circuits,
    to_bits,
)

whole = st.integers(-300, 300)


def run(build: Builder, result: arithmetic.Number, *operands: np.ndarray) -> np.ndarray:
    """The circuit of a number, over operands int64 [n] of 10 bits each."""
    made = build.circuit(result.bits)
    bits = np.concatenate([to_bits(one, 10) for one in operands], 1)
    out = circuit.evaluate(made, bits, np.zeros((len(bits), 0), bool))
    return from_bits(out, signed=result.low < 0)


def operand(build: Builder, low: int, high: int) -> arithmetic.Number:
    return arithmetic.number(build.open_inputs(10), low, high)


def between(draw: st.DrawFn) -> tuple[int, int]:
    low = draw(whole)
    return low, draw(st.integers(low, 300))


@st.composite
def two_ranges(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int]]:
    return between(draw), between(draw)


@given(two_ranges(), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_arithmetic_is_that_of_integers(
    ranges: tuple[tuple[int, int], tuple[int, int]], seed: int
) -> None:
    (low, high), (least, most) = ranges
    rng = np.random.default_rng(seed)
    left = rng.integers(low, high + 1, 40)
    right = rng.integers(least, most + 1, 40)
    build = Builder()
    one, two = operand(build, low, high), operand(build, least, most)
    for made, expected in (
        (arithmetic.add(build, one, two), left + right),
        (arithmetic.clip(build, one, least, most), np.clip(left, least, most)),
        (arithmetic.shift_right(build, one, 3), (left + 4) >> 3),
        (arithmetic.largest(build, [one, two]), np.maximum(left, right)),
        (arithmetic.total(build, [one, two, one]), left + right + left),
        (
            arithmetic.stairs(build, one, [least, most], [2, -4, 9]),
            np.where(left >= most, 9, np.where(left >= least, -4, 2)),
        ),
    ):
        np.testing.assert_array_equal(run(build, made, left, right), expected)
        assert made.low <= expected.min()
        assert expected.max() <= made.high


def test_clipping_to_seven_bits_costs_a_gate_a_bit_and_the_range_check() -> None:
    build = Builder()
    value = arithmetic.number(build.open_inputs(10), -512, 511)
    made = build.circuit(arithmetic.clip(build, value, 0, 127).bits)
    assert made.ands == 7 + 3


@given(st.lists(st.integers(-300, 300), max_size=30, unique=True), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_tables_of_any_length(thresholds: list[int], seed: int) -> None:
    draw = np.random.default_rng(seed)
    values = draw.integers(-40, 90, len(thresholds) + 1).tolist()
    table = Table(tuple(sorted(thresholds)), tuple(values))
    for low, high in ((-280, 290), (0, 255), (7, 9)):
        build, numbers = Builder(), np.arange(low, high + 1)
        made = arithmetic.stairs(build, operand(build, low, high), table.thresholds, table.values)
        np.testing.assert_array_equal(run(build, made, numbers), table.apply(numbers))


def test_a_table_of_seven_bits_costs_about_two_gates_a_threshold() -> None:
    build = Builder()
    value = arithmetic.number(build.open_inputs(17), -(1 << 16), (1 << 16) - 1)
    thresholds = [round(1000 * np.arctanh(k / 65)) for k in range(-64, 64)]
    made = arithmetic.stairs(build, value, thresholds, range(-64, 65))
    assert build.circuit(made.bits).ands < 3 * len(thresholds)


TABLE = Table((-40, 3, 60, 200), (-3, 0, 2, 5, 11))
CASES: dict[str, tuple[Step, ...]] = {
    "nothing": (),
    "relu": (Relu(),),
    "relu shift": (Relu(), Shift(3, 0, 31)),
    "shift signed": (Shift(2, -15, 15),),
    "clip only": (Shift(0, -100, 50),),
    "table": (TABLE,),
    "relu pool": (Relu(), MaxPool((2, 2), (2, 2), (0, 0, 0, 0)), Shift(2, 0, 63)),
    "pool over the edge": (MaxPool((3, 2), (2, 1), (1, 1, 0, 1)), Shift(3, -10, 20)),
    "pool after a table": (Table((-9, 0, 31), (0, 1, 5, 9)), MaxPool((2, 2), (2, 2), (0, 0, 0, 0))),
    "sum": (Shift(3, 0, 15), SumPool((2, 2), (1, 1), (1, 0, 0, 1)), Shift(1, 0, 20)),
    "two pools": (
        Relu(),
        MaxPool((2, 2), (1, 1), (0, 0, 0, 0)),
        SumPool((2, 1), (2, 1), (0, 0, 0, 0)),
        TABLE,
    ),
}


def drawn(
    steps: StepCircuits, numbers: np.ndarray, share_bits: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The client's masked bits, the server's bits, the share, of accumulators [C, H, W]."""
    rng = np.random.default_rng(seed)
    modulus = 1 << steps.masked_bits
    mask = rng.integers(0, modulus, numbers.size)
    half = 1 << (steps.guard - 1)
    error = rng.integers(-half, half, numbers.size)
    masked = (numbers.reshape(-1) << steps.guard) + error + mask
    places = int(np.prod(steps.shape))
    share = rng.integers(0, 1 << max(share_bits, 1), places)
    return (
        to_bits(masked, steps.masked_bits),
        to_bits(mask - steps.offset, steps.masked_bits),
        share,
    )


def through_circuits(
    steps: StepCircuits, masked: np.ndarray, mask: np.ndarray, share: np.ndarray
) -> np.ndarray:
    """All stages in the clear: bits of the results."""
    known = garbling.known_bits(steps, mask, to_bits(share, steps.share_bits))
    flat, k = masked, 0
    for stage in steps.stages:
        made = np.zeros((stage.count, stage.width), bool)
        for group in stage.groups:
            bits = flat[group.reads].reshape(len(group.reads), -1)
            made[group.makes] = circuit.evaluate(group.circuit, bits, known[k])
            k += 1
        flat = made
    return flat


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("share_bits", [0, 12])
@pytest.mark.parametrize("guard", [2, 4])
def test_circuits_come_to_the_clients_steps(name: str, share_bits: int, guard: int) -> None:
    numbers = np.random.default_rng(1).integers(-400, 500, (2, 4, 6))
    expected = apply(CASES[name], numbers[None])[0]
    width = rounded_width(CASES[name], -400, 499)
    steps = step_circuits(CASES[name], numbers.shape, width, share_bits, guard=guard)
    assert steps.shape == expected.shape
    masked, mask, share = drawn(steps, numbers, share_bits, 2)
    bits = through_circuits(steps, masked, mask, share)
    if share_bits:
        got = from_bits(bits, signed=False)
        np.testing.assert_array_equal((got - share - expected.reshape(-1)) % (1 << share_bits), 0)
    else:
        np.testing.assert_array_equal(from_bits(bits, signed=steps.signed), expected.reshape(-1))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("share_bits", [0, 12])
def test_garbled_circuits_come_to_the_same(name: str, share_bits: int) -> None:
    numbers = np.random.default_rng(3).integers(-400, 500, (2, 4, 4))
    steps = step_circuits(
        CASES[name], numbers.shape, rounded_width(CASES[name], -400, 499), share_bits
    )
    masked, mask, share = drawn(steps, numbers, share_bits, 4)
    expected = through_circuits(steps, masked, mask, share)
    key, seed = secrets.token_bytes(16), secrets.token_bytes(16)
    delta = hashing.labels(secrets.token_bytes(16), 1)[0] | np.array([1, 0], np.uint64)
    known = garbling.known_bits(steps, mask, to_bits(share, steps.share_bits))
    active = [hashing.labels(seed + bytes([i]), *one.shape) for i, one in enumerate(known)]
    zero = hashing.labels(secrets.token_bytes(16), *masked.shape)
    blocks, decoding = garbling.garble(garbling.Garbler(delta, key), steps, zero, active, known)
    assert sum(one.nbytes for one in blocks) == 16 * steps.blocks
    chosen = zero ^ garbling.where(masked.astype(np.uint64), delta[None, None])
    shown = garbling.evaluate(garbling.Evaluator(key), steps, chosen, active, blocks)
    np.testing.assert_array_equal((shown ^ decoding).astype(bool), expected)


@given(st.lists(st.integers(-3, 4), min_size=1, max_size=19))
@settings(max_examples=40, deadline=None)
def test_the_first_largest_logit(found: list[int]) -> None:
    numbers = 100 * np.array(found).reshape(len(found), 1, 1)
    steps = step_circuits((), numbers.shape, 10, 0, largest=True)
    masked, mask, share = drawn(steps, numbers, 0, 5)
    bits = through_circuits(steps, masked, mask, share)
    assert from_bits(bits, signed=steps.signed).tolist() == [numbers.argmax()]


def test_what_costs_too_much_is_refused() -> None:
    table = Table(tuple(range(3000)), tuple(range(3001)))
    with pytest.raises(NotInCircuits, match="3000 thresholds"):
        step_circuits((table,), (1, 1, 1), 10, 12)
    pool = SumPool((900, 900), (1, 1), (0, 0, 0, 0))
    with pytest.raises(NotInCircuits, match="windows read more"):
        step_circuits((pool,), (1, 1000, 1000), 10, 12)


def transferred() -> tuple[list[tuple[bytes, bytes]], list[bytes], np.ndarray]:
    secret = np.unpackbits(np.frombuffer(secrets.token_bytes(16), np.uint8)).astype(bool)
    sender = BaseSender(b"session", secrets.token_bytes(32))
    receiver = BaseReceiver(b"session", secrets.token_bytes(32), secret.astype(int).tolist())
    return sender.keys(receiver.message()), receiver.keys(sender.message()), secret


def test_base_transfers_hand_over_one_key_each() -> None:
    pairs, keys, secret = transferred()
    assert len({key for pair in pairs for key in pair}) == 2 * COUNT
    assert keys == [pair[bit] for pair, bit in zip(pairs, secret.astype(int), strict=True)]


def test_base_transfers_refuse_what_is_no_point() -> None:
    sender = BaseSender(b"session", bytes(32))
    receiver = BaseReceiver(b"session", bytes(32), [0] * COUNT)
    with pytest.raises(WireError, match="bytes"):
        receiver.keys(b"")
    with pytest.raises(WireError, match="not a point"):
        receiver.keys(b"\x02" + b"\xff" * 32)
    with pytest.raises(WireError, match="not a point"):
        sender.keys(b"\x07" * len(receiver.message()))


@pytest.mark.parametrize("count", [1, 127, 300])
def test_extended_transfers_hand_over_the_chosen_label(count: int) -> None:
    pairs, keys, secret = transferred()
    bits = np.unpackbits(np.frombuffer(secrets.token_bytes(40), np.uint8))[:count].astype(bool)
    request, own = extension.receive(pairs, b"one", bits, b"pad")
    assert len(request) == extension.request_size(count)
    rows = extension.send(keys, secret, b"one", count, request)
    delta = np.array([7, 5], np.uint64)
    zero, corrections = extension.send_labels(rows, secret, delta, bytes(16))
    got = extension.receive_labels(own, bits, corrections, bytes(16))
    np.testing.assert_array_equal(got, zero ^ garbling.where(bits.astype(np.uint64), delta[None]))
    # The other label is not what the receiver's own rows and the correction come to.
    other = extension.receive_labels(own, ~bits, corrections, bytes(16))
    assert not (other == (got ^ delta)).all(1).any()


def test_a_receiver_that_lies_is_caught_unless_it_guessed() -> None:
    pairs, keys, secret = transferred()
    bits = np.zeros(200, bool)
    size = extension.padded(200) // 8
    honest, _ = extension.receive(pairs, b"one", bits, b"pad")
    caught = []
    for column in range(16):
        request = bytearray(honest)
        request[column * size] ^= 1
        # The liar keeps the tags that its columns would have: only where s is one does it count.
        challenge = hashing.derive(bytes(request[: COUNT * size]), "challenge", b"one", size=16)
        kept = np.array([extension._column(zero, b"one", size) for zero, _ in pairs])
        chosen = np.frombuffer(honest, np.uint8, COUNT * size).reshape(COUNT, size)[0] ^ kept[0]
        chosen = chosen ^ extension._column(pairs[0][1], b"one", size)
        tags = extension._tags(challenge, np.concatenate([kept, chosen[None]]))
        request[COUNT * size :] = tags.tobytes()
        try:
            extension.send(keys, secret, b"one", 200, bytes(request))
            caught.append(False)
        except extension.CheatingReceiver:
            caught.append(True)
    assert caught == secret[:16].tolist()


def test_a_transfer_of_the_wrong_size_is_refused() -> None:
    pairs, keys, secret = transferred()
    request, _ = extension.receive(pairs, b"one", np.zeros(5, bool), b"pad")
    with pytest.raises(WireError, match="ask for 500"):
        extension.send(keys, secret, b"one", 500, request)
    with pytest.raises(extension.CheatingReceiver):
        extension.send(keys, secret, b"one", 5, request[:-1] + bytes([request[-1] ^ 1]))
