"""What links carry beside the algorithm's messages, counted to the byte."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

CAUSES = (
    "channel",  # handshakes, lengths, seals
    "vouch",  # evidence of trusted hardware, and what each end makes of the other's
    "hello",
    "chunk",  # what says where a piece of a message belongs, and its parts' lengths
    "control",  # messages between sites that are no algorithm's
    "ack",
    "ping",
    "again",  # sent or received once more after a connection broke, or in vain
    "cut",  # parts of frames in which a connection broke
    "relay",  # passed on for others, and what relaying costs
    "bye",
)


class Traffic:
    """Bytes in one direction of one peer's links.

    ``wire`` is what the sockets carried, ``data`` what of it was messages of algorithms. Bytes of
    other purposes are counted by cause as they are written or read, and the channel's are what
    is left.
    """

    __slots__ = ("causes", "data", "wire")

    def __init__(self) -> None:
        self.wire = self.data = 0
        self.causes: Counter[str] = Counter(dict.fromkeys(CAUSES, 0))  # its keys never change

    @property
    def overhead(self) -> int:
        """Bytes that were no algorithm's."""
        return self.wire - self.data

    def by_cause(self) -> dict[str, int]:
        """The overhead by what it was for; sums up to it."""
        known = {cause: self.causes[cause] for cause in CAUSES[1:] if self.causes[cause]}
        return {"channel": self.overhead - sum(known.values()), **known}

    def add(self, other: Traffic) -> None:
        """Count another's bytes too."""
        self.wire += other.wire
        self.data += other.data
        for cause, nbytes in other.causes.items():
            self.causes[cause] += nbytes


class PeerTraffic:
    """Both directions of one peer's links."""

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.sent, self.received = Traffic(), Traffic()

    def add(self, other: PeerTraffic) -> None:
        """Count another's bytes too."""
        self.sent.add(other.sent)
        self.received.add(other.received)


class Overhead:
    """All links of a site; what came from nobody known is under ``None``."""

    def __init__(self) -> None:
        self.peers: dict[int | None, PeerTraffic] = {}

    def of(self, site: int | None) -> PeerTraffic:
        """One peer's."""
        return self.peers.setdefault(site, PeerTraffic())

    @property
    def sent(self) -> Traffic:
        """To all peers."""
        return _total(peer.sent for peer in list(self.peers.values()))

    @property
    def received(self) -> Traffic:
        """From all peers."""
        return _total(peer.received for peer in list(self.peers.values()))

    @property
    def bytes_sent(self) -> int:
        """Bytes sent that were no algorithm's."""
        return self.sent.overhead

    @property
    def bytes_received(self) -> int:
        """Bytes received that were no algorithm's."""
        return self.received.overhead


def _total(parts: Iterable[Traffic]) -> Traffic:
    total = Traffic()
    for part in parts:
        total.add(part)
    return total
