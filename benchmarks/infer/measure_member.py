"""Members made up for the benchmark of serving, in a process of their own.

They speak as much of the protocol as it takes and cost next to nothing, so that what is measured is
the aggregate; and they import nothing but Python, so that one that was killed is back at once. An
answer follows from the question, (class, number), so that the true class is known.

    python measure_member.py KINDS DELAYS_MS PORTS      (JSON lists, one entry a member)
"""

from __future__ import annotations

import asyncio
import functools
import json
import random
import sys

CLASSES = 10


def row_of(kind: str, label: int, dice: random.Random) -> list[float]:
    """What a member of a kind answers: honest ones are 55 to 95 % sure of the class; lying: sure of
    the next one; garbage: no distribution."""
    if kind == "lying":
        return [float(k == (label + 1) % CLASSES) for k in range(CLASSES)]
    shares = [dice.gammavariate(0.3, 1) for _ in range(CLASSES)]
    if kind == "garbage":
        return [share - 0.5 for share in shares]
    sure = dice.uniform(0.55, 0.95)
    return [
        sure * (k == label) + (1 - sure) * share / sum(shares) for k, share in enumerate(shares)
    ]


class Member(asyncio.Protocol):
    """One connection: a question, a while, an answer.

    Args:
        delay_ms: median of the delays, which spread by a fifth (log-normal); of a slow member 5 s.
    """

    def __init__(self, kind: str, number: int, delay_ms: float) -> None:
        self.kind, self.number = kind, number
        self.delay_s = 5.0 if kind == "slow" else delay_ms / 1000
        self.heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Wait for the whole of a request, then answer it a while later."""
        self.heard += data
        head, end, body = self.heard.partition(b"\r\n\r\n")
        length = next(
            (int(s[15:]) for s in head.lower().split(b"\r\n") if s[:15] == b"content-length:"), 0
        )
        if not end or len(body) < length:
            return
        self.heard = b""
        if not body:
            self.say(b"{}")
            return
        label, number = json.loads(body)["inputs"][0]["data"]
        dice = random.Random(f"{self.number} {number}")
        row = row_of(self.kind, int(label), dice)
        tensor = {"name": "probabilities", "shape": [1, CLASSES], "datatype": "FP64", "data": row}
        said = json.dumps({"model_name": "member", "outputs": [tensor]}).encode()
        wait = self.delay_s * dice.lognormvariate(0, 0.2)
        asyncio.get_running_loop().call_later(wait, self.say, said)

    def say(self, body: bytes) -> None:
        """One response."""
        if not self.transport.is_closing():
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
            self.transport.write(head + body)


async def main(kinds: list[str], delays_ms: list[float], ports: list[int]) -> None:
    """Listen until the process ends; ports are the members' numbers too."""
    loop = asyncio.get_running_loop()
    for kind, delay, port in zip(kinds, delays_ms, ports, strict=True):
        member = functools.partial(Member, kind, port, delay)
        await loop.create_server(member, "127.0.0.1", port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*map(json.loads, sys.argv[1:4])))
