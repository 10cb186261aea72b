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

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import COMMIT

LIMIT = 0.5
"""CPU seconds within which a wrong setting is to be answered."""
FIRST, PAGE = 3.0, 2.0
"""Seconds until a first run's first round, and from its last round to the end of the command."""
FILES = {
    "bad.yaml": "nodes: 4\ntrain: {local_stepz: 3}\n",
    "rule.yaml": "verb: combine\nrules: [averidge]\n",
    "learn.yaml": "algorithm: {name: fedavg, server: {name: adam, lrr: 3}}\n",
    "serve.yaml": "verb: serve\nmemberz: []\n",
    "recommend.yaml": "verb: recommend\nalgorithm: {name: rex, sharedd: 3}\n",
    "route.yaml": "verb: route\nmethodz: []\n",
    "audit.yaml": "verb: audit\nqueriez: 4\n",
    "sweep.yaml": "verb: sweep\nrunz: {}\n",
    "own.csv": "a,b,label\n1,2,x\n3,4,y\n",
}
WRONG = (
    "learn dpsgd --set train.lrr=1",
    "learn dpsgd --set nodes=many",
    "learn dpsgd --set rounds=-1",
    "learn dpsgd --set topologie=ring",
    "learn dpsgdd",
    "learn dpsgd --set model=mpl",
    "learn dpsgd --set train.optimizer=adamm",
    "learn dpsgd --set train.optimizer.momentumm=1",
    "learn dpsgd --set topology=rign",
    "learn dpsgd --set topology.degree=-1",
    "learn dpsgd --set data=digitz",
    "learn dpsgd --set data.partition=dirichlett",
    "learn dpsgd --set data.partition.alpha=-1",
    "learn dpsgd --set attack=gaussiann",
    "learn dpsgd --set attack.name=gaussian --set attack.nodes=[99]",
    "learn dpsgd --set faults.losss=1",
    "learn dpsgd --set privacy=locall",
    "learn dpsgd --set clock=phonez",
    "learn dpsgd --set network.delayy=1",
    "learn dpsgd --set sinks=tensorbord",
    "learn dpsgd --set evaluate.metrics=acuracy",
    "learn dpsgd --set train.augment=flipp",
    "learn dpsgd --set until.byte=5",
    "learn dpsgd --device tpu",
    "learn fedavg --set algorithm.server=adamm",
    "learn fedavg --set algorithm.sampler=nobody",
    "learn fedavg --set algorithm.aggregator=medain",
    "learn topk --set algorithm.codec.name=spares",
    "learn absent.yaml",
    "learn bad.yaml",
    "learn dpsgd --set data.name=file --set data.path=own.csv --set data.label=lable",
    "learn dpsgd --set data.name=file --set data.path=absent.csv --set data.label=label",
    "check rule.yaml",
    "check learn.yaml",
    "check serve.yaml",
    "sweep bad.yaml --seeds 2",
    "sweep dpsgd --set algorithm=[dpsgd,choko]",
    "sweep sweep.yaml",
    "combine ensemble absent.yaml",
    "combine ensemble --set clients=none",
    "combine predict absent own.csv",
    "combine merge --set size=x",
    "infer robust --set rule=x",
    "infer robust --set attacks=[nobody]",
    "infer predict absent own.csv",
    "infer serve serve.yaml",
    "infer private demo --set mode=none",
    "infer redteam --set attackk=x",
    "recommend recommend.yaml",
    "recommend for absent --user 3",
    "route run route.yaml",
    "route tasks absent",
    "forget absent --class 3",
    "audit audit.yaml",
    "attest policy bad.yaml",
    "node run absent.yaml",
    "node run bad.yaml",
    "export absent --out model.safetensors",
    "predict absent own.csv",
    "compare absent_1 absent_2",
    "report absent",
    "init lern",
    "data digits --set partition=dirichlett",
    "data file --set path=own.csv --set label=lable",
    "list optimizer adamm",
    "learn dpsgd --set runtime=process",
    "learn fedadam --set algorithm.deadline=-1",
    "learn fedavg --set algorithm.sampled=99",
    "learn dpsgd --set topology.degree=99",
    "watch absent",
    "audit absent.yaml",
    "route run absent.yaml",
    "infer redteam --attack mask_leek",
    "recommend --set data=nothing",
)
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
        for name, text in FILES.items():
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
