"""Golden runs cover every algorithm, repeat themselves, and show what is another."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from hansa.base.component import catalogue

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "golden.py"


@pytest.fixture(scope="module")
def golden() -> ModuleType:
    spec = importlib.util.spec_from_file_location("golden", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_algorithm_runs_here_resumed_and_in_workers(golden: ModuleType) -> None:
    cases = set(golden.cases())
    own = {n for n, m in catalogue("algorithm").items() if m.__module__.startswith("hansa.")}
    assert {f"simulate/{name}" for name in own} <= cases
    assert {f"resume/{name}" for name in own} <= cases
    assert {f"processes/{name}" for name in own - set(golden.ALONE)} <= cases
    assert {"ensemble/all", "forget/twice", "forget/shards"} <= cases


def test_a_run_repeats_itself_and_another_seed_shows(golden: ModuleType, tmp_path: Path) -> None:
    first, again, other = tmp_path / "first", tmp_path / "again", tmp_path / "other"
    steps = golden.cases()["simulate/dpsgd"]
    records = []
    for folder, seed in ((first, 7), (again, 7), (other, 8)):
        folder.mkdir()
        records.append({"dpsgd": golden.perform("dpsgd", [{**steps[0], "seed": seed}], folder)})
    assert any(key.startswith("metric:accuracy:4:") for key in records[0]["dpsgd"])
    assert any(key.startswith("tensor:") for key in records[0]["dpsgd"])
    assert golden.differences(records[0], records[1]) == []
    wrong = golden.differences(records[0], records[2])
    assert any("metric:accuracy" in line for line in wrong)
    assert any("another tensor" in line for line in wrong)


def test_what_is_gone_is_told_and_what_is_new_is_not(golden: ModuleType) -> None:
    old = {"a": {"metric:x:1:None": [1.0, 2], "tensor:f:rows": "abc"}, "b": {}}
    new = {"a": {"metric:y:1:None": [1.0, 2], "tensor:g:other": "abc"}}
    wrong = golden.differences(old, new)
    assert wrong == ["a: metric:x:1:None is gone (was [1.0, 2])", "b: was not run"]


def test_only_an_old_tree_may_refuse(golden: ModuleType, tmp_path: Path) -> None:
    (steps,) = golden.cases()["simulate/dpsgd"]
    unknown = {**steps, "no_such_setting": 1}
    facts = golden.perform("later", [unknown], tmp_path)
    assert list(facts) == [golden.REFUSED]
    ran = {"metric:x:1:None": [1.0, 2]}
    assert not golden.differences({"later": facts}, {"later": ran})
    assert len(golden.differences({"later": ran}, {"later": facts})) == 2


def test_compare_has_an_exit_code(tmp_path: Path) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    one.write_text(json.dumps({"a": {"json:s.accuracy": "0.5"}}))
    two.write_text(json.dumps({"a": {"json:s.accuracy": "0.6"}}))
    for new, code in ((one, 0), (two, 1)):
        words = [sys.executable, str(SCRIPT), "compare", str(one), str(new)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
