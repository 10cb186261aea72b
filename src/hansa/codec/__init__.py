"""Messages <-> bytes: rows, parts of rows, tables, packets. A size is that of the encoding."""

from typing import TYPE_CHECKING

from hansa.base.lazy import front

if TYPE_CHECKING:
    from hansa.codec.codec import Codec
    from hansa.codec.dense import Dense
    from hansa.codec.lossless import Lossless
    from hansa.codec.messages import Messages, Packets, SparseRows, whole_rows
    from hansa.codec.padded import Padded
    from hansa.codec.pair_gaps import PairGaps
    from hansa.codec.quantize import QSGD, Sign, Uniform
    from hansa.codec.raw import Raw
    from hansa.codec.seeded import Seeded, seeded_rows
    from hansa.codec.sparse import Sparse
    from hansa.codec.table import Table
    from hansa.codec.table_messages import Tables
    from hansa.codec.wavelet import WaveletTransform, transform


__all__ = [
    "QSGD",
    "Codec",
    "Dense",
    "Lossless",
    "Messages",
    "Packets",
    "Padded",
    "PairGaps",
    "Raw",
    "Seeded",
    "Sign",
    "Sparse",
    "SparseRows",
    "Table",
    "Tables",
    "Uniform",
    "WaveletTransform",
    "seeded_rows",
    "transform",
    "whole_rows",
]

__getattr__ = front(__name__)
