"""Channels: two ends that know each other, and whoever sits between them."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.errors import ConfigError
from hansa.engine.links import sealing
from hansa.engine.links.channel import MAX_FRAME, channel_of
from hansa.engine.links.framing import Sort, header
from hansa.engine.links.refusal import ChannelError
from hansa.engine.links.secret import SecretChannel
from hansa.engine.links.ticket import Peer, Ticket
from hansa.engine.links.tls import TlsChannel

from .channel_ends import KINDS, NORTH, SOUTH, both, one_line, pair, ready, sealed, talk, tickets

FRAMES = st.lists(st.binary(max_size=300), min_size=1, max_size=8)


@both
@pytest.mark.parametrize("piece", [0, 1, 7, 100])
def test_two_ends_accept_each_other_however_their_words_are_cut(kind: str, piece: int) -> None:
    dialler, listener = ready(kind, piece)
    assert dialler.binding == listener.binding
    assert len(dialler.binding) == 32
    if kind == "tls":
        assert (dialler.peer, listener.peer) == (SOUTH.fingerprint, NORTH.fingerprint)
    else:
        assert dialler.peer == listener.peer == "secret"
    assert listener.receive(sealed(dialler, b"there")) == [b"there"]
    assert dialler.receive(sealed(listener, b"and ", b"back")) == [b"and back"]


@both
def test_each_session_has_a_binding_of_its_own(kind: str) -> None:
    assert len({ready(kind)[0].binding for _ in range(5)}) == 5


@both
@given(frames=FRAMES, places=st.lists(st.integers(0, 2600), max_size=12))
@settings(max_examples=40, deadline=None)
def test_any_split_of_the_stream_gives_the_same_frames(
    kind: str, frames: list[bytes], places: list[int]
) -> None:
    dialler, listener = READY[kind]
    stream = b"".join(sealed(dialler, frame) for frame in frames)
    cuts = sorted(place % (len(stream) + 1) for place in places)
    got = []
    buffer = bytearray()
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        buffer[:] = stream[start:end]  # memory that is used again
        got += listener.receive(memoryview(buffer) if start % 2 else bytes(buffer))
        buffer[:] = bytes(len(buffer))
    assert [bytes(frame) for frame in got] == frames


READY = {kind: ready(kind) for kind in KINDS}


@both
def test_frames_behind_the_last_word_of_the_handshake_are_not_lost(kind: str) -> None:
    dialler, listener = pair(kind)
    while not listener.ready:
        listener.receive(dialler.outgoing())
        if not listener.ready:
            dialler.receive(listener.outgoing())
    assert dialler.receive(listener.outgoing() + sealed(listener, b"first")) == [b"first"]
    assert dialler.ready


@both
def test_nobody_is_ready_before_the_other_has_accepted(kind: str) -> None:
    dialler, listener = pair(kind)
    with pytest.raises(ValueError, match="nothing before"):
        dialler.seal(b"early")
    for _ in range(4):
        listener.receive(dialler.outgoing())
        assert not dialler.ready
        word = listener.outgoing()
        if listener.ready:
            break
        dialler.receive(word)
    assert dialler.receive(word) == []
    assert dialler.ready


@both
def test_a_frame_is_no_longer_than_announced_lengths_may_be(kind: str) -> None:
    dialler, listener = ready(kind)
    assert len(listener.receive(sealed(dialler, bytes(MAX_FRAME)))[0]) == MAX_FRAME
    with pytest.raises(ValueError, match="at most"):
        dialler.seal(bytes(MAX_FRAME), b"x")
    with pytest.raises(ChannelError, match="announces a frame that cannot be"):
        listener.receive(header(Sort.FRAME, MAX_FRAME + 21))


def flip(frames: list[bytes]) -> bytes:
    return frames[0] + frames[1][:-1] + bytes([frames[1][-1] ^ 1]) + frames[2]


TAMPERING: dict[str, Callable[[list[bytes]], bytes]] = {
    "a bit turned": flip,
    "a bit of the body turned": lambda f: f[0][:6] + bytes([f[0][6] ^ 128]) + f[0][7:],
    "two swapped": lambda f: f[1] + f[0],
    "one repeated": lambda f: f[0] + f[0],
    "one left out": lambda f: f[1] + f[2],
    "one shortened": lambda f: header(Sort.FRAME, len(f[0]) - 5) + f[0][4:-1],
    "one lengthened": lambda f: header(Sort.FRAME, len(f[0]) - 3) + f[0][4:] + b"x",
    "two made one": lambda f: header(Sort.FRAME, len(f[0] + f[1]) - 8) + f[0][4:] + f[1][4:],
    "another sort": lambda f: bytes([Sort.REFUSE]) + f[0][1:],
    "a handshake's word": lambda f: bytes([Sort.HANDSHAKE]) + f[0][1:],
    "a sort that is none": lambda f: b"\x09" + f[0][1:],
    "too short for a tag": lambda f: header(Sort.FRAME, 3) + b"abc",
    "a refusal in the clear": lambda f: header(Sort.REFUSE, 1) + b"\x01",
}


@both
@pytest.mark.parametrize("tampering", TAMPERING)
@pytest.mark.parametrize("to_listener", [True, False])
def test_what_was_tampered_with_on_the_way_ends_the_channel(
    kind: str, tampering: str, to_listener: bool
) -> None:
    dialler, listener = ready(kind)
    speaks, hears = (dialler, listener) if to_listener else (listener, dialler)
    frames = [sealed(speaks, text) for text in (b"one hundred", b"two hundred", b"three hundred")]
    with pytest.raises(ChannelError) as caught:
        hears.receive(TAMPERING[tampering](frames))
    one_line(caught.value)
    with pytest.raises(ChannelError, match=str(caught.value.problem)[:20]):
        hears.receive(frames[0])  # it stays at its end
    with pytest.raises(ValueError):
        hears.seal(b"more")
    with pytest.raises(ChannelError, match="refused by the other end: a frame"):
        speaks.receive(hears.outgoing())


@both
def test_a_frame_turned_round_or_of_another_session_does_not_hold(kind: str) -> None:
    dialler, listener = ready(kind)
    frame = sealed(dialler, b"mine")
    with pytest.raises(ChannelError):
        dialler.receive(frame)
    with pytest.raises(ChannelError):
        ready(kind)[1].receive(frame)
    assert listener.receive(frame) == [b"mine"]


def test_only_keys_hide_what_is_said() -> None:
    for kind, seen in (("secret", True), ("tls", False)):
        frame = sealed(ready(kind)[0], b"weights of a model", b" and more")
        assert (b"weights of a model and more" in frame) == seen


@both
def test_keys_of_frames_change_in_time(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "REKEY", 3)
    dialler, listener = ready(kind)
    keys = set()
    for count in range(10):
        text = str(count).encode()
        assert listener.receive(sealed(dialler, text)) == [text]
        assert dialler.receive(sealed(listener, text)) == [text]
        keys.add(id(dialler._seals._key))
    assert len(keys) > 1


@both
def test_counters_end_before_a_nonce_is_used_again(kind: str) -> None:
    dialler, _ = ready(kind)
    dialler._seals._count = (1 << 64) - 1
    with pytest.raises(ChannelError, match="all frames"):
        dialler.seal(b"one too many")


@both
def test_the_ticket_says_which_channel_it_is(kind: str) -> None:
    first, second = tickets(kind)
    dialler = channel_of(first, True, first.peer(1))
    listener = channel_of(second, False)
    assert not talk(dialler, listener).errors
    assert dialler.ready
    assert isinstance(dialler, SecretChannel if kind == "secret" else TlsChannel)


def test_a_ticket_whose_keys_do_not_tell_sites_apart_is_refused() -> None:
    one, two = NORTH.fingerprint, SOUTH.fingerprint
    for peers in ((Peer(1, key=one),), (Peer(1, key=two), Peer(2, key=two))):
        with pytest.raises(ConfigError, match=r"peers.*is the key of"):
            channel_of(Ticket("run", 0, (0, 1, 2), peers, key=NORTH), False)
    ticket = Ticket("run", 0, (0, 1), (Peer(1, name="south"),), key=NORTH)
    with pytest.raises(ConfigError, match=r"(?s)'south': has no key.*hansa-key"):
        channel_of(ticket, True, ticket.peer(1))
    with pytest.raises(ValueError, match="secret of 0 bytes"):
        channel_of(Ticket("run", 0, (0, 1)), True)
