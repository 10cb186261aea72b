"""What vendors sign about platforms: revocation lists, TCB info, identities of quoting enclaves.

In a container of evidence it is one JSON object. For Intel it has the fields that Intel's
provisioning service answers with, under the names that ``dcap-qvl`` keeps them by; lists and
signatures are hex digits, the signed texts are kept to the byte:

    pck_crl_issuer_chain, root_ca_crl, pck_crl,
    tcb_info_issuer_chain, tcb_info, tcb_info_signature,
    qe_identity_issuer_chain, qe_identity, qe_identity_signature

For SNP it has ``revocation_lists``, a list of hex digits.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from hansa.attest.certificates import Certificate, read_bundle
from hansa.attest.chain import Chain, build, check_times
from hansa.attest.policy import Policy
from hansa.attest.refusals import (
    BadCollateral,
    BadSignature,
    BrokenChain,
    Expired,
    LowTcb,
    Malformed,
)
from hansa.attest.revocation import RevocationList
from hansa.attest.signatures import ECDSA_SHA256
from hansa.attest.strict_json import Fields, loads
from hansa.attest.verdict import Verdict

_CHAINS = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")
_LISTS = ("root_ca_crl", "pck_crl")
_SIGNED = ("tcb_info", "qe_identity")
_NAMES = (*_CHAINS, *_LISTS, *_SIGNED, *(f"{name}_signature" for name in _SIGNED))
_MOST_LISTS = 8
_TCB_SIGNER = "Intel SGX TCB Signing"


@dataclass(frozen=True)
class SignedText:
    """A text that Intel has signed.

    Attributes:
        what: ``tcb_info`` or ``qe_identity``.
        text: to the byte as it was signed, JSON.
        signature: (r, s).
        chain: from the signer to the pinned root.
        fields: what it says.
    """

    what: str
    text: bytes
    signature: tuple[int, int]
    chain: Chain
    fields: Fields

    def check_signature(self) -> None:
        """Check that Intel's signer has signed it.

        Raises:
            BrokenChain: somebody else has, or not right under the root.
            BadSignature: nobody has.
        """
        signer = self.chain.leaf
        if signer.name != _TCB_SIGNER or len(self.chain.certificates) != 2:
            raise BrokenChain(f"{self.what} signed by {signer.name}: {_TCB_SIGNER}, under the root")
        try:
            signer.key.check(ECDSA_SHA256, self.text, self.signature)
        except BadSignature:
            raise BadSignature(f"the signature of {self.what} does not hold") from None

    def check_dates(self, policy: Policy, at: datetime, verdict: Verdict) -> None:
        """Note that it is too old or not yet valid, and when it ends."""
        self.chain.check_dates(at, verdict)
        with verdict.noting():
            issued, end = self.fields.moment("issueDate"), self.fields.moment("nextUpdate")
            check_times(self.what, issued, end, at)
            oldest = timedelta(seconds=policy.collateral_age_s)
            if at - issued > oldest:
                raise Expired(f"{self.what} was issued on {issued:%Y-%m-%d}, longer ago than the "
                              f"policy's {policy.collateral_age_s} s")  # fmt: skip
            verdict.lasts_until(min(end, issued + oldest))
        with verdict.noting():
            number = self.fields.number("tcbEvaluationDataNumber")
            if number < policy.minimum_evaluation:
                raise LowTcb(f"{self.what} is evaluation {number}: at least "
                             f"{policy.minimum_evaluation}")  # fmt: skip


@dataclass(frozen=True)
class IntelCollateral:
    """Intel's lists about one platform.

    Attributes:
        tcb_info: security versions of the product and what Intel thinks of them.
        qe_identity: who the quoting enclave has to be.
        pck_authority: from the authority that certified the processor to the pinned root.
        revocation_lists: of the root and of the authority that certified the processor.
    """

    tcb_info: SignedText
    qe_identity: SignedText
    pck_authority: Chain
    revocation_lists: tuple[RevocationList, ...]

    @classmethod
    def parse(cls, data: bytes, root: Certificate) -> IntelCollateral:
        """From the JSON of a container.

        Raises:
            BadCollateral: a field is missing, of another form, or unknown.
            BrokenChain: a signer is not certified.
            UnknownRoot: a signer's chain does not end at ``root``.
        """
        fields = Fields(loads(data, "collateral"), "collateral")
        fields.only(*_NAMES, "pck_certificate_chain")
        try:
            lists = tuple(RevocationList.parse(fields.octets(name)) for name in _LISTS)
            texts = {name: _signed(fields, name, root) for name in _SIGNED}
            authority = _chain(fields, "pck_crl_issuer_chain", root)
        except Malformed as error:
            raise BadCollateral(f"collateral: {error}") from None
        return cls(texts["tcb_info"], texts["qe_identity"], authority, lists)

    def check(self, pck: Chain, policy: Policy, at: datetime, verdict: Verdict) -> None:
        """Note what does not hold of it: dates, revoked certificates.

        Raises:
            AttestationError: a text is not signed; nothing in it is to be read then.
        """
        for text in (self.tcb_info, self.qe_identity):
            text.check_signature()
            text.check_dates(policy, at, verdict)
        if self.pck_authority.leaf != pck.certificates[1]:
            verdict.note(BadCollateral("revocations of another authority than the processor's"))
        for chain in dict.fromkeys((pck, self.tcb_info.chain, self.qe_identity.chain)):
            chain.check_revoked(self.revocation_lists, at, True, verdict)


def _signed(fields: Fields, name: str, root: Certificate) -> SignedText:
    text = fields.text(name).encode()
    signature = fields.octets(f"{name}_signature", 64)
    chain = _chain(fields, f"{name}_issuer_chain", root)
    numbers = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    return SignedText(name, text, numbers, chain, Fields(loads(text, name), name))


def _chain(fields: Fields, name: str, root: Certificate) -> Chain:
    bundle = read_bundle(fields.text(name).encode())
    if not bundle:
        raise BadCollateral(f"collateral: {name} is empty")
    return build(bundle[0], bundle[1:], (root,))


def snp_revocation_lists(data: bytes) -> tuple[RevocationList, ...]:
    """AMD's revocation lists in the JSON of a container, none where there is no collateral.

    Raises:
        BadCollateral: something is there that is none.
    """
    if not data:
        return ()
    fields = Fields(loads(data, "collateral"), "collateral")
    fields.only("revocation_lists")
    try:
        raw = [bytes.fromhex(each) for each in fields.texts("revocation_lists")]
    except ValueError:
        raise BadCollateral("collateral: revocation_lists are not made of hex digits") from None
    if len(raw) > _MOST_LISTS:
        raise BadCollateral(f"collateral: {len(raw)} revocation lists, at most {_MOST_LISTS}")
    try:
        return tuple(map(RevocationList.parse, raw))
    except Malformed as error:
        raise BadCollateral(f"collateral: {error}") from None


def canonical(data: bytes) -> bytes:
    """Collateral as it stands in a container: JSON with sorted keys and no spaces.

    Raises:
        BadCollateral: it is no JSON object.
    """
    value = loads(data, "collateral")
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
