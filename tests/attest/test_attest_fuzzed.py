"""Mutated evidence: a verdict or the declared error, nothing changed is accepted, within bounds."""

from __future__ import annotations

import tracemalloc

import pytest

from .evidence_targets import TARGETS, mutations, seeds


@pytest.mark.parametrize("target", TARGETS)
def test_mutated_evidence_is_refused_and_keeps_no_memory(target: str) -> None:
    one = TARGETS[target]
    for data in seeds(target):
        one(data)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for data in mutations(target, 60):
            one(data)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 16 << 20
    assert after - before < 4 << 20
