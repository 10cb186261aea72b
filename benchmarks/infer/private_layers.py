"""Random layers on ciphertexts against the integer reference, and what networks cost.

Convolutions of any stride (also different by axis), padding (also one-sided), dilation and groups,
matrices, and sums of several terms; each is asked through both sides of a session and compared
number by number. Times are of one thread's CPU, the least of several queries.

    python benchmarks/infer/private_layers.py
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "infer" / "private"))

import made_programs
from measure import markdown, peak_bytes, publish

from hansa.base.errors import ConfigError
from hansa.infer.private.integer_net import evaluate
from hansa.infer.private.program import Program
from hansa.infer.private.rlwe import noise
from hansa.infer.private.rlwe.profiles import profile
from hansa.infer.private.sessions.client import ClientSession
from hansa.infer.private.sessions.model import ServerModel, layers_of
from hansa.infer.private.sessions.scheme import Scheme
from hansa.infer.private.sessions.server import ServerSession


class Pair:
    """Both sides of one session, flooded to the ceiling, with what they cost."""

    def __init__(self, program: Program, threads: int = 1, **settings: Any) -> None:
        bare = Scheme(plain_bits=program.accumulator_bits, **settings)
        layers = layers_of(program, bare)
        blocks = [block for one in program.rounds for block in one.blocks]
        norm = max(map(layers.norm, blocks))
        self.program, self.scheme = program, bare.at_ceiling(norm)
        self.distance = noise.statistical_distance_log2(
            profile(self.scheme.profile), norm, self.scheme.flooding_bits
        )
        began = time.process_time()
        model = ServerModel(program, self.scheme, threads)
        self.server = ServerSession(model, os.urandom(32), os.urandom(32))
        mask = self.server._mask_seed
        self.client = ClientSession(model.outline, self.scheme, mask, os.urandom(32), threads)
        for request in self.client.open():
            self.server.answer(-1, 0, request)
            break
        self.prepared = time.process_time() - began
        self.query, self.draw = 0, np.random.default_rng(0)

    def ask(self, rows: int = 1) -> dict[str, Any]:
        """One query of random rows: mismatches, CPU-seconds of both sides, bytes."""
        value = self.program.input
        numbers = self.draw.integers(value.low, value.high + 1, (rows, *value.shape))
        wanted = evaluate(self.program, numbers)
        talk = self.client.ask(self.query, numbers.reshape(rows, *self.program.input_shape))
        times, sent = {"server": 0.0, "client": 0.0, "wall": 0.0}, {"up": 0, "down": 0}
        wall, began, step = time.perf_counter(), time.process_time(), 0
        request = next(talk)
        while True:
            times["client"] += time.process_time() - began
            began = time.process_time()
            reply = self.server.answer(self.query, step, request)
            times["server"] += time.process_time() - began
            sent["up"] += len(request)
            sent["down"] += len(reply)
            began, step = time.process_time(), step + 1
            try:
                request = talk.send(reply)
            except StopIteration as end:
                times["client"] += time.process_time() - began
                times["wall"] = time.perf_counter() - wall
                self.query += 1
                wrong = int((end.value.logits != wanted).sum())
                return {"wrong": wrong, "numbers": wanted.size, "rounds": step, **times, **sent}


def layers(count: int, **settings: Any) -> tuple[int, int, int]:
    """(numbers compared, mismatches, layers that were refused by name) of random layers."""
    draw = np.random.default_rng(0)
    numbers = wrong = refused = 0
    for _ in range(count):
        program = made_programs.one_layer(draw)
        try:
            done = Pair(program, hides="none", **settings).ask()
        except ConfigError:
            refused += 1
            continue
        numbers, wrong = numbers + done["numbers"], wrong + done["wrong"]
    return numbers, wrong, refused


def main() -> None:
    """The tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true")
    smoke = parser.parse_args().smoke
    mlp = made_programs.mlp((40, 16, 4) if smoke else (784, 128, 128, 10))
    lenet = made_programs.lenet(12 if smoke else 28)
    resnet = made_programs.resnet(1, side=8, width=4) if smoke else made_programs.resnet(3)
    networks = {
        "MLP 784-128-128-10": (mlp, {}, 1),
        "LeNet-5": (lenet, {}, 1),
        "ResNet-20": (resnet, {}, 1),
        "MLP, rows": (mlp, {"packing": "rows", "hides": "element"}, 1),
        "LeNet-5, rows": (lenet, {"packing": "rows", "hides": "element"}, 1),
        "MLP, batch": (mlp, {"packing": "batch"}, 2 if smoke else 2048),
    }
    table = []
    for name, (program, settings, many) in networks.items():
        for threads in (1,) if smoke else (1, 2):
            pair = Pair(program, threads, **settings)
            runs = [pair.ask(many) for _ in range(1 if smoke else 4)]
            best = {key: min(one[key] for one in runs) for key in runs[0]}
            first = runs[0]["server"]
            table.append([
                name, str(threads), str(many), f"{sum(one['wrong'] for one in runs)}",
                f"{best['server']:.3f}", f"{best['client']:.3f}", f"{best['wall']:.3f}",
                f"{first:.3f}", f"{best['up'] / 1e6:.2f}", f"{best['down'] / 1e6:.2f}",
                str(best["rounds"]), str(pair.scheme.plain_bits), str(pair.scheme.flooding_bits),
                f"{pair.distance:.0f}",
                f"{peak_bytes() / 1e6:.0f}",
            ])  # fmt: skip
    rows = []
    for packing, count in (("channel", 1000), ("batch", 200), ("rows", 200)):
        count = 3 if smoke else count
        numbers, wrong, refused = layers(count, packing=packing)
        rows.append([packing, f"{count:,}", f"{numbers:,}", f"{wrong}", f"{refused}"])
    command = "python benchmarks/infer/private_layers.py"
    head = ["packing", "random layers", "numbers compared", "mismatches", "refused"]
    text = markdown("Random layers on ciphertexts", command, head, rows)
    head = ["network", "threads", "rows", "wrong logits", "server CPU-s", "client CPU-s",
            "wall s (shared machine)", "server's first query", "MB up", "MB down", "rounds",
            "plain bits", "flooding bits", "distance", "peak MB so far"]  # fmt: skip
    text += "\nRandom weights, N = 4096, channels (rows: single numbers) shuffled, flooded to the "
    text += (
        "ceiling; distance: log2 of how far one coefficient's error is from telling nothing of an "
    )
    text += "honest query. The least of four queries; the first also prepares the session's "
    text += "weights.\n\n"
    text += "| " + " | ".join(head) + " |\n|" + "---|" * len(head) + "\n"
    text += "\n".join("| " + " | ".join(row) + " |" for row in table) + "\n"
    publish("private_layers", text, smoke)


if __name__ == "__main__":
    main()
