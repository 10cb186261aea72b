"""Channels: who is not expected, or changed on the way what was said, is refused."""

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

from hansa.engine.links.channel import Channel
from hansa.engine.links.framing import MAX_HANDSHAKE, Sort, header, preamble
from hansa.engine.links.keys import Key, _signed
from hansa.engine.links.refusal import ChannelError, Refusal, refused
from hansa.engine.links.secret import SecretChannel
from hansa.engine.links.tls import TlsChannel, Verification

from .channel_ends import KINDS, NORTH, SECRET, SOUTH, STRANGER, both, one_line, pair, talk


def expired(name: str) -> Key:
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    return _signed(name, now - 9 * day, now - day)


OLD = expired("old")


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
