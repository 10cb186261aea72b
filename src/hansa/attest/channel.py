"""What two sites say to each other before anything else: evidence, inside their TLS session.

After the handshake, in both directions at once::

    OPEN      protocol version, nonce (32), digests of policy, configuration and code
    EVIDENCE  about SHA-512 over: label, version, run, policy, configuration, code, role, the
              session's exported binding (RFC 9266), own key, own nonce, the other's nonce
    VERDICT   accepted; who does not accept says why and closes

Only where both have accepted does the session carry anything else. As the binding is in the
report, evidence of one session is none in another; as roles and nonces are, it can be neither
turned round nor used again. Evidence after the handshake and not in it: formal work on attested
TLS finds diversion where it is part of the handshake (Sardar et al., IETF draft
usama-seat-intra-vs-post, 2026).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from hansa.attest.attesters.attester import Attester
from hansa.attest.evidence import LARGEST, Evidence
from hansa.attest.refusals import AttestationError
from hansa.attest.verdict import Verdict
from hansa.base.errors import HansaError
from hansa.engine.links.vouching import Meeting, VouchError

LONGEST = LARGEST + 1
"""Bytes of a word."""
_LABEL, _VERSION, _NONCE = b"hansa attested channel", 1, 32
_OPEN = struct.Struct(f">cB{_NONCE}s32s32s48s")
_O, _E, _V = b"O", b"E", b"V"
_ACCEPTED = b"accepted"
_DOCS = "docs/attestation.md says what it means"


@dataclass(frozen=True)
class Terms:
    """What both ends have to have alike.

    Attributes:
        run: names the run.
        policy: digest of the policy, 32 bytes.
        config: digest of what the run is configured to do, 32 bytes.
        code: digest of the installed package, 48 bytes.
    """

    run: str
    policy: bytes
    config: bytes
    code: bytes


def report_data(
    terms: Terms, role: str, binding: bytes, key: str, nonce: bytes, other: bytes
) -> bytes:
    """64 bytes that evidence of one end of one session is about.

    Args:
        role: ``dialler`` or ``listener``, of the end whose evidence it is.
        key: that end's fingerprint.
        nonce, other: that end's nonce, and the one that it was given.
    """
    parts = (
        _LABEL, bytes((_VERSION,)), terms.run.encode(), terms.policy, terms.config, terms.code,
        role.encode(), binding, key.encode(), nonce, other,
    )  # fmt: skip
    digest = hashlib.sha512()
    for part in parts:
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.digest()


Judge = Callable[[Evidence, bytes, datetime], Verdict]
"""What is to be said of evidence that has to be about these 64 bytes, at a time."""


@dataclass
class Members:
    """Who shares a chip with whom, as far as this site has seen.

    Args:
        most: members that may have one chip; None: any number.
    """

    most: int | None
    chips: dict[str, set[int | None]] = field(default_factory=dict)

    def objection(self, site: int | None, verdict: Verdict) -> tuple[str, str] | None:
        """Why a member is one too many on its chip, as (name, text); None: it is not.

        Args:
            site: the member; None: this site itself.
        """
        if self.most is None:
            return None
        if not verdict.chip_id:
            text = "does not say which chip it is on, so nobody can tell whether it counts twice"
            return "chip", f"{text}; per_chip: null where that is no matter"
        here = self.chips.setdefault(verdict.chip_id, set())
        if site not in here and len(here) >= self.most:
            others = ", ".join("this site" if k is None else f"site {k}" for k in here)
            return "chip", f"is on the chip of {others}, and {self.most} may be on one (per_chip)"
        here.add(site)
        return None


class AttestedVoucher:
    """One exchange over one session: :class:`hansa.engine.links.vouching.Voucher`.

    Args:
        meeting: its two ends.
        terms: what both have to have alike.
        attester: gives this end's evidence.
        own: what this end's evidence was found to be.
        judge: judges the other's.
        members: who has which chip.
        clock: what time it is, with a zone.
    """

    def __init__(
        self,
        meeting: Meeting,
        terms: Terms,
        attester: Attester,
        own: Verdict,
        judge: Judge,
        members: Members,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.over = False
        self._meeting, self._terms, self._attester = meeting, terms, attester
        self._own, self._judge, self._members, self._clock = own, judge, members, clock
        self._nonce = secrets.token_bytes(_NONCE)
        self._other = b""  # the other's nonce
        self._accepts = self._accepted = False

    def begin(self) -> list[bytes]:
        """Own nonce, and what has to be alike."""
        terms = self._terms
        alike = (terms.policy, terms.config, terms.code)
        return [_OPEN.pack(_O, _VERSION, self._nonce, *alike)]

    def heard(self, word: bytes) -> list[bytes]:
        """Take a word; returns the answers.

        Raises:
            VouchError: one of the two does not accept the other.
        """
        kind, rest = word[:1], word[1:]
        if kind == _O and not self._other:
            return [_E + self._evidence(word)]
        if kind == _E and self._other and not self._accepts:
            self._check(rest)
            self._accepts, self.over = True, self._accepted
            return [_V + _ACCEPTED]
        if kind == _V and rest == _ACCEPTED and self._other and not self._accepted:
            self._accepted, self.over = True, self._accepts
            return []
        raise self._refusal("malformed", "says what does not belong here")

    def _evidence(self, word: bytes) -> bytes:
        """Own evidence, in answer to the other's nonce."""
        if len(word) != _OPEN.size:
            raise self._refusal("malformed", f"begins with {len(word)} bytes, not {_OPEN.size}")
        _, version, nonce, *alike = _OPEN.unpack(word)
        if version != _VERSION:
            text = f"attests by version {version}, and this site by {_VERSION}"
            raise self._refusal("version", f"{text}; install one version of hansa at both")
        if hmac.compare_digest(nonce, self._nonce):
            raise self._refusal("report-data", "sends this site's own words back")
        terms = self._terms
        known = (
            ("policy", "has another policy", terms.policy),
            ("config", "is configured to do something else", terms.config),
            ("code", "runs other code", terms.code),
        )
        for (name, text, own), other in zip(known, alike, strict=True):
            if own != other:
                text = f"{text}: {other.hex()[:16]}..., and this site {own.hex()[:16]}..."
                raise self._refusal(name, f"{text}; make them the same")
        self._other = nonce
        dials = self._meeting.dials
        about = self._about(dials, self._meeting.own, self._nonce, nonce)
        try:
            return self._attester.evidence(about).to_bytes()
        except (HansaError, OSError) as error:
            told = "the other site gets no evidence of itself"
            raise VouchError(f"gets no evidence of this site: {error}", told) from error

    def _about(self, dials: bool, key: str, nonce: bytes, other: bytes) -> bytes:
        role = "dialler" if dials else "listener"
        return report_data(self._terms, role, self._meeting.binding, key, nonce, other)

    def _check(self, container: bytes) -> None:
        """Judge the other's evidence."""
        about = self._about(not self._meeting.dials, self._meeting.peer, self._other, self._nonce)
        try:
            verdict = self._judge(Evidence.from_bytes(container), about, self._clock())
        except AttestationError as error:
            raise self._refusal(error.name, f"shows evidence that is none: {error}") from error
        if not verdict.accepted:
            name, text = verdict.problems[0]
            raise self._refusal(name, f"shows evidence that is not accepted: {name}: {text}")
        if verdict.is_hardware != self._own.is_hardware:
            text = "hardware and simulation of it are never in one group"
            raise self._refusal("mixed", text)
        if not verdict.is_hardware and verdict.measurement != self._own.measurement:
            raise self._refusal("measurement", "runs other code, or another configuration")
        if objection := self._members.objection(self._meeting.site, verdict):
            raise self._refusal(*objection)

    def _refusal(self, name: str, text: str) -> VouchError:
        return VouchError(text, f"this site is not accepted ({name}); {_DOCS}")
