"""What a process is told that hosts a site, as bytes: they go by a pipe, as there are secrets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hansa.engine.links.limits import LinkSettings
from hansa.engine.links.ticket import Peer, Ticket
from hansa.engine.links.vouching import ChannelKind
from hansa.engine.runtimes.site import Service


def pack_ticket(ticket: Ticket) -> dict[str, Any]:
    """A ticket without a key as plain data."""
    return {
        "run": ticket.run,
        "site": ticket.site,
        "owner": list(ticket.owner),
        "peers": [[peer.site, peer.address, peer.key, peer.name] for peer in ticket.peers],
        "listen": ticket.listen,
        "secret": ticket.secret,
        "config": dict(ticket.config),
        "incarnation": ticket.incarnation,
        "relays": list(ticket.relays),
        "channel": None if ticket.channel is None else ticket.channel.dump(),
        "member": dict(ticket.member),
    }


def unpack_ticket(data: dict[str, Any], key: Any = None) -> Ticket:
    """From such data, with a key of its own."""
    peers = tuple(Peer(*peer) for peer in data["peers"])
    tuples = {name: tuple(data[name]) for name in ("owner", "relays")}
    channel = None if data["channel"] is None else ChannelKind.resolve(data["channel"])
    return Ticket(**{**data, **tuples, "peers": peers, "key": key, "channel": channel})


def pack_service(service: Service) -> dict[str, Any]:
    """How a site takes part, as plain data."""
    return {
        "deadline": service.deadline,
        "checkpoints": os.fspath(service.checkpoints),
        "threads": service.threads,
        "resume": None if service.resume is None else os.fspath(service.resume),
        "part": service.part,
        "rejoins": service.rejoins,
        "careful": service.careful,
        "links": service.links.model_dump(),
    }


def unpack_service(data: dict[str, Any]) -> Service:
    """From such data."""
    resume = None if data["resume"] is None else Path(data["resume"])
    known = {
        "checkpoints": Path(data["checkpoints"]),
        "resume": resume,
        "links": LinkSettings(**data["links"]),
    }
    return Service(**{**data, **known})
