"""Mutated frames: none may crash a reader, be taken for another frame, or cost memory.

A hundred thousand go through the readers, and some thousands to a server over TLS, beside lines
that announce bodies of 4 GiB and lines that begin a frame and stop. An honest client is served
before and after.

    python benchmarks/infer/private_frames.py [--smoke]
"""

from __future__ import annotations

import argparse
import random
import socket
import ssl
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from measure import Goals, markdown, peak_bytes, publish  # noqa: E402

from hansa.base.errors import WireError  # noqa: E402
from hansa.infer.private.compiling.certificate import choose_scheme  # noqa: E402
from hansa.infer.private.program import (  # noqa: E402  # noqa: E402
    LOGITS,
    Activation,
    Block,
    Program,
    Round,
    Term,
    Value,
    bounds,
)
from hansa.infer.private.protocol.codes import Refusal  # noqa: E402
from hansa.infer.private.protocol.desk import Desk  # noqa: E402
from hansa.infer.private.protocol.frames import (  # noqa: E402
    HEADER_BYTES,
    LARGEST_FACTS,
    Frame,
    Kind,
    decode,
    pack_facts,
    unpack_facts,
)
from hansa.infer.private.protocol.loopback import Nearby, serve_in_thread  # noqa: E402
from hansa.infer.private.protocol.model_service import ModelService, client_side  # noqa: E402
from hansa.infer.private.protocol.pins import make_identity  # noqa: E402
from hansa.infer.private.protocol.private_client import asking  # noqa: E402
from hansa.infer.private.protocol.private_server import Patience, PrivateServer  # noqa: E402

LIMIT = 1 << 16


def mutated(raw: bytes, draw: random.Random) -> bytes:
    """Bits turned, bytes changed, pieces cut out, doubled or added."""
    data = bytearray(raw)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data) + 1)
        kind = draw.randrange(5)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << draw.randrange(8)
        elif kind == 1 and data:
            data[at % len(data)] = draw.randrange(256)
        elif kind == 2:
            del data[at : at + draw.randint(1, 8)]
        elif kind == 3:
            data[at:at] = data[at : at + draw.randint(1, 64)]
        else:
            data[at:at] = draw.randbytes(draw.randint(1, 16))
    return bytes(data)


def through_the_readers(count: int, draw: random.Random) -> Counter[str]:
    """What comes of mutated frames and facts; anything but a refusal of ours raises."""
    facts = pack_facts({"outline": b"x" * 64, "code": "busy", "text": "later", "queries_left": 7})
    frames = [
        Frame(kind, draw.randbytes(16), draw.randrange(-1, 9), draw.randrange(9), body)
        for kind in Kind
        for body in (b"", facts, draw.randbytes(200))
    ]
    came: Counter[str] = Counter()
    for _ in range(count):
        frame = draw.choice(frames)
        raw = frame.encode()
        data = mutated(raw, draw)
        try:
            read = decode(data, lambda kind: LIMIT)
            came["the same frame" if data == raw and read == frame else "TAKEN FOR ANOTHER"] += 1
        except WireError:
            came["refused"] += 1
        try:
            unpack_facts(mutated(facts, draw), code=str, queries_left=int)
            came["facts of the right kinds"] += 1
        except WireError:
            came["no facts"] += 1
    return came


def small_program() -> Program:
    """One layer of 16 inputs and 4 outputs."""
    weight = np.arange(-32, 32).reshape(4, 16, 1, 1).astype(np.int64)
    bias = np.array([1, -2, 3, -4])
    value = Value("x", (16, 1, 1), -64, 63, 1.0)
    low, high = bounds((Term("x", weight),), bias, {"x": value})
    block = Block("fc", (Term("x", weight),), bias, (4, 1, 1), low, high, 1.0)
    last = Round(("x",), (block,), (Activation("fc", (), LOGITS),))
    return Program({"x": value}, (last,), (16,), np.zeros(16))


class Attacker:
    """Somebody who keeps to nothing."""

    def __init__(self, nearby: Nearby) -> None:
        self.nearby = nearby
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE

    def line(self) -> ssl.SSLSocket:
        plain = socket.create_connection(self.nearby.address, timeout=60)
        return self.context.wrap_socket(plain)

    def send(self, data: bytes) -> str:
        """What the server says to it, by code or kind."""
        with self.line() as line:
            line.sendall(data)
            answer = bytearray()
            try:
                while piece := line.recv(1 << 16):
                    answer += piece
                    if len(answer) >= HEADER_BYTES:
                        size = int.from_bytes(answer[HEADER_BYTES - 8 : HEADER_BYTES - 4], "big")
                        if len(answer) >= HEADER_BYTES + size:
                            break
            except (TimeoutError, OSError):
                return "cut"
        if not answer:
            return "cut"
        frame = decode(bytes(answer), lambda kind: LARGEST_FACTS)
        if frame.kind is Kind.REFUSAL:
            return Refusal.of(frame).code
        return frame.kind.name.lower()


def at_a_server(count: int, draw: random.Random, folder: Path) -> tuple[Counter[str], int, bool]:
    """What a server says to mutated frames, its growth in bytes, and whether others were served."""
    program = small_program()
    service = ModelService(program, choose_scheme(program))
    service.warm()
    keys = make_identity(folder / "keys", "server")
    patience = Patience(greeting_s=1.0, frame_s=0.5, idle_s=5, slowest=1e6)
    server = PrivateServer(Desk(service, folder / "state"), keys, patience=patience, workers=1)
    came: Counter[str] = Counter()
    rows = np.arange(16.0)[None]
    with (
        serve_in_thread(server, keys.fingerprint) as nearby,
        asking(nearby.address, nearby.pin, client_side) as honest,
    ):
        wanted = honest.ask(rows).logits
        attacker = Attacker(nearby)
        body = bytes(service.largest_request)
        raws = [
            Frame(Kind.HELLO, body=pack_facts({"agent": "x"})).encode(),
            Frame(Kind.REQUEST, draw.randbytes(16), -1, 0, body).encode(),
            Frame(Kind.GOODBYE, draw.randbytes(16)).encode(),
        ]
        huge = bytearray(Frame(Kind.REQUEST, bytes(16), 0, 0).encode())
        huge[HEADER_BYTES - 8 : HEADER_BYTES - 4] = b"\xff" * 4
        begun = [attacker.line() for _ in range(20)]
        for line in begun:  # they begin a frame of the largest size that may come, and stop
            line.sendall(raws[1][: HEADER_BYTES + 100])
        before = peak_bytes()
        sent = [
            bytes(huge)
            if k % 10 == 5
            else mutated(raws[1] if k % 50 == 0 else raws[k % 2 * 2], draw)
            for k in range(count)
        ]
        with ThreadPoolExecutor(16) as attackers:
            came.update(attackers.map(attacker.send, sent))
        grown = peak_bytes() - before
        fine = np.array_equal(honest.ask(rows).logits, wanted)
        for line in begun:
            line.close()
    return came, grown, fine


def main(smoke: bool) -> None:
    draw, goals = random.Random(14), Goals()
    count, sent = (2000, 30) if smoke else (100_000, 3000)
    began, before = time.process_time(), peak_bytes()
    came = through_the_readers(count, draw)
    spent, grown = time.process_time() - began, peak_bytes() - before
    told = ", ".join(f"{number} {name}" for name, number in sorted(came.items()))
    wrong = came["TAKEN FOR ANOTHER"]
    goals.add(f"{count} mutated frames and bodies, read", told, "none taken for another", not wrong)
    goals.add("CPU seconds for these", f"{spent:.1f}")
    goals.add("memory that it took, MiB", f"{grown / 2**20:.1f}", "below 16", grown < 16 << 20)
    with tempfile.TemporaryDirectory() as folder:
        came, grown, fine = at_a_server(sent, draw, Path(folder))
    told = ", ".join(f"{number} {name}" for name, number in sorted(came.items()))
    goals.add(f"{sent} to a server over TLS, a tenth announcing 4 GiB", told)
    goals.add("memory that it took, MiB", f"{grown / 2**20:.1f}", "below 64", grown < 64 << 20)
    goals.add("an honest client before and after", "the same logits" if fine else "NOT", "", fine)
    text = markdown(
        "Private inference: mutated frames",
        "python benchmarks/infer/private_frames.py",
        Goals.HEADER,
        goals.rows,
    )
    publish("private_frames", text, smoke)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--smoke", action="store_true")
    main(parser.parse_args().smoke)
