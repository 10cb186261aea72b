"""Frames and control messages: what is not whole is a WireError, and nothing else."""

import contextlib
import math
import resource
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from hansa.base.errors import WireError
from hansa.engine.exchange.wire import (
    HEADER_BYTES,
    MAX_PAYLOAD,
    Header,
    checksum,
    pack_control,
    unpack_control,
)

WORD = st.integers(0, 2**32 - 1)
HEADERS = st.builds(
    Header,
    sender=WORD,
    receiver=WORD,
    round=WORD,
    phase=st.integers(0, 2**16 - 1),
    elements=WORD,
    size=st.integers(0, MAX_PAYLOAD),
    checksum=WORD,
    arrival=st.floats(allow_nan=False, allow_infinity=False),
    kind=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=16),
)


def header_for(payload: bytes, **changes: Any) -> Header:
    fields: dict[str, Any] = {
        "sender": 1,
        "receiver": 2,
        "round": 3,
        "phase": 0,
        "elements": len(payload) // 4,
        "size": len(payload),
        "checksum": checksum(payload),
        "arrival": 1.5,
        "kind": "model",
    }
    return Header(**(fields | changes))


@given(HEADERS)
def test_a_header_comes_back(header: Header) -> None:
    data = header.pack()
    assert len(data) == HEADER_BYTES == 64
    assert Header.unpack(data) == header
    assert Header.unpack(memoryview(data)) == header


@given(HEADERS, st.integers(0, 8 * HEADER_BYTES - 1))
def test_any_flipped_bit_of_a_header_is_noticed(header: Header, bit: int) -> None:
    data = bytearray(header.pack())
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(WireError):
        Header.unpack(bytes(data))


@given(st.binary(min_size=1, max_size=200), st.data())
def test_any_change_of_a_payload_is_noticed(payload: bytes, data: st.DataObject) -> None:
    header = Header.unpack(header_for(payload).pack())
    header.verify(payload)
    bit = data.draw(st.integers(0, 8 * len(payload) - 1))
    flipped = bytearray(payload)
    flipped[bit // 8] ^= 1 << bit % 8
    for bad in (bytes(flipped), payload[:-1], payload + b"\0", b""):
        with pytest.raises(WireError):
            header.verify(bad)


@given(st.one_of(st.binary(max_size=100), st.binary(min_size=HEADER_BYTES, max_size=HEADER_BYTES)))
def test_random_bytes_are_no_header(data: bytes) -> None:
    with pytest.raises(WireError):
        Header.unpack(data)


@given(HEADERS, st.integers(0, HEADER_BYTES - 1))
def test_a_cut_header_is_refused(header: Header, length: int) -> None:
    with pytest.raises(WireError, match="bytes instead of 64"):
        Header.unpack(header.pack()[:length])


@pytest.mark.parametrize("arrival", [math.nan, math.inf, -math.inf])
def test_a_message_arrives_at_some_time(arrival: float) -> None:
    with pytest.raises(WireError, match="arrives at"):
        Header.unpack(header_for(b"", arrival=arrival).pack())


def test_too_long_a_payload_is_refused_by_its_header() -> None:
    with pytest.raises(WireError, match="over the limit"):
        Header.unpack(header_for(b"", size=MAX_PAYLOAD + 1).pack())


@given(
    arrays(
        st.sampled_from([np.float32, np.float64, np.int32, np.int64, np.uint8, np.bool_]),
        array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
    ),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    ),
)
def test_control_messages_come_back(array: np.ndarray, plain: Any) -> None:
    message = unpack_control(
        pack_control("report", array=array, inner={"deep": [array]}, plain=plain)
    )
    assert message["kind"] == "report"
    for found in (message["array"], message["inner"]["deep"][0]):
        assert found.dtype == array.dtype
        assert found.shape == array.shape
        assert found.tobytes() == array.tobytes()
        assert found.flags.writeable
    assert repr(message["plain"]) == repr(plain)


def test_numpy_scalars_travel_as_plain_numbers() -> None:
    message = unpack_control(pack_control("x", a=np.int64(3), b=np.float64(0.5), c=np.bool_(True)))
    assert message == {"kind": "x", "a": 3, "b": 0.5, "c": True}
    with pytest.raises(TypeError, match="does not travel"):
        pack_control("x", a=object())


def shaped(dtype: Any, shape: Any, body: bytes = b"") -> bytes:
    head = msgpack.packb([dtype, shape])
    return msgpack.packb({"kind": "x", "a": msgpack.ExtType(1, head + body)})


HOSTILE = [
    b"",
    b"\x81\x90\x01",  # a list as a key
    b"\xc1",
    b"\x91" * 5000,
    b"\x81\xa4kind" * 3000,
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xffabc",
    b"\xc9\xff\xff\xff\xff\x01",
    (b"\xdd\x00\x0f\xff\xff" * 500) + b"\xc0" * (1 << 20),
    msgpack.packb([1, 2]),
    msgpack.packb({"no": "kind"}),
    msgpack.packb({"kind": "x"}) + b"\0",
    msgpack.packb({"kind": msgpack.ExtType(1, b"")}),
    msgpack.packb({"kind": msgpack.ExtType(1, msgpack.packb(5))}),
    msgpack.packb({"kind": msgpack.ExtType(7, b"abc")}),
    b"\x81\xa4kind\xc7\x03\xffabc",  # a timestamp of three bytes
    msgpack.packb({b"kind": "x"}),
    msgpack.packb({"kind": b"\xff".decode("latin1")})[:-1],
    shaped("float32", 5),
    shaped("float32", None),
    shaped("object", [0]),
    shaped(["float32"], [0]),
    shaped({"a": 1}, [0]),
    shaped("float32", ["1"]),
    shaped("float32", [-1]),
    shaped("float32", [2**64 - 1]),
    shaped("int32", [2**62, 4]),
    shaped("int32", [2**63, 2**63, 0]),
    shaped("uint8", [1] * 70, b"1"),
    shaped("uint8", [2, 2], b"12345"),
    shaped("uint8", [1 << 40]),
    shaped("uint8", [0, 2**63]),
    shaped("uint8", [True]),
    msgpack.packb({"kind": [1]}),
]


@pytest.mark.parametrize("data", HOSTILE, ids=lambda data: repr(data[:24]))
def test_hostile_control_messages_are_wire_errors_and_cost_no_memory(data: bytes) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WireError):
        unpack_control(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # KiB


@settings(max_examples=400)
@given(st.binary(max_size=80))
@example(b"\x81\xa4kind\xc7\x00\x01")
def test_random_bytes_are_a_wire_error_or_a_message(data: bytes) -> None:
    try:
        message = unpack_control(data)
    except WireError:
        return
    assert "kind" in message


@settings(max_examples=400)
@given(st.integers(0, 10_000), st.integers(0, 255), st.integers(0, 10_000))
def test_a_damaged_message_is_a_wire_error_or_a_message(at: int, byte: int, cut: int) -> None:
    whole = pack_control(
        "report",
        report={"ids": np.arange(3), "values": {"loss": np.ones((2, 2))}, "none": None},
    )
    damaged = bytearray(whole)
    damaged[at % len(whole)] = byte
    for data in (bytes(damaged), bytes(damaged[: cut % len(whole)])):
        with contextlib.suppress(WireError):
            assert "kind" in unpack_control(data)


@given(st.floats(), st.floats())
def test_figures_keep_their_bits(a: float, b: float) -> None:
    assume(not (math.isnan(a) or math.isnan(b)))
    found = unpack_control(pack_control("x", a=a, b=[b]))
    assert (found["a"], found["b"][0]) == (a, b)
