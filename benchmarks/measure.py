"""What the benchmarks share: medians of several runs, and rows of a table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import polars

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PARTS = ("decentralized", "federated", "infer", "network", "recommend")
"""Folders with modules that :func:`fresh` finds."""

CIFAR: dict[str, Any] = {
    "name": "cifar10",
    "downscale": 2,
    "normalize": "standardize",
    "test_samples": 2000,
    "partition": {"name": "shards", "shards_per_node": 2},
}
"""The scaled-down CIFAR-10 of the decentralized comparisons: 16 x 16, two shards a node."""
DIGITS: dict[str, Any] = {
    "name": "digits",
    "partition": {"name": "shards", "shards_per_node": 2},
}
"""What smoke tests take in its place."""


def git(*words: str) -> str:
    """What git answers in this repository."""
    command = ["git", "-C", str(HERE.parent), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.rstrip()


def _commit() -> str:
    """The commit that is checked out, and whether the code differs from it."""
    try:
        changed = git(
            "status", "--porcelain", "--untracked-files=no", "--", "src", "benchmarks/*.py"
        )
        return git("rev-parse", "--short=10", "HEAD") + (
            " and what was not committed" if changed else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


COMMIT = _commit()
"""Taken when a benchmark starts: at its end the repository may have gone on."""


def late_accuracy(metrics: polars.DataFrame) -> float:
    """Mean accuracy of the nodes in percent, over the last three evaluations."""
    import polars

    kept = (polars.col("name") == "accuracy") & polars.col("node").is_not_null()
    by_round = metrics.filter(kept).group_by("round").agg(polars.col("value").mean())
    return 100 * float(by_round.sort("round")["value"].tail(3).mean())


def seconds(work: Callable[[], Any], repeats: int = 5, warmup: int = 1) -> float:
    """Median wall time of ``work``."""
    for _ in range(warmup):
        work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def cpu_seconds(work: Callable[[], Any]) -> float:
    """CPU time of this process, all threads, over one call."""
    began = time.process_time()
    work()
    return time.process_time() - began


def peak_bytes() -> int:
    """The most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fresh(function: str, module: str, *, smoke: bool = False, **arguments: Any) -> Any:
    """Call ``module.function(**arguments)`` in a new process and return its JSON result.

    A smoke test has nothing to measure and calls it right here.
    """
    if smoke:
        return getattr(sys.modules.get(module) or sys.modules["__main__"], function)(**arguments)
    paths = [str(HERE), *(str(HERE / part) for part in PARTS)]
    code = (
        f"import json, sys; sys.path[:0] = {paths!r}; import {module}; "
        f"print(json.dumps({module}.{function}(**json.loads(sys.argv[1]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(arguments)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def options(text: str | None, smoke: str, seeds: int = 3) -> argparse.ArgumentParser:
    """What most benchmarks are asked with: ``--smoke``, ``--seeds`` and ``--notes``.

    Args:
        text: what the benchmark is.
        smoke: what a smoke test does.
        seeds: how many by default.
    """
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--smoke", action="store_true", help=smoke)
    parser.add_argument("--seeds", type=int, default=seeds, help="how many")
    parser.add_argument("--notes", help="a file of results, to go on after a stop")
    return parser


class Notes:
    """Results by name in a file of lines, so that a benchmark that was stopped can go on.

    Args:
        path: the file; None keeps nothing.
    """

    def __init__(self, path: str | Path | None) -> None:
        self.path = None if path is None else Path(path)
        self.known: dict[str, Any] = {}
        if self.path is not None and self.path.exists():
            self.known = dict(map(json.loads, self.path.read_text().splitlines()))

    def get(self, name: str, work: Callable[[], Any]) -> Any:
        """What is noted under a name, or what ``work`` returns (plain data), noted at once."""
        if name not in self.known:
            self.known[name] = work()
            if self.path is not None:
                with self.path.open("a") as file:
                    file.write(json.dumps([name, self.known[name]]) + "\n")
        return self.known[name]


def machine() -> str:
    """One line on the machine."""
    import torch

    model = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, Python {platform.python_version()}, torch {torch.__version__}"


def markdown(title: str, command: str, header: list[str], rows: list[list[str]]) -> str:
    """A table with the command that made it, the commit and the machine."""
    lines = [f"# {title}", "", f"`{command}` at commit {COMMIT}", "", machine(), ""]
    lines += ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def publish(name: str, text: str, smoke: bool = False) -> None:
    """Print a text, and keep it among the results unless it is a smoke test's."""
    if not smoke:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.md").write_text(text)
    print(text)


def section(name: str, title: str, text: str, smoke: bool = False) -> None:
    """As :func:`publish`, as one section of a page that several benchmarks fill."""
    if not smoke:
        path = RESULTS / f"{name}.md"
        page = path.read_text() if path.exists() else f"# {name.capitalize()}\n"
        parts = [part for part in re.split(r"(?m)^(?=## )", page) if part.strip()]
        kept = [part.rstrip() for part in parts if not part.startswith(f"## {title}\n")]
        path.write_text("\n\n".join([*kept, f"## {title}\n\n{text.strip()}"]) + "\n")
    print(text)


class Goals:
    """A table of what was measured beside what was wanted; each line is printed at once."""

    HEADER: ClassVar[list[str]] = ["what", "measured", "wanted", "reached"]

    def __init__(self) -> None:
        self.rows: list[list[str]] = []

    def add(self, what: str, got: str, wanted: str = "", ok: bool | str | None = None) -> None:
        """A line; ``ok`` is None where nothing was wanted, or says why there is no yes or no."""
        said = ok if isinstance(ok, str) else "" if ok is None else "yes" if ok else "no"
        self.rows.append([what, got, wanted, said])
        print(f"{what}: {got}" + (f" (wanted {wanted})" if wanted else ""), flush=True)
