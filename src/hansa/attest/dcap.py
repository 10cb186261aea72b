"""Intel SGX and TDX: whether a quote is genuine, and whether a policy takes it.

A quote is signed by a key of the quoting enclave, whose report, signed by the processor's own key
(PCK), says so; Intel certifies that key, and publishes what it thinks of the versions it stands
for (Intel SGX DCAP, "ECDSA quote library API"; quote verification library).
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from hansa.attest.certificates import read_bundle
from hansa.attest.chain import Chain, build
from hansa.attest.collateral import IntelCollateral
from hansa.attest.evidence import Evidence
from hansa.attest.judging import check_measurement, check_report_data
from hansa.attest.pck import Platform
from hansa.attest.policy import INTEL, Policy
from hansa.attest.quote import INTEL_QE, EnclaveReport, Quote, TdReport
from hansa.attest.refusals import (
    BadCollateral,
    BadSignature,
    BrokenChain,
    DebugAllowed,
    LowTcb,
    MigrationAllowed,
    Revoked,
    UnwantedAdvisory,
    WrongMeasurement,
    WrongPlatform,
    WrongProduct,
    WrongQuotingEnclave,
    WrongTdxModule,
)
from hansa.attest.roots import Roots
from hansa.attest.signatures import ECDSA_SHA256, P256, PublicKey
from hansa.attest.tcb_levels import enclave_level, module_level, platform_level, worst
from hansa.attest.verdict import Verdict

_LEAF = "Intel SGX PCK Certificate"
_AUTHORITIES = ("Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA")
_UNCHECKED = "Unchecked"


def examine(
    evidence: Evidence, policy: Policy, at: datetime, report_data: bytes | None, roots: Roots,
    verdict: Verdict,
) -> None:  # fmt: skip
    """Look at a quote; what is found and every problem goes to ``verdict``.

    Raises:
        Malformed: it cannot be read at all.
    """
    quote = Quote.parse(evidence.report, policy.allow_trailing)
    if quote.tee != evidence.tee:
        raise WrongPlatform(f"a quote of {quote.tee} that was shown as {evidence.tee}")
    verdict.measured = quote.body.measured
    verdict.measurement = str(quote.body.measured["mrenclave" if quote.tee == "sgx" else "mrtd"])
    verdict.report_data = quote.body.report_data
    _check_signatures(quote, verdict)
    with verdict.noting():
        chain = _chain(quote, roots)
        chain.check_dates(at, verdict)
        with verdict.noting():
            _check_qe_signature(quote, chain)
        platform = Platform.of(chain.leaf)
        verdict.product, verdict.chip_id = platform.fmspc, platform.ppid.hex()
        verdict.tcb = {f"sgx_{k:02}": svn for k, svn in enumerate(platform.components)}
        verdict.tcb |= {"pcesvn": platform.pcesvn}
        if isinstance(quote.body, TdReport):
            versions = enumerate(quote.body.tcb_svns[0])
            verdict.tcb |= {f"tdx_{k:02}": svn for k, svn in versions}
        _check_platform(platform, policy, verdict)
        with verdict.noting():
            _check_collateral(evidence, quote, chain, platform, policy, at, roots, verdict)
    _check_body(quote, policy, verdict)
    check_measurement(verdict, policy)
    check_report_data(verdict, report_data)


def _check_signatures(quote: Quote, verdict: Verdict) -> None:
    """The quote's signature, and that the quoting enclave stands for its key."""
    with verdict.noting():
        key = PublicKey.of_point(P256, quote.attestation_key)
        try:
            key.check(ECDSA_SHA256, quote.signed, quote.signature)
        except BadSignature:
            raise BadSignature("the signature of the quote does not hold") from None
    with verdict.noting():
        if quote.qe_vendor != INTEL_QE:
            raise WrongQuotingEnclave("a quoting enclave of another vendor than Intel")
        bound = hashlib.sha256(quote.attestation_key + quote.qe_authentication).digest()
        if quote.qe_report.report_data != bound.ljust(64, b"\0"):
            raise WrongQuotingEnclave("the quoting enclave stands for another key")
        if quote.qe_report.debug or not quote.qe_report.initialised:
            raise WrongQuotingEnclave("a quoting enclave that its host can debug")


def _check_qe_signature(quote: Quote, chain: Chain) -> None:
    try:
        chain.leaf.key.check(ECDSA_SHA256, quote.qe_report.raw, quote.qe_signature)
    except BadSignature:
        raise BadSignature("the signature of the quoting enclave's report does not hold") from None


def _chain(quote: Quote, roots: Roots) -> Chain:
    bundle = read_bundle(quote.pck_chain)
    if not bundle:
        raise BrokenChain("a quote without a chain of certificates")
    chain = build(bundle[0], bundle[1:], (roots.intel,))
    names = [each.name for each in chain.certificates[:-1]]
    if len(names) != 2 or names[0] != _LEAF or names[1] not in _AUTHORITIES:
        raise BrokenChain(f"a quote signed under {', '.join(names)}")
    return chain


def _check_platform(platform: Platform, policy: Policy, verdict: Verdict) -> None:
    if not {INTEL, platform.fmspc} & set(policy.products):
        taken = ", ".join(policy.products) or "none"
        verdict.note(WrongProduct(f"{platform.fmspc} is not taken: the policy says {taken}"))
    if platform.ppid.hex() in policy.revoked_chips:
        verdict.note(Revoked("the policy has revoked this chip"))


def _check_collateral(
    evidence: Evidence, quote: Quote, chain: Chain, platform: Platform, policy: Policy,
    at: datetime, roots: Roots, verdict: Verdict,
) -> None:  # fmt: skip
    """What Intel's lists say of the platform, and whether the policy takes that."""
    if not evidence.collateral:
        verdict.status = _UNCHECKED
        if policy.collateral == "required":
            raise BadCollateral("Intel's lists did not come along")
        return
    collateral = IntelCollateral.parse(evidence.collateral, roots.intel)
    collateral.check(chain, policy, at, verdict)
    info, identity = collateral.tcb_info.fields, collateral.qe_identity.fields
    td = quote.body if isinstance(quote.body, TdReport) else None
    enclave = enclave_level(identity, quote.qe_report, td is not None)
    if td is None:
        level = platform_level(info, platform, None)
    else:
        level = worst([
            platform_level(info, platform, svn).with_part(module_level(info, td, svn))
            for svn in dict.fromkeys(td.tcb_svns)
        ])  # fmt: skip
    level = level.with_part(enclave)
    verdict.status, verdict.advisories = level.status, level.advisories
    if level.status not in policy.statuses:
        taken = ", ".join(policy.statuses)
        verdict.note(LowTcb(f"Intel says {level.status} of the platform: the policy takes {taken}"))
    if unwanted := sorted(set(level.advisories) - set(policy.advisories)):
        verdict.note(UnwantedAdvisory(f"the policy does not tolerate {', '.join(unwanted)}"))


def _check_body(quote: Quote, policy: Policy, verdict: Verdict) -> None:
    """The enclave or domain itself."""
    body = quote.body
    if body.debug and not policy.debug:
        what = "enclave" if isinstance(body, EnclaveReport) else "domain"
        verdict.note(DebugAllowed(f"the {what} lets its host debug it"))
    if isinstance(body, EnclaveReport):
        if not body.initialised:
            verdict.note(WrongMeasurement("the enclave was not completely built"))
        return
    if body.migration and not policy.migration:
        verdict.note(MigrationAllowed("the domain may be moved to another machine"))
    if any(body.mrsignerseam):
        verdict.note(WrongTdxModule("a TDX module that Intel did not sign"))
