"""Faults at live nodes: each kind at each moment of a round, and what becomes of the run.

    python benchmarks/network/fault_matrix.py --repeats 3

D-PSGD on digits, 16 nodes in 4 worker processes; in round 2 something happens to worker 1. Of each
run it is asked whether it ended, as its setting says, with all that was recorded; whether models
are as good as without the fault; and whether ``hansa learn --replay`` comes to the same models, to
the bit, in one process.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import measure

NODES, WORKERS, ROUNDS, HIT = 16, 4, 20, 1
WHATS = ("crash", "pause", "drop", "delay", "duplicate", "corrupt", "partition")
MOMENTS = ("sending", "receiving", "training", "checkpointing")
CELLS = tuple((what, moment) for what in WHATS for moment in MOMENTS)
SILENT = ("pause", "partition")
"""Of these the others hear nothing for longer than the deadline, and go on without."""
DEADLINE = 60.0
"""Of a run in which nobody is to be given up, s: more than any stall of a loaded machine."""
IMPATIENT, SILENCE = 1.5, 4.0
"""Deadline and length of a silence that is longer, s."""
SLOW = 0.4
"""Seconds that all then sleep in a round, so that the silence is over before the run is."""
POINTS = 3.0


@dataclass
class Cell:
    """What became of a run with a fault.

    Attributes:
        seconds: of the run.
        accuracy: at its end, in percent.
        events: how many of each kind it left.
        equal: whether its replay came to the same.
        wrong: what is not as it should be; empty: nothing.
    """

    what: str
    moment: str
    seconds: float
    accuracy: float
    events: dict[str, int] = field(default_factory=dict)
    equal: bool = False
    wrong: list[str] = field(default_factory=list)


def settings(what: str) -> dict[str, Any]:
    """The run file of a cell."""
    return {
        "seed": 5,
        "nodes": NODES,
        "rounds": ROUNDS,
        "topology": {"name": "regular", "degree": 4},
        "model": {"name": "logistic"},
        "algorithm": {"name": "dpsgd"},
        "train": {"strategy": "looped", "local_steps": 4},
        "evaluate": {"every": 5},
        "checkpoint": {"every": 2},
        "runtime": {
            "name": "processes",
            "workers": WORKERS,
            "deadline": IMPATIENT if what in SILENT else DEADLINE,
            "on_crash": "restart" if what == "crash" else "stop",
        },
    }


def calm(folder: Path) -> tuple[float, Any]:
    """Accuracy in percent and the metrics of the run without a fault, in one process."""
    from hansa.experiment import run

    made = run({**settings("drop"), "runtime": {"name": "simulate"}}, folder, report=False)
    return accuracy(made), made.metrics()


def accuracy(folder: Any) -> float:
    """Mean of the nodes at the end, in percent."""
    return 100 * float(folder.summary["final"]["accuracy"])


def play(what: str, moment: str, folder: Path, best: float) -> Cell:
    """A run with a fault, and its replay.

    Args:
        best: accuracy without the fault, in percent.
    """
    return struck([(what, moment)], folder, best)


def struck(faults: list[tuple[str, str]], folder: Path, best: float) -> Cell:
    """A run in which faults strike one after the other, and its replay.

    Args:
        faults: the first in round ``HIT``; all of them must heal by themselves if there are more.
    """
    from hansa.engine.runtimes.strikes import Strike
    from hansa.experiment import RunFile, run
    from hansa.experiment.replays import replay_of

    what, moment = faults[0]
    seconds = SILENCE if what in SILENT else 1.0
    chosen = RunFile.of(settings(what))
    chosen.runtime._strikes = tuple(
        Strike(1, HIT + 2 * k, at, kind, seconds=seconds) for k, (kind, at) in enumerate(faults)
    )
    began = time.monotonic()
    made = run(chosen, folder / "run", report=False)
    cell = Cell(what, moment, time.monotonic() - began, accuracy(made))
    for event in made.events():
        cell.events[event["kind"]] = cell.events.get(event["kind"], 0) + 1
    check(cell, made, best)
    equal = run(replay_of(made.path), folder / "again", report=False).summary["equal"]
    cell.equal = equal is True
    if not cell.equal:
        cell.wrong.append(f"replay: {equal}")
    return cell


def check(cell: Cell, made: Any, best: float) -> None:
    """Note what is not as it should be in a cell's run."""
    import polars

    summary, events = made.summary, made.events()
    if summary["rounds"] != ROUNDS:
        cell.wrong.append(f"{summary['rounds']} of {ROUNDS} rounds")
    if cell.accuracy < best - POINTS:
        cell.wrong.append(f"{cell.accuracy:.1f} % accuracy, {best:.1f} % without the fault")
    lost = {event["kind"] for event in events} & {"lost", "rejoined", "missing"}
    expected: set[str] = set()
    if cell.what == "crash":
        expected = {"lost", "rejoined"}
    elif cell.what in SILENT:
        expected = {"missing"}
    if not expected <= lost:
        cell.wrong.append(f"no event of {', '.join(sorted(expected - lost))}")
    if cell.what not in ("crash", *SILENT) and lost:
        cell.wrong.append(f"heard of {', '.join(sorted(lost))}")
    own = made.metrics().filter(polars.col("node").is_not_null())
    away = gone(events)
    steps = own.filter(polars.col("name") == "accuracy")
    for round in sorted(set(steps["round"].to_list())):
        there = set(steps.filter(polars.col("round") == round)["node"].to_list())
        missing = set(range(NODES)) - there - away.get(round, set())
        if missing:
            cell.wrong.append(f"round {round}: nothing of nodes {sorted(missing)}")


def gone(events: list[dict[str, Any]]) -> dict[int, set[int]]:
    """By round, the nodes whose process was away and of which nothing is recorded."""
    away: dict[int, set[int]] = {}
    for event in events:
        if event["kind"] == "lost":
            back = [
                other["at"]
                for other in events
                if other["kind"] == "rejoined" and set(other["nodes"]) & set(event["nodes"])
            ]
            for round in range(event["round"], min(back, default=ROUNDS + 1)):
                away.setdefault(round, set()).update(event["nodes"])
    return away


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="one cell, nothing is kept")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[], help="some of: what-moment")
    arguments = parser.parse_args()
    cells = [(w, m) for w, m in CELLS if not arguments.only or f"{w}-{m}" in arguments.only]
    repeats = 1 if arguments.smoke else arguments.repeats
    rows, failures = [], 0
    with tempfile.TemporaryDirectory() as place:
        best, _ = calm(Path(place) / "calm")
        for what, moment in cells[:1] if arguments.smoke else cells:
            done = []
            for _ in range(repeats):
                folder = Path(place) / "cell"
                done.append(play(what, moment, folder, best))
                shutil.rmtree(folder)
                print(done[-1], file=sys.stderr, flush=True)
            wrong = [problem for cell in done for problem in cell.wrong]
            failures += len(wrong)
            events = {kind for cell in done for kind in cell.events} & {
                "missing", "lost", "rejoined",
            }  # fmt: skip
            rows.append([
                what, moment, ", ".join(sorted(events)) or "none",
                f"{min(cell.accuracy for cell in done):.1f} %",
                f"{sum(cell.equal for cell in done)} of {repeats}",
                f"{max(cell.seconds for cell in done):.1f} s",
                "; ".join(dict.fromkeys(wrong)) or "as it should be",
            ])  # fmt: skip
    header = ["fault", "while", "events", "least accuracy", "replay equal", "longest", "end"]
    lead = f"{len(rows)} cells, each {repeats} times; without a fault {best:.1f} % accuracy.\n\n"
    command = " ".join(["python benchmarks/network/fault_matrix.py", *sys.argv[1:]])
    table = measure.markdown("", command, header, rows).partition("\n\n")[2]
    measure.section("networks", "Fault matrix", lead + table, arguments.smoke)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
