"""Every benchmark runs at its smallest size; what it measures is not judged here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
HELPERS = (
    "golden",
    "measure",
    "peers_",
    "stale",
)  # no scripts with a smoke run
SCRIPTS = sorted(p for p in BENCHMARKS.rglob("*.py") if not p.name.startswith(HELPERS))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.stem)
def test_smoke(script: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(script), "--smoke"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "| " in done.stdout


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
