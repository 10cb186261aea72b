"""What channels cost: CPU time of both ends a GiB, in one run, over one loopback connection.

    python benchmarks/network/channel.py

The socket alone, frames that are only measured out, a run's secret (readable frames with a tag),
keys (frames sealed by AES-GCM), and TLS's own records through pyOpenSSL, at frames of the size of a
model of 90,000 numbers and of 256 KiB. Turns are taken, and of each way the quickest counts: what
else the machine does adds to all.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from OpenSSL import SSL

sys.path.insert(0, str(Path(__file__).parents[1]))
import contextlib

import measure

from hansa.engine.links.channel import Channel
from hansa.engine.links.framing import Reassembly, Sort, header
from hansa.engine.links.keys import Key
from hansa.engine.links.secret import SecretChannel
from hansa.engine.links.tls import TlsChannel, Verification, _connection

HEAD = bytes(64)
READ = 1 << 18
SIZES = {"360 kB (90,000 numbers)": 360_000, "256 KiB": (1 << 18) - len(HEAD)}

Pieces = Callable[[bytes], list[bytes | bytearray | memoryview]]
"""What is written for one message."""
Taken = Callable[[bytes], int]
"""Bytes of messages in what was read."""
Way = Callable[[], tuple[Pieces, Taken]]


def alone() -> tuple[Pieces, Taken]:
    return lambda message: [HEAD, message], len


def framed() -> tuple[Pieces, Taken]:
    frames = Reassembly()

    def taken(data: bytes) -> int:
        return sum(len(b) for _, b in frames.frames(memoryview(data), lambda sort, length: None))

    return lambda message: [header(Sort.FRAME, 64 + len(message)), HEAD, message], taken


def between(dialler: Channel, listener: Channel) -> tuple[Pieces, Taken]:
    while not dialler.ready:
        listener.receive(dialler.outgoing())
        dialler.receive(listener.outgoing())

    def taken(data: bytes) -> int:
        return sum(len(frame) for frame in listener.receive(data))

    return lambda message: dialler.seal(HEAD, message), taken


def secret() -> tuple[Pieces, Taken]:
    word = os.urandom(32)
    return between(SecretChannel(word, "run", True), SecretChannel(word, "run", False))


def keys() -> tuple[Pieces, Taken]:
    one, two = Key.generate("one"), Key.generate("two")
    return between(
        TlsChannel(one, {two.fingerprint}, True), TlsChannel(two, {one.fingerprint}, False)
    )


def records() -> tuple[Pieces, Taken]:
    """TLS 1.3 as pyOpenSSL writes it: records of 16 KiB at most, one call each to read them."""
    dialler, listener = (
        _connection(Key.generate("end"), dials, Verification((), one=False))
        for dials in (True, False)
    )
    for end in (dialler, listener):
        end.set_verify(SSL.VERIFY_NONE, lambda *_: True)
    for _ in range(3):
        for speaks, hears in ((dialler, listener), (listener, dialler)):
            with contextlib.suppress(SSL.WantReadError):
                speaks.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                hears.bio_write(speaks.bio_read(1 << 16))

    def pieces(message: bytes) -> Iterator[bytes]:
        whole = HEAD + message
        view, sent = memoryview(whole), 0
        while sent < len(view):
            sent += dialler.send(view[sent : sent + (1 << 14)])
        while True:
            try:
                yield dialler.bio_read(1 << 18)
            except SSL.WantReadError:
                return

    def taken(data: bytes) -> int:
        listener.bio_write(data)
        total = 0
        while True:
            try:
                total += len(listener.recv(1 << 14))
            except SSL.WantReadError:
                return total

    return lambda message: list(pieces(message)), taken


WAYS: dict[str, Way] = {
    "socket alone": alone,
    "frames, nothing proven": framed,
    "secret: readable, a tag each": secret,
    "keys: sealed by AES-GCM": keys,
    "TLS records through pyOpenSSL": records,
}


def cost(way: Way, size: int, total: int) -> float:
    """CPU seconds a GiB, of both ends and of the system on their behalf."""
    pieces, taken = way()
    message = os.urandom(size)
    count = max(2, total // size)
    wanted, got = count * (size + len(HEAD)), 0
    with socket.create_server(("127.0.0.1", 0)) as door:
        there = socket.create_connection(door.getsockname())
        here, _ = door.accept()

    def send() -> None:
        for _ in range(count):
            for piece in pieces(message):
                there.sendall(piece)

    with there, here:
        began = time.process_time()
        thread = threading.Thread(target=send)
        thread.start()
        while got < wanted:
            got += taken(here.recv(READ))
        thread.join()
        spent = time.process_time() - began
    return spent / wanted * (1 << 30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="the smallest size, not to be judged")
    smoke = parser.parse_args().smoke
    total, turns = (1 << 20, 1) if smoke else (1 << 28, 9)
    rows = []
    for name, size in SIZES.items():
        spent: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(turns):
            for way, begin in WAYS.items():
                spent[way].append(cost(begin, size, total))
        least = {way: min(times) for way, times in spent.items()}
        plain = least["secret: readable, a tag each"]
        rows += [[name, w, f"{t:.2f}", f"{t / plain:.2f}"] for w, t in least.items()]
    text = measure.markdown(
        "What channels cost",
        "python benchmarks/network/channel.py",
        ["frames of", "way", "CPU s a GiB, both ends", "to secret"],
        rows,
    )
    measure.publish("network_channel", text, smoke)


if __name__ == "__main__":
    main()
