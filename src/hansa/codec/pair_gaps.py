"""Rated pairs as few bits: the pairs in order, their gaps in a Golomb-Rice code.

A payload is how many pairs there are and, where there are some, one more than the largest first id,
one more than the largest second, the code's parameter, the bytes of the gaps and the gaps; then how
many different values there are, those values from the most frequent on, and the place of each
pair's value among them, compressed by zstandard. Where there are over 255 values they follow as
they are. Columns besides, of bytes, lie before the values, each compressed and after its length.
The order in which pairs were sent is not kept: a random order of m pairs alone is log2(m!) bits,
which is more than all else.
"""

from __future__ import annotations

import numpy as np

from hansa.base.component import register
from hansa.base.errors import WireError
from hansa.codec import varints
from hansa.codec.bits import rice_decode, rice_encode, rice_parameter
from hansa.codec.codec import Codec
from hansa.codec.messages import Messages
from hansa.codec.table_messages import Tables

FORM = (("int64", 1), ("int64", 1), ("float32", 1))
NOTE = ("uint8", 1)
"""What further columns are of."""
_MOST = 1 << 40  # pairs that can be told apart
_VALUES = 255


@register("pair_gaps")
class PairGaps(Codec):
    """Pairs of ids, each with a value, sorted: about 2.5 bytes a rating of MovieLens."""

    def encode(self, rows: Messages) -> list[bytes | memoryview]:
        tables = _sorted(rows)
        return [_encoded(tables.table(k)) for k in range(len(tables))]

    def decode(self, payload: bytes | memoryview, elements: int) -> Tables:
        if elements < len(FORM):
            raise WireError(f"{elements} numbers a row where pairs have {len(FORM)} or more")
        reader = _Reader(payload)
        count = reader.number()
        if not count:
            first, second, values = (np.zeros(0, dtype=kind) for kind, _ in FORM)
            notes = [np.zeros(0, dtype=np.uint8)] * (elements - len(FORM))
        else:
            first, second = _pairs(reader, count)
            notes = [
                _unpacked(reader.take(reader.number()), count) for _ in range(elements - len(FORM))
            ]
            values = _values(reader, count)
        reader.end()
        columns = (first, second, values, *notes)
        return Tables(np.array([0, count]), {str(k): each for k, each in enumerate(columns)})

    def size(self, rows: Messages) -> np.ndarray:
        return np.array([len(payload) for payload in self.encode(rows)], dtype=np.int64)

    def through(self, rows: Messages) -> Tables:
        return _sorted(rows)


def _sorted(rows: Messages) -> Tables:
    """Each message by its first id, then its second.

    Raises:
        TypeError: these are no pairs with values.
        ValueError: an id is negative or too large, or a pair stands twice in a message.
    """
    if (
        not isinstance(rows, Tables)
        or rows.form[: len(FORM)] != FORM
        or not {*rows.form[len(FORM) :]} <= {NOTE}
    ):
        form = rows.form if isinstance(rows, Tables) else type(rows).__name__
        raise TypeError(f"the codec pair_gaps is for tables of {FORM}, not for {form}")
    first, second = [*rows.columns.values()][:2]
    if not len(first):
        return rows
    if min(first.min(), second.min()) < 0:
        raise ValueError("an id below 0")
    if (int(first.max()) + 1) * (int(second.max()) + 1) > _MOST:
        raise ValueError(f"ids of more than {_MOST} pairs")
    message = np.repeat(np.arange(len(rows)), rows.counts)
    pair = first * (int(second.max()) + 1) + second
    order = np.lexsort((pair, message))
    pair, message = pair[order], message[order]
    twice = (pair[1:] == pair[:-1]) & (message[1:] == message[:-1])
    if twice.any():
        at = order[int(np.argmax(twice))]
        raise ValueError(f"the pair ({first[at]}, {second[at]}) twice in a message")
    return Tables(rows.indptr, {name: column[order] for name, column in rows.columns.items()})


def _encoded(table: dict[str, np.ndarray]) -> bytes:
    first, second, values, *notes = table.values()
    count = len(first)
    if not count:
        return varints.one(0)
    height, width = int(first[-1]) + 1, int(second.max()) + 1
    positions = first * width + second
    parameter = rice_parameter(positions)
    gaps = rice_encode(positions, parameter)
    head = [varints.one(n) for n in (count, height, width, parameter, len(gaps))]
    packed = [_packed(note) for note in notes]
    beside = [part for note in packed for part in (varints.one(len(note)), note)]
    return b"".join((*head, gaps, *beside, _coded_values(values)))


def _packed(numbers: np.ndarray) -> bytes:
    """Bytes [m], compressed."""
    import zstandard

    compressor = zstandard.ZstdCompressor(level=1, write_content_size=True, write_checksum=False)
    return compressor.compress(np.ascontiguousarray(numbers).tobytes())


def _coded_values(values: np.ndarray) -> bytes:
    """Values as places in a list of the different ones; their bits are kept."""
    bits, places, counts = np.unique(
        values.view(np.uint32), return_inverse=True, return_counts=True
    )
    if len(bits) > _VALUES:
        return b"\0" + values.astype("<f4").tobytes()
    order = np.argsort(-counts, kind="stable")
    ranks = np.empty(len(bits), dtype=np.uint8)
    ranks[order] = np.arange(len(bits))
    listed = bits[order].view(np.float32).astype("<f4").tobytes()
    return bytes([len(bits)]) + listed + _packed(ranks[places])


def _pairs(reader: _Reader, count: int) -> tuple[np.ndarray, np.ndarray]:
    height, width, parameter, length = (reader.number() for _ in range(4))
    if not 0 < height * width <= _MOST or parameter > 30:
        raise WireError("pairs of more ids than there can be")
    positions = rice_decode(reader.take(length), count, height * width, parameter)
    first, second = np.divmod(positions, width)
    if first[-1] + 1 != height or second.max() + 1 != width:
        raise WireError("pairs of fewer ids than was said")
    return first, second


def _values(reader: _Reader, count: int) -> np.ndarray:
    different = reader.take(1)[0]
    if not different:
        return np.frombuffer(reader.take(4 * count), "<f4").astype(np.float32)
    listed = np.frombuffer(reader.take(4 * different), "<f4").astype(np.float32)
    places = _unpacked(reader.take(reader.left), count)
    if places.max() >= different:
        raise WireError("a value that is not among those listed")
    return listed[places]


def _unpacked(packed: memoryview, count: int) -> np.ndarray:
    """The ``count`` bytes that were compressed, uint8."""
    import zstandard

    try:
        # The size that a frame announces is what is reserved for it.
        if zstandard.frame_content_size(packed) != count:
            raise WireError(f"values that are not of {count} pairs")
        whole = zstandard.ZstdDecompressor().decompress(
            packed, max_output_size=count, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise WireError(f"malformed values of pairs: {error}") from error
    if len(whole) != count:
        raise WireError(f"{len(whole)} values of {count} pairs")
    return np.frombuffer(whole, np.uint8)


class _Reader:
    """Takes a payload apart from its beginning on."""

    def __init__(self, payload: bytes | memoryview) -> None:
        self._data, self._at = memoryview(payload).cast("B"), 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, length: int) -> memoryview:
        if length > self.left:
            raise WireError("pairs that end within their bytes")
        self._at += length
        return self._data[self._at - length : self._at]

    def number(self) -> int:
        value, used = varints.first(self._data[self._at :])
        self._at += used
        return value

    def end(self) -> None:
        if self.left:
            raise WireError("pairs with bytes behind their end")
