"""Federated averaging against a bare PyTorch loop, Flower's simulation, pfl and BlazeFL's threads.

    python benchmarks/federated/speed_federated.py --python-flower P --python-pfl P
    python benchmarks/federated/speed_federated.py --smoke    # a tiny round of the first two

pfl-research's CIFAR10-IID: 1,000 users with 50 images each, 50 of them a round, one epoch, batch
10, rate 0.1; its CNN of 1.63 M parameters, and a linear model of 30 k. Every contender runs in a
process of its own, on one thread a process, and counts what it starts; start-up and two rounds of
warm-up are left out, and nobody evaluates. A second table has the CNN on two cores: hansa in both
runtimes, and BlazeFL's pool of threads. Flower and pfl may live in environments of their own
(``--python-... PATH``); one that cannot be imported is said to be not installed. The images are
CIFAR-10's where $HANSA_DATA holds it, and random ones of the same form elsewhere: time does not
depend on what they show.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import markdown, publish
from peers_common import MARK, Meter, Work

from hansa.base.streams import Streams
from hansa.data import DataSource
from hansa.experiment import run

HERE = Path(__file__).parent
MODELS = {"cnn": "pfl_cnn", "linear": "logistic"}
TITLES = {"cnn": "CNN, 1,626,442 parameters", "linear": "linear, 30,730 parameters"}
PEERS = {  # title: module, package that it needs
    "bare loop": ("peers_bare", "torch"),
    "hansa": ("speed_federated", "hansa"),
    "pfl": ("peers_pfl", "pfl"),
    "Flower simulation": ("peers_flower", "flwr"),
}
PAIRS = {  # title: module, package, runtime; on two cores
    "BlazeFL, threads": ("peers_blazefl", "blazefl", ""),
    "hansa, simulate": ("speed_federated", "hansa", "simulate"),
    "hansa, processes": ("speed_federated", "hansa", "processes"),
}
Figures = dict[str, dict[str, float] | None]


def settings(work: Work) -> dict[str, Any]:
    """The run file of the work."""
    return {
        "nodes": work.users,
        "rounds": work.all_rounds + 1,  # the last is evaluated and therefore not measured
        "data": json.loads((Path(work.folder) / "data.json").read_text()),
        "model": MODELS[work.network],
        "algorithm": {"name": "fedavg", "sampled": work.sampled, "weighting": "examples"},
        "train": {
            "local_epochs": 1,
            "batch_size": work.batch,
            "optimizer": {"name": "sgd", "lr": work.rate},
        },
        "evaluate": {"every": 10**6, "dense_start": False, "average_model": False},
        "runtime": {"name": work.runtime}
        | ({"workers": work.threads} if work.runtime == "processes" else {}),
        "checkpoint": {"every": 0},
    }


def measure(work: Work) -> dict[str, float]:
    """Seconds a round of hansa."""
    meter = Meter(work)
    with tempfile.TemporaryDirectory() as folder:
        run(settings(work), f"{folder}/run", progress=lambda *_: meter(), report=False)
    return meter.result()


def prepare(folder: Path, smoke: bool) -> None:
    """Leave images in a folder: ``data.json`` for hansa, arrays for everybody else."""
    folder.mkdir()
    chosen: dict[str, Any] = {"name": "cifar10", "test_samples": 100}
    if smoke or "HANSA_DATA" not in os.environ:
        count, side, channels = (200, 8, 1) if smoke else (50_000, 32, 3)
        random = np.random.default_rng(0)
        for name, n in (("train", count), ("test", 100)):
            images = random.integers(0, 256, (n, side, side, channels), dtype=np.uint8)
            np.savez(folder / name, inputs=images, label=random.permutation(n) % 10)
        paths = {"path": f"{folder}/train.npz", "test_path": f"{folder}/test.npz"}
        chosen = {"name": "file", **paths}
    chosen |= {"normalize": "standardize", "partition": {"name": "iid"}}
    (folder / "data.json").write_text(json.dumps(chosen))
    dataset = DataSource.resolve(chosen).load(Streams(1))
    x, y = dataset.gather(dataset.train, torch.arange(len(dataset.train)))
    np.save(folder / "inputs.npy", x.contiguous().numpy())
    np.save(folder / "targets.npy", y.numpy())


def contend(peer: str, work: Work, python: str) -> dict[str, float] | None:
    """A contender's figures, measured in a new process; None: it is not installed there."""
    module, package = {**PEERS, **PAIRS}[peer][:2]
    found = f"import importlib.util as u; print(u.find_spec({package!r}) is not None)"
    if _output([python, "-c", found], {}) != "True":
        return None
    code = (
        f"import json, sys; sys.path[:0] = [{str(HERE)!r}]; import {module}; "
        "from peers_common import Work; "
        f"print(json.dumps({module}.measure(Work(**json.loads(sys.argv[1])))))"
    )
    environment = {
        MARK: f"{os.getpid()}-{module}",
        # Threads that wait for each other spin, and that is no work; hansa takes from it only how
        # many clients may train at a time.
        "OMP_NUM_THREADS": str(work.threads) if package == "hansa" else "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    return json.loads(_output([python, "-c", code, json.dumps(vars(work))], environment))


def _output(command: list[str], environment: dict[str, str]) -> str:
    """The last line that a command prints; where it fails, what it said is shown."""
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return done.stdout.splitlines()[-1]


def compare(work: Work, pythons: dict[str, str], repeats: int) -> Figures:
    """Median figures of each contender, measured in turn so that a drift hits all."""
    found: dict[str, list[dict[str, float]]] = {peer: [] for peer in pythons}
    for _ in range(repeats):
        for peer, python in pythons.items():
            own = replace(work, runtime=PAIRS[peer][2]) if peer in PAIRS else work
            if (figures := contend(peer, own, python)) is not None:
                found[peer].append(figures)
                cpu, wall = figures["cpu"], figures["wall"]
                print(f"{work.network}, {peer}: CPU {cpu:.4f} s, wall {wall:.4f} s", flush=True)
    return {
        peer: {key: statistics.median(f[key] for f in several) for key in ("cpu", "wall")}
        if several
        else None
        for peer, several in found.items()
    }


def rows(title: str, figures: Figures) -> list[list[str]]:
    """Lines of the table for one network."""
    bare = figures["bare loop"]
    lines = []
    for peer, own in figures.items():
        if own is None or bare is None:
            lines.append([title, peer, "not installed", "", ""])
            continue
        times = [f"{own[key] * 1e3:,.1f} ms" for key in ("cpu", "wall")]
        lines.append([title, peer, *times, f"{own['cpu'] / bare['cpu']:.2f}"])
    return lines


def verdicts(title: str, figures: Figures, most: float, against_others: bool) -> list[list[str]]:
    """Lines on what was wanted of hansa."""
    cpu = {peer: own["cpu"] for peer, own in figures.items() if own is not None}
    mine = cpu["hansa"]
    ratio = mine / cpu["bare loop"]
    lines = [[title, "hansa / bare loop", f"{ratio:.2f}", f"≤ {most}", _yes(ratio <= most)]]
    if against_others and "Flower simulation" in cpu:
        ratio = cpu["Flower simulation"] / mine
        lines.append([title, "Flower / hansa", f"{ratio:.1f}", "≥ 10", _yes(ratio >= 10)])
    if against_others and "pfl" in cpu:
        ratio = mine / cpu["pfl"]
        lines.append([title, "hansa / pfl", f"{ratio:.2f}", "≤ 1", _yes(ratio <= 1)])
    return lines


def pairs(title: str, figures: Figures) -> tuple[list[list[str]], list[list[str]]]:
    """Lines of the table for two cores, and on what was wanted there."""
    lines, checks = [], []
    peer = figures.get("BlazeFL, threads")
    for who, own in figures.items():
        if own is None:
            lines.append([title, who, "not installed", "", "", ""])
            continue
        times = [f"{own[key] * 1e3:,.1f} ms" for key in ("cpu", "wall")]
        ratios = [f"{own[key] / peer[key]:.2f}" if peer else "" for key in ("cpu", "wall")]
        lines.append([title, who, *times, *ratios])
        if peer and own is not peer:
            ratio = own["wall"] / peer["wall"]
            checks.append(
                [title, f"{who} / BlazeFL, wall", f"{ratio:.2f}", "≤ 1", _yes(ratio <= 1)]
            )
    return lines, checks


def _yes(reached: bool) -> str:
    return "yes" if reached else "no"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, bare loop and hansa")
    parser.add_argument("--python-flower", default=sys.executable, help="where flwr is installed")
    parser.add_argument("--python-pfl", default=sys.executable, help="where pfl is installed")
    parser.add_argument("--python-blazefl", default=sys.executable, help="where blazefl is")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each; the median counts")
    parser.add_argument("--only", nargs="*", help="these contenders only", choices=[*PEERS, *PAIRS])
    options = parser.parse_args()
    smoke = options.smoke
    pythons = dict.fromkeys(PEERS, sys.executable)
    pythons |= {"pfl": options.python_pfl, "Flower simulation": options.python_flower}
    chosen = ["bare loop", "hansa"] if smoke else options.only
    pythons = {peer: path for peer, path in pythons.items() if not chosen or peer in chosen}
    two = dict.fromkeys(PAIRS, sys.executable) | {"BlazeFL, threads": options.python_blazefl}
    two = {peer: path for peer, path in two.items() if not chosen or peer in chosen}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "images"
        prepare(folder, smoke)
        size = (
            {"users": 20, "sampled": 4, "batch": 5, "rounds": 1}
            if smoke
            else {"users": 1000, "sampled": 50, "batch": 10}
        )
        table, checks, beside = [], [], []
        for network, title in TITLES.items():
            many = {"rounds": 5 if network == "cnn" else 30, **size}
            work = Work(network, str(folder), rate=0.1, **many)
            if network == "cnn" and two:
                pair = compare(replace(work, threads=2), two, options.repeats)
                beside, wanted = pairs(title, pair)
                checks += wanted
            figures = compare(work, pythons, 1 if smoke else options.repeats)
            if "bare loop" not in figures:
                continue
            table += rows(title, figures)
            if figures.get("hansa"):
                small = network == "linear"
                checks += verdicts(title, figures, 1.5 if small else 1.1, small)
    text = markdown(
        "Federated averaging: CPU time a round",
        "python benchmarks/federated/speed_federated.py",
        ["model", "who", "CPU a round", "wall a round", "CPU / bare loop"],
        table,
    )
    if beside:
        heads = ["model", "who, on two cores", "CPU a round", "wall a round", "CPU / BlazeFL"]
        heads.append("wall / BlazeFL")
        lines = [heads, ["---"] * len(heads), *beside]
        text += "\n" + "".join("| " + " | ".join(line) + " |\n" for line in lines)
    text += "\n| model | what | measured | wanted | reached |\n|---|---|---|---|---|\n"
    text += "".join("| " + " | ".join(line) + " |\n" for line in checks)
    publish("speed_federated", text, smoke or bool(options.only))


if __name__ == "__main__":
    main()
