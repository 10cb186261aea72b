"""What takes part in a run before all have told what they must: a job, or the makings of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from hansa.engine.job import Job

Tells = Mapping[str, Any]
"""What a party tells when it joins: plain data and NumPy arrays, as control messages carry them."""


class Party(Protocol):
    """What a site builds before it meets the others. A :class:`Job` is one that is whole."""

    def tells(self) -> Tells:
        """What it tells all parties when it joins."""

    def joins(self, tells: Sequence[Tells]) -> Job:
        """Its job, once it has what all parties told, its own among them.

        Args:
            tells: of all parties, by their number.

        Raises:
            ConfigError: what others told does not go with what is here.
            WireError: what another told is malformed.
            NotTold: a client is missing.
        """
