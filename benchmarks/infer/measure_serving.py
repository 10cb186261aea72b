"""What the benchmark of serving is made of: members in processes of their own, and load."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from measure_member import CLASSES

from hansa.infer.serving.http_client import MemberClient, Unreachable
from hansa.infer.serving.http_reader import BadResponse

QUESTION = "/v2/models/hansa/infer"


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        taken = [
            stack.enter_context(contextlib.closing(socket.create_server(("127.0.0.1", 0))))
            for _ in range(count)
        ]
        return [one.getsockname()[1] for one in taken]


@dataclass
class Fleet:
    """Members in processes, by port.

    Attributes:
        kinds: of each member; ``dead`` is never started.
        together: all in one process.
    """

    kinds: list[str]
    delays_ms: list[float]
    together: bool = False
    ports: list[int] = field(default_factory=list)
    processes: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ports = free_ports(len(self.kinds))

    def start(self, k: int) -> None:
        """Start one, or with ``together`` all in the first one's process."""
        if self.kinds[k] == "dead" or (self.together and k):
            return
        some = slice(None) if self.together else slice(k, k + 1)
        each = (self.kinds[some], self.delays_ms[some], self.ports[some])
        member = Path(__file__).with_name("measure_member.py")
        command = [sys.executable, str(member), *map(json.dumps, each)]
        self.processes[k] = subprocess.Popen(command)

    def kill(self, k: int) -> None:
        """As by a power cut."""
        process = self.processes.pop(k, None)
        if process is not None:
            process.kill()
            process.wait()


@contextlib.contextmanager
def served(fleet: Fleet, folder: Path, quorum: int, **changes: Any) -> Iterator[int]:
    """``hansa infer serve`` over a fleet, ready: its port."""
    for k in range(len(fleet.kinds)):
        fleet.start(k)
    settings = {
        "verb": "serve", "classes": [str(k) for k in range(CLASSES)], "f": 1,
        "endpoints": [{"url": f"http://127.0.0.1:{port}"} for port in fleet.ports],
        "deadline_ms": 2000, "member_deadline_ms": 1000, "quorum": quorum,
        "breaker": {"failures": 3, "wait_ms": 500}, **changes,
    }  # fmt: skip
    file, (port,) = folder / "serve.yaml", free_ports(1)
    file.write_text(yaml.safe_dump(settings))
    words = ["-m", "hansa.cli", "infer", "serve", str(file), "--port", str(port)]
    aggregate = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE)
    try:
        assert aggregate.stdout is not None
        assert aggregate.stdout.readline(), "it does not start"
        asyncio.run(_ready(port, fleet))
        yield port
        aggregate.send_signal(signal.SIGTERM)
        assert aggregate.wait(60) == 0
    finally:
        aggregate.kill()
        aggregate.communicate()
        for k in list(fleet.processes):
            fleet.kill(k)


async def _ready(port: int, fleet: Fleet) -> None:
    """Wait for every member that was started, then for the aggregate."""
    for one in [fleet.ports[k] for k in fleet.processes] + [port]:
        client = MemberClient(f"http://127.0.0.1:{one}")
        for _ in range(1200):
            try:
                if (await client.call("GET", "/v2/health/ready", left_s=5)).status == 200:
                    break
            except (Unreachable, TimeoutError, BadResponse):
                pass
            await asyncio.sleep(0.1)
        else:
            raise AssertionError(f"port {one} does not get ready")
        await client.close()


@dataclass(frozen=True)
class Heard:
    """What came of one question."""

    status: int
    right: bool
    certified: bool
    early: bool
    seconds: float
    slowest_s: float
    """Of the members whose rows are in the answer, as the aggregate saw them."""


async def ask(client: MemberClient, number: int) -> Heard:
    """One question, whose true class is known."""
    label = number % CLASSES
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [label, number]}
    body = json.dumps({"id": str(number), "inputs": [tensor]}).encode()
    began = time.perf_counter()
    try:
        response = await client.call("POST", QUESTION, body, left_s=10)
    except (Unreachable, TimeoutError, BadResponse):
        return Heard(0, False, False, False, time.perf_counter() - began, 0.0)
    spent = time.perf_counter() - began
    if response.status != 200:
        return Heard(response.status, False, False, False, spent, 0.0)
    said = json.loads(response.body)
    data = {tensor["name"]: tensor["data"][0] for tensor in said["outputs"]}
    parameters = said["parameters"]
    times = [
        parameters[f"{name}.ms"]
        for name, status in parameters.items()
        if name.startswith("member.") and status == "ok"
    ]
    right = said["id"] == str(number) and data["class"] == str(label)
    slowest = max(times, default=0) / 1000
    return Heard(200, right, data["certified"], parameters["early"], spent, slowest)


async def at_a_rate(port: int, questions: int, rate: float) -> list[Heard]:
    """Questions at a rate, whether or not the ones before are answered."""
    client = MemberClient(f"http://127.0.0.1:{port}")
    began, tasks = time.perf_counter(), []
    for number in range(questions):
        await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
        tasks.append(asyncio.ensure_future(ask(client, number)))
    heard = await asyncio.gather(*tasks)
    await client.close()
    return list(heard)


async def one_by_one(port: int, questions: int) -> list[Heard]:
    """Each question once the one before is answered."""
    client = MemberClient(f"http://127.0.0.1:{port}")
    heard = [await ask(client, number) for number in range(questions)]
    await client.close()
    return heard


async def alone(port: int, questions: int) -> list[float]:
    """Seconds that a member takes when it is asked directly."""
    client, times = MemberClient(f"http://127.0.0.1:{port}"), []
    for number in range(questions):
        tensor = {"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [0, number]}
        body = json.dumps({"inputs": [tensor]}).encode()
        began = time.perf_counter()
        await client.call("POST", "/v2/models/member/infer", body, left_s=10)
        times.append(time.perf_counter() - began)
    await client.close()
    return times


async def with_killing(
    fleet: Fleet, port: int, seconds: float, rate: float, seed: int = 1
) -> tuple[list[Heard], int]:
    """Load while honest members are killed and started again, two down at most; how many were."""
    random, kills = np.random.default_rng(seed), 0
    honest = [k for k, kind in enumerate(fleet.kinds) if kind == "honest"]
    load = asyncio.ensure_future(at_a_rate(port, int(seconds * rate), rate))
    down: list[int] = []
    while not load.done():
        await asyncio.sleep(random.uniform(0.4, 0.8))
        if len(down) == 2:
            fleet.start(down.pop(0))
        else:
            k = int(random.choice([one for one in honest if one not in down]))
            await asyncio.to_thread(fleet.kill, k)
            down.append(k)
            kills += 1
    return await load, kills
