"""The process that hosts a block, or forks those that do; started by a runtime, not by hand."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hansa.base.forks import serve_forks
from hansa.base.packets import read_packet
from hansa.engine.job import Job
from hansa.engine.links.link_filter import Filter
from hansa.engine.runtimes.coordinated import Coordinated
from hansa.engine.runtimes.dealing import party
from hansa.engine.runtimes.site import Moment, Site, serve
from hansa.engine.runtimes.site_orders import unpack_service, unpack_ticket
from hansa.engine.runtimes.strikes import Strike, Strikes

_NEEDED = (
    "torch",
    "msgpack",
    "safetensors.torch",
    "hansa.engine",
    "hansa.engine.links.channel",
)


def main() -> int:
    """Host one block of a run that a coordinator has begun; or, without a number, fork who does."""
    parser = argparse.ArgumentParser(description="Host blocks of a run.")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--index", type=int)
    arguments = parser.parse_args()
    run: Path = arguments.run
    if arguments.index is None:
        for module in _NEEDED:
            importlib.import_module(module)
        return serve_forks(lambda packet: host(run, packet))
    packet = read_packet(sys.stdin.buffer)
    return 3 if packet is None else host(run, packet)


def host(run: Path, packet: dict[str, Any]) -> int:
    """Host the block that a packet tells of."""
    ticket, service = unpack_ticket(packet["ticket"]), unpack_service(packet["service"])
    sys.argv = [sys.argv[0], f"--run={run}", f"--index={ticket.site}"]
    strikes = Strikes([Strike(**one) for one in packet["strikes"]], ticket.site, ticket.incarnation)
    jobs: list[Job] = []

    def build() -> Job:
        jobs.append(party(run, ticket.site))
        return jobs[0]

    def plain(peer: int) -> Filter | None:
        if not jobs or jobs[0].shaping is None:  # no peer is met before
            return None
        return jobs[0].shaping.between(jobs[0].streams, ticket.site, ticket.owner)(peer)

    def moment(site: Site) -> Moment:
        strikes.links = site.links
        return strikes.at

    shaping: Callable[[int], Filter | None] | None = strikes.over(plain)
    return serve(
        ticket, build, service, lambda site: Coordinated(site, service.careful), shaping, moment
    )


if __name__ == "__main__":
    sys.exit(main())
