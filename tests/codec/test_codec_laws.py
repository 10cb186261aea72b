"""The laws that codecs of whole rows keep, and what they refuse."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hansa.base.errors import ConfigError, WireError
from hansa.codec import Codec, Dense

CODECS = [Dense(), Dense(dtype="float16"), Dense(dtype="bfloat16")]
ROWS = st.tuples(st.integers(0, 4), st.integers(0, 9)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.floats(width=32))
)


@pytest.mark.parametrize("codec", CODECS, ids=repr)
@given(numbers=ROWS)
def test_size_and_content_are_those_of_the_encoding(codec: Codec, numbers: np.ndarray) -> None:
    rows = torch.from_numpy(numbers)
    payloads = codec.encode(rows)
    assert len(payloads) == len(rows)
    sizes = codec.size(rows)
    assert sizes.dtype == np.int64
    assert sizes.tolist() == [memoryview(p).nbytes for p in payloads]
    through = codec.through(rows)
    assert through.shape == rows.shape
    for k, payload in enumerate(payloads):
        # As on the wire: the receiver has bytes of its own.
        decoded = codec.decode(bytes(payload), rows.shape[1])
        assert decoded.dtype == torch.float32
        bits, expected = decoded.view(torch.int32), through[k].view(torch.int32)
        # torch narrows NaN to other bits at other places of a row; that it is NaN is enough.
        known = ~through[k].isnan()
        assert torch.equal(bits[known], expected[known])
        assert torch.equal(decoded.isnan(), ~known)


@pytest.mark.parametrize("codec", CODECS, ids=repr)
@given(payload=st.binary(max_size=40), elements=st.integers(0, 8))
def test_what_is_no_encoding_is_a_wire_error(codec: Codec, payload: bytes, elements: int) -> None:
    try:
        row = codec.decode(payload, elements)
    except WireError:
        assert len(payload) != codec.size(torch.zeros(1, elements))[0]
    else:
        assert row.shape == (elements,)


def test_float32_is_lossless_and_the_others_are_not() -> None:
    rows = torch.randn(3, 5)
    assert Dense().through(rows) is rows
    for dtype in ("float16", "bfloat16"):
        lossy = Dense(dtype=dtype)
        assert not torch.equal(lossy.through(rows), rows)
        assert lossy.size(rows).tolist() == [10, 10, 10]
    with pytest.raises(ConfigError, match="dtype"):
        Codec.resolve({"name": "dense", "dtype": "int3"})
