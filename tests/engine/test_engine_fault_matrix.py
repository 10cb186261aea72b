"""A third of the fault matrix (benchmarks/network/fault_matrix.py) on live processes.

Faults that heal without anybody being given up follow each other in one run.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "network" / "fault_matrix.py"
HEALING = [
    ("drop", "sending"), ("delay", "training"), ("duplicate", "receiving"),
    ("corrupt", "checkpointing"),
]  # fmt: skip
ALONE = [("crash", "sending"), ("partition", "training")]
SLOW = [
    ("crash", "receiving"), ("crash", "training"), ("crash", "checkpointing"),
    ("pause", "receiving"),
]  # fmt: skip
"""Deaths at other moments than the quick one's, and a pause, which is a partition that is felt."""
CASES = [HEALING, *([one] for one in ALONE)]
CASES += [pytest.param([one], marks=pytest.mark.slow) for one in SLOW]


@pytest.fixture(scope="module")
def matrix() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fault_matrix", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def best(matrix: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> float:
    accuracy: float = matrix.calm(tmp_path_factory.mktemp("calm") / "run")[0]
    return accuracy


@pytest.mark.parametrize("faults", CASES, ids=lambda f: "-".join(f[0]))
def test_a_run_ends_as_it_should_and_its_replay_is_equal_to_the_bit(
    faults: list[tuple[str, str]], matrix: ModuleType, best: float, tmp_path: Path
) -> None:
    cell = matrix.struck(faults, tmp_path, best)
    assert cell.wrong == []
    assert cell.equal
