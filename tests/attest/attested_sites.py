"""Members of a simulated group, in one process: their vouching, and exchanges between two."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

from hansa.attest.attested import Attested, AttestedVouching
from hansa.attest.channel import AttestedVoucher
from hansa.attest.simulation import SimulatedRoot
from hansa.engine.links.vouching import Meeting, VouchError

POLICY = "simulated: true\nany_measurement: true\n"
HARDWARE = "platforms: [tdx]\nproducts: [Intel]\nany_measurement: true\n"
ROOT = SimulatedRoot.generate()
DIALS = Meeting("sha256:one", "sha256:two", 1, bytes(range(32)), True)
"""The dialler's end of a session of sites 0 and 1."""


def policy_at(folder: Path, text: str = POLICY, name: str = "policy.yaml") -> Path:
    """A policy's file."""
    path = folder / name
    path.write_text(text)
    return path


def vouching_of(
    policy: Path,
    *,
    root: SimulatedRoot = ROOT,
    chip: bytes | None = None,
    config: dict[str, Any] | None = None,
    run: str = "run",
    **settings: Any,
) -> AttestedVouching:
    """A simulated member's."""
    channel = Attested.resolve(
        {"name": "attested", "policy": policy, "attester": "simulated", **settings}
    )
    told = {"simulated": root.member(chip).dump()}
    made = channel.vouching(run, config or {}, told)
    assert isinstance(made, AttestedVouching)
    return made


def listens(meeting: Meeting) -> Meeting:
    """The other end of a session."""
    ends = {"own": meeting.peer, "peer": meeting.own, "dials": not meeting.dials}
    return replace(meeting, **ends, site=1 - meeting.site)


def fresh() -> Meeting:
    """The dialler's end of another session of the same sites."""
    return replace(DIALS, binding=secrets.token_bytes(32))


def between(
    one: AttestedVouching, two: AttestedVouching, meeting: Meeting = DIALS
) -> tuple[AttestedVoucher, AttestedVoucher]:
    """Both ends of a new exchange."""
    return one.between(meeting), two.between(listens(meeting))


def talk(one: AttestedVoucher, two: AttestedVoucher) -> dict[int, VouchError]:
    """Carry words until neither has more; what went wrong, by who said so (0, 1)."""
    ends, errors = (one, two), dict[int, VouchError]()
    words = [(k, word) for k, end in enumerate(ends) for word in end.begin()]
    while words:
        k, word = words.pop(0)
        if 1 - k in errors:
            continue
        try:
            words += [(1 - k, answer) for answer in ends[1 - k].heard(word)]
        except VouchError as error:
            errors[1 - k] = error
    return errors


def evidence_of(voucher: AttestedVoucher, opening: bytes) -> bytes:
    """The word with an end's evidence, in answer to the other's first word."""
    (word,) = voucher.heard(opening)
    return word
