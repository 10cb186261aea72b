"""Against an independent verifier of Intel's evidence, dcap-qvl (Rust), where it is installed."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.attest.evidence import Evidence
from hansa.attest.policy import STATUSES
from hansa.attest.verify import verify

from .certifying import NOW
from .judging import judge
from .real import evidence_of, policy
from .vendor import Intel, domain, enclave, level, svn_level

dcap_qvl = pytest.importorskip("dcap_qvl")
REFUSED = ("refused", ())


def theirs(evidence: Evidence, seconds: int, root: bytes | None = None) -> tuple[str, Any]:
    """Status and advisories as dcap-qvl has them."""
    try:
        lists = dcap_qvl.QuoteCollateralV3.from_json(evidence.collateral.decode())
        if root is None:
            report = dcap_qvl.verify(evidence.report, lists, seconds)
        else:
            report = dcap_qvl.verify_with_root_ca(evidence.report, lists, root, seconds)
    except ValueError:
        return REFUSED
    return report.status, tuple(sorted(report.advisory_ids))


def ours(evidence: Evidence, intel: Intel) -> tuple[str, Any]:
    """Ours, refused only for what they look at, too: not for a status that is bad."""
    tolerant = intel.policy(
        statuses=list(STATUSES), advisories=["INTEL-SA-00001", "INTEL-SA-00002"],
        any_measurement=True, measurements=[],
    )  # fmt: skip
    verdict = judge(evidence, tolerant)
    return (verdict.status, verdict.advisories) if verdict.accepted else REFUSED


SVN = st.sampled_from([7, 6, 5, 4, 3, 2])
LEVELS = st.lists(st.tuples(st.integers(2, 5), st.sampled_from(STATUSES)), min_size=1, max_size=3)
PARTS = st.lists(
    st.tuples(st.integers(2, 5), st.sampled_from(["UpToDate", "OutOfDate"])), min_size=1, max_size=3
)


@settings(max_examples=80)
@given(
    tdx=st.booleans(), size=st.sampled_from([584, 648]), components=st.tuples(*[SVN] * 2),
    pcesvn=st.sampled_from([12, 11, 10]), svn=st.tuples(SVN, st.sampled_from([1, 0, 2]), SVN),
    qe=SVN,
    levels=LEVELS, modules=PARTS, enclaves=PARTS,
)  # fmt: skip
def test_platforms_are_judged_alike(
    tdx: bool, size: int, components: Any, pcesvn: int, svn: Any, qe: int, levels: Any,
    modules: Any, enclaves: Any,
) -> None:  # fmt: skip
    intel = Intel(components=(*components, *[7] * 14), pcesvn=pcesvn)
    body = domain(size, svn=bytes(svn) + bytes(13)) if tdx else enclave()
    info: dict[str, Any] = {
        "tcbLevels": [level(each, status, "INTEL-SA-00001", tdx=tdx)
                      for each, status in sorted(levels, reverse=True)]
    }  # fmt: skip
    if tdx:
        module = intel.tcb_info(True)["tdxModuleIdentities"][0]
        rows = [svn_level(each, status, "INTEL-SA-00002")
                for each, status in sorted(modules, reverse=True)]  # fmt: skip
        info["tdxModuleIdentities"] = [{**module, "tcbLevels": rows}]
    rows = [svn_level(each, status) for each, status in sorted(enclaves, reverse=True)]
    collateral = intel.collateral(tdx, tcb_info=info, qe_identity={"tcbLevels": rows})
    evidence = dataclasses.replace(intel.evidence(body, qe={"svn": qe}), collateral=collateral)
    seconds = int(NOW.timestamp())
    assert ours(evidence, intel) == theirs(evidence, seconds, intel.root.der)


@settings(max_examples=60)
@given(launched=st.tuples(SVN, st.just(1), SVN), now=st.tuples(SVN, st.just(1), SVN))
def test_a_module_changed_beneath_a_domain_is_never_judged_better(launched: Any, now: Any) -> None:
    """They tell OutOfDate at launch from a module that was renewed since; to us it is OutOfDate."""
    intel = Intel(components=(7,) * 16)
    body = domain(648, svn=bytes(launched) + bytes(13), svn_now=bytes(now) + bytes(13))
    evidence = intel.evidence(body)
    own, other = ours(evidence, intel), theirs(evidence, int(NOW.timestamp()), intel.root.der)
    if other == REFUSED:
        assert own == REFUSED
    if own[0] == "UpToDate":
        assert other == own


@pytest.mark.data
@pytest.mark.parametrize("name", ["tdx", "sgx", "tdx-outdated"])
def test_real_evidence_is_judged_alike(name: str) -> None:
    evidence, at = evidence_of(name)
    verdict = verify(evidence, policy(), at=at, report_data=None)
    own = (verdict.status, verdict.advisories) if verdict.accepted else REFUSED
    assert own == theirs(evidence, int(at.timestamp()))
    late = dataclasses.replace(verdict).until
    assert late is not None
    assert theirs(evidence, int(late.timestamp()) + 86_400) == REFUSED
