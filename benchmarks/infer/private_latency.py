"""Latency of private inference: from bytes and rounds, and measured over shaped loopback.

A server (``hansa infer private serve``, a child) and a client speak TLS through a line of a given
rate and round trip. Predicted is what the same query takes over bare loopback, and bytes over the
rate, and a round trip a request; each is the least of seven queries. Weights are random, which
changes neither bytes nor times. Where other work loads the machine, computing dominates the fast
line and is taken at another moment than what it is held against.

    python benchmarks/infer/private_latency.py [--smoke]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "infer" / "private"))
import made_programs  # noqa: E402
from measure import Goals, markdown, publish  # noqa: E402

from hansa.infer.private.compiling.program_file import write_program  # noqa: E402
from hansa.infer.private.integer_net import evaluate, read_rows  # noqa: E402
from hansa.infer.private.program import Program  # noqa: E402
from hansa.infer.private.protocol.loopback import Nearby, keys_in, serve_in_child  # noqa: E402
from hansa.infer.private.protocol.model_service import client_side  # noqa: E402
from hansa.infer.private.protocol.private_client import PrivateClient, asking  # noqa: E402
from hansa.infer.private.protocol.shaping import predicted_s, shaped  # noqa: E402

POINTS = ((1.25, 50.0), (10.0, 20.0), (100.0, 5.0))
"""Million bytes a second, and milliseconds there and back."""
RATES, TRIPS = (0.1, 1.0, 10.0, 100.0, 300.0), (1.0, 10.0, 100.0)
WITHIN = 0.2


@dataclass
class Asked:
    """The least wall time of several queries, bytes in both directions, and requests."""

    seconds: float
    up: int
    down: int
    requests: int

    def predicted(self, rate: float, trip: float) -> float:
        """Over a line, in seconds."""
        return predicted_s(self.seconds, self.up, self.down, self.requests, rate, trip)


class Timed:
    """A client whose queries are timed and held against the integers."""

    def __init__(self, client: PrivateClient, program: Program) -> None:
        self.client, self.program = client, program
        self.times: list[float] = []
        client.open()

    def ask(self, row: np.ndarray) -> Asked:
        """One more query, and the least time of all so far."""
        traffic = self.client.traffic
        before = traffic.bytes_up, traffic.bytes_down
        began = time.perf_counter()
        made = self.client.ask(row)
        self.times.append(time.perf_counter() - began)
        assert np.array_equal(made.logits, evaluate(self.program, read_rows(self.program, row)))
        up, down = traffic.bytes_up - before[0], traffic.bytes_down - before[1]
        return Asked(min(self.times), up, down, made.requests)


def beside(
    nearby: Nearby, program: Program, rows: np.ndarray, point: tuple[float, float]
) -> tuple[Asked, Asked]:
    """Queries over bare loopback and over a shaped line in turns: the machine is busy at times."""
    with (
        shaped(nearby.address, *point) as address,
        asking(nearby.address, nearby.pin, client_side) as bare,
        asking(address, nearby.pin, client_side) as slow,
    ):
        pair = Timed(bare, program), Timed(slow, program)
        pair[0].client.ask(rows[:1])
        for k in range(len(rows)):
            asked = [one.ask(rows[[k]]) for one in pair]
    return asked[0], asked[1]


def main(smoke: bool) -> None:
    programs = {"MLP": made_programs.mlp()}
    if not smoke:
        programs |= {"LeNet-5": made_programs.lenet(), "ResNet-20": made_programs.resnet(3)}
    goals, grid = Goals(), []
    for name, program in programs.items():
        count = 2 if smoke else 7
        draw = np.random.default_rng(0)
        rows = draw.uniform(0, 127, (count, *program.input_shape))
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            path = write_program(folder / "program", program)
            places = ["--keys", str(keys_in(folder / "keys")), "--state", str(folder / "state")]
            with serve_in_child([str(path), "--at", "127.0.0.1:0", *places]) as nearby:
                points = POINTS[2:] if smoke else POINTS
                for point in points:
                    bare, slow = beside(nearby, program, rows, point)
                    seconds, guess = slow.seconds, bare.predicted(*point)
                    off = seconds / guess - 1
                    goals.add(
                        f"{name} at {point[0]:g} MB/s and {point[1]:g} ms",
                        f"{seconds:.3f} s, predicted {guess:.3f} ({off:+.0%})",
                        "within 20 %",
                        abs(off) <= WITHIN,
                    )
                size = f"{bare.up / 1e6:.2f} + {bare.down / 1e6:.2f} MB, {bare.requests} requests"
                goals.add(f"{name} over bare loopback", f"{bare.seconds:.3f} s; {size}")
                for rate in RATES:
                    times = [f"{bare.predicted(rate, trip):.2f}" for trip in TRIPS]
                    grid.append([f"{name}, {rate:g} MB/s", *times])
    goals.add("load of the machine, of its last five minutes", f"{os.getloadavg()[1]:.1f}")
    text = markdown(
        "Latency of private inference",
        "python benchmarks/infer/private_latency.py",
        Goals.HEADER,
        goals.rows,
    )
    heads = ["predicted seconds a query", *(f"{trip:g} ms" for trip in TRIPS)]
    lines = ["| " + " | ".join(line) + " |" for line in (heads, ["---"] * len(heads), *grid)]
    publish("private_latency", f"{text}\n" + "\n".join(lines) + "\n", smoke)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--smoke", action="store_true")
    main(parser.parse_args().smoke)
