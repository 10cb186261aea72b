"""A site made ready: its run, its key, its number, its party, and the ticket for its links."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import hansa
from hansa.base.errors import ConfigError
from hansa.data.own_table import STATISTICS
from hansa.engine.links.keys import Key, fingerprint_in
from hansa.engine.links.ticket import Peer, Ticket
from hansa.experiment.runfile import RunFile, run_kind
from hansa.experiment.settings_file import read_yaml
from hansa.experiment.sites.agreement import agreement, owners
from hansa.experiment.sites.parties import OwnParty, SharedParty, check_run, party_of
from hansa.experiment.sites.rating_party import RatingParty
from hansa.experiment.sites.site_file import SiteFile

TOLD = {
    "sizes": "how many examples its clients train on and hold back",
    "labels": "how many training examples of each class they have",
    "keys": "the keys by which its clients sign, and whose ratings they have",
    **STATISTICS,
}
"""What a site may be asked to tell, in words."""


@dataclass
class Entry:
    """A site that can take part in its run.

    Attributes:
        site: its number.
        owner: the site of each node of the run.
        peers: the other sites.
        names: what sites are called, by number.
        secret: seeds what the site draws for itself; None: the run's seed does.
    """

    file: SiteFile
    run: RunFile
    key: Key
    site: int
    owner: tuple[int, ...]
    peers: tuple[Peer, ...]
    names: tuple[str, ...]
    secret: bytes | None = None

    @classmethod
    def of(cls, file: SiteFile, secret: bytes | None = None) -> Entry:
        """Everything is checked that can be without the others and without examples.

        Raises:
            ConfigError: a setting of the site, or of the run, cannot work.
        """
        if not file.run.is_file():
            raise ConfigError("run", str(file.run), "there is no such file", "the run file's path")
        run = run_kind(read_yaml(file.run)).load(file.run)
        check_run(run)  # here too: before anything is loaded
        key = Key.load(file.key)
        nodes = run.nodes + run.algorithm.servers(run.nodes)
        site, owner, numbers = owners(nodes, file, run.nodes)
        peers = tuple(
            Peer(number, peer.address or "", fingerprint_in(peer.key, f"peers.{k}.key"), peer.name)
            for k, (number, peer) in enumerate(zip(numbers, file.peers, strict=True))
        )
        mine = [k for k, peer in enumerate(peers) if peer.key == key.fingerprint]
        if mine:
            problem = "is this site's own key"
            raise ConfigError(f"peers.{mine[0]}.key", peers[mine[0]].key, problem, "the peer's")
        names = tuple(
            name for _, name in sorted([(site, file.name), *((p.site, p.name) for p in peers)])
        )
        return cls(file, run, key, site, owner, peers, names, secret)

    @cached_property
    def party(self) -> SharedParty | OwnParty | RatingParty:
        """The site as a party, with its examples read when this is first asked for.

        Raises:
            ConfigError: a setting of the run or of the site cannot work.
            DataError: the examples are missing or damaged.
        """
        return party_of(self.run, self.file, self.owner, self.names, self.secret)

    @property
    def needs(self) -> tuple[str, ...]:
        """What the run asks this site to tell; no examples are read where it has a share."""
        if self.file.data.share:
            return tuple(sorted(self.run.algorithm.must_tell))
        return self.party.needs

    def check_tells(self) -> None:
        """Refuse to tell what the site is not willing to, before anything is sent.

        Raises:
            ConfigError: names it.
        """
        untold = [name for name in self.needs if name not in self.file.tells]
        if not untold:
            return
        words = "; ".join(TOLD[name] for name in untold)
        fix = f"tells: [{', '.join([*self.file.tells, *untold])}], if others may know"
        if {*untold} & {*STATISTICS} and isinstance(self.party, OwnParty):
            fix += "; or data.declared in the run file says it for all"
        problem = f"the run asks this site to tell {words}"
        raise ConfigError("tells", list(self.file.tells), problem, fix)

    def ticket(self, incarnation: int = 0) -> Ticket:
        """What its links go by.

        Args:
            incarnation: how many times the site was started in this run before.
        """
        relays = [p.site for p, said in zip(self.peers, self.file.peers, strict=True) if said.relay]
        if self.file.relay:
            relays.append(self.site)
        columns = None if self.file.data.share else self.party.columns
        config = agreement(self.run, self.file, columns)
        return Ticket(
            run=self.file.session,
            site=self.site,
            owner=self.owner,
            peers=self.peers,
            listen=self.file.listen or "",
            key=self.key,
            config=config,
            incarnation=incarnation,
            relays=tuple(relays),
            name=self.file.name,
            channel=self.file.channel,
        )

    def waits(self) -> dict[int, float]:
        """Seconds of silence of each other site, by number; a server may be silent for longer."""
        patience, serving = self.file.patience, {*self.owner[self.run.nodes :]}  # servers come last
        return {
            peer.site: patience.server if peer.site in serving else patience.peer
            for peer in self.peers
        }

    def facts(self) -> dict[str, object]:
        """For the record: who takes part."""
        nodes = {
            at: [n for n, owner in enumerate(self.owner) if owner == at]
            for at in range(len(self.names))
        }
        return {
            "session": self.file.session,
            "site": self.site,
            "name": self.file.name,
            "nodes": nodes[self.site],
            "sites": [{"name": name, "nodes": nodes[at]} for at, name in enumerate(self.names)],
            "hansa": hansa.__version__,
        }
