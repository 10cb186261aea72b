"""Keys of sites: what is written, what is refused when it is read, and that no text shows them."""

import datetime
import hashlib
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa.base.errors import ConfigError
from hansa.engine.links.keys import Key, _signed, fingerprint_in, fingerprint_of
from hansa.engine.links.ticket import Ticket

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def key() -> Key:
    return Key.generate("north-hospital")


def parts(key: Key) -> tuple[bytes, bytes]:
    """Private key and certificate of a PEM."""
    at = key.pem.index(b"-----BEGIN CERTIFICATE")
    return key.pem[:at], key.pem[at:]


def test_a_key_comes_back_from_its_file_which_only_its_owner_can_read(
    key: Key, tmp_path: Path
) -> None:
    path = tmp_path / "keys" / "north.pem"
    before = os.umask(0)
    try:
        key.save(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Key.load(path) == key
    assert Key.from_pem(key.pem) == key
    assert key.name == "north-hospital"
    assert 3649 * DAY < key.until - NOW < 3651 * DAY


def test_a_key_is_not_written_over(key: Key, tmp_path: Path) -> None:
    path = tmp_path / "north.pem"
    key.save(path)
    with pytest.raises(ConfigError, match="is there already"):
        Key.generate("other").save(path)
    assert Key.load(path) == key


def test_no_text_shows_what_is_secret(key: Key) -> None:
    private, _ = parts(key)
    secrets = [line for line in private.decode().splitlines() if "-----" not in line]
    secrets.append(repr(private)[2:40])
    ticket = Ticket("run", 0, (0,), secret=b"open sesame 1234", key=key)
    for text in (repr(key), str(key), key.line, repr(ticket), f"{ticket}", repr([ticket])):
        assert "PRIVATE" not in text
        assert "sesame" not in text
        assert not any(secret in text for secret in secrets)


def test_a_fingerprint_is_of_the_public_key_as_openssl_has_it(key: Key, tmp_path: Path) -> None:
    key.save(tmp_path / "k.pem")
    try:
        told = subprocess.run(
            ["openssl", "pkey", "-in", tmp_path / "k.pem", "-pubout", "-outform", "DER"],
            capture_output=True,
            check=True,
        ).stdout
    except FileNotFoundError:
        pytest.skip("no openssl command")
    assert key.fingerprint == f"sha256:{hashlib.sha256(told).hexdigest()}"


def test_a_line_and_a_fingerprint_say_the_same(key: Key) -> None:
    assert key.line == f"hansa-key ed25519 {key.fingerprint} north-hospital"
    for text in (key.line, f"  {key.line}\n", key.fingerprint, key.fingerprint.upper()):
        assert fingerprint_in(text) == key.fingerprint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:12",
        "north",
        "hansa-key rsa sha256:" + "0" * 64,
        "hansa-key ed25519 north sha256:" + "0" * 64,
        "sha256:" + "g" * 64,
        "sha256:" + "0" * 64 + "\nsha256:" + "1" * 64,
    ],
)
def test_what_is_no_line_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match=r"peers\.key.*no key's fingerprint"):
        fingerprint_in(text, "peers.key")


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "x" * 65, "a/b", "\x1b[31m"])
def test_a_name_fits_into_a_line(name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        Key.generate(name)


@pytest.mark.parametrize("days", [0, -1, 40000])
def test_a_key_has_to_hold_for_some_time(days: int) -> None:
    with pytest.raises(ConfigError, match="days"):
        Key.generate("a", days)


def elliptic() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def locked(key: Key) -> bytes:
    private, certificate = parts(key)
    secret = serialization.load_pem_private_key(private, None)
    return (
        secret.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"word"),
        )
        + certificate
    )


DAMAGE: dict[str, tuple[Callable[[Key], bytes], str]] = {
    "empty": (lambda key: b"", "holds no private key"),
    "garbage": (lambda key: bytes(range(256)) * 4, "holds no private key"),
    "no certificate": (lambda key: parts(key)[0], "no certificate of its own"),
    "no key": (lambda key: parts(key)[1], "holds no private key"),
    "cut": (lambda key: key.pem[:-40], "no certificate of its own"),
    "another's certificate": (
        lambda key: parts(key)[0] + parts(Key.generate("b"))[1],
        "a certificate of another one",
    ),
    "another kind": (lambda key: elliptic() + parts(key)[1], "is no Ed25519 key"),
    "encrypted": (locked, "is encrypted with a password"),
    "expired": (lambda key: _signed("a", NOW - 9 * DAY, NOW - DAY).pem, "has expired on 20"),
    "too long": (lambda key: key.pem + b"#" * (1 << 17), "is too long"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_file_that_is_no_key_is_refused_by_name_and_quotes_nothing(
    damage: str, key: Key, tmp_path: Path
) -> None:
    make, problem = DAMAGE[damage]
    path = tmp_path / "site.pem"
    path.write_bytes(make(key))
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=problem) as caught:
        Key.load(path, "site.key")
    text = str(caught.value)
    assert text.startswith("site.key = ")
    assert "fix: " in text
    assert "keygen" in text
    assert "MC4CAQ" not in text  # how a private key begins


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_file_that_others_can_read_is_refused(mode: int, key: Key, tmp_path: Path) -> None:
    path = tmp_path / "site.pem"
    key.save(path)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=r"(?s)can be read by others.*chmod 600"):
        Key.load(path)


def test_a_public_line_in_place_of_its_key_is_told_as_that(key: Key, tmp_path: Path) -> None:
    path = tmp_path / "site.pub"
    path.write_text(f"{key.line}\n")
    path.chmod(0o644)  # as it may be: nobody is told to hide what is to be sent
    with pytest.raises(ConfigError, match=r"(?s)is the public line of a key.*\.key"):
        Key.load(path)


def test_what_is_no_file_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        Key.load(tmp_path / "none.pem")
    with pytest.raises(ConfigError, match="is no file"):
        Key.load(tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigError, match="is no file"):
        Key.load(tmp_path / "pipe")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_refused(key: Key, tmp_path: Path) -> None:
    path = tmp_path / "site.pem"
    key.save(path)
    os.chown(path, 65534, 65534)
    with pytest.raises(ConfigError, match="belongs to another user"):
        Key.load(path)


def test_two_keys_differ() -> None:
    keys = [Key.generate("same") for _ in range(3)]
    assert len({key.fingerprint for key in keys}) == 3
    public = Ed25519PrivateKey.generate().public_key()
    assert fingerprint_of(public) == fingerprint_of(public)
