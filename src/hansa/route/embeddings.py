"""Where tasks lie: the mean of what an encoder makes of their validation inputs (LORAUTER)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hansa.base.errors import ConfigError
from hansa.route.encoders.encoder import FittedEncoder, usable


def embedded(encoder: FittedEncoder, texts: Sequence[str]) -> np.ndarray:
    """float32 [n, d], each of length 1.

    Raises:
        ConfigError: a vector is zero or not finite.
    """
    return usable(encoder.embed(texts), texts)


def centroid(vectors: np.ndarray, task: str = "") -> np.ndarray:
    """The direction [d] of the mean of vectors [n, d] of length 1.

    Raises:
        ConfigError: they cancel: the task lies nowhere.
    """
    mean = vectors.mean(0, dtype=np.float64)
    length = float(np.linalg.norm(mean))
    if not length > 1e-9:
        problem = "its texts' vectors cancel: the task lies nowhere"
        raise ConfigError(f"tasks.{task}" if task else "tasks", None, problem, "other examples")
    return (mean / length).astype(np.float32)


def left_out(vectors: np.ndarray) -> np.ndarray:
    """Of each of n vectors [n, d] its cosine [n] with the centroid of the others.

    Of one that is alone, with itself: nothing is left out.
    """
    if len(vectors) == 1:
        return np.ones(1, np.float32)
    others = vectors.sum(0, dtype=np.float64) - vectors
    lengths = np.maximum(np.linalg.norm(others, axis=1), 1e-12)
    return ((others * vectors).sum(1) / lengths).astype(np.float32)
