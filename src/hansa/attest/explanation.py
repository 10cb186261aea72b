"""What evidence says, field by field, for people. Nothing of it is verified here."""

from __future__ import annotations

from typing import Any

from hansa.attest.certificates import Certificate, read_bundle
from hansa.attest.collateral import IntelCollateral, snp_revocation_lists
from hansa.attest.evidence import Evidence
from hansa.attest.pck import Platform
from hansa.attest.quote import EnclaveReport, Quote, TdReport
from hansa.attest.refusals import AttestationError, Malformed
from hansa.attest.revocation import RevocationList
from hansa.attest.roots import pinned
from hansa.attest.snp_report import SnpReport
from hansa.attest.strict_json import Fields

_KEYS = {0: "VCEK", 1: "VLEK", 7: "none"}


def explain(evidence: Evidence) -> dict[str, Any]:
    """What the parts of evidence say.

    Returns:
        Plain data: ``platform``; ``report``, a mapping of fields; ``certificates`` and ``lists``,
        lists of such mappings; ``unverified``, always true.

    Raises:
        Malformed: the report cannot be read.
    """
    told: dict[str, Any] = {"unverified": True, "platform": evidence.tee}
    bundle = evidence.certificates
    if evidence.tee == "snp":
        told["report"] = _snp(SnpReport.parse(evidence.report))
    elif evidence.tee == "simulated":
        told["report"] = {"bytes": len(evidence.report), "hardware": "none"}
    else:
        quote = Quote.parse(evidence.report, allow_trailing=True)
        told["report"] = _quote(quote)
        bundle = quote.pck_chain
    told["certificates"] = [_certificate(each) for each in read_bundle(bundle)]
    told["lists"] = _lists(evidence)
    return told


def _snp(report: SnpReport) -> dict[str, Any]:
    product = report.product
    layout = product or ("Turin" if not any(report.chip_id[8:]) else "Milan")
    return {
        "version": report.version,
        "product": product or "not said",
        "processor": "not said" if report.family is None
        else f"family 0x{report.family:x} model 0x{report.model:x}",
        "guest SVN": report.guest_svn,
        "policy": f"0x{report.policy:x}",
        "debug": report.debug,
        "migration agent": report.migration,
        "VMPL": report.vmpl,
        "signing key": _KEYS.get(report.signing_key, str(report.signing_key)),
        "measurement": report.measurement.hex(),
        "host data": report.host_data.hex(),
        "report data": report.report_data.hex(),
        "chip id": "masked" if report.masked else report.chip_id.hex(),
        **{f"reported {name}": svn for name, svn in report.tcb(layout).items()},
    }  # fmt: skip


def _quote(quote: Quote) -> dict[str, Any]:
    told = {
        "version": quote.version,
        "vendor of the quoting enclave": quote.qe_vendor.hex(),
        "quoting enclave MRSIGNER": quote.qe_report.mrsigner.hex(),
        "quoting enclave SVN": quote.qe_report.isv_svn,
        "debug": quote.body.debug,
        "report data": quote.body.report_data.hex(),
        **quote.body.measured,
        "trailing bytes": len(quote.trailing),
    }
    if isinstance(quote.body, EnclaveReport):
        told["attributes"] = quote.body.attributes.hex()
    elif isinstance(quote.body, TdReport):
        told |= {
            "migration": quote.body.migration,
            "TD attributes": quote.body.attributes.hex(),
            "XFAM": quote.body.xfam.hex(),
            "TDX versions at launch": quote.body.tcb_svns[0].hex(),
            "TDX versions now": quote.body.tcb_svns[-1].hex(),
            "MRSEAM": quote.body.mrseam.hex(),
        }
    return told


def _certificate(certificate: Certificate) -> dict[str, Any]:
    told: dict[str, Any] = {
        "subject": certificate.name,
        "serial": f"{certificate.serial:x}",
        "from": certificate.not_before.isoformat(),
        "until": certificate.not_after.isoformat(),
        "pinned root": certificate in (*pinned().snp.values(), pinned().intel),
    }
    try:
        platform = Platform.of(certificate)
    except Malformed:
        return told
    return told | {"FMSPC": platform.fmspc, "PPID": platform.ppid.hex(), "PCESVN": platform.pcesvn}


def _lists(evidence: Evidence) -> list[dict[str, Any]]:
    if not evidence.collateral:
        return []
    try:
        if evidence.tee == "snp":
            return [_revocations(each) for each in snp_revocation_lists(evidence.collateral)]
        lists = IntelCollateral.parse(evidence.collateral, pinned().intel)
    except AttestationError as error:
        return [{"what": "collateral", "unreadable": str(error)}]
    texts = ((each.what, each.fields) for each in (lists.tcb_info, lists.qe_identity))
    return [
        *({"what": what, **_dates(fields)} for what, fields in texts),
        *map(_revocations, lists.revocation_lists),
    ]


def _dates(fields: Fields) -> dict[str, Any]:
    return {
        "from": fields.moment("issueDate").isoformat(),
        "until": fields.moment("nextUpdate").isoformat(),
        "evaluation": fields.number("tcbEvaluationDataNumber"),
    }


def _revocations(each: RevocationList) -> dict[str, Any]:
    return {
        "what": "revocation list",
        "from": each.this_update.isoformat(),
        "until": each.next_update.isoformat(),
        "revoked": len(each.serials),
    }
