"""The kind of component that an attack on a server's weights is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from hansa.base.component import Component
from hansa.infer.private.redteam.oracle import Oracle

Expected = Literal["all", "part", "chance", "any"]
UNPROTECTED, SHUFFLE, BUDGET, SHARES = "unprotected", "shuffle", "budget", "shares"
MODES = (UNPROTECTED, SHUFFLE, BUDGET, SHARES)
"""What protects weights; the first exists for the red team alone and is never served."""


@dataclass(frozen=True)
class Guess:
    """What an attack has come to.

    Attributes:
        weights: int64 [O, c, kh, kw], of the layer's first c input channels.
        note: what to say beside the attack's own text.
    """

    weights: np.ndarray
    note: str = ""


class ExtractionAttack(Component, kind="extraction"):
    """A client that wants a layer's weights."""

    layers: ClassVar[tuple[str, ...]]
    """Which of the red team's own layers it is tried on."""

    takes: ClassVar[tuple[str, ...]] = ("convolution", "matrix", "last")
    """Which kinds of a program's layers it is tried on."""

    expected: ClassVar[dict[str, tuple[Expected, str]]]
    """By mode what an honest page says that it recovers, and why; modes that are not there do not
    concern it."""

    sure: ClassVar[bool] = True
    """Whether what it recovers does not depend on how large weights and images are."""

    bare_key: ClassVar[bool] = False
    """Whether the client's public key is a false one."""

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes that it is tried in."""
        return tuple(mode for mode in MODES if mode in self.expected)

    @property
    def flooding(self) -> int | None:
        """Bits of flooding; None: as it is served, the ceiling."""
        return None

    @property
    def logits_shown(self) -> bool:
        """Whether the last layer's numbers reach the client in mode shares, too."""
        return False

    def label(self) -> str:
        """Its name in tables, with the settings that are not the usual ones."""
        usual = {name: info.default for name, info in type(self).model_fields.items()}
        own = {name: value for name, value in self.model_dump().items() if value != usual[name]}
        shown = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in own.items())
        return type(self).name + f" ({shown})" * bool(own)

    def expects(self, mode: str) -> tuple[Expected, str]:
        """(what it recovers in a mode, why)."""
        return self.expected[mode]

    @staticmethod
    def score() -> Callable[[np.ndarray, np.ndarray], int]:
        """(guess, truth) -> weights that count as recovered."""
        from hansa.infer.private.redteam.scoring import right_up_to_order

        return right_up_to_order

    @abstractmethod
    def guess(self, oracle: Oracle) -> Guess:
        """The weights, from all that the oracle says before it refuses."""
