"""ResNet-20 on CIFAR-10, asked under encryption: time, bytes, memory, accuracy.

    python benchmarks/infer/private_resnet.py --exact 500      # images under encryption
    python benchmarks/infer/private_resnet.py --clear 10000    # images in the clear: minutes
    python benchmarks/infer/private_resnet.py --smoke          # a ResNet-8 of random numbers

The network is ``resnet20_int8.safetensors`` beside this file (``resnet20_train.py`` trained it,
``resnet20_ship.py`` made integers of it; the digest below is the file's). "Linear part" is
everything but the client's activations: encryption, the server, decryption. CPU time of one
process that holds both sides. The published times are of other machines (Biswas et al., 2025: one
thread of a Xeon E5-2690 v4, with a network of 1.25 MB/s), and stand here for the order of size.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from measure import Goals, fresh, markdown, publish
from measure_asking import Pair, Spent, mismatches
from measure_private import compiled

from hansa.base.errors import ConfigError
from hansa.base.files import sha256
from hansa.infer.private.client_steps import apply
from hansa.infer.private.compiling.certificate import choose_scheme, hidden_bits
from hansa.infer.private.compiling.program_file import read_program
from hansa.infer.private.integer_net import accumulate, evaluate, read_rows
from hansa.infer.private.program import Program

FILE = Path(__file__).parent / "resnet20_int8.safetensors"
SHA256 = "55fb8a423841eda710a72e9b858d8c6d778f76d24bba4a2390eff5e45afee2a2"
PUBLISHED = {"Safhire": 116.2, "Orion": 1040.4}
"""Seconds an image, by Biswas et al. (2025), table 3."""


def shipped(small: bool = False) -> Program:
    """The program of the file, whose digest has to be the known one; a smaller one for smoke."""
    if small:
        from resnet20_train import ResNet20

        torch.manual_seed(0)
        rows = torch.rand(16, 3, 32, 32)
        return compiled(ResNet20(blocks=1).eval(), rows)
    if sha256(FILE) != SHA256:
        raise SystemExit(f"{FILE.name} is not the file that this benchmark was written for")
    return read_program(FILE)


def test_images(count: int, small: bool) -> tuple[np.ndarray, np.ndarray]:
    """Normalised rows float32 [count, 3, 32, 32] and labels, of the test set; random in smoke."""
    if small:
        rng = np.random.default_rng(0)
        return rng.random((count, 3, 32, 32), np.float32), rng.integers(0, 10, count)
    from resnet20_train import images, normalised

    _, _, pixels, labels = images()
    return normalised(pixels[:count]).numpy(), labels[:count].numpy()


def high_water() -> int:
    """The most memory that this process has held (``getrusage`` tells its parent's before it)."""
    held = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert held is not None
    return int(held[1]) << 10


def steps_seconds(program: Program, row: np.ndarray) -> float:
    """CPU seconds of the client's activations alone, for one image."""
    values = {program.input.name: read_rows(program, row[None])}
    total = 0.0
    for one in program.rounds:
        sums = {block.name: accumulate(block, values) for block in one.blocks}
        began = time.process_time()
        for activation in one.activations:
            values[activation.makes] = apply(activation.steps, sums[activation.block])
        total += time.process_time() - began
    return total


def asked(profile: str, threads: int, rows_file: str, small: bool) -> dict[str, Any]:
    """What images cost, each a query of one session; the first is not counted."""
    torch.set_num_threads(1)
    program = shipped(small)
    scheme = choose_scheme(program, profile_name=profile)
    pair, spent = Pair(program, scheme, threads=threads), Spent()
    given = np.load(rows_file)
    rows, labels = given["rows"], given["labels"]
    count = len(rows) - 1
    pair.ask(rows[:1], Spent())  # numba's code is compiled and the weights are prepared
    logits, walls = [], []
    for row in rows[1:]:
        began = time.perf_counter()
        logits.append(pair.ask(row[None], spent).logits)
        walls.append(time.perf_counter() - began)
    found, peak = np.concatenate(logits), high_water()
    return {
        "cpu": min(spent.each),
        "cpu_mean": statistics.mean(spent.each),
        "cpu_worst": max(spent.each),
        "client": spent.client / count,
        "server": spent.server / count,
        "steps": min(steps_seconds(program, row) for row in rows[1:4]),
        "wall": min(walls),
        "up": spent.up // count,
        "down": spent.down // count,
        "rounds": spent.rounds // count,
        "setup_cpu": pair.set_up.client + pair.set_up.server,
        "setup_bytes": pair.set_up.up + pair.set_up.down,
        "flooding": scheme.flooding_bits,
        "drowned": hidden_bits(program, scheme),
        "plain": scheme.plain_bits,
        "mismatches": mismatches(program, rows[1:], found),
        "right": float((found.argmax(1) == labels[1:]).mean()),
        "count": count,
        "peak": peak,
    }


def in_the_clear(count: int) -> float:
    """The program's accuracy on test images, evaluated in the clear."""
    torch.set_num_threads(1)
    program, right = shipped(), 0
    rows, labels = test_images(count, small=False)
    for at in range(0, count, 250):
        scores = evaluate(program, read_rows(program, rows[at : at + 250]))
        right += int((scores.argmax(1) == labels[at : at + 250]).sum())
    return right / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--exact", type=int, default=50, help="images under encryption")
    parser.add_argument("--clear", type=int, default=500, help="images in the clear; 0: none")
    given = parser.parse_args()
    count = 2 if given.smoke else given.exact
    goals = Goals()

    folder = tempfile.TemporaryDirectory()

    def one(profile: str, threads: int, images: int) -> dict[str, Any]:
        file = Path(folder.name) / "rows.npz"  # so that the child never holds all of CIFAR-10
        rows, labels = test_images(images + 1, given.smoke)
        np.savez(file, rows=rows, labels=labels)
        return fresh(
            *("asked", "private_resnet"),
            smoke=given.smoke,
            profile=profile,
            threads=threads,
            rows_file=str(file),
            small=given.smoke,
        )

    facts = one("n4096", 1, count)
    exact = facts["mismatches"] == 0
    what = f"logits of {facts['count']} test images that differ from the integers in the clear"
    goals.add(what, str(facts["mismatches"]), "0", exact)
    if not given.smoke:
        accuracies(goals, given.clear)
    linear = facts["cpu"] - facts["steps"]
    goals.add("linear part, N = 4096, one thread", f"{linear:.2f} CPU-s", "<= 1", linear <= 1)
    shown = (
        f"{facts['cpu']:.2f} CPU-s (mean {facts['cpu_mean']:.2f}, worst {facts['cpu_worst']:.2f})"
    )
    goals.add("whole inference, N = 4096, one thread", shown, "<= 1.5", facts["cpu"] <= 1.5)
    goals.add("of it at the client", f"{facts['client']:.2f} CPU-s (mean)")
    for name, seconds in PUBLISHED.items():
        ratio = f"{seconds / facts['cpu']:.0f} times less CPU"
        goals.add(f"published for {name}: {seconds} s, on another machine", ratio)
    total = (facts["up"] + facts["down"]) / 1e6
    shown = f"{facts['up'] / 1e6:.2f} MB up, {facts['down'] / 1e6:.2f} MB down"
    goals.add("bytes an image", shown, "<= 15 MB", total <= 15)
    goals.add("rounds", str(facts["rounds"]))
    shown = f"{facts['drowned']:.0f} bits over an honest client's noise (of {facts['flooding']})"
    goals.add("flooding", shown, ">= 40", facts["drowned"] >= 40)
    goals.add(
        "peak memory, both sides", f"{facts['peak'] / 1e6:.0f} MB", "< 600", facts["peak"] < 6e8
    )
    shown = f"{facts['setup_cpu']:.2f} CPU-s, {facts['setup_bytes'] / 1e6:.2f} MB"
    goals.add("opening a session, weights prepared", shown)
    two = one("n4096", 2, min(count, 5))
    goals.add("two threads", f"{two['wall']:.2f} s of wall, one thread {facts['wall']:.2f}")
    for profile in ("n2048", "n8192"):
        try:
            choose_scheme(shipped(given.smoke), profile_name=profile)
        except ConfigError as error:
            goals.add(f"profile {profile}", f"refused: {error.problem}")
            continue
        other = one(profile, 1, min(count, 3))
        goals.add(
            f"profile {profile}",
            f"{other['cpu']:.2f} CPU-s, {(other['up'] + other['down']) / 1e6:.2f} MB, "
            f"{other['drowned']:.0f} bits over honest noise, {other['mismatches']} mismatches",
        )
    command = f"python benchmarks/infer/private_resnet.py --exact {count}"
    text = markdown("ResNet-20 asked under encryption", command, goals.HEADER, goals.rows)
    publish("private_resnet", text, given.smoke)


def accuracies(goals: Goals, count: int) -> None:
    """Lines on what integers cost in accuracy: when they were made, and now on ``count`` images."""
    told: dict[str, Any] = dict(shipped().facts)
    real, fine, coarse = (told[f"accuracy_{name}"] for name in ("real", "w8a7", "w6a5"))
    made = "when the integers were made"
    goals.add(f"accuracy on 10,000 test images in real numbers, {made}", f"{real:.2%}")
    lost, wanted = 100 * (real - fine), "at most .5 points less"
    goals.add(f"in integers, w8a7, {made}", f"{fine:.2%}", wanted, lost <= 0.5)
    goals.add(f"w6a5, of {told['images_w6a5']:,} images, {made}", f"{coarse:.2%}")
    if count:
        share = fresh("in_the_clear", "private_resnet", count=count)
        goals.add(f"w8a7, of {count:,} images, now", f"{share:.2%}")


if __name__ == "__main__":
    main()
