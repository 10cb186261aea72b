"""Keys by which sites know each other: Ed25519 (RFC 8032), in a certificate that each signs itself.

No authority is asked: a site lets in whose fingerprint it was given. A fingerprint is the SHA-256
of the public key as SubjectPublicKeyInfo (as in RFC 7469, section 2.4), ``sha256:`` and 64 hex
digits. One line of text is fit to be sent round:

    hansa-key ed25519 sha256:6e34...  north-hospital
"""

from __future__ import annotations

import datetime
import hashlib
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hansa.base.errors import ConfigError
from hansa.base.files import writing

MAKE = "make one with `hansa node keygen`"
_LONGEST = 1 << 16  # bytes of a file with a key
_EARLIER = datetime.timedelta(days=2)  # clocks differ: a new key holds everywhere at once
_NAME = re.compile(r"[\w.@-]{1,64}")
_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}")
_LINE = re.compile(r"hansa-key\s+ed25519\s+(\S+)(\s+\S+)?")


@dataclass(frozen=True)
class Key:
    """A site's own key. Its secret part is in ``pem`` and nowhere else.

    Attributes:
        name: what people call its site.
        fingerprint: what others put on their lists.
        until: when its certificate ends.
        pem: private key and certificate, as they stand in the file.
    """

    name: str
    fingerprint: str
    until: datetime.datetime
    pem: bytes = field(repr=False)

    @property
    def line(self) -> str:
        """What others need to know, fit for a list."""
        return f"hansa-key ed25519 {self.fingerprint} {self.name}"

    @classmethod
    def generate(cls, name: str, days: int = 3650) -> Key:
        """A new one.

        Raises:
            ConfigError: the name cannot stand in a line, or it would never hold.
        """
        if not _NAME.fullmatch(name):
            fix = "1 to 64 letters, digits or any of . _ @ -"
            raise ConfigError("name", name, "cannot be a key's name", fix)
        if not 1 <= days <= 36500:
            raise ConfigError("days", days, "is no time for a key to hold", "1 to 36500 days")
        begin = datetime.datetime.now(datetime.UTC)
        return _signed(name, begin - _EARLIER, begin + datetime.timedelta(days=days))

    @classmethod
    def from_pem(cls, pem: bytes, where: str = "key", value: str | None = None) -> Key:
        """What stands in ``pem``, if it fits together and holds today.

        Args:
            where: the setting that named it, for errors.
            value: what the setting says.

        Raises:
            ConfigError: it is no key of ours, or has expired.
        """
        from cryptography import x509
        from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        # What the parser says may quote the file: errors leave it out.
        try:
            private = serialization.load_pem_private_key(pem, None)
        except TypeError:
            fix = f"decrypt it, or {MAKE}"
            raise ConfigError(where, value, "is encrypted with a password", fix) from None
        except (ValueError, UnsupportedAlgorithm):
            raise ConfigError(where, value, "holds no private key", MAKE) from None
        if not isinstance(private, Ed25519PrivateKey):
            raise ConfigError(where, value, "is no Ed25519 key", MAKE)
        try:
            certificate = x509.load_pem_x509_certificate(pem)
            public = certificate.public_key()
            names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
            certificate.verify_directly_issued_by(certificate)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            raise ConfigError(where, value, "holds no certificate of its own", MAKE) from None
        if _spki(private.public_key()) != _spki(public):
            problem = "holds a private key and a certificate of another one"
            raise ConfigError(where, value, problem, MAKE)
        until = certificate.not_valid_after_utc
        if until <= datetime.datetime.now(datetime.UTC):
            fix = "make a new one with `hansa node keygen` and send the others its line"
            raise ConfigError(where, value, f"has expired on {until:%Y-%m-%d}", fix)
        name = str(names[0].value) if names else ""
        name = name if _NAME.fullmatch(name) else "unnamed"
        return cls(name, fingerprint_of(public), until, pem)

    @classmethod
    def load(cls, path: Path, where: str = "key") -> Key:
        """Read a file that ``save`` wrote.

        Raises:
            ConfigError: it is not there, others can read it, it has expired, or is no key.
        """
        return cls.from_pem(_private_bytes(path, where), where, str(path))

    def save(self, path: Path, where: str = "key") -> None:
        """Write a new file that its owner alone can read, from its first byte on.

        Raises:
            ConfigError: there is a file already; keys are not overwritten.
            DiskError: it cannot be written.
        """
        with writing(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                fix = "another path, or remove the key that nobody has on a list any more"
                raise ConfigError(where, str(path), "is there already", fix) from None
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(self.pem)
                    file.flush()
                    os.fsync(file.fileno())
            except BaseException:
                path.unlink(missing_ok=True)
                raise


def _signed(name: str, begin: datetime.datetime, end: datetime.datetime) -> Key:
    """A new key that holds from and to the given times."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    public = private.public_key()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(private, None)
    )
    secret = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pem = secret + certificate.public_bytes(serialization.Encoding.PEM)
    return Key(name, fingerprint_of(public), certificate.not_valid_after_utc, pem)


def _spki(public: Any) -> bytes:
    """A public key as SubjectPublicKeyInfo (DER)."""
    from cryptography.hazmat.primitives import serialization

    info: bytes = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return info


def fingerprint_of(public: Any) -> str:
    """Of a public key of ``cryptography``."""
    return f"sha256:{hashlib.sha256(_spki(public)).hexdigest()}"


def fingerprint_in(text: str, where: str = "key") -> str:
    """The fingerprint in a line of a list, or that stands alone.

    Raises:
        ConfigError: it is neither.
    """
    line = _LINE.fullmatch(text.strip())
    found = (line[1] if line else text.strip()).lower()
    if not _FINGERPRINT.fullmatch(found):
        fix = "the line `hansa-key ed25519 sha256:... NAME` of the site, or sha256: and 64 digits"
        raise ConfigError(where, text, "is no key's fingerprint", fix)
    return found


def _private_bytes(path: Path, where: str) -> bytes:
    """What stands in a file that nobody but its owner can read."""
    shown = str(path)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ConfigError(where, shown, "there is no such file", MAKE) from None
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise ConfigError(where, shown, problem, f"chmod 600 {path}, as its owner") from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(where, shown, "is no file", MAKE)
        if status.st_uid not in (os.geteuid(), 0):
            fix = f"chown it to the user that runs hansa, or {MAKE}"
            raise ConfigError(where, shown, "belongs to another user", fix)
        if _LINE.match(os.read(handle, 100).decode(errors="replace")):
            fix = "the path of the .key that was made with it"
            raise ConfigError(where, shown, "is the public line of a key", fix)
        os.lseek(handle, 0, os.SEEK_SET)
        if status.st_mode & 0o077:
            raise ConfigError(where, shown, "can be read by others", f"chmod 600 {path}")
        if status.st_size > _LONGEST:
            raise ConfigError(where, shown, "is too long for a key", MAKE)
        return os.read(handle, _LONGEST)
    finally:
        os.close(handle)
