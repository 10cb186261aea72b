"""Algorithms with another scale (lambda), to be tuned on validation examples."""

from __future__ import annotations

from collections.abc import Mapping

from hansa.combine.merge.algorithms.merging import MergingAlgorithm


def with_scale(algorithm: MergingAlgorithm, scale: float) -> MergingAlgorithm | None:
    """The algorithm with this scale, its own or that of what it is made of; None: it has none."""
    if "scale" in type(algorithm).model_fields:
        return algorithm.model_copy(update={"scale": scale})
    inner = getattr(algorithm, "inner", None)
    if isinstance(inner, MergingAlgorithm):
        scaled = with_scale(inner, scale)
        return None if scaled is None else algorithm.model_copy(update={"inner": scaled})
    return None


def variants(
    named: Mapping[str, MergingAlgorithm], scales: tuple[float, ...]
) -> dict[str, dict[float | None, MergingAlgorithm]]:
    """Of each algorithm, what is tried by its scale; None: as it is."""
    tried: dict[str, dict[float | None, MergingAlgorithm]] = {}
    for name, algorithm in named.items():
        scaled = {scale: with_scale(algorithm, scale) for scale in scales}
        whole: dict[float | None, MergingAlgorithm] = {
            scale: one for scale, one in scaled.items() if one is not None
        }
        tried[name] = whole or {None: algorithm}
    return tried
