"""Private inference beside Orion: the same two networks, on this machine, in one run.

    python benchmarks/infer/private_orion.py --orion-python PYTHON [--notes FILE]
    python benchmarks/infer/private_orion.py --smoke    # ours alone, a few images

PYTHON is the interpreter of a virtual environment with ``orion-fhe==1.0.2``, ``orion-v2-compiler``
and ``orion-v2-evaluator`` 2.1.8 and torch. Two networks a shape, trained alike (8 epochs of
FEMNIST's digits): with squares, which Orion evaluates in approximate arithmetic and hansa, from
the *same weights*, in integers; and with ReLU, which hansa is for. LeNet-5 pools by means in
both; errors are against real numbers. Orion hides the network from the client, which of hansa's
modes only ``shares`` does; Orion's client may leave, hansa's has to stay and compute. CPU time is
that of all threads.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from measure import Notes, fresh, markdown, publish
from measure_asking import Pair, Spent
from measure_private import Digits, Square, compiled, digits, lenet, mlp, trained

from hansa.base.errors import ConfigError
from hansa.infer.private.compiling.certificate import choose_scheme
from hansa.infer.private.integer_net import evaluate, read_rows
from hansa.infer.private.program import Program
from hansa.infer.private.sessions.scheme import Scheme

SHAPES: dict[str, Callable[[Callable[[], nn.Module]], nn.Sequential]] = {
    "mlp": mlp,
    "lenet": lambda activation: lenet(activation, nn.AvgPool2d),
}
SYSTEMS = {"1": "orion-fhe 1.0.2", "2": "orion-v2 2.1.8"}
GIB = 14
"""Of memory for Orion: as much as this machine spares."""
TITLES = {"mlp": "MLP 784-128-128-10", "lenet": "LeNet-5"}
HEADER = [
    *(
        "network",
        "system",
        "images",
        "accuracy on them",
        "worst error of a logit, against real numbers",
    ),
    *("CPU-s an image", "wall s an image", "set-up CPU-s", "up MB", "down MB"),
    *("keys MB, once", "peak MB"),
]


def ours(shape: str, activation: str, mode: str, count: int, small: bool) -> dict[str, Any]:
    """hansa on the first test images, with the default profile."""
    torch.set_num_threads(1)
    data = digits(small)
    network, accuracy, _ = networks(shape, activation, data, small)
    began = time.process_time()
    program, scheme, widths = finest(network, data)
    if mode == "shares":
        scheme = choose_scheme(program, "shares")
    compiling = time.process_time() - began
    pair, spent = Pair(program, scheme), Spent()
    pair.ask(data.test[:1].numpy(), Spent())  # compiled code is warm, as a server's is
    rows, answers, walls = data.test[:count].numpy(), [], []
    for row in rows:
        began = time.perf_counter()
        answers.append(pair.ask(row[None], spent))
        walls.append(time.perf_counter() - began)
    classes = np.concatenate([one.classes for one in answers])
    wanted, off = clear(program, rows), None
    wrong = int((wanted.argmax(1) != classes).sum())
    if mode != "shares":
        found = np.concatenate([one.logits for one in answers])
        wrong = int((wanted != found).sum())
        with torch.no_grad():
            off = float(np.abs(found * answers[0].scale - network(data.test[:count]).numpy()).max())
    labels = data.test_labels[:count].numpy()
    return {
        "float": accuracy,
        "accuracy": float((classes == labels).mean()),
        "mismatches": wrong,
        "largest_error": off,
        "count": count,
        "widths": widths,
        "cpu": {"setup": compiling + pair.set_up.client + pair.set_up.server},
        "each": statistics.mean(spent.each),
        "wall": statistics.mean(walls),
        "up": spent.up,
        "down": spent.down,
        "keys": pair.set_up.up,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def clear(program: Program, rows: np.ndarray) -> np.ndarray:
    """The logits of the integers in the clear."""
    return evaluate(program, read_rows(program, rows))


def finest(network: nn.Module, data: Digits) -> tuple[Program, Scheme, str]:
    """The widest integers whose accumulators fit, from eight bits a weight on."""
    for weights, activations in ((8, 7), (7, 7), (7, 6), (6, 6)):
        program = compiled(network, data.train[:512], weights, activations)
        with contextlib.suppress(ConfigError):
            return (
                program,
                choose_scheme(program, profile_name="n4096"),
                f"w{weights}a{activations}",
            )
    raise SystemExit("no width fits")


def networks(shape: str, activation: str, data: Digits, small: bool) -> tuple[Any, float, float]:
    """A trained network of a shape, its accuracy on all test images, CPU seconds."""
    kind = Square if activation == "square" else nn.ReLU
    return trained(lambda: SHAPES[shape](kind), data, seed=0, epochs=1 if small else 8)


def within(words: list[str], most: int) -> tuple[str | None, int]:
    """(what a child printed, its largest memory); None where it took more than ``most`` bytes."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    with tempfile.TemporaryFile("w+") as out:
        child = subprocess.Popen(words, stdout=out, stderr=subprocess.DEVNULL, env=kept)
        largest = 0
        while child.poll() is None:
            status = Path(f"/proc/{child.pid}/status").read_text()
            held = re.search(r"VmRSS:\s+(\d+) kB", status)
            largest = max(largest, int(held[1]) << 10 if held else 0)
            if largest > most:
                child.kill()
                child.wait()
                return None, largest
            time.sleep(0.2)
        if child.returncode:
            raise SystemExit(f"{' '.join(words)} failed with {child.returncode}")
        out.seek(0)
        return out.read(), largest


def theirs(interpreter: str, version: str, shape: str, count: int) -> dict[str, Any]:
    """Orion in its own interpreter on the same images."""
    data = digits()
    network, accuracy, _ = networks(shape, "square", data, small=False)
    with torch.no_grad():
        logits = network(data.test[:count])
    arrays = {name: one.numpy() for name, one in network.state_dict().items()}
    arrays |= {
        "images": data.test[:count].numpy(),
        "labels": data.test_labels[:count].numpy(),
        "logits": logits.numpy(),
        "calibration": data.train[:256].numpy(),
    }
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "given.npz", **arrays)
        script = str(Path(__file__).parent / "peers_orion.py")
        words = [interpreter, script, version, shape, f"{folder}/given.npz", str(count)]
        out, most = within(words, GIB << 30)
    if out is None:
        return {"failed": f"ended at {most / (1 << 30):.1f} GiB of memory, more than {GIB}"}
    facts = json.loads(out.splitlines()[-1])
    cpu, wall = facts["cpu"], facts["wall"]
    facts["each"] = (cpu["client"] + cpu["server"]) / count
    facts["wall"] = (wall["client"] + wall["server"]) / count
    return facts | {"float": accuracy}


def row(shape: str, system: str, facts: dict[str, Any]) -> list[str]:
    """A line of the table."""
    if "failed" in facts:
        return [TITLES[shape], system, "", facts["failed"], *[""] * 8]
    count = facts["count"]
    off = facts["largest_error"]
    error = "class alone" if off is None else f"{off:.2g}"
    error += f"; {facts['mismatches']} from the integers" if "mismatches" in facts else ""
    return [
        *(TITLES[shape], system, str(count)),
        f"{facts['accuracy']:.1%} (network: {facts['float']:.1%} of all)",
        *(error, f"{facts['each']:.3f}", f"{facts['wall']:.3f}", f"{facts['cpu']['setup']:.1f}"),
        *(f"{facts['up'] / count / 1e6:.2f}", f"{facts['down'] / count / 1e6:.2f}"),
        *(f"{facts['keys'] / 1e6:.2f}", f"{facts['peak'] / 1e6:.0f}"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--orion-python", help="an interpreter that has Orion")
    parser.add_argument("--notes", help="a file of what Orion was measured at already")
    parser.add_argument("--count", type=int, default=20)
    given = parser.parse_args()
    count = 2 if given.smoke else given.count
    rows, notes = [], Notes(given.notes)
    for shape in ("mlp",) if given.smoke else SHAPES:
        for activation, mode in (("relu", "shuffle"), ("square", "shuffle"), ("relu", "shares")):
            facts = fresh(
                *("ours", "private_orion"),
                smoke=given.smoke,
                shape=shape,
                activation=activation,
                mode=mode,
                count=count,
                small=given.smoke,
            )
            rows.append(row(shape, f"hansa {mode}, {activation}, {facts['widths']}", facts))
            print(rows[-1], flush=True)
        for version in ("1", "2") if given.orion_python else ():
            images = count if shape == "mlp" else min(count, 5)
            facts = notes.get(
                f"{version} {shape} {images}",
                partial(theirs, given.orion_python, version, shape, images),
            )
            rows.append(row(shape, SYSTEMS[version], facts))
            print(rows[-1], flush=True)
    command = "python benchmarks/infer/private_orion.py --orion-python PYTHON"
    publish(
        "private_orion",
        markdown("Private inference beside Orion", command, HEADER, rows),
        given.smoke,
    )


if __name__ == "__main__":
    main()
