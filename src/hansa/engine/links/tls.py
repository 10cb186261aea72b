"""The channel between owners: TLS 1.3, both ends known by their keys.

The handshake is OpenSSL's (pyOpenSSL, memory BIOs). Each end shows a certificate that it signed
itself; what counts is that its key is on the other's list, and that it has not expired there. There
are no tickets, no resumption and no early data: every session begins anew. Bodies of frames are
then sealed by AES-GCM under keys exported from the session (RFC 8446, section 7.5), as DTLS-SRTP
does (RFC 5764): the same secrets as TLS's own records, without their 16 KiB pieces.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Collection
from typing import TYPE_CHECKING, ClassVar

from hansa.engine.links.framing import MAX_HANDSHAKE
from hansa.engine.links.handshaking import Handshaking
from hansa.engine.links.keys import Key, fingerprint_of
from hansa.engine.links.refusal import ChannelError, Refusal

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from OpenSSL import SSL
    from OpenSSL.crypto import X509

BINDING = b"EXPORTER-Channel-Binding"
"""Label of the channel binding ``tls-exporter`` (RFC 9266)."""
FRAMES = b"EXPERIMENTAL-hansa-frames"
"""Label of what the keys of frames come from (private use: RFC 5705, section 4)."""


class Verification:
    """Whether a certificate is believed: what OpenSSL asks before anything else is said.

    It is an object of its own so that no channel is in a circle with what OpenSSL keeps.

    Args:
        known: fingerprints of those who are let in.
        one: of whom one is expected and nobody else.

    Attributes:
        refusal: what there is against the first one that was not believed.
    """

    def __init__(self, known: Collection[str], one: bool) -> None:
        self._known, self._one = frozenset(known), one
        self.refusal: ChannelError | None = None

    def __call__(
        self, connection: SSL.Connection, shown: X509, error: int, depth: int, ok: int
    ) -> bool:
        """Whether OpenSSL may go on with this certificate.

        What it has against it (no authority, dates) is replaced by the list and our own clock.
        """
        if self.refusal is None:
            try:
                certificate = shown.to_cryptography()
            except ValueError:
                self.refusal = ChannelError("shows a certificate that is damaged", Refusal.PROOF)
            else:
                self.refusal = self.against(certificate, depth)
        return self.refusal is None

    def against(self, certificate: Certificate, depth: int = 0) -> ChannelError | None:
        """What there is against a certificate."""
        from cryptography.exceptions import UnsupportedAlgorithm

        if depth:
            return ChannelError("shows a chain of certificates", Refusal.PROOF)
        try:
            shown = fingerprint_of(certificate.public_key())
            until = certificate.not_valid_after_utc
        except (ValueError, UnsupportedAlgorithm):
            return ChannelError("shows a key that is none", Refusal.PROOF)
        if shown not in self._known:
            if self._one and len(self._known) == 1:
                problem = (
                    f"has the key {shown}, and {next(iter(self._known))} was expected; "
                    "mend its address or ask its owner for the line of its new key"
                )
                return ChannelError(problem, Refusal.OTHER_KEY)
            problem = f"has the key {shown}, which is not on this site's list; add it if you know"
            return ChannelError(f"{problem} whose it is", Refusal.UNKNOWN_KEY)
        if until <= datetime.datetime.now(datetime.UTC):
            problem = f"has the key {shown}, which expired on {until:%Y-%m-%d}; "
            return ChannelError(f"{problem}ask its owner for a new one", Refusal.EXPIRED_KEY)
        return None


class TlsChannel(Handshaking):
    """One end of a channel whose ends know each other's keys.

    Args:
        key: this end's own.
        known: fingerprints of those who are let in.
        dials: this end speaks first.
        one: there is one who is expected and nobody else; else any of a list. For texts.
    """

    kind: ClassVar[bytes] = b"k"
    hides: ClassVar[bool] = True

    def __init__(
        self, key: Key, known: Collection[str], dials: bool, one: bool | None = None
    ) -> None:
        self._verification = Verification(known, dials if one is None else one)
        self._tls: SSL.Connection | None = _connection(key, dials, self._verification)
        super().__init__(dials, key.fingerprint)

    def _begin(self) -> None:
        self._step(b"")

    def _handshake(self, body: memoryview) -> None:
        self._step(bytes(body))

    def _step(self, word: bytes) -> None:
        """Hand OpenSSL what the other end says, and write what it answers."""
        from OpenSSL import SSL

        assert self._tls is not None
        try:
            if word:
                self._tls.bio_write(word)
            self._tls.do_handshake()
            over = True
        except SSL.WantReadError:
            over = False
        except SSL.Error as error:
            self._tls = None
            against = self._verification.refusal
            if against is None:
                raise _failed(error) from None
            raise ChannelError(against.problem, against.why) from None  # no circle by a traceback
        # After the dialler's last word OpenSSL's listener has only session tickets to offer, with
        # OP_NO_TICKET too; they are not handed out.
        if self.dials or not over:
            with contextlib.suppress(SSL.WantReadError):  # it has nothing to say yet
                self._say(self._tls.bio_read(MAX_HANDSHAKE))
        if over:
            self._finish(self._tls)

    def _finish(self, tls: SSL.Connection) -> None:
        shown = tls.get_peer_certificate(as_cryptography=True)
        if shown is None:
            raise ChannelError("shows no key", Refusal.NO_KEY)
        if against := self._verification.against(shown):
            raise against
        binding = tls.export_keying_material(BINDING, 32)
        secret = tls.export_keying_material(FRAMES, 32)
        self._tls = None  # nothing is kept of the session but what was exported
        self._proven(fingerprint_of(shown.public_key()), binding, secret)


def _connection(key: Key, dials: bool, verification: Verification) -> SSL.Connection:
    """OpenSSL's end of a session."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from OpenSSL import SSL

    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_max_proto_version(SSL.TLS1_3_VERSION)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.use_certificate(x509.load_pem_x509_certificate(key.pem))
    private = serialization.load_pem_private_key(key.pem, None)
    context.use_privatekey(private)  # type: ignore[arg-type] # a Key is Ed25519
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verification)
    connection = SSL.Connection(context, None)
    if dials:
        connection.set_connect_state()
    else:
        connection.set_accept_state()
    return connection


def _failed(error: Exception) -> ChannelError:
    """What OpenSSL has against what the other end says."""
    reasons = [str(entry[-1]) for entry in error.args[0]] if error.args else []
    if "peer did not return a certificate" in reasons:
        problem = "shows no key; give it one of `hansa node keygen`"
        return ChannelError(problem, Refusal.NO_KEY)
    problem = "breaks off the handshake, or what it said was altered or repeated on the way"
    reason = f" ({reasons[0]})" if reasons else ""
    return ChannelError(problem + reason, Refusal.PROOF)
