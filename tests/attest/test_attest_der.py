"""The DER reader: what is written is read, and any other bytes are refused by one kind of error."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.attest.der import INTEGER, SEQUENCE, Reader, read
from hansa.attest.refusals import Malformed, Trailing, Truncated

from .certifying import der, integer, octets, oid, seq


@settings(max_examples=60)
@given(st.integers(0, 1 << 2048))
def test_numbers_come_back(value: int) -> None:
    reader = Reader(integer(value))
    assert reader.integer() == value
    assert reader.at_end


@settings(max_examples=60)
@given(
    st.integers(0, 2),
    st.integers(0, 39),
    st.lists(st.integers(0, 1 << 40), max_size=8),
)
def test_object_identifiers_come_back(first: int, second: int, rest: list[int]) -> None:
    dotted = ".".join(map(str, [first, second, *rest]))
    assert Reader(oid(dotted)).oid() == dotted


@settings(max_examples=40)
@given(st.binary(max_size=70_000), st.integers(0, 255).filter(lambda tag: tag & 31 != 31))
def test_values_of_any_length_come_back(content: bytes, tag: int) -> None:
    encoded = der(tag, content)
    assert Reader(encoded).element() == (tag, content, encoded)
    for cut in {len(encoded) - 1, len(encoded) // 2, 1} - {len(encoded)}:
        with pytest.raises(Truncated):
            Reader(encoded[:cut]).element(tag)


@settings(max_examples=200)
@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for ask in ("integer", "boolean", "oid", "bits", "flags", "text", "time", "inside", "content"):
        reader = Reader(data)
        try:
            getattr(reader, ask)()
        except Malformed:
            continue
        assert data.endswith(reader.rest)


@pytest.mark.parametrize(
    "data",
    [
        b"\x30\x80\x00\x00",  # indefinite
        b"\x30\x81\x05" + bytes(5),  # 5 fits into one byte
        b"\x30\x82\x00\xff" + bytes(255),  # a zero first
        b"\x30\x84\x00\x00\x00\x01\x00",  # a length of four bytes
        b"\x30\xff",  # reserved
        b"\x3f\x81\x01\x00",  # a long tag
        b"\x02\x02\x00\x01",  # another kind
    ],
)
def test_what_is_no_der_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        Reader(data).element(SEQUENCE)


@pytest.mark.parametrize("content", [b"", b"\x00\x01", b"\x80", b"\xff\xff"])
def test_numbers_are_minimal_and_not_negative(content: bytes) -> None:
    with pytest.raises(Malformed):
        Reader(der(INTEGER, content)).integer()


@pytest.mark.parametrize("content", [b"", b"\x80\x01", b"\x2a\x86", b"\x2a\x80\x01", b"\x01" * 65])
def test_object_identifiers_are_minimal(content: bytes) -> None:
    with pytest.raises(Malformed):
        Reader(der(0x06, content)).oid()


@pytest.mark.parametrize(
    "text", [b"2601010000Z", b"260101000000+0000", b"261301000000Z", b"x" * 13]
)
def test_times_are_whole_and_in_utc(text: bytes) -> None:
    with pytest.raises(Malformed):
        Reader(der(0x17, text)).time()


def test_two_digits_of_a_year_stand_for_1950_to_2049() -> None:
    assert Reader(der(0x17, b"491231235959Z")).time().year == 2049
    assert Reader(der(0x17, b"500101000000Z")).time().year == 1950
    assert Reader(der(0x18, b"20500101000000Z")).time().year == 2050


def test_depth_hurts_nobody() -> None:
    data = b""
    for _ in range(5000):
        data = seq(data)
    reader = read(data, "much")
    for _ in range(4998):
        reader = reader.inside()
    assert reader.rest == seq()


def test_truth_values_and_flags_have_one_form() -> None:
    assert Reader(der(0x01, b"\xff")).boolean()
    assert Reader(der(0x03, b"\x01\x06")).flags() == 0b1100000
    for content in (b"\x01", b"", b"\0\0"):
        with pytest.raises(Malformed):
            Reader(der(0x01, content)).boolean()
    for content in (b"", b"\0", b"\x08\0", b"\x01\x01", b"\0\0\0\0"):
        with pytest.raises(Malformed):
            Reader(der(0x03, content)).flags()


def test_what_is_behind_the_end_is_told() -> None:
    with pytest.raises(Trailing, match="1 bytes behind the end of a thing"):
        read(seq(octets(b"x")) + b"\0", "a thing")
