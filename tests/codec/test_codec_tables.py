"""Tables: what their bytes are, many at once, and what makes them differ in form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.errors import WireError
from hansa.codec import Padded, PairGaps, Table, Tables, varints
from hansa.codec.messages import concatenate, select, width

U64 = st.integers(0, 2**64 - 1)


def plain_varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


@given(st.lists(U64))
def test_varints_are_those_of_the_plain_loop(values: list[int]) -> None:
    array = np.array(values, dtype=np.uint64)
    lengths = varints.lengths(array)
    ends = np.cumsum(lengths)
    data = np.zeros(int(lengths.sum()), np.uint8)
    varints.write(data, ends - lengths, array)
    assert data.tobytes() == b"".join(map(plain_varint, values))
    assert varints.read(data, ends - lengths, ends).tolist() == values


@given(U64, st.binary(max_size=3))
def test_a_single_varint_is_that_of_many(value: int, rest: bytes) -> None:
    assert varints.one(value) == plain_varint(value)
    assert varints.first(memoryview(varints.one(value) + rest)) == (value, len(varints.one(value)))


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_small_differences_of_either_sign_are_short(values: list[int]) -> None:
    array = np.array(values, dtype=np.int64)
    folded = varints.folded(array)
    assert folded.tolist() == [2 * v if v >= 0 else -2 * v - 1 for v in values]
    assert varints.unfolded(folded).tolist() == values


@pytest.mark.parametrize("data", [b"\x80\x00", b"\xff" * 9 + b"\x02", b"\xff" * 10 + b"\x01"])
def test_numbers_that_no_encoder_writes_are_refused(data: bytes) -> None:
    raw = np.frombuffer(data, np.uint8)
    with pytest.raises(WireError):
        varints.read(raw, np.array([0]), np.array([len(raw)]))


def bytes_of(**columns: np.ndarray) -> int:
    one = Tables.of([columns])
    assert Table().size(one)[0] == len(Table().encode(one)[0])
    return int(Table().size(one)[0])


def test_each_column_is_in_its_shortest_code() -> None:
    """One byte says how many rows, one what a column is."""
    n = 100
    assert bytes_of(x=np.arange(1000, 1000 + n)) == 2 + n + 1  # steps of 1; the first is from 0
    assert bytes_of(x=np.full(n, 5)) == 2 + n
    assert bytes_of(x=np.arange(n)[::-1] * 500) == 2 + 2 * n  # steps of 500, or two bytes each
    assert bytes_of(x=np.tile([0, 65535], n // 2)) == 2 + 2 * n  # narrower; steps take three
    assert bytes_of(x=np.tile([0, 1 << 62], n // 2)) == 2 + 8 * n  # nothing helps
    assert bytes_of(x=np.ones(n, np.int8)) == 2 + n
    assert bytes_of(x=np.arange(n) / 2) == 2 + 2 * n  # halves are exact in float16
    assert bytes_of(x=np.full(n, 1 / 3, np.float32)) == 2 + 4 * n
    assert bytes_of(x=np.full(n, np.float64(np.float32(0.1)))) == 2 + 4 * n
    assert bytes_of(x=np.full(n, 0.1)) == 2 + 8 * n
    assert bytes_of(x=np.full((n, 3), 0.1)) == 3 + 24 * n


def test_a_row_of_five_columns_costs_six_bytes_beside_its_numbers() -> None:
    row = {"client": np.array([900]), "round": np.array([3]), "share": np.array([0.1])}
    row |= {"steps": np.array([10]), "late": np.array([True])}
    assert bytes_of(**row) == 6 + 2 + 1 + 8 + 1 + 1


def test_wide_columns_step_from_the_row_before() -> None:
    """Rising ids beside noise do not spoil each other."""
    ids = np.stack([np.arange(50) + 10**6, 50 - np.arange(50)], 1)
    assert bytes_of(ids=ids) == 3 + 2 * 50 + 2


def test_ratings_take_half_of_what_their_types_do() -> None:
    draw = np.random.default_rng(0)
    shared = {"user": draw.integers(0, 610, 300), "item": draw.integers(0, 9724, 300)}
    shared["stars"] = draw.integers(1, 11, 300).astype(np.uint8)
    assert bytes_of(**shared) < 5 * 300 + 10


def test_tables_without_rows_pass() -> None:
    none = Tables(np.zeros(3, np.int64), {"a": np.zeros(0, np.int64), "b": np.zeros((0, 2))})
    for payload in Table().encode(none):
        assert Table().decode(payload, 3).counts.tolist() == [0]
    # The same in the code that no encoder chooses for them.
    assert Table().decode(bytes([0, 3 | 4 << 4]), 1).counts.tolist() == [0]
    assert Table().encode(select(none, np.zeros(0, np.int64))) == []


def test_many_payloads_are_unpacked_at_once() -> None:
    draw = np.random.default_rng(1)
    columns = {"id": draw.integers(-9, 1 << 40, 40), "x": draw.random((40, 2))}
    messages = Tables(np.array([0, 0, 7, 8, 40]), columns)
    back = Table().unpack(Table().encode(messages), width(messages))
    assert back.indptr.tolist() == messages.indptr.tolist()
    for mine, theirs in zip(columns.values(), back.columns.values(), strict=True):
        assert np.array_equal(mine, theirs)
    other = Tables.rows(id=np.zeros(1, np.int32), x=np.zeros((1, 2)))
    with pytest.raises(WireError, match="another"):
        Table().unpack([*Table().encode(messages), *Table().encode(other)], 3)


def test_what_arrives_takes_the_names_of_what_is_expected() -> None:
    here = Tables.rows(item=np.array([1, 2]), stars=np.array([3.0, 4.5]))
    came = Table().decode(Table().encode(here)[1], 2)
    both = concatenate([select(here, np.zeros(0, np.int64)), came])
    assert isinstance(both, Tables)
    assert both.table(0)["item"].tolist() == [2]
    assert both.table(0)["stars"].tolist() == [4.5]
    with pytest.raises(WireError, match="were due"):
        concatenate([here, Tables.rows(item=np.array([1]), stars=np.array([3]))])


def test_whoever_reads_names_the_columns() -> None:
    """Alike whether a table became bytes on its way or not."""
    here = Tables.rows(item=np.array([1, 2]), stars=np.array([3.0, 4.5]))
    for codec, names in ((Table(), ["0", "1"]), (Table(names=("a", "b")), ["a", "b"])):
        for came in (codec.labelled(here), codec.decode(codec.encode(here)[0], 2)):
            assert [*came.columns] == names
    with pytest.raises(WireError, match="2 columns where a were due"):
        Table(names=("a",)).decode(Table().encode(here)[0], 2)


def test_a_column_is_rounded_where_it_is_asked_for() -> None:
    here = Tables.rows(x=np.array([0.1, 1e300]), y=np.array([0.1, 0.1]))
    through = Table(rounded={"x": "float16"}).through(here)
    assert through.columns["x"].tolist() == [float(np.float16(0.1)), np.inf]
    assert through.columns["y"] is here.columns["y"]
    with pytest.raises(ValueError, match="no column 'z'"):
        Table(rounded={"z": "float16"}).through(here)
    with pytest.raises(ValueError, match="with a point"):
        Table(rounded={"x": "float16"}).size(Tables.rows(x=np.array([1])))


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one column"):
        Tables(np.zeros(1, np.int64), {})
    with pytest.raises(ValueError, match="is of"):
        Tables.rows(x=np.array(["a"]))
    with pytest.raises(ValueError, match="where there are 2 rows"):
        Tables.rows(x=np.zeros(2), y=np.zeros(3))
    with pytest.raises(ValueError, match="same columns"):
        Tables.of([{"x": np.zeros(2)}, {"y": np.zeros(2)}])
    with pytest.raises(ValueError, match="equally long"):
        Tables.of([{"x": np.zeros(2), "y": np.zeros(3)}])


def test_ratings_in_order_take_less_than_half_of_a_table() -> None:
    """300 ratings drawn from 610 users' of 9,724 films: 5.9 bytes each, or 2.6."""
    random = np.random.default_rng(0)
    drawn = np.sort(random.choice(610 * 9724, 300, replace=False))
    random.shuffle(drawn)
    pairs = {"user": drawn // 9724, "item": drawn % 9724}
    often = np.array([1, 3, 2, 8, 6, 20, 13, 27, 8, 12])  # 0.5 stars to 5
    stars = random.choice(np.arange(1, 11) / 2, 300, p=often / often.sum())
    ratings = Tables(np.array([0, 300]), pairs | {"stars": stars.astype(np.float32)})
    assert Table().size(ratings)[0] / 300 < 5.9
    assert PairGaps().size(ratings)[0] / 300 < 2.65


def test_padding_hides_how_much_is_said() -> None:
    pairs = dict.fromkeys(("user", "item"), np.arange(9))
    said = Tables(np.array([0, 0, 1, 9]), pairs | {"stars": np.ones(9, np.float32)})
    padded = Padded(codec=PairGaps(), block=64)
    assert {len(payload) for payload in padded.encode(said)} == {64}
    for bad in (b"", bytes(63), b"\x40" + bytes(63), b"\x01" + bytes(62) + b"\x01", bytes(128)):
        with pytest.raises(WireError):
            padded.decode(bad, 3)


def test_pairs_that_stand_twice_or_have_no_place_are_refused() -> None:
    def rated(*pairs: tuple[int, int]) -> Tables:
        ids = np.array(pairs)
        return Tables(
            np.array([0, len(ids)]),
            {"user": ids[:, 0], "item": ids[:, 1], "stars": np.ones(len(ids), np.float32)},
        )

    for bad, why in (
        (rated((3, 1), (3, 1)), "twice"),
        (rated((-1, 1)), "below 0"),
        (rated((1 << 30, 1 << 30)), "more than"),
    ):
        with pytest.raises(ValueError, match=why):
            PairGaps().encode(bad)
