"""AMD SEV-SNP: whether a report is genuine, and whether a policy takes it.

A report is signed by a key that the chip's maker certifies for one chip and one set of firmware
versions (VCEK), or that a provider loads (VLEK). The certificate, not the report, says which
product it is (AMD publications 57230 and 56860).
"""

from __future__ import annotations

from datetime import datetime

from hansa.attest.certificates import Certificate, read_bundle
from hansa.attest.chain import Chain, build
from hansa.attest.collateral import snp_revocation_lists
from hansa.attest.der import Reader
from hansa.attest.evidence import Evidence
from hansa.attest.judging import check_measurement, check_report_data
from hansa.attest.policy import Policy
from hansa.attest.refusals import (
    BadSignature,
    BrokenChain,
    DebugAllowed,
    LowTcb,
    Malformed,
    MigrationAllowed,
    Revoked,
    WrongChip,
    WrongKeyKind,
    WrongProduct,
    WrongVmpl,
)
from hansa.attest.roots import Roots
from hansa.attest.signatures import ECDSA_SHA384, P384
from hansa.attest.snp_report import SIGNED, SnpReport
from hansa.attest.verdict import Verdict

_OIDS = "1.3.6.1.4.1.3704.1."
_PRODUCT, _HWID = _OIDS + "2", _OIDS + "4"
_TCB = {
    "boot_loader": _OIDS + "3.1", "tee": _OIDS + "3.2", "snp": _OIDS + "3.3",
    "microcode": _OIDS + "3.8", "fmc": _OIDS + "3.9",
}  # fmt: skip
_KINDS = {"SEV-VCEK": "vcek", "SEV-VLEK": "vlek"}
_BETWEEN = {"vcek": "SEV-{}", "vlek": "SEV-VLEK-{}"}
_SIGNING_KEY = {0: "vcek", 1: "vlek"}
_HWID_SIZE = {"Milan": 64, "Genoa": 64, "Turin": 8}
# Siblings that AMD certifies as Genoa.
_ALSO = {"Genoa": ("Genoa", "Bergamo", "Siena")}


def examine(
    evidence: Evidence, policy: Policy, at: datetime, report_data: bytes | None, roots: Roots,
    verdict: Verdict,
) -> None:  # fmt: skip
    """Look at an SNP report; what is found and every problem goes to ``verdict``.

    Raises:
        Malformed: it cannot be read at all.
    """
    report = SnpReport.parse(evidence.report)
    verdict.report_data, verdict.measurement = report.report_data, report.measurement.hex()
    verdict.measured = {
        "launch_digest": report.measurement.hex(), "host_data": report.host_data.hex()
    }  # fmt: skip
    verdict.chip_id = "" if report.masked else report.chip_id.hex()
    with verdict.noting():
        chain = _chain(evidence, roots)
        _check_certified(report, chain, policy, at, roots, verdict)
        with verdict.noting():
            lists = snp_revocation_lists(evidence.collateral)
            required = policy.collateral == "required"
            chain.check_revoked(lists, at, required, verdict)
    _check_policy(report, policy, verdict)
    check_measurement(verdict, policy)
    check_report_data(verdict, report_data)


def _chain(evidence: Evidence, roots: Roots) -> Chain:
    bundle = read_bundle(evidence.certificates)
    leaves = [each for each in bundle if each.name in _KINDS]
    if not leaves:
        raise BrokenChain("no certificate of a VCEK or VLEK came along")
    if len(leaves) > 1:
        raise BrokenChain(f"{len(leaves)} certificates of keys that sign reports")
    return build(leaves[0], bundle, tuple(roots.snp.values()), roots.snp_between)


def _check_certified(
    report: SnpReport, chain: Chain, policy: Policy, at: datetime, roots: Roots, verdict: Verdict
) -> None:
    """What ties a report to a chain: dates, signature, kind of key, product, versions, chip."""
    product = next(name for name, root in roots.snp.items() if root == chain.root)
    verdict.product = product
    kind = _KINDS[chain.leaf.name]
    chain.check_dates(at, verdict)
    with verdict.noting():
        if chain.leaf.key.kind != P384:
            raise BadSignature(f"a report signed by a key of {chain.leaf.key.kind}")
        chain.leaf.key.check(ECDSA_SHA384, report.raw[:SIGNED], report.signature)
    with verdict.noting():
        names = [each.name for each in chain.certificates[1:-1]]
        if names != [_BETWEEN[kind].format(product)]:
            raise BrokenChain(f"a {kind.upper()} of {product} certified by {', '.join(names)}")
    with verdict.noting():
        _check_product(report, chain.leaf, product, policy)
    with verdict.noting():
        said = _SIGNING_KEY.get(report.signing_key, f"key {report.signing_key}")
        if said != kind:
            raise WrongKeyKind(f"the report says {said.upper()}, the certificate {kind.upper()}")
        if kind not in policy.key_kinds:
            raise WrongKeyKind(f"signed by a {kind.upper()}, which the policy does not take")
    with verdict.noting():
        _check_tcb(report, chain.leaf, product, policy, verdict)
    with verdict.noting():
        _check_chip(report, chain.leaf, kind, product, policy)


def _check_product(report: SnpReport, leaf: Certificate, product: str, policy: Policy) -> None:
    reader = Reader(_extension(leaf, _PRODUCT), "a product name")
    named = reader.text().partition("-")[0]
    reader.end()
    if named not in _ALSO.get(product, (product,)):
        raise WrongProduct(f"a certificate for {named} under the root of {product}")
    if report.version >= 3 and report.product != product:
        where = f"family 0x{report.family:x} model 0x{report.model:x}"
        raise WrongProduct(f"a report of a processor ({where}) that is no {product}")
    if product not in policy.products:
        taken = ", ".join(policy.products) or "none"
        raise WrongProduct(f"{product} is not taken: the policy says {taken}")


def _check_tcb(
    report: SnpReport, leaf: Certificate, product: str, policy: Policy, verdict: Verdict
) -> None:
    """The versions in the report are those of the certificate, and none is below the policy's."""
    reported = report.tcb(product)
    if product != "Turin":
        del reported["fmc"]
    verdict.tcb = reported
    for name, value in reported.items():
        reader = Reader(_extension(leaf, _TCB[name]), f"the version of {name}")
        certified = reader.integer()
        reader.end()
        if certified != value:
            raise LowTcb(f"{name}: the report says {value}, the certificate {certified}")
    for lowest in (tcb.model_dump() for name, tcb in policy.minimum_tcb.items() if name == product):
        low = [name for name, value in reported.items() if value < lowest[name]]
        if low:
            told = ", ".join(f"{name} {reported[name]} < {lowest[name]}" for name in low)
            raise LowTcb(f"below the policy's versions: {told}")


def _check_chip(
    report: SnpReport, leaf: Certificate, kind: str, product: str, policy: Policy
) -> None:
    """The certificate is of this very chip; its hwID is raw, never wrapped in DER."""
    if report.chip_id.hex() in policy.revoked_chips:
        raise Revoked("the policy has revoked this chip")
    if report.masked and not policy.masked_chip_id:
        raise WrongChip("the report does not say of which chip it is")
    if kind == "vlek":  # a provider's key is of no chip
        return
    size = _HWID_SIZE[product]
    hwid = _extension(leaf, _HWID)
    if len(hwid) != size:
        raise WrongChip(f"a hwID of {len(hwid)} bytes: {product} has {size}")
    if report.masked:
        return
    if report.chip_id != hwid.ljust(64, b"\0"):
        raise WrongChip("the certificate is of another chip than the report")


def _extension(leaf: Certificate, name: str) -> bytes:
    if name not in leaf.extensions:
        error = WrongChip if name == _HWID else Malformed
        raise error(f"the certificate {leaf.name} lacks extension {name}")
    return leaf.extensions[name][1]


def _check_policy(report: SnpReport, policy: Policy, verdict: Verdict) -> None:
    if report.debug and not policy.debug:
        verdict.note(DebugAllowed("the guest's policy lets its host debug it"))
    if report.migration and not policy.migration:
        verdict.note(MigrationAllowed("the guest's policy lets a migration agent take it"))
    if report.vmpl > policy.vmpl:
        verdict.note(WrongVmpl(f"asked for at VMPL {report.vmpl}: at most {policy.vmpl}"))
