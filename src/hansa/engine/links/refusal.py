"""Why a channel ends: what the side that ends it says, and what the other one prints.

What crosses the network is one byte. No text of a stranger is ever shown.
"""

from __future__ import annotations

import contextlib
import enum

from hansa.base.errors import WireError


class Refusal(enum.IntEnum):
    """Reasons, as they stand on the wire."""

    STRANGE = 1
    VERSION = 2
    KIND = 3
    SECRET = 4
    NO_KEY = 5
    UNKNOWN_KEY = 6
    OTHER_KEY = 7
    EXPIRED_KEY = 8
    PROOF = 9
    FRAME = 10


_LASTING = frozenset(Refusal) - {Refusal.STRANGE, Refusal.PROOF, Refusal.FRAME}
"""Those that stay until a person mends something; the others may be the doing of a stranger."""
_TOLD = {
    Refusal.STRANGE: "what it got is not hansa's; something on the way speaks for this site",
    Refusal.VERSION: "it has another version of hansa's channel; install one version at both",
    Refusal.KIND: "one of the two proves itself by a run's secret and the other by a key; "
    "start both in the same way",
    Refusal.SECRET: "this site does not know its run's secret; start it from the same launcher",
    Refusal.NO_KEY: "this site showed no key; give it one of `hansa node keygen`",
    Refusal.UNKNOWN_KEY: "it does not know this site's key {own}; send its owner the line "
    "`hansa-key ...` that belongs to it",
    Refusal.OTHER_KEY: "it expected another key here than {own}; send its owner the line "
    "`hansa-key ...` that belongs to it, or mend the address that it has",
    Refusal.EXPIRED_KEY: "this site's key {own} has expired; make a new one and send the others "
    "its line",
    Refusal.PROOF: "the handshake did not hold; it was altered or repeated on the way",
    Refusal.FRAME: "a frame of this site did not hold; it was altered, repeated or left out on the "
    "way",
}


class ChannelError(WireError):
    """A channel that has ended; what it says fits into one line.

    Args:
        problem: what is wrong and what to do, without the other's address, which links know.
        why: the reason as the other end is told it; None: it was the other that ended it.
        lasting: the two do not go together until a person mends something; None: as ``why`` says.
    """

    def __init__(
        self, problem: str, why: Refusal | None = None, lasting: bool | None = None
    ) -> None:
        self.problem, self.why = problem, why
        self.lasting = why in _LASTING if lasting is None else lasting
        super().__init__(problem)


def refused(code: bytes, own: str) -> ChannelError:
    """What this side says when the other one refused it.

    Args:
        code: as it came.
        own: this site's fingerprint; empty where it has no key.
    """
    told = "for a reason that this version does not know; install one version at both"
    lasting = True
    with contextlib.suppress(ValueError):
        if len(code) == 1:
            why = Refusal(code[0])
            told, lasting = _TOLD[why], why in _LASTING
    problem = f"is refused by the other end: {told.format(own=own or '(none)')}"
    return ChannelError(problem, lasting=lasting)
