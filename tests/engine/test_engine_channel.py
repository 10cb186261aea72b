"""Channels: two ends that know each other, strangers, and whoever sits between them."""

import contextlib
import datetime
import re
import shutil
import socket
import ssl
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL.crypto import X509

from hansa.base.errors import ConfigError
from hansa.engine.links import sealing
from hansa.engine.links.channel import MAX_FRAME, Channel, channel_of
from hansa.engine.links.framing import MAX_HANDSHAKE, Sort, header, preamble
from hansa.engine.links.keys import Key, _signed
from hansa.engine.links.refusal import ChannelError, Refusal, refused
from hansa.engine.links.secret import SecretChannel
from hansa.engine.links.ticket import Peer, Ticket
from hansa.engine.links.tls import TlsChannel, Verification

from .channel_ends import KEYS, KINDS, SECRET, pair, ready, sealed, talk, tickets

FRAMES = st.lists(st.binary(max_size=300), min_size=1, max_size=8)
both = pytest.mark.parametrize("kind", KINDS)
NORTH, SOUTH, STRANGER = KEYS


def one_line(error: ChannelError) -> str:
    text = str(error)
    assert text
    assert "\n" not in text
    assert len(text) < 400
    return text


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


def expired(name: str) -> Key:
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    return _signed(name, now - 9 * day, now - day)


OLD = expired("old")
EMPTY = SecretChannel(bytes(32), "run", True)


def tls(key: Key, dials: bool, *known: Key) -> TlsChannel:
    return TlsChannel(key, {other.fingerprint for other in known}, dials)


STRANGERS: dict[str, tuple[Callable[[], tuple[Channel, Channel]], str, str]] = {
    "a dialler that is on no list": (
        lambda: (tls(STRANGER, True, SOUTH), tls(SOUTH, False, NORTH)),
        f"refused by the other end: it does not know this site's key {STRANGER.fingerprint}",
        f"has the key {STRANGER.fingerprint}, which is not on this site's list; add it",
    ),
    "a listener that is another": (
        lambda: (tls(NORTH, True, SOUTH), tls(STRANGER, False, NORTH)),
        f"has the key {STRANGER.fingerprint}, and {SOUTH.fingerprint} was expected",
        "refused by the other end: it expected another key here",
    ),
    "a dialler whose key has expired": (
        lambda: (tls(OLD, True, SOUTH), tls(SOUTH, False, OLD)),
        "refused by the other end: this site's key .* has expired; make a new one",
        f"has the key {OLD.fingerprint}, which expired on 20",
    ),
    "a listener whose key has expired": (
        lambda: (tls(NORTH, True, OLD), tls(OLD, False, NORTH)),
        f"has the key {OLD.fingerprint}, which expired on 20",
        "refused by the other end: this site's key .* has expired; make a new one",
    ),
    "a listener without a list": (
        lambda: (tls(NORTH, True, SOUTH), tls(SOUTH, False)),
        "does not know this site's key",
        "not on this site's list",
    ),
    "another secret": (
        lambda: (SecretChannel(b"x" * 32, "run", True), SecretChannel(SECRET, "run", False)),
        "does not know the secret of this run",
        "refused by the other end: this site does not know its run's secret",
    ),
    "the secret of another run": (
        lambda: (SecretChannel(SECRET, "run 2", True), SecretChannel(SECRET, "run", False)),
        "does not know the secret of this run",
        "refused by the other end: this site does not know its run's secret",
    ),
    "a secret and a key": (
        lambda: (SecretChannel(SECRET, "run", True), tls(SOUTH, False, NORTH)),
        "proves itself by a key, and this site by its run's secret",
        "proves itself by a run's secret, and this site by its key",
    ),
    "a key and a secret": (
        lambda: (tls(NORTH, True, SOUTH), SecretChannel(SECRET, "run", False)),
        "proves itself by a run's secret, and this site by its key",
        "proves itself by a key, and this site by its run's secret",
    ),
}


@pytest.mark.parametrize("who", STRANGERS)
@pytest.mark.parametrize("piece", [0, 13])
def test_a_stranger_is_refused_and_both_say_why_in_one_line(who: str, piece: int) -> None:
    make, at_dialler, at_listener = STRANGERS[who]
    dialler, listener = make()
    errors = talk(dialler, listener, piece).errors
    assert re.search(at_dialler, one_line(errors["dialler"]))
    assert re.search(at_listener, one_line(errors["listener"]))
    assert not dialler.ready
    assert not listener.ready
    assert not listener.peer


@both
@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"SSH-2.0-x\r\n",
        b"\0",
    ],
)
@pytest.mark.parametrize("listens", [True, False])
def test_who_does_not_speak_as_hansa_is_told_from_the_first_byte(
    kind: str, said: bytes, listens: bool
) -> None:
    channel = pair(kind)[listens]
    channel.outgoing()
    with pytest.raises(ChannelError, match="is no site of hansa: it begins with") as caught:
        channel.receive(said[:1])
    one_line(caught.value)
    assert channel.outgoing().endswith(header(Sort.REFUSE, 1) + bytes([Refusal.STRANGE]))


@both
def test_another_version_is_told_from_a_stranger(kind: str) -> None:
    _, listener = pair(kind)
    opening = preamble(b"s" if kind == "secret" else b"k").replace(b"1", b"2")
    with pytest.raises(ChannelError, match="speaks version b'2' of the channel"):
        listener.receive(opening)
    dialler, _ = pair(kind)
    with pytest.raises(ChannelError, match="another version of hansa's channel"):
        dialler.receive(listener.outgoing())


def words(kind: str) -> list[bytes]:
    """What a dialler says in a handshake that succeeds."""
    dialler, listener = pair(kind)
    return [word for who, word in talk(dialler, listener).words if who == "dialler"]


@both
@pytest.mark.parametrize("at_once", [True, False])
def test_a_capture_played_again_proves_nothing(kind: str, at_once: bool) -> None:
    captured = words(kind)
    _, listener = pair(kind)
    *first, last = [b"".join(captured)] if at_once else captured
    for word in first:
        listener.receive(word)
    with pytest.raises(ChannelError) as caught:
        listener.receive(last)
    assert caught.value.why in (Refusal.PROOF, Refusal.SECRET)
    one_line(caught.value)
    assert not listener.ready
    assert not listener.peer


SAID = {kind: sum(len(word) for _, word in talk(*pair(kind)).words) for kind in KINDS}


@both
@given(place=st.integers(0, 1 << 16), bit=st.sampled_from([1, 2, 64, 128]))
@settings(max_examples=60, deadline=None)
def test_a_handshake_with_any_byte_altered_makes_no_pair(kind: str, place: int, bit: int) -> None:
    dialler, listener = pair(kind)
    target, passed = place % SAID[kind], 0
    for _ in range(4):
        for speaks, hears in ((dialler, listener), (listener, dialler)):
            word = bytearray(speaks.outgoing())
            if passed <= target < passed + len(word):
                word[target - passed] ^= bit
            passed += len(word)
            if not word:
                continue
            try:
                assert not hears.receive(bytes(word))
            except ChannelError as error:
                one_line(error)
    # The listener's last word may be what was altered: it is ready until it hears that. TLS 1.3
    # ignores the version in the head of a record: then both have one session all the same.
    assert not dialler.ready or (kind == "tls" and dialler.binding == listener.binding)


@both
def test_an_answer_cannot_be_turned_round(kind: str) -> None:
    """Who hears its own words does not take itself for its peer."""
    dialler, listener = pair(kind)
    with pytest.raises(ChannelError):
        dialler.receive(dialler.outgoing())
    dialler, _ = pair(kind)
    listener.receive(dialler.outgoing())
    answer = listener.outgoing()
    with pytest.raises(ChannelError):
        listener.receive(answer.removeprefix(preamble(dialler.kind)))
    assert not dialler.ready
    assert not listener.ready


@both
def test_a_stranger_is_heard_for_64_kib_at_most_and_kept_of_it_little(kind: str) -> None:
    opening = preamble(b"s" if kind == "secret" else b"k")
    _, listener = pair(kind)
    with pytest.raises(ChannelError, match="more than 65536 bytes"):
        listener.receive(opening + header(Sort.HANDSHAKE, MAX_HANDSHAKE + 1))
    _, listener = pair(kind)
    listener.receive(opening)
    tracemalloc.start()
    try:
        heard = until_refused(listener, header(Sort.HANDSHAKE, 1000) + bytes(1000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert heard <= MAX_HANDSHAKE
    assert peak < 20 * MAX_HANDSHAKE  # most of it is loaded code


@both
def test_a_handshake_takes_few_words(kind: str) -> None:
    """Each costs a call of OpenSSL's, also where it says nothing."""
    _, listener = pair(kind)
    listener.receive(preamble(listener.kind))
    assert until_refused(listener, header(Sort.HANDSHAKE, 0)) <= 9 * 4


def until_refused(channel: Channel, word: bytes) -> int:
    """Say a word again and again; bytes that were taken before the channel ended."""
    for count in range(1 << 20):
        try:
            channel.receive(word)
        except ChannelError:
            return len(word) * (count + 1)
    raise AssertionError("it listens for ever")


@both
@pytest.mark.parametrize("sort", [Sort.FRAME, 0, 9, 255])
def test_frames_before_the_handshake_is_over_are_refused(kind: str, sort: int) -> None:
    for channel in pair(kind):
        with pytest.raises(ChannelError, match="belongs to no handshake"):
            channel.receive(
                preamble(b"s" if kind == "secret" else b"k") + bytes([sort, 0, 0, 20]) + bytes(20)
            )


def test_a_reason_that_is_not_known_is_not_shown() -> None:
    for code in (b"\0", b"\xff", b"", b"long"):
        assert "does not know" in one_line(refused(code, "sha256:ab"))
    for reason in Refusal:
        assert "{" not in one_line(refused(bytes([reason]), "sha256:ab"))


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


def test_a_site_whose_clock_is_an_hour_ahead_is_let_in() -> None:
    now = datetime.datetime.now(datetime.UTC)
    hour = datetime.timedelta(hours=1)
    ahead = _signed("ahead", now + hour, now + 90 * hour)
    dialler, listener = tls(ahead, True, SOUTH), tls(SOUTH, False, ahead)
    assert not talk(dialler, listener).errors
    assert dialler.ready
    assert listener.ready


def test_openssl_itself_holds_the_binding_and_gets_no_ticket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An independent end: Python's own ``ssl``, which speaks TLS inside our handshake's words."""
    for name, key in (("north", NORTH), ("south", SOUTH)):
        key.save(tmp_path / name)
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "log"))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(tmp_path / "south")
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(tmp_path / "north")
    client = context.wrap_bio(incoming, outgoing)
    _, listener = pair("tls")
    listener.receive(preamble(b"k"))
    answers = b""
    for _ in range(2):
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        word = outgoing.read()
        listener.receive(header(Sort.HANDSHAKE, len(word)) + word)
        answer = listener.outgoing().removeprefix(preamble(b"k"))
        if not listener.ready:
            assert answer[0] == Sort.HANDSHAKE
            length = int.from_bytes(answer[1:4], "big")
            assert len(answer) == 4 + length
            incoming.write(answer[4:])
        else:
            answers = answer
    assert client.version() == "TLSv1.3"
    assert listener.peer == NORTH.fingerprint
    # What a listener says last is that it accepts, 20 bytes, and no session to be resumed.
    assert len(answers) == 20
    assert client.session is None or not client.session.has_ticket
    assert not (tmp_path / "log").exists()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl command")
def test_a_plain_client_of_tls_is_no_site(tmp_path: Path) -> None:
    """``openssl s_client`` at a listener's door: told apart by its first bytes, and sent away."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        door.settimeout(60)
        port = door.getsockname()[1]
        client = subprocess.Popen(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{port}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            there, _ = door.accept()
            with there:
                _, listener = pair("tls")
                with pytest.raises(ChannelError, match=r"no site of hansa: it begins with b'\\x16"):
                    listener.receive(there.recv(100))
                there.sendall(listener.outgoing())
            assert client.wait(60) != 0
        finally:
            client.kill()
            client.communicate()


def test_a_certificate_of_an_unknown_kind_is_refused_like_any_other() -> None:
    """OpenSSL asks in the middle of a handshake: an error there must not be another one."""
    pem = NORTH.pem[NORTH.pem.index(b"-----BEGIN CERT") :]
    der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
    spki = bytes.fromhex("302a300506032b6570032100")  # RFC 8410, section 4
    assert spki in der
    odd = x509.load_der_x509_certificate(der.replace(spki, spki.replace(b"\x70", b"\x63")))
    verification = Verification({NORTH.fingerprint}, one=False)
    assert not verification(None, X509.from_cryptography(odd), 18, 0, 0)  # type: ignore[arg-type]
    assert "a key that is none" in str(verification.refusal)
    chain = Verification({NORTH.fingerprint}, one=False)
    good = X509.from_cryptography(x509.load_pem_x509_certificate(pem))
    assert not chain(None, good, 19, 1, 0)  # type: ignore[arg-type]
    assert "a chain" in str(chain.refusal)
    assert Verification({NORTH.fingerprint}, one=False)(None, good, 18, 0, 0)  # type: ignore[arg-type]
