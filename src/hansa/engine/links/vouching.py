"""What a site may have to prove beside its key before anything else is said: the seam.

The links carry the words of an exchange over a channel that is ready, and hold everything else
back until both ends have accepted. What the words say is not theirs: who knows of trusted hardware
stands above this room.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from hansa.base.component import Component, register
from hansa.base.errors import WireError

OWN = frozenset({"plugins", "runtime", "checkpoint", "device", "sinks", "out"})
"""Settings of a run that say where it is done, not what."""


def digest_of(config: Mapping[str, Any]) -> str:
    """64 hex digits of what a run is configured to do, wherever it is done."""
    what = {name: value for name, value in config.items() if name not in OWN}
    text = json.dumps(what, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Meeting:
    """One end of a session in which two sites have proven their keys.

    Attributes:
        own, peer: fingerprints of both keys.
        site: the number of the peer in the run.
        binding: 32 bytes that both ends share and no other session has.
        dials: this end has reached for the other.
    """

    own: str
    peer: str
    site: int
    binding: bytes
    dials: bool


class VouchError(WireError):
    """An exchange that has failed.

    Args:
        problem: what is wrong, as the end of a sentence that begins with the other's name.
        told: the other end is told this, as one line, before the connection is closed.
    """

    def __init__(self, problem: str, told: str) -> None:
        self.told = told
        super().__init__(problem)


class Voucher(Protocol):
    """One exchange over one connection. It is called on a thread that may be kept waiting.

    Attributes:
        over: both ends have accepted.
    """

    over: bool

    def begin(self) -> list[bytes]:
        """The first words of this end."""
        ...

    def heard(self, word: bytes) -> list[bytes]:
        """Take a word of the other end; returns what is to be said to it.

        Raises:
            VouchError: the exchange has failed.
        """
        ...


class Vouching(Protocol):
    """What one site proves and asks of the others, for as long as it takes part.

    Attributes:
        longest: bytes of a word at most.
        seconds: that one exchange may take.
        every: seconds after which it is done again; 0: it is not.
        mark: what has to stand on all that comes of the run; empty: nothing.
    """

    longest: int
    seconds: float
    every: float
    mark: str

    def between(self, meeting: Meeting) -> Voucher:
        """A new exchange."""
        ...


class ChannelKind(Component, kind="channel"):
    """How sites prove to each other who they are, and what they make of it."""

    keyed: ClassVar[bool] = True
    """Each site has a key, and the channel is TLS 1.3; else all share a secret."""
    attests: ClassVar[bool] = False
    """Sites show evidence of what runs there, so what the run is has to be the same at all."""

    def check(self) -> None:
        """Refuse what cannot work here.

        Raises:
            ConfigError: naming the setting.
        """

    @property
    def mark(self) -> str:
        """What has to stand on all that comes of a run; empty: nothing."""
        return ""

    @property
    def every(self) -> int:
        """Rounds after which evidence is shown anew; 0: rounds are no matter."""
        return 0

    def found(self, folder: Path) -> dict[str, Any]:
        """Plain data that whoever starts the run draws for it, and keeps.

        Args:
            folder: the run's, where what has to outlive this start is kept.
        """
        return {}

    def alone(self, folder: Path) -> dict[str, Any]:
        """What a site is told that was started by its owner; ``folder`` is its own."""
        return {}

    def sealer(self, member: Mapping[str, Any]) -> Any:
        """What seals checkpoints (``runtimes/sealer.py``); None: they are readable.

        Raises:
            ConfigError: they should be sealed, and cannot be here.
        """
        return None

    def member(self, founded: Mapping[str, Any]) -> dict[str, Any]:
        """Plain data that a new site is told of that."""
        return {}

    def vouching(
        self, run: str, config: Mapping[str, Any], member: Mapping[str, Any]
    ) -> Vouching | None:
        """What a site proves beside its key; None: nothing.

        Args:
            run: names the run.
            config: what has to be the same at all sites, by field.
            member: what the site was told.

        Raises:
            ConfigError: it can prove nothing here.
        """
        return None


@register("secret")
class BySecret(ChannelKind):
    """All sites share a random secret of the run; frames are readable and have a tag each."""

    keyed: ClassVar[bool] = False


@register("tls")
class ByKey(ChannelKind):
    """TLS 1.3 between sites that know each other's keys; frames are encrypted."""
