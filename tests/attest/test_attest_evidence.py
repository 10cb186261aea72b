"""The container of evidence: it comes back as it was, and nothing else passes for one."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.attest.evidence import LARGEST, MAGIC, TEES, Evidence
from hansa.attest.refusals import AttestationError, Malformed, Oversized, Trailing, Truncated

ONE = Evidence("snp", b"report", b"certificates", b"{}")


@settings(max_examples=50)
@given(st.sampled_from(TEES), st.binary(min_size=1), st.binary(), st.binary())
def test_it_comes_back_as_it_was(tee, report, certificates, collateral) -> None:
    evidence = Evidence(tee, report, certificates, collateral)
    data = evidence.to_bytes()
    assert Evidence.from_bytes(data) == evidence
    assert len(data) == evidence.size
    assert data.startswith(MAGIC)


@settings(max_examples=100)
@given(st.binary(max_size=80))
def test_other_bytes_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(AttestationError):
        Evidence.from_bytes(data)


@settings(max_examples=100)
@given(st.integers(0, ONE.size - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_is_other_evidence(at: int, change: int) -> None:
    data = bytearray(ONE.to_bytes())
    data[at] ^= change
    with suppress(Malformed):
        assert Evidence.from_bytes(bytes(data)) != ONE


def test_every_cut_and_every_addition_is_named() -> None:
    data = ONE.to_bytes()
    for cut in range(len(data)):
        with pytest.raises(Truncated):
            Evidence.from_bytes(data[:cut])
    with pytest.raises(Trailing):
        Evidence.from_bytes(data + b"\0")


def test_nothing_is_larger_than_the_limit() -> None:
    with pytest.raises(Oversized):
        Evidence("snp", bytes(LARGEST))
    with pytest.raises(Oversized):
        Evidence.from_bytes(bytes(LARGEST + 1))


def test_a_kind_and_a_report_are_needed() -> None:
    with pytest.raises(Malformed, match="one of snp, tdx, sgx, simulated"):
        Evidence("sev", b"x")  # type: ignore[arg-type]
    with pytest.raises(Malformed, match="without a report"):
        Evidence("snp", b"")
