"""What two sites say first: who they are, and what has to be the same at both."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import hansa
from hansa.base.errors import WireError
from hansa.base.lazy import msgpack
from hansa.engine.links.ticket import Ticket

PROTOCOL = (1, 1)
"""Oldest and newest version of what links say that this site understands."""
NONCE_BYTES = 8
MOST_FACTS = 64
"""Facts, by name, that a site may tell."""
_LONGEST_TEXT = 400  # characters of what another says that is repeated to a person


@dataclass(frozen=True)
class Hello:
    """A greeting.

    Attributes:
        site, to: who greets, and whom it believes to be there.
        run: names the run.
        protocol: oldest and newest version that it understands.
        version: of hansa.
        incarnation: how many times the site was started before.
        start: random bytes of this start of it.
        seen: number of the last connection with the other that it knows to be in use.
        config: digest of what has to be the same, by field.
        facts: small news.
    """

    site: int
    to: int
    run: str
    incarnation: int
    start: bytes
    seen: int = 0
    protocol: tuple[int, int] = PROTOCOL
    version: str = hansa.__version__
    config: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def pack(self) -> bytes:
        """A frame's body."""
        return msgpack.packb(asdict(self))

    @classmethod
    def unpack(cls, body: bytes | memoryview) -> Hello:
        """From such a body.

        Raises:
            WireError: it is none.
        """
        said = unpack_facts(body)
        protocol = said.get("protocol")
        numbers = [said.get(name) for name in ("site", "to", "incarnation", "seen")]
        config = said.get("config")
        if (
            not all(type(n) is int and 0 <= n < 1 << 63 for n in numbers)
            or not all(isinstance(said.get(name), str) for name in ("run", "version"))
            or not (isinstance(protocol, list) and len(protocol) == 2)
            or not all(type(n) is int for n in protocol)
            or not (isinstance(said.get("start"), bytes) and len(said["start"]) == NONCE_BYTES)
            or not isinstance(config, dict)
            or not all(isinstance(text, str) for pair in config.items() for text in pair)
            or not isinstance(said.get("facts"), dict)
            or len(said["facts"]) > MOST_FACTS
        ):
            raise WireError("a greeting that is none")
        names = cls.__dataclass_fields__.keys()
        return cls(**{k: said[k] for k in names} | {"protocol": (protocol[0], protocol[1])})


def digests(config: Mapping[str, Any]) -> dict[str, str]:
    """What has to be the same at all sites, by field: 64 bits of SHA-256 of each as JSON."""
    return {
        str(name): hashlib.sha256(
            json.dumps(value, sort_keys=True, default=str).encode()
        ).hexdigest()[:16]
        for name, value in config.items()
    }


def disagreement(ticket: Ticket, config: Mapping[str, str], hello: Hello) -> str:
    """Why two sites cannot take part in one run, as one line for both; empty: they can.

    Patch versions of hansa may differ.

    Args:
        config: this site's digests.
    """
    other, own = ticket.called(hello.site), ticket.called(ticket.site)
    if max(PROTOCOL[0], hello.protocol[0]) > min(PROTOCOL[1], hello.protocol[1]):
        theirs, ours = ("{} to {}".format(*versions) for versions in (hello.protocol, PROTOCOL))
        return (
            f"{other} speaks versions {theirs} of the protocol between sites and {own} {ours}; "
            "install one version of hansa at both"
        )
    if hello.version.split(".")[:2] != hansa.__version__.split(".")[:2]:
        return (
            f"{other} runs hansa {short(hello.version)} and {own} {hansa.__version__}; install "
            "one version of hansa at both"
        )
    if hello.run != ticket.run:
        return f"{other} takes part in run {short(hello.run)} and {own} in {ticket.run}"
    if hello.to != ticket.site:
        return f"{other} looks for {ticket.called(hello.to)} and found {own}; mend the addresses"
    differing = sorted(
        name for name in {*config, *hello.config} if config.get(name) != hello.config.get(name)
    )
    if differing:
        names = short(", ".join(differing))
        # The same line, whoever of both says it.
        (_, one), (_, two) = sorted(((hello.site, other), (ticket.site, own)))
        return f"{one} and {two} have different settings of: {names}; make them the same"
    return ""


def short(text: str) -> str:
    """Another's text as it may be shown: one line of printable characters, and not too long."""
    shown = "".join(c if c.isprintable() else "?" for c in text[:_LONGEST_TEXT])
    return shown + "..." if len(text) > _LONGEST_TEXT else shown


def pack_facts(facts: Mapping[str, Any]) -> bytes:
    """Plain data as a frame's body."""
    return msgpack.packb(dict(facts))


def unpack_facts(body: bytes | memoryview) -> dict[str, Any]:
    """Plain data from a frame's body.

    Raises:
        WireError: it is no such thing.
    """
    try:
        facts = msgpack.unpackb(body)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise WireError(f"malformed facts: {short(str(error))}") from error
    if not isinstance(facts, dict) or not all(isinstance(name, str) for name in facts):
        raise WireError("facts without names")
    return facts
