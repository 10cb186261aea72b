"""What a wrong setting costs before it is answered, and how soon a first run shows something.

CPU seconds (user and system) of a child process, the least of some tries: a busy machine makes
them larger, never smaller. The run's times are the wall's, so they need a machine that is idle.

    python benchmarks/engine/startup.py --out benchmarks/results/startup.md
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 0.5
"""CPU seconds within which a wrong setting is to be answered."""
FIRST, PAGE = 3.0, 2.0
"""Seconds until a first run's first round, and from its last round to the end of the command."""
WRONG = (
    "learn dpsgd --set train.lrr=1",
    "learn dpsgd --set nodes=many",
    "learn dpsgd --set topologie=ring",
    "learn dpsgdd",
    "learn dpsgd --set model=mpl",
    "learn absent.yaml",
    "learn bad.yaml",
    "learn dpsgd --set data.name=file --set data.path=own.csv --set data.target=lable",
    "check bad.yaml",
    "combine ensemble absent.yaml",
    "combine ensemble --set clients=none",
    "combine merge --set size=x",
    "infer robust --set rule=x",
    "infer private demo --set mode=none",
    "infer redteam --attack mask_leek",
    "recommend --set data=nothing",
    "recommend for absent --user 3",
    "route run absent.yaml",
    "forget absent --class 3",
    "audit absent.yaml",
    "attest policy bad.yaml",
    "export absent --out model.safetensors",
    "compare absent_1 absent_2",
    "watch absent",
    "report absent",
    "data digits --set partition=dirichlett",
)
RUN = "learn dpsgd --set rounds=10 --out run"


def spent(command: list[str], folder: str, tries: int) -> tuple[float, int, str]:
    """(CPU seconds, exit status, first line of what it said) of the cheapest of some tries."""
    best, status, said = float("inf"), 0, ""
    for _ in range(tries):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        best, status = min(best, took), done.returncode
        said = next(iter(done.stderr.splitlines()), "")
    return best, status, said


def first_run(folder: str) -> tuple[float, float, float]:
    """(s until a round is shown, s from the last round to the end, CPU s) of a run on digits."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-m", "hansa.cli", *RUN.split()],
        cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment,
    )  # fmt: skip
    rounds = []
    assert child.stderr is not None
    for line in child.stderr:
        if re.match(r"round \d+/", line):
            rounds.append(time.monotonic())
    if child.wait() or not rounds:
        raise SystemExit(f"hansa {RUN} failed")
    ended = time.monotonic()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return rounds[0] - began, ended - rounds[-1], took


def main() -> None:
    """Measure, print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tries", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--smoke", action="store_true", help="one wrong setting and one run, once")
    asked = parser.parse_args()
    if asked.smoke:
        asked.tries = 1
    lines = ["# Start-up", "", f"`python {Path(__file__).name}`, the least of {asked.tries} tries."]
    load = os.getloadavg()[0]
    lines += [f"Load when this was measured: {load:.1f} on {os.cpu_count()} cores.", ""]
    lines += [
        f"| a wrong setting | CPU s | under {LIMIT} |", "|---|---:|---|",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "bad.yaml").write_text("nodes: 4\ntrain: {local_stepz: 3}\n")
        Path(folder, "own.csv").write_text("a,b,label\n1,2,x\n3,4,y\n")
        for line in WRONG[:1] if asked.smoke else WRONG:
            command = [sys.executable, "-m", "hansa.cli", *line.split()]
            took, status, said = spent(command, folder, asked.tries)
            if status != 2:
                raise SystemExit(f"hansa {line} ended with {status}, not with an error: {said}")
            lines.append(f"| `{line}` | {took:.2f} | {'yes' if took < LIMIT else 'NO'} |")
            print(lines[-1], flush=True)
        runs = [first_run(tempfile.mkdtemp(dir=folder)) for _ in range(1 if asked.smoke else 3)]
        first, page, took = min(runs[1:] or runs)  # caches are warm after the first
    lines += ["", f"| `{RUN}` | s | |", "|---|---:|---|"]
    lines += [f"| first round shown (wall) | {first:.1f} | {_within(first, FIRST)} |"]
    lines += [
        f"| last round to the end, with the page (wall) | {page:.1f} | {_within(page, PAGE)} |"
    ]
    lines += [f"| the whole (CPU) | {took:.1f} | |"]
    print("\n".join(lines[-5:]))
    if asked.out:
        asked.out.write_text("\n".join(lines) + "\n")


def _within(value: float, limit: float) -> str:
    return f"{'yes' if value < limit else 'NO'} (limit {limit:g})"


if __name__ == "__main__":
    main()
