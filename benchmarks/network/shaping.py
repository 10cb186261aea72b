"""Links that are shaped in user space beside the kernel's token bucket, and beside the model.

    python benchmarks/network/shaping.py

Two hosts, each a network namespace (as root on Linux; else both at loopback and without the
kernel's side), and messages from one to the other over hansa's links: bytes a second as ``network:
rate`` lets them pass and as ``tbf`` does, and the round trip of a short message at a delay. Then a
run of 16 processes on shaped links: seconds of a round as the modelled clock says and as they were.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import measure
from measure_namespaces import Lab, lacking, lacking_rates

SECRET = bytes(range(32))  # of these two hosts alone
SECONDS = 5.0
MESSAGE = 1 << 18


def ends(site: int, at: Sequence[str], shape: dict[str, Any], take: Any) -> Any:
    """Links of one of two hosts.

    Args:
        at: their addresses, host and port.
        shape: what ``network`` says of the links between them.
        take: is called with every message.
    """
    from hansa.base.streams import Streams
    from hansa.engine.links.links import Links
    from hansa.engine.links.shaping import Shaping
    from hansa.engine.links.ticket import Peer, Ticket

    toward = Shaping.model_validate(shape).between(Streams(1), site, (0, 1))
    ticket = Ticket("shaped", site, (0, 1), (Peer(1 - site, at[1 - site]),), at[site], SECRET)
    made = Links(ticket, None, take, lambda: None, toward)
    made.start()
    made.meet(ticket.peers)
    return made


def host(site: int, at: Sequence[str], shape: dict[str, Any], count: int, trips: int) -> None:
    """One of two hosts: 0 sends, 1 takes and says when; prints what it measured."""
    came: list[float] = []
    heard = threading.Semaphore(0)
    made: list[Any] = []

    def take(peer: int, kind: int, parts: list[Any]) -> None:
        came.append(time.monotonic())
        size = sum(len(part) for part in parts)
        made[0].grant(peer, size)
        if site and size < 100:
            made[0].send(peer, 0, [b"pong"])
        heard.release()

    made.append(ends(site, at, shape, take))
    links = made[0]
    print("up", flush=True)
    result: dict[str, float] = {}
    if site == 0:
        trip = []
        for _ in range(trips + 1):  # the first makes the connection
            began = time.monotonic()
            links.send(1, 0, [b"ping"])
            heard.acquire()
            trip.append(time.monotonic() - began)
        result["trip"] = statistics.median(trip[1:])
        body = bytes(MESSAGE)
        links.send(1, 0, [b"now" + bytes(100)])
        for _ in range(count):
            links.send(1, 0, [body])
        heard.acquire()  # the other's word that all of it is there
    else:
        for _ in range(trips + 1 + 1 + count):
            heard.acquire()
        result["rate"] = MESSAGE * count / (came[-1] - came[trips + 1])
        links.send(0, 0, [b"done"])
        links.flush(30.0)
        sys.stdin.readline()  # until the other has heard it
    print(json.dumps(result), flush=True)
    links.close()


def pair(rate: float, delay: float, kernel: bool, smoke: bool) -> dict[str, float]:
    """What two hosts measured: ``rate``, bytes a second, and ``trip``, s."""
    count = round((2.0 if smoke else SECONDS) * rate / MESSAGE)
    shape = {"delay": delay} if kernel else {"rate": rate, "delay": delay}
    apart = not lacking()
    with Lab(2 if apart else 0) as lab:
        if kernel:
            lab.limit(0, rate)
        if apart:
            at = [f"{lab.address(k)}:7070" for k in (0, 1)]
        else:
            at = ["127.0.0.1:7070", "127.0.0.1:7071"]
        started = []
        for site in (1, 0):
            told = json.dumps([site, at, shape, count, 3 if smoke else 20])
            words = [sys.executable, str(Path(__file__).resolve()), "--host", told]
            more: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            one = (
                lab.start(site, words, **more)
                if apart
                else subprocess.Popen(words, text=True, **more)
            )
            started.append(one)
        for one in started:
            assert one.stdout is not None
            assert one.stdout.readline() == "up\n"
        taker, sender = started
        said: dict[str, float] = json.loads(sender.communicate(timeout=300)[0].splitlines()[-1])
        said |= json.loads(taker.communicate("over\n", timeout=60)[0].splitlines()[-1])
    return said


def rounds(smoke: bool) -> list[str]:
    """A run on shaped links: seconds of a round, modelled and measured."""
    from hansa.experiment import run

    nodes, count = (4, 3) if smoke else (16, 8)
    chosen = {
        "seed": 3,
        "nodes": nodes,
        "rounds": count,
        "model": {"name": "mlp", "hidden": [32 if smoke else 256]},
        "topology": {"name": "regular", "degree": 2 if smoke else 4},
        "train": {"local_steps": 1, "strategy": "looped"},
        "evaluate": {"every": count, "dense_start": False},
        "checkpoint": {"every": 0},
        "clock": {"name": "modelled"},
        "network": {"delay": 0.1, "rate": 50e3, "burst": 4096, "nodes": {"1": {"delay": 0.3}}},
    }
    import polars

    with tempfile.TemporaryDirectory() as place:
        alone = run({**chosen, "runtime": "simulate"}, Path(place) / "a", report=False)
        apart = run(
            {**chosen, "runtime": {"name": "processes", "workers": nodes}},
            Path(place) / "b",
            report=False,
        )
        modelled = alone.summary["modelled_seconds"] / count
        seconds = apart.metrics().filter(polars.col("name") == "round_seconds").sort("round")
        measured = float(seconds["value"][1:].mean())  # connections are made in the first
    return [f"{nodes}", f"{modelled:.2f} s", f"{measured:.2f} s", f"{measured / modelled:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="short, nothing is kept")
    parser.add_argument("--host", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.host:
        host(*json.loads(chosen.host))
        return
    rows = []
    for rate in (2e6,) if chosen.smoke else (2.5e5, 1e6, 4e6, 1.6e7):
        delay = 0.02
        ours = pair(rate, delay, False, chosen.smoke)
        if lacking_rates():
            cells = ["", lacking_rates()]
        else:
            kernels = pair(rate, delay, True, chosen.smoke)
            cells = [f"{kernels['rate']:,.0f}", f"{ours['rate'] / kernels['rate']:.3f}"]
        rows.append([f"{rate:,.0f}", f"{ours['rate']:,.0f}", *cells,
                     f"{1000 * ours['trip']:.1f} ms of {2000 * delay:.0f}"])  # fmt: skip
    header = ["bytes a second asked for", "user space", "tbf", "ratio", "round trip"]
    command = " ".join(["python benchmarks/network/shaping.py", *sys.argv[1:]])
    table = measure.markdown("", command, header, rows).partition("\n\n")[2]
    header = ["nodes", "modelled round", "measured round", "ratio"]
    table += "\n| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|\n"
    table += "| " + " | ".join(rounds(chosen.smoke)) + " |\n"
    measure.section("networks", "Shaped links", table, chosen.smoke)


if __name__ == "__main__":
    main()
