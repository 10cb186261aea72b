"""The site file: what one owner's site is told, beside the run file that all sites share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from hansa.base.errors import ConfigError
from hansa.base.paths import located
from hansa.data.own_table import STATISTICS
from hansa.engine.links.vouching import ByKey, ChannelKind
from hansa.engine.roster import TELLING
from hansa.engine.settings import Settings
from hansa.experiment.settings_file import SettingsFile

TELLABLE = (*TELLING, *STATISTICS)
"""What a site may be asked to tell when it joins."""
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class SitePeer(Settings):
    """Another site."""

    name: str = Field(min_length=1, max_length=64, description="what this site calls it")
    nodes: tuple[int, ...] = Field(
        min_length=1, description="ids of the run's nodes that live there"
    )
    address: str | None = Field(
        None, description="host:port where it listens; null: it only dials, as behind a NAT"
    )
    key: str = Field(
        description="fingerprint of its key, or the line that hansa node keygen prints there"
    )
    relay: bool = Field(
        False,
        description="passes on what two sites cannot tell each other directly; it sees ciphertext, "
        "and has relay: true in its own file",
    )


class SiteData(Settings):
    """The examples of a site."""

    path: Path | None = Field(
        None, description="this site's own table, in place of the run file's data.path"
    )
    test_path: Path | None = Field(
        None, description="a table with test examples, in place of the run file's data.test_path"
    )
    share: bool = Field(
        False, description="this site's part of the run file's data set, which it reads itself"
    )

    @model_validator(mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        return {"share": True} if value == "share" else value


class Patience(Settings):
    """Seconds that this site waits for others."""

    start: float = Field(
        600.0, gt=0, description="for the others at the start, until it goes on with those there"
    )
    peer: float = Field(
        300.0, gt=0, description="for a peer's message that is due, until the round goes on without"
    )
    server: float = Field(
        1800.0, gt=0, description="for a server, without which a client can do nothing"
    )


class SiteFile(SettingsFile):
    """What one site is told. ``hansa node init`` writes one with remarks."""

    command: ClassVar[str] = "node run"
    says_verb: ClassVar[bool] = True
    resumable: ClassVar[tuple[str, ...]] = ()

    verb: Literal["node"] = Field("node", description="whose file this is")
    name: str = Field(min_length=1, max_length=64, description="what this site is called")
    session: str = Field(
        "run", description="a word for this run, the same at all sites; another word, another run"
    )
    run: Path = Field(description="the run file, the same at all sites")
    nodes: tuple[int, ...] = Field(
        min_length=1, description="ids of the run's nodes that live here; a server's come last"
    )
    listen: str | None = Field(
        None, description="host:port to listen at; null: this site only dials"
    )
    relay: bool = Field(
        False,
        description="whether this site passes on what two others cannot tell each other directly, "
        "as both only dial; it sees ciphertext; those two have relay: true at this site as a peer",
    )
    key: Path = Field(description="this site's own key, from hansa node keygen")
    channel: ChannelKind = Field(
        ByKey(),
        description="what sites prove to each other: tls = their keys; attested = beside that, on "
        "evidence of trusted hardware, what runs there. The same at all sites",
    )
    peers: tuple[SitePeer, ...] = Field(description="all other sites")
    data: SiteData = Field(
        SiteData(), description="this site's examples: {path: own.csv}, or share"
    )
    tells: tuple[str, ...] = Field(
        (),
        description="what this site is willing to tell all others when it joins, some of "
        f"{', '.join(TELLABLE)}; hansa node explain says what the run asks for",
    )
    least: int | None = Field(
        None, ge=1, description="sites that must be there to begin, this one included; null: all"
    )
    patience: Patience = Field(Patience(), description="seconds to wait for others")
    own_streams: Literal["secret", "seed"] = Field(
        "secret",
        description="what this site draws for itself (batches, noise, keys): from a secret that "
        "only it knows, or from the run's seed, so that a simulation draws the same",
    )
    out: Path | None = Field(
        None, description="this site's run folder; null: runs/SESSION-NAME beside this file"
    )

    @field_validator("session")
    @classmethod
    def _one_word(cls, session: str) -> str:
        if not _WORD.fullmatch(session):
            raise ValueError("is no word of up to 64 letters, digits, dots, _ and -")
        return session

    @field_validator("tells")
    @classmethod
    def _tellable(cls, tells: tuple[str, ...]) -> tuple[str, ...]:
        odd = [name for name in tells if name not in TELLABLE]
        if odd:
            raise ValueError(f"{odd[0]!r} is none of {', '.join(TELLABLE)}")
        return tells

    @property
    def place(self) -> str:
        """What its run folder is called where nobody says."""
        return re.sub(r"[^\w.-]+", "-", f"{self.session}-{self.name}")

    def label(self) -> str:
        return self.place

    @classmethod
    def load(cls, path: Path, overrides: tuple[str, ...] = (), **more: Any) -> Self:
        """A site's settings from YAML, checked as far as they go without the run file.

        Raises:
            ConfigError: naming the field, its value and the way out.
        """
        site = super().load(path, overrides, **more)
        if site.out is None:
            place = located(path.expanduser()).parent / "runs" / site.place
            site = site.model_copy(update={"out": place})
        site.check()
        return site

    @property
    def folder(self) -> Path:
        """This site's run folder."""
        return self.out or Path("runs") / self.place

    def check(self) -> None:
        """Refuse what cannot work whatever the run is.

        Raises:
            ConfigError: a name, an address, a key or a node is there twice, or an address is none.
        """
        if not self.peers:
            raise ConfigError("peers", None, "there is no other site", "hansa learn runs alone")
        _once("name", [self.name, *(peer.name for peer in self.peers)])
        _once("address", [self.listen, *(peer.address for peer in self.peers)])
        _once("key", [None, *(peer.key for peer in self.peers)])
        every = [*self.nodes, *(node for peer in self.peers for node in peer.nodes)]
        twice = sorted({node for node in every if every.count(node) > 1})
        if twice:
            where = [k for k, peer in enumerate(self.peers) if twice[0] in peer.nodes][-1]
            problem = f"node {twice[0]} lives at two sites"
            raise ConfigError(f"peers.{where}.nodes", None, problem, "every node at one site")
        if self.listen is not None:
            check_address("listen", self.listen, any_port=True)
        for k, peer in enumerate(self.peers):
            if peer.address is not None:
                check_address(f"peers.{k}.address", peer.address)
        reached = [peer.address for peer in self.peers if peer.address]
        if self.listen is None and not reached:
            problem = "nobody can be reached: this site does not listen and knows no address"
            raise ConfigError("listen", None, problem, "listen: 0.0.0.0:7000, or a peer's address")
        relays = [peer.name for peer in self.peers if peer.relay]
        for k, peer in enumerate(self.peers):
            if self.listen is None and peer.address is None and set(relays) <= {peer.name}:
                problem = f"{peer.name} only dials, as this site does, and no relay passes on"
                fix = "relay: true at a peer that both reach, and in that site's own file"
                raise ConfigError(f"peers.{k}.address", None, problem, fix)
        if not self.channel.keyed:
            problem = "is a secret of one owner, and sites have keys"
            raise ConfigError("channel", type(self.channel).name, problem, "tls, or attested")
        try:
            self.channel.check()
        except ConfigError as error:
            raise error.under("channel") from None
        if self.least is not None and self.least > len(self.peers) + 1:
            problem = f"there are {len(self.peers) + 1} sites"
            raise ConfigError("least", self.least, problem, f"1 to {len(self.peers) + 1}")
        own = self.data
        if own.share and (own.path or own.test_path):
            problem = "is the run file's data, and a path is this site's own"
            raise ConfigError("data.share", True, problem, "one of the two")


def check_address(field: str, address: str, any_port: bool = False) -> None:
    """Refuse what is no ``host:port``.

    Raises:
        ConfigError: naming the field.
    """
    host, colon, port = address.rpartition(":")
    number = int(port) if port.isascii() and port.isdecimal() else -1
    if not (colon and host and (0 if any_port else 1) <= number <= 65535):
        fix = "such as 10.0.0.5:7000, hospital.example:7000 or [2001:db8::1]:7000"
        raise ConfigError(field, address, "is not host:port", fix)


def _once(field: str, values: Sequence[str | None]) -> None:
    """Refuse a value that stands at two sites; the first is this site's own."""
    for k, value in enumerate(values):
        if value is not None and value in values[:k]:
            first = values.index(value)
            other = "this site" if first == 0 else f"peers.{first - 1}"
            name = "listen" if field == "address" and first == 0 else field
            problem = f"is the same as {name} of {other}"
            raise ConfigError(f"peers.{k - 1}.{field}", value, problem, "each site has its own")
