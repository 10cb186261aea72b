"""Chains of certificates: from a leaf to a pinned root, at a moment, with revocation lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from hansa.attest.certificates import Certificate
from hansa.attest.refusals import (
    BadCollateral,
    BadSignature,
    BrokenChain,
    Expired,
    NotYetValid,
    Revoked,
    UnknownRoot,
)
from hansa.attest.revocation import RevocationList
from hansa.attest.verdict import Verdict

_LONGEST = 4


@dataclass(frozen=True)
class Chain:
    """Certificates each of which the next has signed; the last is a pinned root.

    Attributes:
        certificates: leaf first.
    """

    certificates: tuple[Certificate, ...]

    def __contains__(self, certificate: Certificate) -> bool:
        return certificate in self.certificates

    @property
    def leaf(self) -> Certificate:
        """Whose signature the chain is built for."""
        return self.certificates[0]

    @property
    def root(self) -> Certificate:
        """The pinned root."""
        return self.certificates[-1]

    def check_dates(self, at: datetime, verdict: Verdict) -> None:
        """Note every certificate that does not hold at a moment, and when the first one ends."""
        for each in self.certificates:
            with verdict.noting():
                check_times(f"the certificate {each.name}", each.not_before, each.not_after, at)
            verdict.lasts_until(each.not_after)

    def check_revoked(
        self, lists: Iterable[RevocationList], at: datetime, required: bool, verdict: Verdict
    ) -> None:
        """Note every certificate that its issuer has revoked, and lists that do not hold.

        Args:
            lists: those of any issuers; those of others are left alone.
            at: the moment.
            required: whether each issuer that may sign lists has to have one here.
            verdict: takes the notes.
        """
        lists = tuple(lists)
        pairs = zip(self.certificates, self.certificates[1:], strict=False)
        for subject, issuer in pairs:
            own = [each for each in lists if each.issuer == issuer.subject]
            if not own and required and issuer.may_sign(lists=True):
                verdict.note(BadCollateral(f"no revocation list of {issuer.name}"))
            for each in own:
                with verdict.noting():
                    each.check_signed_by(issuer)
                    if subject.serial in each.serials:
                        raise Revoked(f"{issuer.name} has revoked the certificate {subject.name}")
                    what = f"the revocation list of {issuer.name}"
                    check_times(what, each.this_update, each.next_update, at)
                    verdict.lasts_until(each.next_update)


def check_times(what: str, begin: datetime, end: datetime, at: datetime) -> None:
    """Check that something holds at a moment.

    Raises:
        NotYetValid: it begins later.
        Expired: it has ended.
    """
    if at < begin:
        raise NotYetValid(f"{what} holds from {begin:%Y-%m-%d %H:%M:%S}, it is {at:%Y-%m-%d}")
    if at > end:
        raise Expired(f"{what} held until {end:%Y-%m-%d %H:%M:%S}, it is {at:%Y-%m-%d}")


def build(
    leaf: Certificate,
    others: Sequence[Certificate],
    roots: Sequence[Certificate],
    known: Sequence[Certificate] = (),
) -> Chain:
    """The chain from a leaf to one of the roots.

    A root that came along is never believed: it has to be a pinned one, to the byte.

    Args:
        leaf: the certificate of a key that signs evidence.
        others: the certificates that came along with it, in any order; each has to be of use.
        roots: pinned.
        known: more that may stand between, of our own.

    Raises:
        UnknownRoot: it ends at none of the roots.
        BrokenChain: one is missing, did not sign the one before, may not, or is of no use.
    """
    chain = _climb(leaf, [*others, *known], roots)
    for each in others:
        if each not in chain:
            error = UnknownRoot if each.subject == chain.root.subject else BrokenChain
            raise error(f"a certificate {each.name} came along that is not of the chain")
    return chain


def _climb(leaf: Certificate, others: Sequence[Certificate], roots: Sequence[Certificate]) -> Chain:
    chain = [leaf]
    while True:
        last = chain[-1]
        if critical := last.unknown_critical:
            raise BrokenChain(f"the certificate {last.name} demands extension {critical[0]}")
        if anchors := [each for each in roots if each.subject == last.issuer]:
            issuer = _signer(last, anchors)
            if issuer is None:
                raise UnknownRoot(f"the pinned root {anchors[0].name} did not sign {last.name}")
            _check_authority(issuer, len(chain) - 1)
            return Chain((*chain, issuer))
        if last.self_issued:
            raise UnknownRoot(f"the root {last.name} is not pinned")
        known = [each for each in others if each.subject == last.issuer and each not in chain]
        if not known:
            raise BrokenChain(f"the certificate of who signed {last.name} is missing")
        issuer = _signer(last, known)
        if issuer is None:
            raise BrokenChain(f"{known[0].name} did not sign the certificate {last.name}")
        _check_authority(issuer, len(chain) - 1)
        chain.append(issuer)
        if len(chain) > _LONGEST:
            raise BrokenChain(f"more than {_LONGEST} certificates up to a root")


def _signer(subject: Certificate, issuers: Sequence[Certificate]) -> Certificate | None:
    for issuer in issuers:
        try:
            subject.check_signed_by(issuer)
        except BadSignature:
            continue
        return issuer
    return None


def _check_authority(issuer: Certificate, between: int) -> None:
    length = issuer.path_length
    if length is None or not issuer.may_sign():
        raise BrokenChain(f"{issuer.name} may sign no certificates")
    if between > length:
        raise BrokenChain(f"{issuer.name} may not stand so far above a leaf")
