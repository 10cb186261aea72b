"""Mutated handshakes, frames and messages: the declared error or nothing, within bounds."""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .link_targets import TARGETS, mutations, seeds

SLOW = 120  # whose inputs cost a handshake of OpenSSL's
QUICK = 1000


@pytest.mark.parametrize("target", TARGETS)
def test_mutated_input_gives_the_declared_error_and_keeps_no_memory(target: str) -> None:
    one = TARGETS[target]
    slow = "tls" in target and not target.startswith("frames")
    for data in seeds(target):
        one(data)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for data in mutations(target, SLOW if slow else QUICK):
            one(data)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 16 << 20
    assert after - before < 4 << 20


@given(st.sampled_from([t for t in TARGETS if "tls" not in t]), st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_the_declared_error(target: str, data: bytes) -> None:
    TARGETS[target](data)
