"""A model that hansa trained and serves is audited by hansa over the network, through a kill."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

PEOPLE, BUDGET = 300, 60


def hansa(*words: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hansa.cli", *words]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def answer(*words: str, folder: Path) -> dict[str, Any]:
    process = hansa(*words, "--json", folder=folder)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return json.loads(out)


def wait_until(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not what():
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.02)


@pytest.fixture(scope="module")
def lender(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained model, and a table of people whose sex it never saw."""
    folder = tmp_path_factory.mktemp("lender")
    rng = np.random.default_rng(1)
    sex = rng.choice(["men", "women"], PEOPLE)
    income = rng.normal(3, 1, PEOPLE) - (sex == "women")
    debt = rng.normal(1, 0.5, PEOPLE)
    work = rng.choice(["full time", "part time", ""], PEOPLE)
    granted = np.where(income - debt > 1.5, "yes", "no")
    tables = {
        "loans.csv": (
            ["income", "debt", "work", "granted"],
            [income.round(3), debt.round(3), work, granted],
        ),
        "people.csv": (["person", "sex"], [np.arange(PEOPLE), sex]),
        "features.csv": (
            ["person", "income", "debt", "work"],
            [np.arange(PEOPLE), income.round(3), debt.round(3), work],
        ),
    }
    for name, (header, columns) in tables.items():
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([header, *zip(*columns, strict=True)])
    learn = {
        "algorithm": "fedavg",
        "nodes": 4,
        "rounds": 10,
        "data": {
            "name": "file",
            "path": "loans.csv",
            "label": "granted",
            "categories": "one_hot",
            "missing": "impute",
        },
        "model": "logistic",
    }
    (folder / "learn.yaml").write_text(yaml.safe_dump(learn))
    answer("learn", "learn.yaml", "--out", "run", "--no-report", folder=folder)
    return folder


@pytest.fixture(scope="module")
def url(lender: Path) -> Iterator[str]:
    member = hansa("infer", "member", "run", "--port", "0", folder=lender)
    assert member.stdout is not None
    line = member.stdout.readline()
    assert "http://127.0.0.1:" in line, member.stderr and member.stderr.read()
    yield line.split()[-1].partition("/v2")[0]
    member.send_signal(signal.SIGTERM)
    member.communicate()
    assert member.returncode == 0


def write(folder: Path, name: str, url: str, pace: float) -> None:
    """An audit file, at a pace of so many queries a second."""
    box = {
        "name": "http", "url": url, "protocol": "v2", "model": "member",
        "output": "class", "positive": "yes", "features": "features.csv", "id": "person",
        "queries_a_call": 4, "burst": 4, "queries_a_second": pace, "repeats": "free",
    }  # fmt: skip
    population = {
        "name": "table",
        "path": "people.csv",
        "id": "person",
        "attributes": {"sex": None},
    }
    audit = {"verb": "audit", "population": population, "box": box, "budget": BUDGET}
    (folder / name).write_text(yaml.safe_dump(audit))


@pytest.mark.slow
def test_an_audit_of_a_served_model_survives_a_kill(lender: Path, url: str) -> None:
    write(lender, "quick.yaml", url, 1000.0)
    whole = answer("audit", "quick.yaml", "--out", "whole", "--no-report", folder=lender)["final"]
    write(lender, "slow.yaml", url, 12.0)
    audit = hansa("audit", "slow.yaml", "--out", "killed", "--no-report", folder=lender)
    ledger = lender / "killed" / "ledger" / "00.jsonl"
    wait_until(lambda: ledger.exists() and ledger.read_text().count('"answered"') >= 3, audit)
    os.kill(audit.pid, signal.SIGKILL)
    audit.communicate()
    assert ledger.read_text().count('"answered"') < BUDGET // 4
    resumed = answer("audit", "resume", "killed", "--no-report", folder=lender)["final"]
    assert resumed["findings"] == whole["findings"]
    assert resumed["queries"] == whole["queries"] == {"sex": BUDGET}
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    rows = [row for line in lines if line["kind"] == "asking" for row in line["rows"]]
    assert len(rows) == len(set(rows)) == BUDGET
    (parity,) = [f for f in whole["findings"] if f["metric"] == "demographic_parity"]
    assert parity["verdict"] == "different"
