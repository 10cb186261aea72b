"""The seam of encoders: fitted on texts once, after that a text's vector never changes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from hansa.base.component import Component
from hansa.base.errors import ConfigError


class FittedEncoder(ABC):
    """An encoder that is ready."""

    @abstractmethod
    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """float32 [n, d] of n texts; rows may have any length, they are compared by cosine."""

    def grown(self, texts: Sequence[str]) -> FittedEncoder:
        """One that knows the words of a new task, too: vectors of former tasks gain zeros only."""
        return self

    def state(self) -> dict[str, Any]:
        """What JSON can hold and :meth:`Encoder.restored` needs."""
        return {}


class Encoder(Component, kind="encoder"):
    """Turns texts into vectors."""

    learns: ClassVar[bool] = False
    """Whether it is fitted on the tasks' texts. Of one that is not, an index without a task is the
    index that never had it, and no text has to leave its owner."""

    @abstractmethod
    def fitted(self, texts: Sequence[str]) -> FittedEncoder:
        """Ready for texts of these tasks.

        Raises:
            ConfigError: it cannot be made; names the field.
        """

    def restored(self, state: Mapping[str, Any]) -> FittedEncoder:
        """As it was when :meth:`FittedEncoder.state` was taken."""
        return self.fitted(())

    def check(self) -> None:
        """Refuse what cannot work before anything is trained.

        Raises:
            ConfigError: names the field.
        """


def usable(vectors: np.ndarray, texts: Sequence[str], field: str = "encoder") -> np.ndarray:
    """Vectors [n, d] of length 1.

    Raises:
        ConfigError: one is zero or not finite: it has no direction, and no task is near it.
    """
    vectors = np.asarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(texts):
        problem = f"gave {tuple(vectors.shape)} for {len(texts)} texts"
        raise ConfigError(field, None, problem, "float32 [n, d], a row a text")
    lengths = np.linalg.norm(vectors, axis=1)
    wrong = ~np.isfinite(lengths) | (lengths <= 0)
    if wrong.any():
        text = texts[int(wrong.argmax())]
        what = "zero" if np.isfinite(lengths[wrong.argmax()]) else "not finite"
        problem = f"its vector of {text[:60]!r} is {what}"
        raise ConfigError(field, None, problem, "a text with words that the encoder knows")
    return vectors / lengths[:, None]
