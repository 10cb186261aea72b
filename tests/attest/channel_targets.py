"""Fuzz targets of the attested channel's exchange: whatever a peer says, it is the agreed words of
this session, or one named refusal.

Both ends, their keys and their nonces stay the same, so that good words can be made bad.
Simulated evidence needs ``HANSA_SIMULATED_TEE=1``.
"""

from __future__ import annotations

import contextlib
import random
import struct
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from hansa.attest.attested import AttestedVouching
from hansa.attest.channel import AttestedVoucher
from hansa.attest.evidence import Evidence
from hansa.attest.simulation import SimulatedRoot
from hansa.engine.links.vouching import VouchError

from ..toy.mutating import mutated
from .attested_sites import between, policy_at, vouching_of

OPENS, SHOWS, ACCEPTS = "channel: nonce and digests", "channel: evidence", "channel: verdict"
WORDS = "channel: all words"
_LENGTH = struct.Struct(">H")


@cache
def members() -> tuple[AttestedVouching, AttestedVouching]:
    """Two members of one group."""
    with tempfile.TemporaryDirectory() as folder:
        policy, root = policy_at(Path(folder)), SimulatedRoot(bytes(32))
        one, two = (
            vouching_of(policy, root=root, chip=bytes([1 + k]) * 32, per_chip=None)
            for k in range(2)
        )
    return one, two


def ends() -> tuple[AttestedVoucher, AttestedVoucher]:
    """Both ends of the exchange, at its beginning."""
    one, two = between(*members())
    one._nonce, two._nonce = bytes([1]) * 32, bytes([2]) * 32
    return one, two


@cache
def agreed() -> tuple[bytes, bytes, bytes]:
    """What the first end says where all is well."""
    one, two = ends()
    (opening,) = one.begin()
    (evidence,) = one.heard(two.begin()[0])
    (verdict,) = one.heard(two.heard(opening)[0])
    return opening, evidence, verdict


def instead(place: int) -> Callable[[bytes], None]:
    """Say something else in the place of one word."""

    def one(data: bytes) -> None:
        words = [*agreed()]
        words[place] = data
        said(words)

    return one


def said(words: list[bytes]) -> None:
    """Say these words to the second end: it accepts nobody but who says what was agreed."""
    end, taken = ends()[1], list[bytes]()
    with contextlib.suppress(VouchError):
        for word in words:
            end.heard(word)
            taken.append(word)
    if not end.over:
        return
    opening, evidence, verdict = agreed()
    first, *others = taken
    assert first == opening  # evidence and verdict may cross on their way
    shown = [word for word in others if word[:1] == evidence[:1]]
    assert [Evidence.from_bytes(word[1:]) for word in shown] == [Evidence.from_bytes(evidence[1:])]
    assert [word for word in others if word not in shown] == [verdict]


def all_words(data: bytes) -> None:
    """A whole conversation: words with their lengths before them."""
    words, at = [], 0
    while at + _LENGTH.size <= len(data) and len(words) < 8:
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size + length
        words.append(data[at - length : at])
    said(words)


TARGETS: dict[str, Callable[[bytes], None]] = {
    OPENS: instead(0),
    SHOWS: instead(1),
    ACCEPTS: instead(2),
    WORDS: all_words,
}


def seeds(target: str) -> list[bytes]:
    """Good inputs of a target, and words that belong elsewhere."""
    if target != WORDS:
        return [agreed()[[OPENS, SHOWS, ACCEPTS].index(target)]]
    opening, evidence, verdict = agreed()
    orders = ([opening, evidence, verdict], [opening, verdict, evidence], [evidence, opening])
    return [b"".join(_LENGTH.pack(len(word)) + word for word in order) for order in orders]


def mutations(target: str, count: int, seed: int = 0) -> Iterator[bytes]:
    """So many mutated inputs of a target; some are another word of the same session as it is."""
    draws, good = random.Random(f"{seed} {target}"), seeds(target)
    others = [*good, *agreed()]
    for _ in range(count):
        if draws.random() < 0.02:
            yield draws.choice(others)
        else:
            yield mutated(draws.choice(good), draws, others)
