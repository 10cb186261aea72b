"""Every benchmark runs at its smallest size; what it measures is not judged here."""

import json
import multiprocessing
import os
import runpy
import subprocess
import sys
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
HELPERS = (
    "as_published",
    "claims_",
    "compos",
    "gpu_day",
    "golden",
    "links",
    "measure",
    "peers_",
    "private_tables",
    "resnet20_",
    "rex_cases",
    "rounds",
    "stale",
)  # no scripts with a smoke run
SCRIPTS = sorted(p for p in BENCHMARKS.rglob("*.py") if not p.name.startswith(HELPERS))
SLOW = [
    "cifar",
    "clients",
    "digits",
    "ensemble_cifar",  # ensemble_digits has the same lines
    "ensemble_heart",
    "fault_matrix",  # quicker cells of it are in tests/engine/test_engine_fault_matrix.py
    "hundred",
    "memory_workers",
    "merge_digits",
    "overhead",
    "own_pace",
    "precision",
    "private_digits",
    "private_killed",
    "private_latency",  # private_layers and private_redteam ask as it does
    "private_orion",
    "private_resnet",
    "refusals",
    "robust_cifar",  # robust_digits has the same lines
    "run_all",  # quicker tests of what it says are in test_benchmarks_paper.py
    "scale",
    "secure_aggregation",
    "shaping",
    "shards",
    "share",
    "sharing",
    "speed",
    "speed_federated",
    "startup",
    "study",
    "successive",
    "table",
    "worth",
]
"""Those whose smoke run takes ten seconds or more."""
CASES = [pytest.param(p, id=p.stem, marks=[pytest.mark.slow] * (p.stem in SLOW)) for p in SCRIPTS]


@pytest.fixture(scope="module")
def warm() -> ForkServerContext:
    """Processes that begin with all that is imported slowly: twenty imports of torch are saved."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch", "torch._dynamo", "polars", "sklearn.datasets", "hansa.experiment.run", "peft"]
    )
    return context


def run_script(script: Path, place: Path) -> None:
    """The script as from the command line, in a process of its own, with its words in files."""
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(place / name, os.O_WRONLY | os.O_CREAT), stream)
    # What the server was started with is not what the test has now.
    sys.argv, sys.path[0] = [str(script), "--smoke"], str(script.parent)
    runpy.run_path(str(script), run_name="__main__")


@pytest.mark.parametrize("script", CASES)
def test_smoke(script: Path, tmp_path: Path, warm: ForkServerContext) -> None:
    process = warm.Process(target=run_script, args=(script, tmp_path))
    process.start()
    process.join()
    assert process.exitcode == 0, (tmp_path / "stderr").read_text()
    assert "| " in (tmp_path / "stdout").read_text()


PUBLISHED = {
    "cpfl_cifar10_200": 85_354,
    "decentralizepy_cifar10_256": 89_834,
    "fens_cifar10_20": 4_911_754,
    "jwins_cifar10_96": 89_834,
    "jwins_shakespeare_96": 2_683_708,
    "quickdrop_cifar10_20": 320_010,
    "rex_movielens_610": (610 + 9_724) * 11,
    "skiptrain_cifar10_256": 89_834,
}
"""Numbers of the papers' models, where the data here have the classes of theirs."""
FEWER = {
    "cpfl_femnist": ["nodes=12", "algorithm.sampled=3"],
    "jwins_femnist_96": ["nodes=12"],
    "skiptrain_femnist_256": ["nodes=12"],
}
"""What makes a file one for the twelve writers that are here."""
PAPERS = sorted(p for p in BENCHMARKS.glob("paper/*.yaml") if not p.stem.startswith("robust"))


@pytest.mark.data
@pytest.mark.parametrize("file", PAPERS, ids=lambda p: p.stem)
def test_the_run_files_of_the_papers_can_start(file: Path) -> None:
    """But for the one of robust inference, of which ``hansa check`` has no plan to show."""
    command = [sys.executable, "-m", "hansa.cli", "check", str(file), "--json"]
    command += [word for one in FEWER.get(file.stem, ()) for word in ("--set", one)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    if file.stem in PUBLISHED:
        found = plan["models"][0]["parameters"] if "models" in plan else plan["model_parameters"]
        assert found == PUBLISHED[file.stem]
