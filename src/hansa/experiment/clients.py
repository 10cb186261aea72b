"""Clients that answer: a kind of component, so that each verb can bring those that it makes.

Robust inference asks them what they say of examples whose classes are known, and of nothing else.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hansa.base.component import Component

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Answers:
    """What n clients say, in probabilities of K classes.

    Attributes:
        test: float32 [m, n, K], of examples that only measure.
        test_labels: int64 [m].
        server: float32 [s, n, K], of the server's own examples, which no client has trained on;
            None where it has none.
        server_labels: int64 [s].
        class_names: one a class, or none where they are numbers.
        notes: what a reader should know.
    """

    test: Tensor
    test_labels: Tensor
    server: Tensor | None = None
    server_labels: Tensor | None = None
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def members(self) -> int:
        """n."""
        return self.test.shape[1]

    @property
    def classes(self) -> int:
        """K."""
        return self.test.shape[2]


class Clients(Component, kind="clients"):
    """Models of several parties that answer the same questions."""

    def count(self) -> int | None:
        """How many there are, where the settings tell."""
        return None

    def check(self) -> None:
        """Refuse what cannot work, before anything is loaded.

        Raises:
            ConfigError: names the field.
        """

    def server_set(self, seed: int) -> tuple[Tensor, int, tuple[str, ...]] | None:
        """(labels int64 [s] of the server's examples, classes, their names), if they are known
        before anybody is trained or asked; raises as :meth:`answers` does."""
        return None

    @abstractmethod
    def answers(self, seed: int, path: Path, say: Callable[[str], None]) -> Answers:
        """What they say.

        Args:
            seed: of clients that are trained here.
            path: a folder of their own for what they leave, there or not.
            say: is told what begins.

        Raises:
            ConfigError, DataError, CheckpointError, RunError: they cannot answer.
        """
