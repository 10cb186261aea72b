"""Mutated evidence: a verdict or the declared error, nothing changed is accepted, within bounds."""

from __future__ import annotations

import tracemalloc

import pytest

from . import channel_targets, evidence_targets

OF = {target: each for each in (evidence_targets, channel_targets) for target in each.TARGETS}


@pytest.mark.parametrize("target", OF)
def test_mutated_evidence_is_refused_and_keeps_no_memory(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANSA_SIMULATED_TEE", "1")
    one, of = OF[target].TARGETS[target], OF[target]
    for data in of.seeds(target):
        one(data)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for data in of.mutations(target, 60):
            one(data)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 16 << 20
    assert after - before < 4 << 20
