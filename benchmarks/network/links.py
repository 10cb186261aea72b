"""What links cost: CPU time of both ends a GiB, the latency of a small message, constant memory.

    python benchmarks/network/links.py [--messages 1000000]

CPU time is that of both ends together, in one process on one loopback connection, for messages of
the size of a model of 90,000 numbers, with and without encryption, beside two bare sockets and
beside pyzmq (DEALER to ROUTER, as hansa had before) if it is installed. Turns are taken, and of
each the least counts. Latency is there and back of 64 bytes. Memory is the process's resident set
(both ends) after 10 %, 50 % and all of the small messages.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import socket
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil

from hansa.engine.links.keys import Key
from hansa.engine.links.limits import LinkSettings
from hansa.engine.links.links import DATA, Links
from hansa.engine.links.ticket import Peer, Ticket

SIZE = 360_000
PIECES = 1 << 30
HAS_ZMQ = importlib.util.find_spec("zmq") is not None


class Ends:
    """Two sites in this process. ``kind``: ``secret`` or ``keys``."""

    def __init__(self, kind: str) -> None:
        keys = [Key.generate(str(k)) if kind == "keys" else None for k in range(2)]
        self.came = [threading.Semaphore(0), threading.Semaphore(0)]
        self.echo = False
        self.links: list[Links] = []
        for site in range(2):
            other = keys[1 - site]
            peer = Peer(1 - site, key=other.fingerprint if other is not None else "")
            secret = b"" if kind == "keys" else bytes(32)
            ticket = Ticket("bench", site, (0, 1), (peer,), secret=secret, key=keys[site])
            self.links.append(Links(ticket, LinkSettings(), self._take(site), lambda: None))
        addresses = [links.start() for links in self.links]
        self.links[0].meet([Peer(1, addresses[1])])
        while not self.links[0].state(1).connected:
            time.sleep(0.01)

    def _take(self, site: int) -> Callable[[int, int, list[Any]], None]:
        def take(peer: int, kind: int, parts: list[Any]) -> None:
            self.links[site].grant(peer, sum(len(part) for part in parts))
            self.came[site].release()
            if site == 1 and self.echo:
                self.links[1].send(0, DATA, parts)

        return take

    def move(self, parts: list[bytes], messages: int) -> None:
        """Send so many messages, never more than 32 MB ahead of the other end."""
        most = min(max((32 << 20) // sum(map(len, parts)), 1), 1000)
        for k in range(messages):
            self.links[0].send(1, DATA, parts)
            if k >= most:
                self.came[1].acquire()
        for _ in range(min(most, messages)):
            self.came[1].acquire()

    def close(self) -> None:
        for links in self.links:
            links.close()


def bare(parts: list[bytes], messages: int) -> None:
    """The same bytes through two sockets."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    total = messages * sum(map(len, parts))

    def drain() -> None:
        left = total
        while left:
            left -= len(other.recv(1 << 18))

    thread = threading.Thread(target=drain)
    thread.start()
    for _ in range(messages):
        for part in parts:
            one.sendall(part)
    thread.join()
    one.close()
    other.close()


def by_zmq(parts: list[bytes], messages: int) -> None:
    """The same messages through pyzmq."""
    import zmq

    with zmq.Context() as context, context.socket(zmq.ROUTER) as ear:
        port = ear.bind_to_random_port("tcp://127.0.0.1")
        with context.socket(zmq.DEALER) as mouth:
            mouth.connect(f"tcp://127.0.0.1:{port}")

            def drain() -> None:
                for _ in range(messages):
                    ear.recv_multipart()

            thread = threading.Thread(target=drain)
            thread.start()
            most = min(max((32 << 20) // sum(map(len, parts)), 1), 1000)
            mouth.set_hwm(most)
            for _ in range(messages):
                mouth.send_multipart(parts)
            thread.join()


def cpu(work: Callable[[], None]) -> float:
    """Seconds of CPU that this process takes for it."""
    before = time.process_time()
    work()
    return time.process_time() - before


def throughput(turns: int) -> None:
    parts, messages = [bytes(64), os.urandom(SIZE)], PIECES // 4 // SIZE
    ends = {kind: Ends(kind) for kind in ("secret", "keys")}
    ways: dict[str, Callable[[], None]] = {
        "sockets": lambda: bare(parts, messages),
        "links, secret": lambda: ends["secret"].move(parts, messages),
        "links, keys": lambda: ends["keys"].move(parts, messages),
    }
    if HAS_ZMQ:
        ways["pyzmq"] = lambda: by_zmq(parts, messages)
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, way in ways.items():
            took[name].append(cpu(way))
    print(f"CPU s/GiB, messages of {SIZE} bytes, least of {turns} turns")
    scale = PIECES / (messages * SIZE)
    for name, seconds in took.items():
        print(f"  {name:15} {min(seconds) * scale:.2f}")
    print(f"  keys / secret   {min(took['links, keys']) / min(took['links, secret']):.2f}")
    for each in ends.values():
        each.close()


def latency(times: int) -> None:
    print(f"there and back of 64 bytes, microseconds, median of {times}")
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()

    def answer() -> None:
        while data := other.recv(64):
            other.sendall(data)

    threading.Thread(target=answer, daemon=True).start()
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ping() -> None:
        one.sendall(bytes(64))
        one.recv(64)

    print(f"  sockets         {median(ping, times):.0f}")
    one.close()
    if HAS_ZMQ:
        by_zmq_and_back(times)
    for kind in ("secret", "keys"):
        ends = Ends(kind)
        ends.echo = True

        def there(ends: Ends = ends) -> None:
            ends.links[0].send(1, DATA, [bytes(64)])
            ends.came[0].acquire()

        print(f"  links, {kind:8} {median(there, times):.0f}")
        ends.close()


def by_zmq_and_back(times: int) -> None:
    import zmq

    with zmq.Context() as context, context.socket(zmq.ROUTER) as ear:
        port = ear.bind_to_random_port("tcp://127.0.0.1")
        with context.socket(zmq.DEALER) as mouth:
            mouth.connect(f"tcp://127.0.0.1:{port}")

            def answer() -> None:
                for _ in range(times):
                    ear.send_multipart(ear.recv_multipart())

            thread = threading.Thread(target=answer)
            thread.start()

            def there() -> None:
                mouth.send_multipart([bytes(64)])
                mouth.recv_multipart()

            print(f"  pyzmq           {median(there, times):.0f}")
            thread.join()


def median(work: Callable[[], None], times: int) -> float:
    took = []
    for _ in range(times):
        before = time.perf_counter()
        work()
        took.append(time.perf_counter() - before)
    return statistics.median(took) * 1e6


def memory(messages: int) -> None:
    ends, process = Ends("secret"), psutil.Process()
    parts = [bytes(64), bytes(200)]
    print(f"{messages} messages of 264 bytes: resident set of both ends, MB")
    done, began = 0, time.process_time()
    for share in (0.1, 0.5, 1.0):
        ends.move(parts, int(messages * share) - done)
        done = int(messages * share)
        print(f"  {share:4.0%}  {process.memory_info().rss / 1e6:.1f}")
    each = (time.process_time() - began) / messages * 1e6
    wire = ends.links[0].overhead.sent
    print(
        f"  CPU a message {each:.1f} microseconds, bytes beside its own {wire.overhead / done:.1f}"
    )
    ends.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--times", type=int, default=2000)
    chosen = parser.parse_args()
    throughput(chosen.turns)
    latency(chosen.times)
    if chosen.messages:
        memory(chosen.messages)


if __name__ == "__main__":
    main()
