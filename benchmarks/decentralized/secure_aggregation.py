"""What secure aggregation costs beside D-PSGD, in time and in bytes: ratios of one run.

    python benchmarks/decentralized/secure_aggregation.py            # about 2 minutes
    python benchmarks/decentralized/secure_aggregation.py --smoke    # tiny sizes

GN-LeNet (89,834 parameters) on a 5-regular graph. "Over sockets" gives every node a block of its
own in a thread, so that each message is really encoded, framed, checked, sent over TCP on this
machine, and decoded; "in memory" is the simulator, where D-PSGD moves and encodes nothing. Every
node makes its own pads: the two ends of a pair never share work. Times are CPU time of all threads
and the kernel, for what else the machine does shall not count.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Goals, fresh, markdown, publish, seconds
from speed import images, job

from hansa.engine import Algorithm, Job
from hansa.engine.exchange.post import SitePost
from hansa.engine.links.links import Links
from hansa.engine.links.ticket import Peer, Ticket
from hansa.engine.runtimes.host import Host
from hansa.engine.runtimes.runtime import split_nodes
from hansa.learn import DPSGD, SecureDPSGD
from hansa.models import GNLeNet

NOTE = """
Times are CPU time a round, all threads and the kernel. Over sockets every message is encoded,
framed, checked, sent over TCP and decoded. In memory D-PSGD encodes and moves nothing, so that its
exchange is a matrix product in the cache; masks cannot be had so cheaply, and without training the
factor is what a simulation pays. Each node makes its own pads; no two ends share work.
"""


class OnlyDPSGD(DPSGD):
    """The exchange without local work."""

    def local(self, block: Any, t: int) -> None:
        """Nothing."""


class OnlySecure(SecureDPSGD):
    """The exchange without local work."""

    def local(self, block: Any, t: int) -> None:
        """Nothing."""


def work(algorithm: Algorithm, nodes: int, rounds: int, degree: int, dynamic: bool) -> Job:
    """A job on random images with this algorithm."""
    made = job(
        images(nodes * 32), GNLeNet(), nodes, 3, 8, rounds=rounds, degree=degree, dynamic=dynamic
    )
    made.algorithm = algorithm
    return made


def in_memory(algorithm: Algorithm, **sizes: Any) -> dict[str, float]:
    """CPU seconds a round, without the first and the last, which is evaluated; and bytes sent."""
    made = work(algorithm, **sizes)
    block = made.block(np.arange(made.nodes))
    ends: list[float] = []
    Host(
        made,
        block,
        made.exchange(),
        lambda _: ends.append(time.process_time()),
        lambda *_: None,
    ).run()
    sent = float(block.state["bytes_sent"].sum())
    return {"seconds": float(np.median(np.diff(ends[:-1]))), "bytes": sent}


def linked(sites: int) -> list[tuple[SitePost, Links]]:
    """Sites of a node each, whose links are up."""
    secret, owner, made = secrets.token_bytes(32), tuple(range(sites)), []
    for site in owner:
        peers = tuple(Peer(other) for other in owner if other != site)
        post = SitePost(site, owner, 60.0, lambda: None)
        ticket = Ticket("benchmark", site, owner, peers, secret=secret)
        links = Links(
            ticket, None, lambda peer, _, parts, to=post: to.arrived(peer, parts), post.wake
        )
        post.connect(links)
        made.append((post, links))
    addresses = [links.start() for _, links in made]
    for site, (_, links) in enumerate(made):
        links.meet(Peer(k, where) for k, where in enumerate(addresses) if k != site)
    return made


def over_sockets(algorithm: Algorithm, **sizes: Any) -> float:
    """CPU seconds a round, likewise, every node in a block of its own."""
    made = work(algorithm, **sizes)
    nodes = made.nodes
    ends: dict[int, list[float]] = {}
    lock = threading.Lock()
    posts = linked(nodes)

    def report(values: dict[str, Any]) -> None:
        with lock:
            ends.setdefault(values["round"], []).append(time.process_time())

    def one(w: int) -> None:
        mine = work(algorithm, **sizes)
        block = mine.block(split_nodes(nodes, nodes)[w])
        Host(mine, block, mine.exchange(posts[w][0]), report, lambda *_: None).run()

    with ThreadPoolExecutor(nodes) as pool:
        for done in [pool.submit(one, w) for w in range(nodes)]:
            done.result()
    for _, links in posts:
        links.close(0.0)
    rounds = sizes["rounds"]
    return (max(ends[rounds - 1]) - max(ends[1])) / (rounds - 2)


def ratio(
    where: str, nodes: int, rounds: int, degree: int, dynamic: bool, train: bool, repeats: int
) -> dict[str, float]:
    """Plain and secure, in turns so that a busy machine hits both: medians of the repeats."""
    sizes = {"nodes": nodes, "rounds": rounds, "degree": degree, "dynamic": dynamic}
    plain, secure = (DPSGD(), SecureDPSGD()) if train else (OnlyDPSGD(), OnlySecure())
    found: dict[str, list[float]] = {"plain": [], "secure": [], "plain_bytes": [], "bytes": []}
    if where == "sockets":
        torch.set_num_threads(1)
    for _ in range(repeats):
        for name, algorithm in (("plain", plain), ("secure", secure)):
            if where == "sockets":
                found[name].append(over_sockets(algorithm, **sizes))
            else:
                got = in_memory(algorithm, **sizes)
                found[name].append(got["seconds"])
                found["bytes" if name == "secure" else "plain_bytes"].append(got["bytes"])
    return {name: float(np.median(values)) for name, values in found.items() if values}


def streams(size: int) -> dict[str, float]:
    """Key stream of 4 x ``size`` bytes: GB/s by cipher."""
    zeros, out = bytes(4 * size), np.empty(4 * size + 16, dtype=np.uint8)
    ciphers = {
        "AES-128-CTR": lambda: Cipher(algorithms.AES(bytes(16)), modes.CTR(bytes(16))),
        "AES-256-CTR": lambda: Cipher(algorithms.AES(bytes(32)), modes.CTR(bytes(16))),
        "ChaCha20": lambda: Cipher(algorithms.ChaCha20(bytes(32), bytes(16)), None),
    }
    return {
        name: 4e-9 * size / seconds(lambda m=make: m().encryptor().update_into(zeros, out), 50)
        for name, make in ciphers.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes")
    smoke = parser.parse_args().smoke
    here = "secure_aggregation"
    goals = Goals()
    few, many = (4, 4) if smoke else (16, 32)
    degree, rounds = (3, 3) if smoke else (5, 10)
    cases = [
        ("besides training, over sockets", "sockets", few, False, False, True),
        ("whole round with 3 steps of batch 8, over sockets", "sockets", few, False, True, True),
        ("whole round with 3 steps of batch 8, in memory", "memory", many, False, True, True),
        ("whole round, in memory, changing graph", "memory", many, True, True, True),
        ("besides training, in memory", "memory", many, False, False, False),
        ("besides training, in memory, changing graph", "memory", many, True, False, False),
    ]  # fmt: skip
    for what, where, nodes, dynamic, train, judged in cases:
        r = fresh(
            "ratio",
            here,
            smoke=smoke,
            where=where,
            nodes=nodes,
            rounds=rounds,
            degree=degree,
            dynamic=dynamic,
            train=train,
            repeats=1 if smoke else 3,
        )
        times = r["secure"] / r["plain"]
        got = f"{r['secure'] * 1e3:.0f} ms / {r['plain'] * 1e3:.0f} ms = {times:.2f}"
        goal = ("≤ 2", times <= 2) if judged else ("", None)
        goals.add(f"{nodes} nodes: secure / D-PSGD, {what}", got, *goal)
        if where == "memory" and train:
            more = r["bytes"] / r["plain_bytes"] - 1
            kind = "changing" if dynamic else "static"
            goals.add(f"bytes beyond D-PSGD's, {kind} graph, {rounds} rounds", f"{more:.4%}")
    speeds = fresh("streams", here, smoke=smoke, size=89_834)
    for name, speed in speeds.items():
        goals.add(f"key stream of 359,336 bytes, {name}", f"{speed:.1f} GB/s")
    text = markdown(
        "Secure aggregation beside D-PSGD: the cost of a round",
        "python benchmarks/decentralized/secure_aggregation.py",
        Goals.HEADER,
        goals.rows,
    )
    text += NOTE
    publish("secure_aggregation", text, smoke)


if __name__ == "__main__":
    main()
