"""Three sites in network namespaces of their own, one of which nobody can reach: it only dials."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
FILES = re.compile(r"^```(?:python|yaml)\n# ([\w.]+)(.*?)^```", re.MULTILINE | re.DOTALL)
PAGE = ROOT / "docs" / "tutorials" / "three_hospitals.md"
NAMES = ("north", "south", "east")


def _spaces() -> ModuleType:
    path = ROOT / "benchmarks" / "network" / "measure_namespaces.py"
    spec = importlib.util.spec_from_file_location("measure_namespaces", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


spaces = _spaces()


@pytest.mark.skipif(bool(spaces.lacking()), reason=spaces.lacking())
@pytest.mark.slow
def test_three_parties_train_together_and_one_of_them_only_dials(tmp_path: Path) -> None:
    for name, text in FILES.findall(PAGE.read_text()):
        (tmp_path / name).write_text(f"# {name}{text}")
    study = tmp_path / "study.yaml"
    study.write_text(study.read_text().replace("ring", "complete"))

    def hansa(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "hansa.cli", *words],
            cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    subprocess.run([sys.executable, "make_tables.py"], cwd=tmp_path, check=True, timeout=200)
    with spaces.Lab(3) as lab:
        at = [f"{lab.address(k)}:7100" for k in range(2)] + [""]  # nobody reaches the third
        for name in NAMES:
            hansa("node", "keygen", name)
        for node, name in enumerate(NAMES):
            words = ["node", "init", "study.yaml", "--name", name, "--node", str(node)]
            words += ["--key", f"{name}.key", "--data", f"{name}.csv", "--tells", "names,moments"]
            words += ["--listen", at[node]] if at[node] else []
            for other, peer in enumerate(NAMES):
                if other != node:
                    where = f"@{at[other]}" if at[other] else ""
                    words += ["--peer", f"{other}={peer}.pub{where}"]
            hansa(*words)
        running = [
            lab.start(
                node, [sys.executable, "-m", "hansa.cli", "node", "run", f"{name}.yaml"],
                cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
            for node, name in enumerate(NAMES)
        ]  # fmt: skip
        try:
            said = [one.communicate(timeout=400)[0] for one in running]
        finally:
            for one in running:
                one.kill()
        sent = [lab.counted(node)[0] for node in range(3)]
    assert [one.returncode for one in running] == [0, 0, 0], "\n".join(said)
    assert all("round 10/10" in text for text in said)
    assert min(sent) > 10_000  # all three spoke over their own interface
