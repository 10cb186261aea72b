"""Who is who: self-signed certificates that the other side pins, and TLS 1.3 between them.

No authority is asked. A client knows its server's certificate, by file or by fingerprint; a server
may know its clients'. A fingerprint is the SHA-256 of the certificate (DER), ``sha256:`` and 64 hex
digits; a client's is its identity, by which quotas and budgets are kept.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import os
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hansa.base.errors import ConfigError
from hansa.base.files import writing

Role = Literal["server", "client"]
ROLES: tuple[Role, ...] = ("server", "client")
CERTIFICATE, KEY = "{}.crt.pem", "{}.key.pem"
ANYONE = "anyone"
"""The identity of clients where the server asks for no certificate."""
_LONGEST_NAME = 64
_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}")
_EARLIER = datetime.timedelta(minutes=5)  # clocks differ


@dataclass(frozen=True)
class Identity:
    """A certificate and its private key, as PEM files, and the certificate's fingerprint."""

    certificate: Path
    key: Path
    fingerprint: str


def fingerprint_of(der: bytes) -> str:
    """Of a certificate as it stands in TLS."""
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def make_identity(folder: Path, role: Role, days: int = 825) -> Identity:
    """Make a key on P-256 and its self-signed certificate, both readable by the owner alone.

    Raises:
        ConfigError: there are keys already; nothing is overwritten.
        DiskError: they cannot be written.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    certificate_path = folder / CERTIFICATE.format(role)
    key_path = folder / KEY.format(role)
    for path in (certificate_path, key_path):
        if path.exists():
            fix = "another folder, or remove them where nobody pins them any more"
            raise ConfigError("out", str(folder), f"has a {path.name} already", fix)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    serial = x509.random_serial_number()
    # Of several certificates of one name TLS tries the first alone: each has a name of its own.
    common = f"hansa private {role} {serial:040x}"[:_LONGEST_NAME]
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    use = ExtendedKeyUsageOID.SERVER_AUTH if role == "server" else ExtendedKeyUsageOID.CLIENT_AUTH
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        .sign(key, hashes.SHA256())
    )
    with writing(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_owned(key_path, secret)
    write_owned(certificate_path, certificate.public_bytes(serialization.Encoding.PEM))
    der = certificate.public_bytes(serialization.Encoding.DER)
    return Identity(certificate_path, key_path, fingerprint_of(der))


def write_owned(path: Path, data: bytes) -> None:
    """Write a new file that its owner alone can read, from its first byte on."""
    with writing(path):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)


def identity_in(folder: Path, role: Role, field: str = "keys") -> Identity:
    """What ``make_identity`` wrote.

    Raises:
        ConfigError: it is not there, does not fit together, or others can read the key.
    """
    certificate, key = folder / CERTIFICATE.format(role), folder / KEY.format(role)
    fix = f"hansa infer private keygen --role {role} --out {folder}"
    for path in (certificate, key):
        if not path.is_file():
            raise ConfigError(field, str(folder), f"holds no {path.name}", fix)
    if key.stat().st_mode & 0o077:
        raise ConfigError(field, str(key), "can be read by others", f"chmod 600 {key}")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        problem = f"holds a certificate and a key that do not fit ({error})"
        raise ConfigError(field, str(folder), problem, fix) from None
    return Identity(certificate, key, _checked(certificate, field))


def _checked(path: Path, field: str) -> str:
    """The fingerprint of a certificate in a PEM file, if it holds today."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        problem = f"is no certificate as PEM ({error})"
        raise ConfigError(field, str(path), problem, "a .crt.pem of keygen") from None
    now = datetime.datetime.now(datetime.UTC)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begin <= now <= end:
        problem = f"holds from {begin:%Y-%m-%d} to {end:%Y-%m-%d}, and not today"
        raise ConfigError(field, str(path), problem, "make new keys with keygen")
    return fingerprint_of(certificate.public_bytes(serialization.Encoding.DER))


def pin_of(trust: str | Path) -> str:
    """The fingerprint to expect of a server, from its certificate's file or as text.

    Raises:
        ConfigError: it is neither.
    """
    text = str(trust)
    if text.lower().startswith("sha256:"):
        if not _FINGERPRINT.fullmatch(text.lower()):
            raise ConfigError("trust", text, "is no fingerprint", "sha256: and 64 hex digits")
        return text.lower()
    path = Path(text).expanduser()
    if not path.is_file():
        fix = "the server's certificate, or its fingerprint sha256:..."
        raise ConfigError("trust", text, "there is no such file", fix)
    return _checked(path, "trust")


def clients_in(folder: Path) -> dict[str, Path]:
    """The client certificates in a folder (``*.pem``) by fingerprint.

    Raises:
        ConfigError: there are none, or one is damaged or does not hold today, or two that differ
            bear one name, of which TLS would let one in alone.
    """
    from cryptography import x509

    paths = sorted(folder.glob("*.pem")) if folder.is_dir() else []
    paths = [path for path in paths if not path.name.endswith(".key.pem")]
    if not paths:
        fix = "copy the client.crt.pem of each client into it, named as you like"
        raise ConfigError("clients", str(folder), "holds no certificates (*.pem)", fix)
    known = {_checked(path, "clients"): path for path in paths}
    named: dict[str, Path] = {}
    for path in known.values():
        name = x509.load_pem_x509_certificate(path.read_bytes()).subject.rfc4514_string()
        if name in named:
            problem = f"bears the name of {named[name].name} ({name}): only one would be let in"
            raise ConfigError(
                "clients", str(path), problem, "make one of the keys anew with keygen"
            )
        named[name] = path
    return known


def server_context(identity: Identity, clients: Sequence[Path] | None) -> ssl.SSLContext:
    """TLS 1.3 of a server, to clients with one of these certificates, or (None) to anyone.

    A certificate that is not among them ends the handshake; who shows none is told so in a frame,
    which the server has to see to.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(identity.certificate, identity.key)
    if clients is not None:
        context.verify_mode = ssl.CERT_OPTIONAL
        for path in clients:
            context.load_verify_locations(path)
    return context


def client_context(identity: Identity | None) -> ssl.SSLContext:
    """TLS 1.3 of a client, which holds the server's certificate against its pin afterwards.

    With no authority to ask, OpenSSL has nothing to verify but that the server holds the key of
    the certificate it shows, and that TLS does always.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if identity is not None:
        context.load_cert_chain(identity.certificate, identity.key)
    return context


def matches(der: bytes | None, pin: str) -> bool:
    """Whether a certificate is the one that is pinned and holds today."""
    from cryptography import x509

    if der is None or not hmac.compare_digest(fingerprint_of(der), pin):
        return False
    certificate = x509.load_der_x509_certificate(der)
    now = datetime.datetime.now(datetime.UTC)
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc
