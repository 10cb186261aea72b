"""What a launcher gives a site, so that it finds the others and they believe each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hansa.engine.links.keys import Key
from hansa.engine.links.vouching import ChannelKind, Vouching


@dataclass(frozen=True)
class Peer:
    """Another site, as this one knows it.

    Attributes:
        site: its number in the run.
        address: ``host:port`` where it listens; empty: it only dials, or is not known yet.
        key: fingerprint of its public key; empty: the run's secret is what proves who it is.
        name: what people call it, for texts.
    """

    site: int
    address: str = ""
    key: str = ""
    name: str = ""

    def __str__(self) -> str:
        return self.name or f"site {self.site}"


@dataclass(frozen=True)
class Ticket:
    """All that a site needs to know to take part in a run's conversations.

    Sites are numbered from 0. Where a launcher gathers what they report, it is a site too: the one
    after the last, and no node lives there.

    Attributes:
        run: names the run, the same at all its sites.
        site: which of them this is.
        owner: the site of each node of the run.
        peers: all other sites.
        listen: ``host:port`` to listen at, port 0 for any; empty: this site only dials.
        secret: known to the sites of a run of one owner and to nobody else; at least 16 bytes.
        key: this site's own, where peers prove who they are by keys; then there is no secret.
        config: what has to be the same at all sites, by field; two that differ say in which.
        incarnation: how many times this site was started in this run before.
        relays: sites that pass on what two others cannot tell each other directly; they see only
            ciphertext.
        channel: what sites prove; None: what secret or key do.
        member: what this site was told for it.
        name: what people call this site, for texts.
    """

    run: str
    site: int
    owner: tuple[int, ...]
    peers: tuple[Peer, ...] = ()
    listen: str = "127.0.0.1:0"
    secret: bytes = field(default=b"", repr=False)
    key: Key | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    incarnation: int = 0
    relays: tuple[int, ...] = ()
    channel: ChannelKind | None = None
    member: Mapping[str, Any] = field(default_factory=dict, repr=False)
    name: str = ""

    def vouching(self) -> Vouching | None:
        """What this site proves beside its key; None: nothing.

        Raises:
            ConfigError: it can prove nothing here.
        """
        if self.channel is None:
            return None
        return self.channel.vouching(self.run, self.config, self.member)

    def sealer(self) -> Any:
        """What seals this site's checkpoints; None: nothing does."""
        return None if self.channel is None else self.channel.sealer(self.member)

    def called(self, site: int) -> str:
        """What a site is called, by its number where no name is known."""
        names = {peer.site: str(peer) for peer in self.peers} | {self.site: self.name}
        return names.get(site) or f"site {site}"

    @property
    def sites(self) -> tuple[int, ...]:
        """Sites with nodes, ascending."""
        return tuple(sorted(set(self.owner)))

    def peer(self, site: int) -> Peer:
        """What is known of another site.

        Raises:
            KeyError: there is none of this number.
        """
        for peer in self.peers:
            if peer.site == site:
                return peer
        raise KeyError(site)
