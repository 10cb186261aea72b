"""Frames: round trips, limits before memory, and mutations of which none is taken for the frame."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.errors import WireError
from hansa.infer.private.protocol.codes import CODES, Refusal
from hansa.infer.private.protocol.frames import (
    HEADER_BYTES,
    Frame,
    Kind,
    TooLarge,
    WrongVersion,
    decode,
    pack_facts,
    read_header,
    unpack_facts,
)

LIMIT = 4096


def limit(kind: Kind) -> int:
    return LIMIT


frames = st.builds(
    Frame,
    st.sampled_from(Kind),
    st.binary(min_size=16, max_size=16),
    st.integers(-1, 2**31 - 1),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=300),
)


@given(frames)
def test_a_frame_comes_back_as_it_was(frame: Frame) -> None:
    data = frame.encode()
    assert len(data) == HEADER_BYTES + len(frame.body)
    assert decode(data, limit) == frame


@given(frames, st.data())
def test_a_mutated_frame_is_refused(frame: Frame, data: st.DataObject) -> None:
    raw = bytearray(frame.encode())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(WireError):
        decode(bytes(raw), limit)


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(WireError):
        decode(noise, limit)


def test_cut_and_lengthened_frames_are_refused() -> None:
    raw = Frame(Kind.REQUEST, bytes(16), 3, 1, b"body").encode()
    for cut in range(len(raw)):
        with pytest.raises(WireError):
            decode(raw[:cut], limit)
    with pytest.raises(WireError):
        decode(raw + b"x", limit)


def test_an_announced_length_is_held_against_the_limit_of_its_kind() -> None:
    raw = Frame(Kind.HELLO, body=bytes(LIMIT)).encode()
    with pytest.raises(TooLarge, match="limit"):
        read_header(raw[:HEADER_BYTES], lambda kind: LIMIT - 1 if kind is Kind.HELLO else 2**40)


def test_another_version_is_told_apart() -> None:
    raw = bytearray(Frame(Kind.HELLO).encode())
    raw[5] += 1
    with pytest.raises(WrongVersion, match="version 2"):
        decode(bytes(raw), limit)


@given(st.binary(max_size=300))
def test_noise_is_no_facts(noise: bytes) -> None:
    with pytest.raises(WireError):
        unpack_facts(noise, code=str)


def test_mutated_facts_never_crash() -> None:
    draw = random.Random(0)
    plain = pack_facts({"outline": b"x" * 40, "code": "busy", "left": 3, "deep": [[1], {"a": 2}]})
    for _ in range(3000):
        raw = bytearray(plain)
        for _ in range(draw.randint(1, 4)):
            raw[draw.randrange(len(raw))] = draw.randrange(256)
        try:
            facts = unpack_facts(bytes(raw), code=str, left=int)
        except WireError:
            continue
        assert isinstance(facts["left"], int)


def test_deep_facts_are_refused() -> None:
    with pytest.raises(WireError):
        unpack_facts(b"\x81\xa1a" + b"\x91" * 400 + b"\x01", a=list)


@pytest.mark.parametrize("code", CODES)
def test_a_refusal_comes_back_by_its_code(code: str) -> None:
    about = Frame(Kind.REQUEST, bytes(range(16)), 4, 2, b"...")
    back = Refusal.of(decode(Refusal(code, "what \x1b[31m").frame(about).encode(), limit))
    assert (back.code, back.text) == (code, "what ?[31m")
