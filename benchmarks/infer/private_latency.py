"""Latency of private inference: from bytes and rounds, and measured over shaped loopback.

A server (``hansa infer private serve``, a child) and a client speak TLS through a line of a given
rate and round trip. Predicted is what the same query takes over bare loopback, and bytes over the
rate, and a round trip a request. Weights are random, which changes neither bytes nor times.

    python benchmarks/infer/private_latency.py [--smoke]
"""

from __future__ import annotations

import argparse
import statistics
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

POINTS = ((1.0, 100.0), (10.0, 20.0), (100.0, 5.0))
"""Million bytes a second, and milliseconds there and back."""
RATES, TRIPS = (0.1, 1.0, 10.0, 100.0, 300.0), (1.0, 10.0, 100.0)
WITHIN = 0.2


@dataclass
class Asked:
    """A query's median wall time, bytes in both directions, and requests."""

    seconds: float
    up: int
    down: int
    requests: int

    def predicted(self, rate: float, trip: float) -> float:
        """Over a line, in seconds."""
        return predicted_s(self.seconds, self.up, self.down, self.requests, rate, trip)


def ask(client: PrivateClient, program: Program, rows: np.ndarray, least: int) -> Asked:
    """Query after query, until there are enough for a median."""
    wanted = evaluate(program, read_rows(program, rows))
    times = []
    for k in range(least):
        before = client.traffic.bytes_up, client.traffic.bytes_down
        began = time.perf_counter()
        made = client.ask(rows[[k]])
        times.append(time.perf_counter() - began)
        assert np.array_equal(made.logits, wanted[[k]])
    traffic = client.traffic
    up, down = traffic.bytes_up - before[0], traffic.bytes_down - before[1]
    return Asked(statistics.median(times), up, down, made.requests)


def over(
    nearby: Nearby, program: Program, rows: np.ndarray, least: int, point: tuple[float, float]
) -> float:
    """Median seconds of a query over a shaped line."""
    with (
        shaped(nearby.address, *point) as address,
        asking(address, nearby.pin, client_side) as client,
    ):
        client.open()
        return ask(client, program, rows, least).seconds


def main(smoke: bool) -> None:
    programs = {"MLP": made_programs.mlp()}
    if not smoke:
        programs |= {"LeNet-5": made_programs.lenet(), "ResNet-20": made_programs.resnet(3)}
    goals, grid = Goals(), []
    for name, program in programs.items():
        least = 2 if smoke else 3
        draw = np.random.default_rng(0)
        rows = draw.uniform(0, 127, (least, *program.input_shape))
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            path = write_program(folder / "program", program)
            places = ["--keys", str(keys_in(folder / "keys")), "--state", str(folder / "state")]
            with serve_in_child([str(path), "--at", "127.0.0.1:0", *places]) as nearby:
                points = POINTS[2:] if smoke else POINTS
                for point in points:
                    # The machine is busy now and then: what is predicted from is taken beside.
                    with asking(nearby.address, nearby.pin, client_side) as client:
                        client.ask(rows[:1])
                        bare = ask(client, program, rows, least)
                    seconds = over(nearby, program, rows, least, point)
                    guess = bare.predicted(*point)
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
