"""Many nodes over sockets: memory of all processes, and bytes beside the simulator's.

    HANSA_DATA=... python benchmarks/network/scale.py

1,024 nodes in 4 workers with a 5-regular graph that changes every round, and 64 processes of one
node each; GN-LeNet on CIFAR-10 (without ``$HANSA_DATA`` on random images). Memory is the
proportional set size of hansa and all processes that it started, the most that they had together;
CPU seconds are of all of them, start and end included.
Inside a network namespace of its own the second run's loopback counters are set against what hansa
counted, with and without the kernel's headers of packets. Bytes of every node must be the
simulator's, and so must the models.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import measure
from measure_namespaces import Lab, lacking

LIMIT = 8 << 30


def settings(nodes: int, workers: int, rounds: int, smoke: bool) -> dict[str, Any]:
    """A run file; no workers: all in one process."""
    runtime = {"name": "processes", "workers": workers, "deadline": 600}
    return {
        "seed": 1,
        "nodes": nodes,
        "rounds": rounds,
        "data": {**(measure.DIGITS if smoke else {"name": "cifar10", "test_samples": 200}),
                 "partition": "iid"},
        "model": "logistic" if smoke else "gn_lenet",
        "topology": {"name": "regular", "degree": 5 if nodes > 8 else 3, "dynamic": True},
        "train": {"local_steps": 1, "batch_size": 8, "strategy": "looped"},
        "evaluate": {"every": rounds, "dense_start": False, "nodes": 4, "average_model": False},
        "checkpoint": {"every": rounds},
        "runtime": runtime if workers else {"name": "simulate"},
    }  # fmt: skip


class Watch(threading.Thread):
    """Looks at a process and all below it again and again; keeps the most that they had together.

    Attributes:
        most: bytes, by proportional set size.
        processes: how many there were then.
        cpu: s, of each process that there was, by its id, when it was last seen.
    """

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self.root, self.most, self.processes = root, 0, 0
        self.cpu: dict[int, float] = {}
        self._over = threading.Event()

    def run(self) -> None:
        import psutil

        while not self._over.wait(0.25):
            shares = []
            try:
                family = [psutil.Process(self.root)]
                family += family[0].children(recursive=True)
            except psutil.NoSuchProcess:
                continue
            for process in family:
                try:
                    text = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
                    times = process.cpu_times()
                except (OSError, psutil.Error):  # it has ended
                    continue
                self.cpu[process.pid] = times.user + times.system
                shares += [
                    int(line.split()[1]) << 10 for line in text.splitlines() if line[:4] == "Pss:"
                ]
            if sum(shares) > self.most:
                self.most, self.processes = sum(shares), len(shares)

    def stop(self) -> None:
        """Look no more."""
        self._over.set()
        self.join()


def ran(chosen: dict[str, Any], folder: Path, lab: Lab | None = None) -> dict[str, Any]:
    """Run it by the command line in a process of its own: its figures, seconds and memory."""
    file = folder.with_suffix(".json")
    file.write_text(json.dumps(chosen))
    words = [sys.executable, "-m", "hansa.cli", "learn", str(file), "--out", str(folder),
             "--no-report", "--json"]  # fmt: skip
    began = time.monotonic()
    more: dict[str, Any] = {"stdout": subprocess.PIPE}
    process = lab.start(0, words, **more) if lab else subprocess.Popen(words, text=True, **more)
    watch = Watch(process.pid)
    watch.start()
    said, _ = process.communicate()
    watch.stop()
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with status {process.returncode}")
    return {**json.loads(said), "seconds": time.monotonic() - began, "memory": watch.most,
            "processes": watch.processes, "cpu": sum(watch.cpu.values())}  # fmt: skip


def counters(folder: Path) -> dict[str, list[float]]:
    """Bytes that each node has sent and received by the end, by node."""
    import polars

    from hansa.report import RunFolder

    metrics = RunFolder.open(folder).metrics().filter(polars.col("node").is_not_null())
    last = metrics.filter(polars.col("round") == metrics["round"].max())
    return {
        name: last.filter(polars.col("name") == name).sort("node")["value"].to_list()
        for name in ("bytes_sent", "bytes_received")
    }


def models(folder: Path) -> Any:
    """All models at the end [nodes, numbers]."""
    import torch
    from safetensors.torch import load_file

    from hansa.engine import latest, read_manifest

    checkpoint = latest(folder / "checkpoints")
    assert checkpoint is not None
    parts = [
        (part["nodes"][0], load_file(checkpoint / part["file"])["rows"])
        for part in read_manifest(checkpoint)["files"]
    ]
    return torch.cat([rows for _, rows in sorted(parts, key=lambda part: part[0])])


def compare(nodes: int, workers: int, rounds: int, smoke: bool, place: Path) -> list[str]:
    """A row of the table: a run over sockets beside the same in one process."""
    import torch

    alone = ran(settings(nodes, 0, rounds, smoke), place / f"simulate-{nodes}")
    folder, counted = place / f"processes-{nodes}", ""
    if workers == nodes and not lacking():
        with Lab(1) as lab:
            apart = ran(settings(nodes, workers, rounds, smoke), folder, lab)
            sent, heads = lab.counted(0, "lo")[0], lab.headers(0, "lo")
        wanted = apart["bytes_sent"] + apart["overhead_bytes"]
        more, own = (100 * (x / wanted - 1) for x in (sent, sent - heads))
        counted = f"{more:+.2f} %, without packets' headers {own:+.2f} %"
    else:
        apart = ran(settings(nodes, workers, rounds, smoke), folder)
    same_bytes = counters(folder) == counters(place / f"simulate-{nodes}")
    same_models = bool(torch.equal(models(folder), models(place / f"simulate-{nodes}")))
    overhead = apart["overhead_bytes"] / max(apart["bytes_sent"], 1)
    return [
        f"{nodes:,} in {workers}", str(rounds), f"{apart['memory'] / 2**30:.2f} GiB",
        "yes" if apart["memory"] < LIMIT else "no",
        f"{alone['memory'] / 2**30:.2f} GiB",
        *(f"{apart[key]:.0f} s of {alone[key]:.0f}: {apart[key] / alone[key]:.2f}"
          for key in ("seconds", "cpu")),
        "yes" if same_bytes else "no",
        "yes" if same_models else "no", f"{100 * overhead:.2f} %", counted,
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="few nodes, nothing is kept")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", type=int, help="of the cases the one with so many workers")
    chosen = parser.parse_args()
    cases = ((8, 2), (4, 4)) if chosen.smoke else ((1024, 4), (64, 64))
    cases = tuple(case for case in cases if chosen.only in (None, case[1]))
    rounds = 2 if chosen.smoke else chosen.rounds
    with tempfile.TemporaryDirectory() as place:
        rows = [compare(*case, rounds, chosen.smoke, Path(place)) for case in cases]
    header = ["nodes in workers", "rounds", "memory", "under 8 GiB", "simulate",
              "wall, to simulate", "CPU, to simulate", "bytes equal", "models equal", "overhead",
              "loopback beside counted"]  # fmt: skip
    command = " ".join(["python benchmarks/network/scale.py", *sys.argv[1:]])
    table = measure.markdown("", command, header, rows).partition("\n\n")[2]
    measure.section("networks", "Many nodes", table, chosen.smoke)


if __name__ == "__main__":
    main()
