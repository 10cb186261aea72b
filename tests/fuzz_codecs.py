"""A fuzz target for the decoders: any bytes give a message or a ``WireError``, nothing else.

    pip install atheris
    NUMBA_DISABLE_JIT=1 python tests/fuzz_codecs.py -max_total_time=60

It is not part of the test run. Compiled code has no bounds checks, so that a read past the input
goes unseen; with ``NUMBA_DISABLE_JIT=1`` the same code runs in Python, where it is an IndexError.
"""

import os
import sys

import atheris
import numpy as np
from torch import Tensor

# Numba cannot compile what atheris has instrumented.
COMPILED = [] if os.environ.get("NUMBA_DISABLE_JIT") == "1" else ["hansa.codec.bits"]
with atheris.instrument_imports(include=["hansa.codec"], exclude=COMPILED):
    from hansa.base.errors import WireError
    from hansa.codec import (
        QSGD,
        Dense,
        Lossless,
        PairGaps,
        Raw,
        Seeded,
        Sign,
        Sparse,
        SparseRows,
        Table,
        Tables,
        Uniform,
    )

VALUES = [Dense(), Dense(dtype="float16"), Uniform(bits=3), QSGD(), Sign(), Lossless()]
CODECS = [*VALUES, Dense(dtype="bfloat16"), Raw(), Table(), PairGaps()]
CODECS += [kind(values=values) for kind in (Sparse, Seeded) for values in VALUES]


def one(data: bytes) -> None:
    """Decode: the first two bytes choose the codec and how many numbers are expected."""
    if len(data) < 2:
        return
    codec, elements = CODECS[data[0] % len(CODECS)], data[1]
    try:
        found = codec.decode(data[2:], elements)
    except WireError:
        return
    if isinstance(found, SparseRows):
        positions = found.positions
        assert len(found) == 1
        assert found.size == elements
        assert elements % found.group == 0
        assert len(positions) == found.indptr[1] <= elements // found.group
        assert len(found.values) == len(positions) * found.group
        assert (np.diff(positions) > 0).all()
        assert not len(positions) or 0 <= positions[0] <= positions[-1] < found.places
        assert np.array_equal(found.positions, codec.decode(data[2:], elements).positions)
    elif isinstance(found, Tables):
        assert len(found) == 1
        assert found.width == elements
        assert len(codec.encode(found)[0]) <= len(data) - 2
    elif isinstance(found, Tensor):
        assert found.shape == (elements,)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
