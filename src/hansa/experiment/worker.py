"""The process that hosts a block, or forks those that do; started by a runtime, not by hand."""

from __future__ import annotations

import argparse
import importlib
import sys
from functools import partial
from pathlib import Path
from typing import Any

from hansa.base.forks import serve_forks
from hansa.base.packets import read_packet
from hansa.engine.links.keys import Key
from hansa.engine.runtimes import ordered
from hansa.engine.runtimes.dealing import party
from hansa.engine.runtimes.site_orders import unpack_service, unpack_ticket

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
    key = Key.from_pem(packet["key"]) if "key" in packet else None
    ticket, service = unpack_ticket(packet["ticket"], key), unpack_service(packet["service"])
    sys.argv = [sys.argv[0], f"--run={run}", f"--index={ticket.site}"]
    return ordered.host(packet, ticket, service, partial(party, run, ticket.site))


if __name__ == "__main__":
    sys.exit(main())
