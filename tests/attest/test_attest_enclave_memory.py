"""The model of enclave memory: its laws, and that it says what it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.attest.enclave_memory import MIB, PAGE, EnclaveMemory, enclave_cost

SIZES = st.integers(0, 1 << 34)


def test_every_figure_says_that_it_is_modelled() -> None:
    cost = enclave_cost(EnclaveMemory(), seconds=1.0, working_set=MIB, touched=MIB)
    assert cost.note == "modelled, not measured"
    assert "modelled, not measured" in str(cost)


def test_what_fits_pages_nothing_and_what_does_not_pages_its_share() -> None:
    machine = EnclaveMemory(epc=64 * MIB, page_seconds=1e-5, inside_factor=1.0, call_seconds=1e-6)
    fits = enclave_cost(machine, seconds=2.0, working_set=64 * MIB, touched=1 << 30)
    assert (fits.paged, fits.seconds) == (0, 2.0)
    twice = enclave_cost(machine, seconds=2.0, working_set=128 * MIB, touched=1 << 30, calls=1000)
    assert twice.paged == (1 << 30) // PAGE // 2
    assert twice.seconds == pytest.approx(2.0 + 1.31072 + 0.001)


@given(small=SIZES, more=SIZES, touched=SIZES)
def test_more_memory_in_use_never_costs_less(small: int, more: int, touched: int) -> None:
    machine = EnclaveMemory()
    one = enclave_cost(machine, seconds=1.0, working_set=small, touched=touched)
    two = enclave_cost(machine, seconds=1.0, working_set=small + more, touched=touched)
    assert one.seconds <= two.seconds
    large = EnclaveMemory(epc=1 << 40)
    assert enclave_cost(large, seconds=1.0, working_set=small, touched=touched).paged == 0
    assert one.seconds == pytest.approx(1.0 + one.paging + one.calls + one.memory)


@pytest.mark.parametrize(
    "wrong", [{"seconds": -1.0}, {"working_set": -1}, {"touched": -1}, {"calls": -1}, {"bound": 2}]
)
def test_figures_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    known = {"seconds": 1.0, "working_set": 1, "touched": 1}
    with pytest.raises(ValueError, match=next(iter(wrong))):
        enclave_cost(EnclaveMemory(), **{**known, **wrong})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="inside_factor"):
        EnclaveMemory(inside_factor=0.5)
