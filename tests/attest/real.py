"""Real evidence, which lies under $HANSA_DATA: what each file is, and as of when it is judged.

The files are test vectors of go-sev-guest, go-tdx-guest, trustee (Apache-2), TEE-Attestation-
Verification and dcap-qvl (MIT).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hansa.attest.evidence import Evidence, Tee
from hansa.attest.policy import Policy

SPRING = datetime(2026, 3, 1, tzinfo=UTC)
COLLECTED = datetime(2025, 6, 20, tzinfo=UTC)
"""When the collateral of ``tdx_quote`` and ``sgx_quote`` held."""

SNP = {
    "milan": ("milan_report.bin", "milan_vcek.pem", SPRING),
    "genoa": ("genoa_report.bin", "genoa_vcek.pem", SPRING),
    "turin": ("turin_report.bin", "turin_vcek.pem", SPRING),
    "milan-2": ("trustee_test-report.bin", "trustee_test-vcek.der", SPRING),
    "milan-debug": ("milan_debug_report.bin", "milan_debug_vcek.der", SPRING),
    "milan-vlek": ("trustee_test-vlek-report.bin", "trustee_test-vlek.der", COLLECTED),
}
QUOTES = {
    "tdx": ("tdx/tdx_quote", COLLECTED),
    "tdx-outdated": ("tdx/tdx_quote_outdated", SPRING),
    "tdx-5-sample": ("tdx/quote_v5_sample.dat", SPRING),
    "tdx-prod": ("tdx/tdx_prod_quote_SPR_E4.dat", SPRING),
    "tdx-debug": ("tdx/trustee_tdx_quote_4.dat", SPRING),
    "tdx-5": ("tdx/trustee_tdx_quote_5.dat", SPRING),
    "tdx-6": ("tdx/trustee_tdx_quote_6.dat", SPRING),
    "sgx": ("sgx/sgx_quote", COLLECTED),
    "sgx-debug": ("sgx/occlum_debug_quote.dat", SPRING),
}
NAMES = (*SNP, *QUOTES)


def folder() -> Path:
    """Where the files are."""
    return Path(os.environ["HANSA_DATA"]) / "attestation"


def evidence_of(name: str) -> tuple[Evidence, datetime]:
    """The evidence of that name, with the collateral that belongs to it, and its moment."""
    if name in SNP:
        report, certificates, at = SNP[name]
        parts = [(folder() / "snp" / each).read_bytes() for each in (report, certificates)]
        return Evidence("snp", *parts), at
    file, at = QUOTES[name]
    beside = folder() / f"{file}_collateral.json"
    tee: Tee = "sgx" if name.startswith("sgx") else "tdx"
    collateral = beside.read_bytes() if beside.exists() else b""
    return Evidence(tee, (folder() / file).read_bytes(), b"", collateral), at


def policy(**changes: Any) -> Policy:
    """The policy that takes all that is genuine and not debugged."""
    everything: Mapping[str, Any] = {
        "platforms": ["snp", "tdx", "sgx"],
        "products": ["Milan", "Genoa", "Turin", "Intel"],
        "any_measurement": True,
        "minimum_tcb": {name: {"snp": 0} for name in ("Milan", "Genoa", "Turin")},
        "key_kinds": ["vcek", "vlek"],
        "masked_chip_id": True,
        "collateral": "if-given",
        "allow_trailing": True,
        "vmpl": 1,
        "statuses": ["UpToDate", "ConfigurationAndSWHardeningNeeded"],
        "advisories": ["INTEL-SA-00289", "INTEL-SA-00615"],
    }
    return Policy.parse({**everything, **changes})
