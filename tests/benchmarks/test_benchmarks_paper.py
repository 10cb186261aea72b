"""What is predicted of the paper-scale files, and what stands beside the papers' claims."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "paper"))
import gpu_day
import run_all

from hansa.base.systems import systems

PAPER = Path(run_all.__file__).parent
SECONDS = st.floats(0.01, 1e7)
HERE = gpu_day.Rates(80e9, 10e9)


@given(training=SECONDS, measuring=SECONDS, exchange=SECONDS, side=st.integers(1, 64))
def test_bounds_are_in_order_and_a_faster_gpu_takes_less(
    training: float, measuring: float, exchange: float, side: int
) -> None:
    plan = {"training": training, "measuring": measuring, "exchange": exchange}
    plan |= {"side_by_side": side, "step_ms": 2.0}
    (best, worst), (faster, fast) = (
        gpu_day.gpu_seconds(plan, HERE, gpu_day.GPUS[name]) for name in ("A100", "H200")
    )
    assert 0 < best < worst
    assert faster < best
    assert fast < worst


def test_the_bounds_by_hand() -> None:
    """100 s of one thread at 80 GFLOP/s, and 10 s of copies at 10 GB/s, in steps of 10 ms."""
    plan = {"training": 60.0, "measuring": 40.0, "exchange": 10.0}
    plan |= {"side_by_side": 1, "step_ms": 10.0}
    gpu = gpu_day.Rates(8e12, 1e12)
    best, worst = gpu_day.gpu_seconds(plan, HERE, gpu)
    assert best == pytest.approx((0.25 * 1.0 + 0.1) / 0.5)
    assert worst == pytest.approx((1.0 + 0.1) / 0.02 + 6000 * 100 * 20e-6)


def test_every_file_is_of_a_system_and_says_what_its_paper_claims() -> None:
    files = [file.stem for file in PAPER.glob("*.yaml")]
    names = {system.name for system in systems()}
    assert set(run_all.SYSTEMS.values()) <= names
    told = run_all.claims([{"file": file, "status": "not run"} for file in files])
    for system in systems():
        for claim in system.claims if system.name in run_all.SYSTEMS.values() else ():
            assert f"| {system.name} | {claim.published} |" in told
    assert told.count("| not run |") == told.count("\n") - 2


def test_only_what_ran_stands_beside_a_claim() -> None:
    rows = [
        {"file": "jwins_cifar10_96", "status": "finished", "figures": "accuracy 0.5"},
        {"file": "jwins_femnist_96", "status": "not run", "why": "no data"},
    ]
    told = run_all.claims(rows)
    assert "| jwins_cifar10_96: accuracy 0.5 |" in told
    assert "femnist" not in told


def test_a_calibration_that_takes_too_long_is_no_forecast() -> None:
    answer, _ = run_all.hansa(["check", str(PAPER / "rex_15000_people.yaml")], cpu_seconds=1)
    assert "takes more than 1 CPU seconds" in answer["error"]["message"]
