"""Speed and memory against a plain PyTorch loop and against copying: ratios of one run.

python benchmarks/speed.py            # the whole table, a few minutes
python benchmarks/speed.py --smoke    # tiny sizes, to see that it runs
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from measure import Goals, cpu_seconds, fresh, markdown, peak_bytes, publish, seconds

from hansa.base.spec import DataSpec
from hansa.base.streams import Streams
from hansa.codec import Dense
from hansa.data import Dataset, Split
from hansa.engine import (
    SGD,
    EvaluateSettings,
    Job,
    Network,
    TrainSettings,
    WallClock,
)
from hansa.engine.exchange.mixing import mix_rows_
from hansa.engine.runtimes.host import Host
from hansa.learn import DPSGD
from hansa.models import MLP, GNLeNet, Model, initial_model
from hansa.topology import Regular, metropolis_hastings


def images(count: int) -> Dataset:
    """Random images of CIFAR-10's form: speed does not depend on what they show."""
    random = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=random)
    y = torch.randint(0, 10, (count,), generator=random)
    scale, shift = torch.tensor(1 / 127.5), torch.tensor(-1.0)
    split, test = Split(x, y), Split(x[:100], y[:100])
    return Dataset("images", DataSpec("image", (3, 32, 32), 10), split, None, test, scale, shift)


def vectors(count: int, width: int = 64) -> Dataset:
    """Random vectors of the digits' size."""
    random = torch.Generator().manual_seed(0)
    x = torch.randn(count, width, generator=random)
    y = torch.randint(0, 10, (count,), generator=random)
    return Dataset(
        "vectors", DataSpec("table", (width,), 10), Split(x, y), None, Split(x[:100], y[:100])
    )


def job(data: Dataset, model: Model, nodes: int, steps: int, batch: int, **more: Any) -> Job:
    """A D-PSGD job on a random regular graph."""
    streams = Streams(1)
    degree, dynamic = more.pop("degree", 6), more.pop("dynamic", False)
    network = Network(Regular(degree=degree, dynamic=dynamic), nodes, streams)
    return Job(
        streams=streams,
        dataset=data,
        parts=np.array_split(np.arange(len(data.train)), nodes),
        module=initial_model(model, data.spec, streams),
        network=network,
        algorithm=DPSGD(),
        clock=WallClock(),
        train=TrainSettings(local_steps=steps, batch_size=batch, optimizer=SGD(lr=0.01)),
        evaluate=EvaluateSettings(every=10**6, dense_start=False, average_model=False),
        **{"rounds": 1, "strategy": "looped", **more},
    )


def plain_loop(data: Dataset, model: Model, nodes: int, steps: int, batch: int) -> Any:
    """What one writes first: a module and a torch.optim.SGD a node, float inputs resident."""
    streams = Streams(1)
    modules = [initial_model(model, data.spec, streams) for _ in range(nodes)]
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.01) for m in modules]
    x, y = data.gather(data.train, torch.arange(len(data.train)))
    x = x.contiguous()
    parts = [torch.from_numpy(p) for p in np.array_split(np.arange(len(y)), nodes)]

    def round() -> None:
        for module, optimizer, part in zip(modules, optimizers, parts, strict=True):
            order = part[torch.randperm(len(part))]
            for step in range(steps):
                index = order[(step * batch) % len(order) :][:batch]
                optimizer.zero_grad()
                F.cross_entropy(module(x[index]), y[index]).backward()
                optimizer.step()

    return round


def training(kind: str, nodes: int, steps: int, repeats: int) -> dict[str, float]:
    """Seconds a round of local work: hansa's, the plain loop's, and their ratio."""
    data = images(nodes * 64) if kind == "gn_lenet" else vectors(nodes * 64)
    model = GNLeNet() if kind == "gn_lenet" else MLP(hidden=(64,))
    strategy = "looped" if kind == "gn_lenet" else "stacked"
    block = job(data, model, nodes, steps, 8, strategy=strategy).block(np.arange(nodes))
    loop = plain_loop(data, model, nodes, steps, 8)
    ours, theirs = [], []
    block.train(0), loop()
    for k in range(repeats):  # in turn, so that a drifting machine drifts for both
        began = time.perf_counter()
        block.train(k)
        ours.append(time.perf_counter() - began)
        began = time.perf_counter()
        loop()
        theirs.append(time.perf_counter() - began)
    block.trainer.close()
    mine, plain = float(np.median(ours)), float(np.median(theirs))
    return {"hansa": mine, "plain": plain, "ratio": plain / mine}


def framework(nodes: int, rounds: int) -> dict[str, float]:
    """CPU milliseconds a node-round of a D-PSGD round in which nobody trains."""
    work = job(vectors(nodes * 16), MLP(hidden=(16,)), nodes, 0, 8, rounds=rounds)
    block = work.block(np.arange(nodes))
    block.train = lambda *_: None  # type: ignore[method-assign]
    host = Host(work, block, work.exchange(), lambda _: None, lambda *_: None)
    return {"ms": cpu_seconds(host.run) / (nodes * rounds) * 1e3}


def framework_with_draws(nodes: int, rounds: int) -> dict[str, float]:
    """The same with one local step of a tiny model on one example: draws, gathers, reports too."""
    work = job(
        vectors(nodes * 16, 8), MLP(hidden=()), nodes, 1, 1, rounds=rounds, strategy="stacked"
    )
    block = work.block(np.arange(nodes))
    host = Host(work, block, work.exchange(), lambda _: None, lambda *_: None)
    host._round(0)
    return {"ms": cpu_seconds(host.run) / (nodes * rounds) * 1e3}


def mixing(nodes: int, size: int, degree: int) -> dict[str, float]:
    """Seconds to mix all rows, against copying them and against torch's sparse product."""
    weights = metropolis_hastings(Regular(degree=degree).graph(nodes, 0, Streams(1)))
    rows = torch.randn(nodes, size)
    copy = torch.empty_like(rows)
    sparse = torch.sparse_csr_tensor(
        torch.from_numpy(weights.indptr),
        torch.from_numpy(weights.indices),
        torch.from_numpy(weights.values).float(),
        size=(nodes, nodes),
    )
    arrays = weights.indptr, weights.indices, weights.values
    mine = seconds(lambda: mix_rows_(rows, rows[:0], *arrays))
    base = seconds(lambda: copy.copy_(rows))
    csr = seconds(lambda: sparse @ rows, repeats=3)
    return {"hansa": mine, "copy": base, "csr": csr, "ratio": mine / base}


def thousand(nodes: int, rounds: int) -> dict[str, float]:
    """Peak memory and time of GN-LeNet on a fresh 5-regular graph every round."""
    work = job(
        images(nodes * 16),
        GNLeNet(),
        nodes,
        1,
        8,
        rounds=rounds,
        degree=5 + nodes % 2,
        dynamic=True,
    )
    block = work.block(np.arange(nodes))
    began = time.perf_counter()
    Host(work, block, work.exchange(), lambda _: None, lambda *_: None).run()
    return {"gib": peak_bytes() / 2**30, "seconds": time.perf_counter() - began}


def decentralizepy(rounds: int, steps: int) -> dict[str, float]:
    """16 nodes, GN-LeNet, batch 8, 4-regular, full accounting: seconds a round, peak memory."""
    work = job(images(16 * 512), GNLeNet(), 16, steps, 8, rounds=rounds, degree=4)
    block = work.block(np.arange(16))
    host = Host(work, block, work.exchange(), lambda _: None, lambda *_: None)
    host._round(0)
    began = time.perf_counter()
    host.run()
    each = (time.perf_counter() - began) / rounds
    sizes = Dense().size(block.rows)
    return {"seconds": each, "gib": peak_bytes() / 2**30, "message": float(sizes[0])}


def command_seconds(arguments: list[str], repeats: int) -> float:
    """Wall time of a hansa command, whole process."""
    line = [sys.executable, "-m", "hansa.cli", *arguments]
    return seconds(
        lambda: subprocess.run(line, check=True, capture_output=True), repeats, min(repeats - 1, 1)
    )


START = """
seed: 1
nodes: {nodes}
rounds: 1
data: {{name: file, path: {path}}}
model: {{name: mlp, hidden: [16]}}
topology: {{name: regular, degree: 4}}
train: {{local_steps: 1, batch_size: 1, strategy: stacked}}
evaluate: {{nodes: 10, average_model: false, dense_start: false}}
"""


def start_up(nodes: int, repeats: int) -> float:
    """Seconds from the command to the end of the first round of many nodes."""
    with tempfile.TemporaryDirectory() as folder:
        random = np.random.default_rng(0)
        table = Path(folder) / "table.npz"
        x = random.standard_normal((nodes * 5, 16), dtype=np.float32)
        np.savez(table, inputs=x, label=random.integers(0, 4, nodes * 5))
        file = Path(folder) / "run.yaml"
        file.write_text(START.format(nodes=nodes, path=table))
        count = iter(range(100))
        return seconds(
            lambda: subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "hansa.cli",
                    "learn",
                    str(file),
                    "--no-report",
                    "--out",
                    f"{folder}/run{next(count)}",
                ],
                check=True,
                capture_output=True,
            ),
            repeats,
            warmup=0 if repeats == 1 else 1,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    smoke = parser.parse_args().smoke
    big = 32 if smoke else 1024
    repeats = 1 if smoke else 5
    goals = Goals()
    r = fresh("training", "speed", smoke=smoke, kind="mlp", nodes=big, steps=5, repeats=repeats)
    goals.add(
        f"MLP 64-64-10, batch 8, {big} nodes: a local step of all nodes, plain loop / hansa",
        f"{r['plain'] / 5 * 1e3:.1f} ms / {r['hansa'] / 5 * 1e3:.1f} ms = {r['ratio']:.1f}",
        "≥ 6",
        r["ratio"] >= 6,
    )
    nodes = 2 if smoke else 16
    r = fresh(
        "training", "speed", smoke=smoke, kind="gn_lenet", nodes=nodes, steps=5, repeats=repeats
    )
    goals.add(
        f"GN-LeNet, batch 8, {nodes} nodes: a step of one node, plain loop / hansa",
        f"{r['plain'] / 5 / nodes * 1e3:.2f} ms / {r['hansa'] / 5 / nodes * 1e3:.2f} ms"
        f" = {r['ratio']:.2f}",
        "≥ 1.3",
        r["ratio"] >= 1.3,
    )
    n = 50 if smoke else 1000
    r = fresh("framework", "speed", smoke=smoke, nodes=n, rounds=5 if smoke else 50)
    s = fresh("framework_with_draws", "speed", smoke=smoke, nodes=n, rounds=5 if smoke else 50)
    goals.add(
        f"CPU a node-round besides training, {n} nodes (with drawing and a step of 1 example)",
        f"{r['ms']:.4f} ms ({s['ms']:.4f} ms)",
        "≤ 0.3 ms",
        s["ms"] <= 0.3,
    )
    r = fresh("mixing", "speed", smoke=smoke, nodes=big, size=1000 if smoke else 89_834, degree=6)
    goals.add(
        f"mixing {big} × 89,834 on a 6-regular graph / copying the rows (torch CSR / copying)",
        f"{r['hansa'] * 1e3:.0f} ms / {r['copy'] * 1e3:.0f} ms = {r['ratio']:.1f}"
        f" ({r['csr'] / r['copy']:.1f})",
        "≤ 4",
        r["ratio"] <= 4,
    )
    n = 100 if smoke else 10_000
    took = start_up(n, 1 if smoke else 3)
    goals.add(f"{n:,} nodes: command to the end of round 1", f"{took:.1f} s", "< 5 s", took < 5)
    took = command_seconds(["--help"], 1 if smoke else 5)
    goals.add("hansa --help", f"{took:.2f} s", "< 0.5 s", took < 0.5)
    rounds = 1 if smoke else 10
    r = fresh("thousand", "speed", smoke=smoke, nodes=big, rounds=rounds)
    goals.add(
        f"{big} × GN-LeNet, dynamic 5-regular, {rounds} rounds: peak memory",
        f"{r['gib']:.2f} GiB ({r['seconds']:.0f} s)",
        "< 8 GiB",
        r["gib"] < 8,
    )
    r = fresh(
        "decentralizepy", "speed", smoke=smoke, rounds=1 if smoke else 5, steps=1 if smoke else 20
    )
    goals.add(
        "16 × GN-LeNet, batch 8, 20 steps, 4-regular: a round",
        f"{r['seconds']:.2f} s",
        "≤ 1.75 s (DecentralizePy: about 3.5 s)",
        r["seconds"] <= 1.75,
    )
    goals.add(
        "the same: peak memory of all processes",
        f"{r['gib']:.2f} GiB",
        "≤ 1 GiB (DecentralizePy: 16 × 0.5 GB)",
        r["gib"] <= 1,
    )
    text = markdown(
        "Speed and memory",
        "python benchmarks/speed.py",
        Goals.HEADER,
        goals.rows,
    )
    publish("speed", text, smoke)


if __name__ == "__main__":
    main()
