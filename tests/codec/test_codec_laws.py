"""The laws that every codec keeps: sizes, round trips, and decoders that are safe."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hansa.base.component import catalogue
from hansa.base.errors import ConfigError, WireError
from hansa.codec import (
    QSGD,
    Codec,
    Dense,
    Lossless,
    Packets,
    Padded,
    PairGaps,
    Raw,
    Seeded,
    Sign,
    Sparse,
    SparseRows,
    Table,
    Tables,
    Uniform,
    seeded_rows,
)
from hansa.codec.messages import Messages, concatenate, select, width
from hansa.codec.table_messages import TYPES

DENSE: list[Codec] = [
    Dense(),
    Dense(dtype="float16"),
    Dense(dtype="bfloat16"),
    Uniform(),
    Uniform(bits=2),
    Uniform(bits=16),
    QSGD(),
    QSGD(bits=2),
    QSGD(bits=16),
    Sign(),
    Lossless(),
]
INDEX = ("shortest", "gamma", "rice", "bitmap", "plain")
SPARSE: list[Codec] = [Sparse(index=index) for index in INDEX]
SPARSE += [Sparse(values=values) for values in (Dense(dtype="float16"), QSGD(), Lossless())]
SEEDED: list[Codec] = [Seeded(values=values) for values in (Dense(), Uniform(), Sign(), Lossless())]
TABLE: list[Codec] = [Table(), Table(rounded={"c0": "float16", "c1": "float32"})]
PADDED: list[Codec] = [Padded(), Padded(codec=Sparse(), block=7)]
PADDED += [Padded(codec=PairGaps(), block=16)]
CODECS = [*DENSE, *SPARSE, *SEEDED, *TABLE, PairGaps(), Raw(), *PADDED]
GROUPS = st.sampled_from([1, 1, 2, 3])
ROWS = st.tuples(st.integers(0, 4), st.integers(0, 9)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.floats(width=32))
)


@st.composite
def sparse_rows(draw: st.DrawFn) -> SparseRows:
    rows = torch.from_numpy(draw(ROWS))
    n, group = len(rows), draw(GROUPS)
    rows = rows[:, : rows.shape[1] // group * group]
    size = rows.shape[1] // group
    of_one = st.lists(st.integers(0, size - 1), unique=True) if size else st.just([])
    positions = [np.array(sorted(draw(of_one)), dtype=np.int64) for _ in range(n)]
    return SparseRows.of(rows, positions, group)


@st.composite
def seeded(draw: st.DrawFn) -> SparseRows:
    rows, group = torch.from_numpy(draw(ROWS)), draw(GROUPS)
    rows = rows[:, : rows.shape[1] // group * group]
    seeds = draw(arrays(np.uint64, len(rows)))
    return seeded_rows(rows, seeds, draw(st.sampled_from([0.0, 0.3, 0.9, 1.0])), group)


NUMBERS = st.one_of(st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1), st.just(1000))


@st.composite
def tables(draw: st.DrawFn, floats: bool = False) -> Tables:
    """Some messages of one form; the first two columns have a point where ``floats``."""
    counts = np.array(draw(st.lists(st.integers(0, 4), max_size=4)), dtype=np.int64)
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    columns = {}
    for j in range(draw(st.integers(2 if floats else 1, 3))):
        of = ("float32", "float64") if floats and j < 2 else TYPES
        dtype = np.dtype(draw(st.sampled_from(of)))
        shape = draw(st.sampled_from([(), (2,), (3,)]))
        plain = draw(arrays(np.int64, (int(indptr[-1]), *shape), elements=NUMBERS))
        with np.errstate(over="ignore"):
            column = plain.astype(dtype)
        if dtype.kind == "f" and draw(st.booleans()):
            width = 8 * dtype.itemsize
            column = draw(arrays(dtype, column.shape, elements=st.floats(width=width)))  # type: ignore[arg-type]
        if dtype.kind == "i" and draw(st.booleans()):
            column = np.sort(column, axis=0)
        columns[f"c{j}"] = column
    return Tables(indptr, columns)


@st.composite
def rated_pairs(draw: st.DrawFn) -> Tables:
    """Some messages of different pairs with a value each, few ids or many."""
    most = draw(st.sampled_from([3, 300, 1 << 20]))
    pair, value = st.tuples(*[st.integers(0, most - 1)] * 2), st.floats(width=32)
    each = draw(st.lists(st.dictionaries(pair, value, max_size=6), max_size=4))
    pairs = np.array([p for one in each for p in one], dtype=np.int64).reshape(-1, 2)
    values = np.array([v for one in each for v in one.values()], dtype=np.float32)
    indptr = np.cumsum([0, *map(len, each)]).astype(np.int64)
    numbers = arrays(np.uint8, len(values))
    notes = {f"note {k}": draw(numbers) for k in range(draw(st.integers(0, 2)))}
    return Tables(indptr, {"user": pairs[:, 0], "item": pairs[:, 1], "stars": values, **notes})


def messages_for(codec: Codec) -> st.SearchStrategy[Any]:
    if isinstance(codec, Padded):
        return messages_for(codec.codec)
    if isinstance(codec, Table):
        return tables(floats=bool(codec.rounded))
    if isinstance(codec, PairGaps):
        return rated_pairs()
    if isinstance(codec, Raw):
        return st.lists(st.binary(max_size=9)).map(lambda found: Packets(tuple(found)))
    if isinstance(codec, Seeded):
        return seeded()
    return sparse_rows() if isinstance(codec, Sparse) else ROWS.map(torch.from_numpy)


def numbers(message: Messages) -> torch.Tensor:
    assert not isinstance(message, Packets | Tables)
    return message.values if isinstance(message, SparseRows) else message.reshape(-1)


def assert_same(one: Messages, other: Messages) -> None:
    """Equal to the bit, but for the bits of a NaN: torch narrows those in several ways."""
    assert type(one) is type(other)
    if isinstance(one, Packets):
        assert one == other or (isinstance(other, Packets) and one.packets == other.packets)
        return
    if isinstance(one, Tables):
        assert isinstance(other, Tables)
        assert one.form == other.form
        assert one.indptr.tolist() == other.indptr.tolist()
        for a, b in zip(one.columns.values(), other.columns.values(), strict=True):
            # As bytes, but for the bits of a NaN that was rounded.
            known = np.ones(a.size, bool) if a.dtype.kind != "f" else ~np.isnan(b).reshape(-1)
            assert a.reshape(-1)[known].tobytes() == b.reshape(-1)[known].tobytes()
            assert a.dtype.kind != "f" or np.isnan(a.reshape(-1)[~known]).all()
        return
    if isinstance(one, SparseRows):
        assert isinstance(other, SparseRows)
        assert (one.size, one.group) == (other.size, other.group)
        assert np.array_equal(one.positions, other.positions)
    a, b = numbers(one), numbers(other)
    assert a.dtype == b.dtype == torch.float32
    known = ~b.isnan()
    assert torch.equal(a.isnan(), ~known)
    assert torch.equal(a.view(torch.int32)[known], b.view(torch.int32)[known])


def test_every_codec_is_tried() -> None:
    ours = {n for n, c in catalogue("codec").items() if c.__module__.startswith("hansa.")}
    assert {codec.name for codec in CODECS} == ours


@pytest.mark.parametrize("codec", CODECS, ids=repr)
@settings(max_examples=40)
@given(data=st.data())
def test_size_and_content_are_those_of_the_encoding(codec: Codec, data: st.DataObject) -> None:
    messages = data.draw(messages_for(codec))
    payloads = codec.encode(messages)
    sizes = codec.size(messages)
    assert sizes.dtype == np.int64
    assert sizes.tolist() == [memoryview(p).nbytes for p in payloads]
    through = codec.through(messages)
    assert len(through) == len(messages) == len(payloads)
    for k, payload in enumerate(payloads):
        # As on the wire: the receiver has bytes of its own.
        decoded = codec.decode(bytes(payload), width(messages))
        whole = decoded.unsqueeze(0) if isinstance(decoded, torch.Tensor) else decoded
        assert_same(whole, select(through, np.array([k])))
        # A message is coded by itself, wherever it stands.
        alone = codec.encode(select(messages, np.array([k])))
        assert bytes(alone[0]) == bytes(payload)
    if payloads:
        parts = np.split(np.arange(len(payloads)), [1])
        assert_same(concatenate([select(messages, part) for part in parts]), messages)


def well_formed(codec: Codec, payload: bytes, elements: int) -> bool:
    """Decodes what may be anything; whether it was a message."""
    try:
        found = codec.decode(payload, elements)
    except WireError:
        return False
    if isinstance(found, SparseRows):
        at = found.positions
        assert len(found) == 1
        assert found.size == elements
        assert found.indptr.tolist() == [0, len(at)]
        assert len(found.values) == len(at) * found.group
        assert (np.diff(at) > 0).all()
        assert not len(at) or 0 <= at[0] <= at[-1] < elements // found.group
        assert elements % found.group == 0
    elif isinstance(found, torch.Tensor):
        assert found.shape == (elements,)
    elif isinstance(found, Tables):
        assert len(found) == 1
        assert found.width == elements
        if isinstance(codec, Table):
            assert Table().size(found)[0] <= len(payload)
        assert found.counts[0] <= 8 * len(payload)
    return True


@pytest.mark.parametrize("codec", CODECS, ids=repr)
@settings(max_examples=60)
@given(payload=st.binary(max_size=60), elements=st.integers(0, 40))
def test_any_bytes_are_a_message_or_a_wire_error(
    codec: Codec, payload: bytes, elements: int
) -> None:
    good = well_formed(codec, payload, elements)
    if isinstance(codec, Dense):
        assert good == (len(payload) == codec.size(torch.zeros(1, elements))[0])


@given(st.sampled_from(range(5)), st.integers(0, 40), st.integers(0, 45), st.data())
def test_any_index_code_behind_a_good_head(
    code: int, count: int, elements: int, data: st.DataObject
) -> None:
    body = data.draw(st.binary(max_size=60))
    length = data.draw(st.integers(0, len(body)))
    rice = data.draw(st.integers(0, 40)) if code == 2 else 0
    head = bytes([code, rice, 0, 0]) + count.to_bytes(4, "little") + length.to_bytes(4, "little")
    values = bytes(4 * count)
    well_formed(Sparse(), head + body[:length] + values, elements)


@pytest.mark.parametrize("codec", [c for c in CODECS if not isinstance(c, Raw)], ids=repr)
@settings(max_examples=30)
@given(data=st.data())
def test_damaged_payloads_are_a_message_or_a_wire_error(codec: Codec, data: st.DataObject) -> None:
    messages = data.draw(messages_for(codec).filter(len))
    payload, elements = bytes(codec.encode(messages)[0]), width(messages)
    for cut in range(len(payload)):
        assert not well_formed(codec, payload[:cut], elements)
    assert not well_formed(codec, payload + b"\0", elements)
    assert not well_formed(codec, payload + bytes(9), elements)
    if payload:
        flipped = bytearray(payload)
        flipped[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
        well_formed(codec, bytes(flipped), elements)
        well_formed(codec, payload, elements + 1)


def test_what_is_announced_reserves_no_memory() -> None:
    """A few bytes that promise gigabytes."""
    huge = b"\x28\xb5\x2f\xfd\xe0" + (1 << 44).to_bytes(8, "little") + b"\x01\x00\x00"
    for codec, payload, elements in (
        (Lossless(), huge, 0),
        (Lossless(), bytes(30) + huge, 10),
        (Sparse(), b"\1\0\0\0" + b"\xff" * 8, 10),
        (Sparse(), b"\1\0\0\0" + b"\xff" * 4 + bytes(4), 1 << 32),
        (Dense(), b"", 1 << 40),
        (Sign(), bytes(5), 1 << 40),
        (QSGD(), bytes(5), 1 << 40),
        (PairGaps(), b"\xff\xff\xff\xff\x7f\x01\x01\x00\x00", 3),
        (PairGaps(), b"\x02\x02\x02\x00\x01\xc0\x01" + bytes(4) + huge, 3),
        (Table(), b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x03", 1),
        (Table(), b"\x04\x83\xff\xff\xff\xff\x07" + bytes(60), (1 << 31) - 1),
    ):
        with pytest.raises(WireError):
            codec.decode(payload, elements)


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan"), float("inf")])
def test_a_share_is_part_of_a_whole(share: float) -> None:
    payload = bytes(8) + np.float64(share).tobytes()
    with pytest.raises(WireError, match="share"):
        Seeded().decode(payload, 3)


# -- what each codec is for ----------------------------------------------------------------------


@given(st.integers(1, 4), st.integers(0, 6), st.data())
def test_groups_are_their_numbers_one_by_one(group: int, places: int, data: st.DataObject) -> None:
    rows = torch.arange(2 * places * group, dtype=torch.float32).reshape(2, places * group)
    every = st.sets(st.integers(0, places - 1)) if places else st.just(set())
    chosen = [np.array(sorted(data.draw(every)), dtype=np.int64) for _ in range(2)]
    grouped = SparseRows.of(rows, chosen, group)
    flat = [(p[:, None] * group + np.arange(group)).reshape(-1) for p in chosen]
    assert_same(grouped.single(), SparseRows.of(rows, flat))
    assert grouped.counts.tolist() == [len(p) for p in flat]
    assert (Sparse().size(grouped) <= Sparse().size(grouped.single())).all()
    with pytest.raises(ValueError, match="groups of"):
        SparseRows.of(torch.zeros(1, 7), [np.zeros(0, np.int64)], 2)


def test_an_embedding_costs_one_position() -> None:
    rows, chosen = torch.randn(1, 10_000), [np.arange(0, 1000, 7)]
    head = 12
    alone = Sparse().size(SparseRows.of(rows, chosen, 10).single())[0] - head - 4 * 1430
    assert Sparse().size(SparseRows.of(rows, chosen, 10))[0] - head - 4 * 1430 < alone / 4
    drawn = np.array([5], np.uint64)
    for group in (1, 10):
        part = seeded_rows(rows, drawn, 0.2, group)
        assert 0.1 < part.counts[0] / 10_000 < 0.3
        assert Seeded().size(part)[0] == 16 + 4 * (group > 1) + 4 * part.counts[0]


def test_parts_in_other_groups_do_not_go_together() -> None:
    rows = torch.zeros(1, 6)
    parts = [SparseRows.of(rows, [np.array([1])], group) for group in (2, 3)]
    with pytest.raises(WireError, match="groups of 2"):
        concatenate(parts)


def test_float32_is_lossless_and_the_others_are_not() -> None:
    rows = torch.randn(3, 5)
    assert Dense().through(rows) is rows
    for dtype in ("float16", "bfloat16"):
        lossy = Dense(dtype=dtype)
        assert not torch.equal(lossy.through(rows), rows)
        assert lossy.size(rows).tolist() == [10, 10, 10]
    with pytest.raises(ConfigError, match="dtype"):
        Codec.resolve({"name": "dense", "dtype": "int3"})


@given(arrays(np.uint32, st.integers(0, 50)))
def test_lossless_keeps_every_bit(bits: np.ndarray) -> None:
    rows = torch.from_numpy(bits.view(np.float32).copy()).unsqueeze(0)
    decoded = Lossless().decode(bytes(Lossless().encode(rows)[0]), len(bits))
    assert isinstance(decoded, torch.Tensor)
    assert decoded.numpy().view(np.uint32).tolist() == bits.tolist()
    assert Lossless().through(rows) is rows


def test_lossless_saves_some_of_a_networks_weights() -> None:
    rows = 0.05 * torch.randn(1, 20_000, generator=torch.Generator().manual_seed(0))
    special = torch.tensor([[np.nan, np.inf, -np.inf, -0.0, 1e-45, -1e-40]])
    assert Lossless().size(rows)[0] < 0.87 * rows.nbytes
    decoded = Lossless().decode(Lossless().encode(special)[0], 6)
    assert isinstance(decoded, torch.Tensor)
    assert torch.equal(decoded.view(torch.int32), special[0].view(torch.int32))


@given(st.integers(2, 16), ROWS.map(lambda x: np.nan_to_num(x, posinf=1, neginf=-1)))
def test_uniform_is_off_by_half_a_level_at_most(bits: int, values: np.ndarray) -> None:
    rows = torch.from_numpy(values)
    through = Uniform(bits=bits).through(rows)
    assert isinstance(through, torch.Tensor)
    if rows.numel():
        largest = rows.double().abs().amax(1, keepdim=True)
        half = largest / ((1 << (bits - 1)) - 1) / 2
        off = (through.double() - rows.double()).abs()
        assert (off <= half * (1 + 1e-6) + largest * 1e-7 + 1e-45).all()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_qsgd_is_unbiased_and_seeded_by_its_content(bits: int) -> None:
    codec, random = QSGD(bits=bits), torch.Generator().manual_seed(1)
    row, draws = torch.randn(20, generator=random), 4000
    # The last number only changes the seed.
    rows = torch.cat([row.repeat(draws, 1), 1e-6 * torch.randn(draws, 1, generator=random)], 1)
    through = codec.through(rows)
    assert isinstance(through, torch.Tensor)
    step = row.norm() / ((1 << (bits - 1)) - 1)
    assert ((through[:, :20].mean(0) - row).abs() < 5 * 0.5 * step / draws**0.5).all()
    assert len(np.unique(through.numpy(), axis=0)) > 10
    assert torch.equal(through, codec.through(rows.clone()))  # type: ignore[arg-type]


def test_sign_keeps_signs_and_the_mean_magnitude() -> None:
    through = Sign().through(torch.tensor([[1.0, -2.0, 3.0]]))
    assert isinstance(through, torch.Tensor)
    assert through.tolist() == [[2, -2, 2]]


def test_rows_that_diverged_stay_diverged() -> None:
    rows = torch.tensor([[1.0, torch.nan], [torch.inf, 1.0], [3e38, 3e38]])
    for codec in (Uniform(), QSGD(), Sign()):
        through = codec.through(rows)
        assert isinstance(through, torch.Tensor)
        assert not through[:2].isfinite().any(), codec


def test_tiny_numbers_are_not_lost_to_the_norm() -> None:
    through = QSGD(bits=8).through(torch.full((1, 4), 1e-30))
    assert isinstance(through, torch.Tensor)
    assert through.sum() == pytest.approx(4e-30, rel=0.1)


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_messages_of_another_form_are_refused(codec: Codec) -> None:
    forms: list[Messages] = [torch.zeros(1, 3), Packets((b"",))]
    forms.append(SparseRows.of(torch.zeros(1, 3), [np.array([1])]))
    forms.append(Tables.rows(id=np.zeros(1, np.int64)))
    pairs = dict.fromkeys(("user", "item"), np.zeros(1, np.int64))
    forms.append(Tables.rows(**pairs, stars=np.zeros(1, np.float32)))
    inner = codec.codec if isinstance(codec, Padded) else codec
    fits = {Raw: 1, Sparse: 2, Table: 3, PairGaps: 4}.get(
        type(inner), 5 if isinstance(inner, Seeded) else 0
    )
    for k, form in enumerate(forms):
        if k != fits and (k, type(inner)) != (4, Table):
            for use in (codec.encode, codec.size, codec.through):
                with pytest.raises(TypeError, match="codec"):
                    use(form)
