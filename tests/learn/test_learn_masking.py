"""Fixed point, pads and keys of secure aggregation, apart from any run."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.errors import WireError
from hansa.learn.secure.key_agreement import most_peers, public_key, shared_secret
from hansa.learn.secure.masking import add_pads, add_sum_, pad_seed, quantize, total
from hansa.topology import Graph


@pytest.mark.parametrize(("bits", "worst"), [(16, 7e-6), (20, 5e-7), (24, 3e-8)])
def test_fixed_point_errors_of_four_senders(bits: int, worst: float) -> None:
    """The anchors of the specification: the largest error of a mean of four models."""
    models = np.random.Generator(np.random.Philox(0)).normal(0, 0.1, (4, 89_834))
    numbers = models.astype(np.float32)
    words = [quantize(x, 1.0, bits, 4)[0] for x in numbers]
    mean = total((w.tobytes() for w in words), 89_834).view(np.int32) / 2.0**bits / 4
    error = np.abs(mean - numbers.astype(np.float64).mean(0)).max()
    assert worst * 0.8 < error < worst * 1.2
    # Weights come before rounding here, so that errors add up: at most half a unit a sender.
    weighted = [quantize(x, 0.25, bits, 4)[0] for x in numbers]
    mean = total((w.tobytes() for w in weighted), 89_834).view(np.int32) / 2.0**bits
    error = np.abs(mean - numbers.astype(np.float64).mean(0)).max()
    assert 1.2 * 2.0**-bits < error <= 4 * 2.0 ** -(bits + 1)


@given(
    nodes=st.integers(1, 6),
    size=st.sampled_from([0, 1, 7, 65_536, 65_537, 140_000]),
    receiver=st.integers(0, 9),
    t=st.integers(0, 9),
)
def test_pads_of_all_pairs_cancel(nodes: int, size: int, receiver: int, t: int) -> None:
    def seed(i: int, j: int) -> bytes:
        return pad_seed(bytes([min(i, j), max(i, j)]) * 16, receiver, t)

    packets = []
    for i in range(nodes):
        words = np.zeros(size, dtype="<u4")
        plus = [seed(i, j) for j in range(i + 1, nodes)]
        add_pads(words, plus, [seed(i, j) for j in range(i)])
        packets.append(words.tobytes())
        if nodes > 1 and size > 3:
            assert words.any()
    assert not total(packets, size).any()


@given(
    bits=st.integers(1, 30),
    weight=st.floats(0.01, 1),
    terms=st.integers(1, 50),
    values=st.lists(st.floats(-(2.0**40), 2.0**40, width=32), min_size=1, max_size=20),
)
def test_what_fits_comes_back_and_what_does_not_is_named(
    bits: int, weight: float, terms: int, values: list[float]
) -> None:
    x = np.array(values, dtype=np.float32)
    exact = np.rint(x.astype(np.float64) * (weight * 2.0**bits))
    too_large = np.abs(exact) > (2**31 - 1) // terms
    words, bad = quantize(x, weight, bits, terms)
    if too_large.any():
        assert bad == np.flatnonzero(too_large)[0]
        return
    assert bad == -1
    summed = total([words.tobytes()] * terms, len(x))  # the worst case: all terms the same
    out = np.zeros(len(x), dtype=np.float32)
    add_sum_(out, 0.0, summed, 2.0**-bits)
    assert np.array_equal(out, (exact * terms * 2.0**-bits).astype(np.float32))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_a_number_that_is_none_does_not_fit(value: float) -> None:
    x = np.array([0.0, value, 0.0], dtype=np.float32)
    assert quantize(x, 0.5, 8, 2)[1] == 1


def test_a_vector_of_another_length_is_refused() -> None:
    with pytest.raises(WireError, match="5 bytes where 8 were due"):
        total([b"12345"], 2)


def test_two_nodes_share_a_secret_and_a_third_does_not() -> None:
    a, b, c = b"a" * 32, b"b" * 32, b"c" * 32
    assert shared_secret(a, public_key(b)) == shared_secret(b, public_key(a))
    assert shared_secret(a, public_key(b)) != shared_secret(c, public_key(b))
    assert len(shared_secret(a, public_key(b))) == 32


@given(pairs=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=20))
def test_most_peers(pairs: list[tuple[int, int]]) -> None:
    pairs = [(a, b) for a, b in pairs if a != b]
    graph = Graph.from_edges(7, [a for a, _ in pairs], [b for _, b in pairs])
    rows = [set(graph.row(r).tolist()) for r in range(7)]
    peers = [set().union(*(row for row in rows if i in row)) - {i} for i in range(7)]
    assert most_peers(graph) == max(map(len, peers))
