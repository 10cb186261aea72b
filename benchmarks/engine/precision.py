"""Mixed precision: what bfloat16 gains over float32, and what it costs in accuracy.

    HANSA_DATA=... python benchmarks/engine/precision.py      # ~20 minutes of one core
    python benchmarks/engine/precision.py --against COMMIT    # another float32 of before
    python benchmarks/engine/precision.py --smoke             # digits, a few rounds

The first table: D-PSGD among 16 nodes with GN-LeNet on CIFAR-10, 60 rounds, evaluated three times,
in float32 with the code of a commit before, in float32 and in bfloat16 with this tree's. Each has
a process of its own, and they take turns of a few rounds, so that a machine that is busy with
other things is so for all of them. Counted is CPU time. The second: accuracy on the test set in
both, three seeds, for four models on CIFAR-10 at 16 x 16 and on Shakespeare's plays. The third:
what measuring a model takes, beside the forward passes of training on as many examples.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import COMMIT, machine, section

ROOT = Path(__file__).parents[2]
BEFORE = "643283e"
ACCURACY, SPEED, EVALUATION = 0.5, 1.4, 1.05  # wanted: points, times, share
TURN = 5  # rounds
MODELS = ("gn_lenet", "resnet20_gn", "mlp", "lstm")


def lesson(model: str, smoke: bool) -> dict[str, Any]:
    """Settings of a run of the second table, or of the first: gn_lenet at the full 32 x 32."""
    cifar = {"name": "cifar10", "normalize": "standardize", "test_samples": 2000}
    small = {**cifar, "downscale": 2}
    text = {"name": "shakespeare", "sequence_length": 20, "test_samples": 4000}
    sgd, adam = {"name": "sgd", "lr": 0.05}, {"name": "adam", "lr": 0.01}
    data, form, nodes, rounds, steps, optimizer = {
        "full": ({**cifar, "test_samples": 1000}, {"name": "gn_lenet"}, 16, 60, 2, sgd),
        "gn_lenet": (small, {"name": "gn_lenet"}, 16, 45, 10, sgd),
        "resnet20_gn": (small, {"name": "resnet20_gn"}, 8, 24, 10, sgd),
        "mlp": (small, {"name": "mlp", "hidden": [256]}, 16, 60, 10, sgd),
        "lstm": (text, {"name": "lstm", "hidden": 64, "layers": 1}, 8, 30, 20, adam),
    }[model]
    if smoke:
        nodes, rounds, steps = 4, 2, 2
        if model != "lstm":
            data = {"name": "digits"}
        else:
            form, data, optimizer = {"name": "mlp", "hidden": [4]}, {"name": "digits"}, sgd
    return {
        "nodes": nodes,
        "rounds": rounds,
        "data": data,
        "model": form,
        "topology": {"name": "regular", "degree": 2 if smoke else 4},
        "algorithm": "dpsgd",
        "train": {"local_steps": steps, "batch_size": 16, "optimizer": optimizer},
        "evaluate": {"every": max(1, rounds // 3), "dense_start": False},
        "clock": "wall",
        "checkpoint": {"every": 0},
    }


# -- in processes of their own


def take_turns(settings: dict[str, Any], turn: int) -> None:
    """A run that stops after every few rounds and says what they took, until a line comes."""
    from hansa.experiment import run

    marks = [0.0]

    def progress(done: int, figures: dict[str, float]) -> None:
        if done % turn == 0 or done == settings["rounds"]:
            print(json.dumps(time.process_time() - marks[0]), flush=True)
            sys.stdin.readline()
            marks[0] = time.process_time()

    with tempfile.TemporaryDirectory() as folder:
        marks[0] = time.process_time()
        done = run(settings, Path(folder) / "run", progress, report=False)
        assert done.summary is not None
        print(json.dumps(done.summary["final"]), flush=True)


class Runner:
    """A run in a tree of sources, a few rounds at a time."""

    def __init__(self, source: Path, settings: dict[str, Any], turn: int) -> None:
        environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
        words = [sys.executable, __file__, json.dumps(settings), str(turn)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(words, env=environment, stdin=pipe, stdout=pipe, text=True)
        self.seconds: list[float] = []

    def wait(self) -> Any:
        """What it says next."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a run ended with exit status {self.process.wait()}")
        return json.loads(line)

    def go_on(self) -> None:
        """Let it take its next turn."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()


def side_by_side(
    sources: dict[str, tuple[Path, dict[str, Any]]], turn: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """(CPU seconds of each turn, accuracy at the end) by name."""
    rounds = next(iter(sources.values()))[1]["rounds"]
    turns = -(-rounds // turn)
    runners = {}
    for name, (source, settings) in sources.items():  # each loads and takes its first turn alone
        runners[name] = Runner(source, settings, turn)
        runners[name].wait()
    for _ in range(1, turns):
        for runner in runners.values():
            runner.go_on()
            runner.seconds.append(runner.wait())
    final = {}
    for name, runner in runners.items():
        runner.go_on()
        final[name] = 100 * float(runner.wait()["accuracy"])
        runner.process.wait()
    return {name: runner.seconds for name, runner in runners.items()}, final


# -- here


def accuracy(model: str, precision: str, seed: int, smoke: bool) -> float:
    """Mean accuracy of the nodes at the end, in percent."""
    from hansa.experiment import run

    settings = lesson(model, smoke) | {"seed": seed}
    settings["train"] = settings["train"] | {"precision": precision}
    with tempfile.TemporaryDirectory() as folder:
        done = run(settings, Path(folder) / "run", report=False)
        assert done.summary is not None
        return 100 * float(done.summary["final"]["accuracy"])


def measured(model: str, precision: str, smoke: bool) -> list[float]:
    """Microseconds of CPU time an example.

    Of training's forward pass, of its step, of an evaluation, and of one in whole batches.
    """
    import torch

    from hansa.base.threads import one_thread
    from hansa.experiment import prepare
    from hansa.experiment.runfile import RunFile

    settings = lesson(model, smoke)
    settings["train"] = settings["train"] | {"precision": precision, "strategy": "looped"}
    job = prepare(RunFile.parse(settings))
    job.strategy, job.threads, size = "looped", 1, 16
    block = job.bench(1)
    trainer = block.trainer
    passes, grads = trainer.passes(1)
    passes.compute_in(precision)
    test = job.dataset.test
    x, y = job.dataset.gather(test, torch.arange(len(test)))
    batches = list(zip(x.split(size), y.split(size), strict=True))[: 4 if smoke else 60]
    least = [np.inf] * 4

    def forward() -> float:
        with torch.enable_grad():
            began = time.process_time()
            for inputs, _ in batches:
                passes.outputs(inputs.unsqueeze(0))
            return (time.process_time() - began) / (size * len(batches))

    def step() -> float:
        began = time.process_time()
        for inputs, targets in batches:
            passes.backward(inputs.unsqueeze(0), targets.unsqueeze(0), grads)
        return (time.process_time() - began) / (size * len(batches))

    def evaluate(widest: int) -> float:
        trainer._widest = widest
        began = time.process_time()
        trainer.evaluate(block.rows, test, job.evaluate.batch_size)
        return (time.process_time() - began) / len(test)

    try:
        with one_thread():
            for turn in range(2 if smoke else 6):
                passes.attach(block.rows, grads)
                passes.compute_in(precision)
                taken = [forward(), step(), evaluate(job.tried.widest), evaluate(0)]
                if turn:
                    least = [min(pair) for pair in zip(least, taken, strict=True)]
    finally:
        trainer.close()
    return [1e6 * each for each in least]


def yes(reached: bool) -> str:
    """How a goal went."""
    return "yes" if reached else "NO"


def speed_table(before: Path | None, name: str, smoke: bool) -> list[str]:
    """The first table."""
    from statistics import median

    settings = lesson("full", smoke) | {"seed": 1}
    narrow = copy.deepcopy(settings)
    narrow["train"]["precision"] = "bfloat16"
    sources = {
        f"float32 at {name}": (before or ROOT / "src", settings),
        "float32": (ROOT / "src", settings),
        "bfloat16": (ROOT / "src", narrow),
    }
    seconds, final = side_by_side(sources, 1 if smoke else TURN)
    first = next(iter(seconds))
    lines = [
        f"{settings['nodes']} nodes, {settings['rounds']} rounds of "
        f"{settings['train']['local_steps']} steps of batch 16, 3 evaluations of all nodes and of "
        "their average.",
        "",
        "| | CPU s | times as fast | of turns: median | worst | best | accuracy, % |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for one, each in seconds.items():
        ratios = [a / b for a, b in zip(seconds[first], each, strict=True)]
        lines.append(
            f"| {one} | {sum(each):.1f} | {sum(seconds[first]) / sum(each):.2f} | "
            f"{median(ratios):.2f} | {min(ratios):.2f} | {max(ratios):.2f} | {final[one]:.1f} |"
        )
    ratio = sum(seconds[first]) / sum(seconds["bfloat16"])
    lost = final[first] - final["bfloat16"]
    same = final[first] == final["float32"]
    return [
        *lines,
        "",
        f"Wanted: bfloat16 at least {SPEED} times as fast: {yes(ratio >= SPEED)} ({ratio:.2f}); at "
        f"most {ACCURACY} points lost: {yes(lost <= ACCURACY)} ({lost:+.2f}). float32 gives "
        f"what it gave before: {yes(same)}.",
    ]


def accuracy_table(smoke: bool) -> list[str]:
    """The second table."""
    seeds = (1,) if smoke else (1, 2, 3)
    lines = [
        "| model | float32, % | bfloat16, % | lost: mean | worst seed | best seed | at most 0.5 |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for model in MODELS[:1] if smoke else MODELS:
        both = {
            p: [accuracy(model, p, seed, smoke) for seed in seeds] for p in ("float32", "bfloat16")
        }
        lost = [a - b for a, b in zip(both["float32"], both["bfloat16"], strict=True)]
        mean = float(np.mean(lost))
        lines.append(
            f"| {model} | {np.mean(both['float32']):.1f} | {np.mean(both['bfloat16']):.1f} | "
            f"{mean:+.2f} | {max(lost):+.2f} | {min(lost):+.2f} | {yes(mean <= ACCURACY)} |"
        )
        print(lines[-1], flush=True)
    return lines


def evaluation_table(smoke: bool) -> list[str]:
    """The third table."""
    lines = [
        "| model | precision | step, us | of float32's | its forward, us | evaluation, us | "
        "in whole batches | evaluation / forward | at most 1.05 |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for model in MODELS[:1] if smoke else ("full", *MODELS):
        name, whole = "gn_lenet, 32 x 32" if model == "full" else model, 0.0
        for precision in ("float32", "bfloat16"):
            forward, step, evaluation, uncut = measured(model, precision, smoke)
            whole = whole or step
            share = evaluation / forward
            lines.append(
                f"| {name} | {precision} | {step:.1f} | {step / whole:.2f} | {forward:.1f} | "
                f"{evaluation:.1f} | {uncut:.1f} | {share:.2f} | {yes(share <= EVALUATION)} |"
            )
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="What bfloat16 gains and costs")
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--against", help=f"the commit of before; {BEFORE}")
    parser.add_argument("--only", choices=["speed", "accuracy", "evaluation"], help="one table")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    chosen = parser.parse_args()
    if chosen.words:
        take_turns(json.loads(chosen.words[0]), int(chosen.words[1]))
        return
    smoke, against = chosen.smoke, chosen.against or (None if chosen.smoke else BEFORE)
    git = ["git", "-C", str(ROOT), "worktree"]
    parts: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        if chosen.only in (None, "speed"):
            if against:
                subprocess.run([*git, "add", "-q", "--detach", tree, against], check=True)
            try:
                before = tree / "src" if against else None
                parts["Speed"] = speed_table(before, against or "itself", smoke)
                print("\n".join(parts["Speed"]), flush=True)
            finally:
                if against:
                    subprocess.run([*git, "remove", "--force", tree], check=True)
    if chosen.only in (None, "evaluation"):
        parts["A step, and an evaluation, by the example"] = evaluation_table(smoke)
    if chosen.only in (None, "accuracy"):
        parts["Accuracy"] = accuracy_table(smoke)
    for title, lines in parts.items():
        only = f" --only {chosen.only}" if chosen.only else ""
        head = [f"`python benchmarks/engine/precision.py{only}` at commit {COMMIT}", "", machine()]
        section("precision", title, "\n".join([*head, "", *lines]), smoke)


if __name__ == "__main__":
    main()
