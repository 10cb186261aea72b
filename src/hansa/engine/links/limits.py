"""What a site allows its peers, and how long it waits for them."""

from __future__ import annotations

from pydantic import Field

from hansa.engine.settings import Settings

MAX_CHUNK = 1 << 20
"""Bytes of a message that travel in one frame at most."""


class LinkSettings(Settings):
    """Limits by peer and times of the links between sites. No two sites need the same."""

    ahead: int = Field(
        64 << 20,
        ge=1 << 12,
        description="bytes that a peer may send before this site has made use of them",
    )
    message: int = Field(
        1 << 33, ge=1 << 12, description="bytes of one message; longer ones are refused"
    )  # twice the longest payload: what a codec or a round's words come to follows from no plan
    chunk: int = Field(
        MAX_CHUNK,
        ge=1 << 10,
        le=MAX_CHUNK,
        description="bytes of a message in one frame: what is sent again at most where a "
        "connection breaks",
    )
    hello: int = Field(
        1 << 16, ge=1 << 10, le=MAX_CHUNK, description="bytes of a greeting or of facts"
    )
    handshake: float = Field(
        4.0, gt=0, description="seconds in which a new connection has to prove who it is"
    )
    silence: float = Field(
        20.0, gt=0, description="seconds without a byte after which a connection counts as broken"
    )
    ping: float = Field(
        2.0, gt=0, description="seconds after which a site that has nothing to say says that"
    )
    retry: float = Field(
        5.0, gt=0, description="seconds between two attempts to reach a peer, at most"
    )
    newcomers: float = Field(
        20.0,
        gt=0,
        description="connections a second from an address that has not proved itself yet",
    )
    eager: bool = Field(
        True,
        description="reach for all peers at once; no: when there is something to send to them",
    )
    max: int = Field(
        256, ge=1, description="links kept open; those above that were used least are closed"
    )
    idle: float = Field(
        5.0, gt=0, description="seconds without a message after which a link may be closed"
    )
    relayed: int = Field(
        1 << 21,
        ge=1 << 17,
        description="bytes that a relay holds of one direction between two others",
    )
    circuits: int = Field(256, ge=0, description="pairs that a relay carries at a time")
