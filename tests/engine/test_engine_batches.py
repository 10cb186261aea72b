"""Which examples a node sees: whole passes, nothing twice in a pass."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.streams import Streams
from hansa.engine.batches import draw_batches


@given(
    examples=st.integers(1, 40), steps=st.integers(1, 25), data=st.data(), seed=st.integers(0, 9)
)
def test_batches_come_in_passes_without_repetition(
    examples: int, steps: int, data: st.DataObject, seed: int
) -> None:
    size = data.draw(st.integers(1, examples))
    part = np.sort(np.random.default_rng(seed).choice(10_000, examples, replace=False))
    before = part.copy()
    drawn = draw_batches(part, steps, size, Streams(seed).numpy("batches", 0, 0))
    assert drawn.shape == (steps, size)
    assert drawn.dtype == np.int64
    assert np.array_equal(part, before)
    assert np.isin(drawn, part).all()
    whole = examples // size
    for start in range(0, steps, whole):
        seen = drawn[start : start + whole].ravel()
        assert len(set(seen.tolist())) == len(seen)
    if examples % size == 0 and steps >= whole:
        assert np.array_equal(np.sort(drawn[:whole].ravel()), part)
    again = draw_batches(part, steps, size, Streams(seed).numpy("batches", 0, 0))
    assert np.array_equal(drawn, again)


def test_fewer_steps_are_the_beginning_of_more() -> None:
    part, streams = np.arange(20), Streams(1)
    long = draw_batches(part, 12, 3, streams.numpy("batches", 4, 2))
    short = draw_batches(part, 5, 3, streams.numpy("batches", 4, 2))
    assert np.array_equal(long[:5], short)
    other = draw_batches(part, 12, 3, streams.numpy("batches", 5, 2))
    assert not np.array_equal(long, other)


def test_passes_differ() -> None:
    drawn = draw_batches(np.arange(64), 4, 32, Streams(1).numpy("batches", 0, 0))
    assert not np.array_equal(drawn[:2], drawn[2:])
