"""What attested channels cost: bytes over links once they are open, and opening them.

    python benchmarks/attest/channel.py

Two sites of one process over loopback, whose links are TLS, or TLS with (simulated) evidence. The
CPU time of both ends for so many bytes, in turns, and of each way the quickest: what else the
machine does adds to all. Opening is from the first byte until both ends have greeted, as CPU time;
simulated evidence is signed and verified with Ed25519, that of hardware costs what
benchmarks/attest/verify.py says, and what the hardware takes to make it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import measure

from hansa.attest.attested import Attested
from hansa.attest.simulation import VARIABLE, SimulatedRoot
from hansa.engine.links.keys import Key
from hansa.engine.links.limits import LinkSettings
from hansa.engine.links.links import DATA, Links
from hansa.engine.links.ticket import Peer, Ticket

KEYS = [Key.generate(f"site-{k}") for k in range(2)]
MESSAGE = 360_000
"""Bytes of a model of 90,000 numbers."""
MOST = 1.10
"""Of the time that links without evidence take."""


class End:
    """A site that counts what it is sent."""

    def __init__(self, site: int, channel: Attested | None, root: SimulatedRoot) -> None:
        peers = (Peer(1 - site, key=KEYS[1 - site].fingerprint),)
        told = {"simulated": root.member().dump()}
        ticket = Ticket("run", site, (0, 1), peers, key=KEYS[site], channel=channel, member=told)
        self.site, self.got, self.news = site, 0, threading.Condition()
        self.links = Links(ticket, LinkSettings(), self.take, self.change)
        self.address = self.links.start()

    def take(self, site: int, kind: int, parts: list[Any]) -> None:
        size = sum(len(part) for part in parts)
        with self.news:
            self.got += size
            self.news.notify_all()
        self.links.grant(site, size)

    def change(self) -> None:
        with self.news:
            self.news.notify_all()

    def wait(self, holds: Any) -> None:
        with self.news:
            if not self.news.wait_for(holds, 120):
                raise SystemExit("the links stand still")


def spent(channel: Attested | None, total: int) -> tuple[float, float]:
    """CPU seconds of opening a link, and a GiB over it, of both ends."""
    root = SimulatedRoot.generate()
    ends = [End(k, channel, root) for k in (0, 1)]
    near, far = ends
    began = time.process_time()
    near.links.meet([Peer(1, far.address)])
    near.wait(lambda: near.links.state(1).connected)
    far.wait(lambda: far.links.state(0).connected)
    opened = time.process_time() - began
    message = os.urandom(MESSAGE)
    count = max(2, total // MESSAGE)
    began = time.process_time()
    for _ in range(count):
        near.links.send(1, DATA, [message])
    far.wait(lambda: far.got == count * MESSAGE)
    sent = time.process_time() - began
    for end in ends:
        end.links.close(1.0)
    return opened, sent / (count * MESSAGE) * (1 << 30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="the smallest size, not to be judged")
    smoke = parser.parse_args().smoke
    os.environ[VARIABLE] = "1"
    total, turns = (1 << 20, 1) if smoke else (1 << 28, 9)
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder) / "policy.yaml"
        policy.write_text("simulated: true\nany_measurement: true\n")
        attested = Attested(policy=policy, attester="simulated")
        ways: dict[str, Attested | None] = {"TLS": None, "TLS with evidence": attested}
        figures: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(turns):
            for way, channel in ways.items():
                figures[way].append(spent(channel, total))
    opened = {way: statistics.median(one for one, _ in some) for way, some in figures.items()}
    least = {way: min(two for _, two in some) for way, some in figures.items()}
    ratio = least["TLS with evidence"] / least["TLS"]
    reached = "yes" if ratio <= MOST else "NO"
    rows = [
        [way, f"{1e3 * opened[way]:.1f}", f"{least[way]:.2f}", f"{least[way] / least['TLS']:.3f}"]
        for way in ways
    ]
    text = measure.markdown(
        "What attested channels cost",
        "python benchmarks/attest/channel.py",
        ["links", "opening, CPU ms", "CPU s a GiB, both ends", "to TLS"],
        rows,
    )
    text += f"\nWanted: at most {MOST:.2f} times TLS once a link is open. Reached: {reached}.\n"
    measure.publish("attest_channel", text, smoke)


if __name__ == "__main__":
    main()
