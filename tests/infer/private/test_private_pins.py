"""Keys: readable by their owner alone, never overwritten, refused where they do not hold."""

from __future__ import annotations

import datetime
import json
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hansa.base.errors import ConfigError
from hansa.cli.infer import app
from hansa.infer.private.protocol.pins import (
    clients_in,
    identity_in,
    make_identity,
    matches,
    pin_of,
)


def expired(folder: Path) -> Path:
    """A client's certificate that held until yesterday."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    now = datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1)
    made = made.not_valid_before(now - datetime.timedelta(3))
    made = made.not_valid_after(now - datetime.timedelta(1)).public_key(key.public_key())
    path = folder / "old.crt.pem"
    path.write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return path


def test_keys_are_their_owners_and_stay(tmp_path: Path) -> None:
    made = make_identity(tmp_path / "keys", "server")
    assert identity_in(tmp_path / "keys", "server") == made
    assert pin_of(made.certificate) == pin_of(made.fingerprint) == made.fingerprint
    for path in (made.certificate, made.key, tmp_path / "keys"):
        assert path.stat().st_mode & 0o077 == 0
    before = made.key.read_bytes()
    with pytest.raises(ConfigError, match="has a server"):
        make_identity(tmp_path / "keys", "server")
    assert made.key.read_bytes() == before
    assert make_identity(tmp_path / "keys", "client").fingerprint != made.fingerprint


def test_a_certificate_matches_its_pin_alone(tmp_path: Path) -> None:
    import ssl

    mine, other = make_identity(tmp_path / "1", "server"), make_identity(tmp_path / "2", "server")
    der = ssl.PEM_cert_to_DER_cert(mine.certificate.read_text())
    assert matches(der, mine.fingerprint)
    assert not matches(der, other.fingerprint)
    assert not matches(None, mine.fingerprint)
    old = ssl.PEM_cert_to_DER_cert(expired(tmp_path).read_text())
    from hansa.infer.private.protocol.pins import fingerprint_of

    assert not matches(old, fingerprint_of(old))


def test_keys_that_cannot_serve_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="keygen --role server"):
        identity_in(tmp_path, "server")
    make_identity(tmp_path / "a", "server")
    make_identity(tmp_path / "b", "server")
    (tmp_path / "a/server.key.pem").chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by others"):
        identity_in(tmp_path / "a", "server")
    shutil.copy(tmp_path / "b/server.key.pem", tmp_path / "a/server.key.pem")
    (tmp_path / "a/server.key.pem").chmod(0o600)
    with pytest.raises(ConfigError, match="do not fit"):
        identity_in(tmp_path / "a", "server")


def test_pins_that_are_none_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("hello")
    for trust, why in (
        ("sha256:12", "no fingerprint"),
        (str(tmp_path / "none.pem"), "no such file"),
        (str(tmp_path / "text.pem"), "no certificate"),
        (str(expired(tmp_path)), "not today"),
    ):
        with pytest.raises(ConfigError, match=why):
            pin_of(trust)


def test_a_servers_clients_are_certificates_that_hold(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no certificates"):
        clients_in(tmp_path)
    made = make_identity(tmp_path / "c", "client")
    assert list(clients_in(tmp_path / "c")) == [made.fingerprint]  # the key is none
    expired(tmp_path / "c")
    with pytest.raises(ConfigError, match="not today"):
        clients_in(tmp_path / "c")


def test_keygen_says_the_fingerprint(tmp_path: Path) -> None:
    arguments = ["private", "keygen", "--out", str(tmp_path), "--role", "client", "--json"]
    answer = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert re.fullmatch("sha256:[0-9a-f]{64}", answer["fingerprint"])
    assert pin_of(answer["certificate"]) == answer["fingerprint"]
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2
    assert json.loads(again.stdout)["error"]["field"] == "out"
    wrong = CliRunner().invoke(app, [*arguments[:-2], "owner", "--json"])
    assert json.loads(wrong.stdout)["error"]["field"] == "role"


def test_two_certificates_of_one_name_are_refused(tmp_path: Path) -> None:
    """As other programs make them: TLS would try one of both and shut the other client out."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "client")])
    now = datetime.datetime.now(datetime.UTC)
    for k in range(2):
        key = ec.generate_private_key(ec.SECP256R1())
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(k + 1)
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        (tmp_path / f"{k}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    with pytest.raises(ConfigError, match="only one would be let in"):
        clients_in(tmp_path)
