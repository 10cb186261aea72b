"""Which examples a node sees: whole passes, nothing twice in a pass."""

from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.engine.training.batches import Batching, draw_batches


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


KINDS = st.sampled_from([(True, False), (False, False), (True, True), (False, True)])


@given(
    kind=KINDS,
    examples=st.integers(1, 40),
    size=st.integers(1, 45),
    steps=st.integers(1, 25),
    seed=st.integers(0, 9),
)
def test_every_way_to_draw(
    kind: tuple[bool, bool], examples: int, size: int, steps: int, seed: int
) -> None:
    batching = Batching(size, *kind)
    part = np.sort(np.random.default_rng(seed).choice(10_000, examples, replace=False))
    random = Streams(seed).numpy("batches", 0, 0)
    if batching.drop_last and examples < size:
        with pytest.raises(ConfigError, match="drop_last"):
            batching.draw(part, steps, random)
        return
    drawn, lengths = batching.draw(part, steps, random), batching.lengths(examples, steps)
    assert drawn.shape == (steps, min(size, examples))
    assert drawn.dtype == np.int64
    assert np.isin(drawn, part).all()
    seen = [batch[:n].tolist() for batch, n in zip(drawn, lengths, strict=True)]
    assert all(len(set(batch)) == len(batch) > 0 for batch in seen)
    several = np.array([examples]), np.array([steps])
    assert batching.samples(*several).tolist() == [sum(map(len, seen))]
    assert batching.within(several[0], batching.samples(*several)).tolist() == [steps]
    if batching.fresh:
        return
    each = int(batching.per_pass(several[0])[0])
    whole = examples - (examples % size if batching.drop_last else 0)
    for start in range(0, steps - each + 1, each):
        once = list(chain(*seen[start : start + each]))
        assert len(set(once)) == len(once) == whole
    if batching.drop_last or examples % size == 0:
        random = Streams(seed).numpy("batches", 0, 0)
        assert np.array_equal(drawn, draw_batches(part, steps, min(size, examples), random))


def test_fresh_draws_are_independent_of_each_other() -> None:
    batching = Batching(3, fresh=True)
    drawn = batching.draw(np.arange(10), 4000, Streams(0).numpy("batches", 0, 0))
    often = np.bincount(drawn.ravel(), minlength=10) / 4000
    assert np.abs(often - 0.3).max() < 0.04
    assert any(set(a) & set(b) for a, b in pairwise(drawn))
