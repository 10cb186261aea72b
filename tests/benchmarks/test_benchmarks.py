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
    "memory_workers",
    "merge_digits",
    "overhead",
    "own_pace",
    "precision",
    "private_digits",
    "private_killed",
    "private_resnet",
    "refusals",
    "scale",
    "secure_aggregation",
    "shaping",
    "shards",
    "speed",
    "speed_federated",
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


@pytest.mark.data
@pytest.mark.parametrize("file", sorted(BENCHMARKS.glob("paper/*.yaml")), ids=lambda p: p.stem)
def test_the_run_files_of_the_papers_can_start(file: Path) -> None:
    command = [sys.executable, "-m", "hansa.cli", "check", str(file), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    found = plan["models"][0]["parameters"] if "models" in plan else plan["model_parameters"]
    published = {"cpfl": 85_354, "fens": 4_911_754}
    assert found == published.get(file.stem.partition("_")[0], 89_834)
