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

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import COMMIT

ROOT = Path(__file__).parents[2]
LIMIT = 0.5
"""CPU seconds within which a wrong setting is to be answered."""
FIRST, PAGE = 3.0, 2.0
"""Seconds until a first run's first round, and from its last round to the end of the command."""
KINDS = yaml.safe_load((ROOT / "tests" / "cli" / "wrong_settings.yaml").read_text())
WRONG = (*KINDS["lines"], KINDS["counted"])
"""Every verb's file, and every kind of part and of slip."""
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
    lines = ["# Start-up", "", f"`python benchmarks/engine/startup.py` at commit {COMMIT}", ""]
    lines += [f"The least of {asked.tries} tries; of the run, of those with warm caches."]
    load, bare = os.getloadavg()[0], spent([sys.executable, "-c", "pass"], ".", asked.tries)[0]
    lines += [
        f"Load when this was measured: {load:.1f} on {os.cpu_count()} cores; niceness {os.nice(0)}."
    ]
    wanted = "import pydantic.main, typer"
    parser_alone = spent([sys.executable, "-c", wanted], ".", asked.tries)[0]
    lines += [
        f"Beside it: `python -c pass` {bare:.3f} s, `{wanted}` {parser_alone:.2f} s.",
        "",
    ]
    lines += [
        f"| a wrong setting | CPU s | under {LIMIT} |", "|---|---:|---|",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for name, text in KINDS["files"].items():
            Path(folder, name).write_text(text)
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
    asked_of = [line for line in lines if line.endswith(("| yes |", "| NO |"))]
    over = [line for line in asked_of if line.endswith("| NO |")]
    lines += ["", f"Over {LIMIT} s: {len(over)} of {len(asked_of)}."]
    print("\n".join(lines[-7:]))
    if asked.out:
        asked.out.write_text("\n".join(lines) + "\n")


def _within(value: float, limit: float) -> str:
    return f"{'yes' if value < limit else 'NO'} (limit {limit:g})"


if __name__ == "__main__":
    main()
