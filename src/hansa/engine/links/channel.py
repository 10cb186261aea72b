"""Channels: what two sites believe of each other, and frames between them that nobody else makes.

Which kind it is follows from the ticket: a run of one owner has a secret, sites of several owners
have keys. A channel takes bytes and gives bytes; links move them.
"""

from __future__ import annotations

from typing import Protocol

from hansa.base.errors import ConfigError
from hansa.engine.links.framing import HANDSHAKE_SECONDS, MAX_FRAME, Buffer
from hansa.engine.links.refusal import ChannelError
from hansa.engine.links.secret import SecretChannel
from hansa.engine.links.ticket import Peer, Ticket
from hansa.engine.links.tls import TlsChannel

__all__ = ["HANDSHAKE_SECONDS", "MAX_FRAME", "Channel", "ChannelError", "channel_of"]


class Channel(Protocol):
    """One end of a conversation of two sites.

    Attributes:
        peer: what the other end has proven: its key's fingerprint, or ``secret``; empty until then.
        ready: the handshake is over and both ends have accepted.
        binding: 32 bytes, equal at both ends, another in each session (RFC 9266); empty until then.
    """

    peer: str
    ready: bool
    binding: bytes

    def receive(self, data: Buffer) -> list[Buffer]:
        """Take what came; gives whole frames, in order.

        Raises:
            ChannelError: the channel is at an end. Write ``outgoing``, then close.
        """
        ...

    def outgoing(self) -> bytes:
        """Bytes to write now: of the handshake, or why the channel has ended."""
        ...

    def seal(self, *parts: Buffer) -> list[Buffer]:
        """One frame, as buffers to write in this order; its body is the parts, joined."""
        ...


def channel_of(ticket: Ticket, dials: bool, expected: Peer | None = None) -> Channel:
    """A site's end of a new channel.

    Args:
        ticket: the site's.
        dials: this end speaks first.
        expected: who has to be at the other end; None: any of the ticket's peers.

    Raises:
        ConfigError: keys of the ticket cannot tell its sites apart.
    """
    if ticket.key is None:
        return SecretChannel(ticket.secret, ticket.run, dials)
    sites: dict[str, str] = {ticket.key.fingerprint: "this site"}
    for peer in ticket.peers:
        if peer.key and (other := sites.setdefault(peer.key, str(peer))) != str(peer):
            problem = f"is the key of {other} and of {peer}"
            raise ConfigError("peers", peer.key, problem, "a key of its own for each site")
    if expected is not None and not expected.key:
        fix = "its line `hansa-key ed25519 sha256:... NAME`"
        raise ConfigError("peers", str(expected), "has no key", fix)
    known = {peer.key for peer in ticket.peers if peer.key}
    if expected is None:
        return TlsChannel(ticket.key, known, dials, one=False)
    return TlsChannel(ticket.key, {expected.key}, dials, one=True)
