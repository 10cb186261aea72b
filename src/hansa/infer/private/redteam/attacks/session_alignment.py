"""Answers of sessions that are shuffled differently, brought into one order."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.infer.private.redteam.attacks.extraction import (
    BUDGET,
    SHARES,
    SHUFFLE,
    UNPROTECTED,
    Expected,
    ExtractionAttack,
    Guess,
)
from hansa.infer.private.redteam.oracle import Oracle, Refused
from hansa.infer.private.redteam.solving import solve_rounded

_ALIGNED: tuple[Expected, str] = (
    "all", "two common queries a session order its channels, and ordinary queries do the rest"
)  # fmt: skip
_HIGH = 128
_SPARE = 8


@register("session_alignment", paper="Li et al.", year=2026, url="https://arxiv.org/abs/2605.04901")
class SessionAlignment(ExtractionAttack):
    """Short sessions with ordinary inputs, aligned by two inputs that all have in common.

    Sorting the answers to the common inputs gives every session's channels one order; equations of
    all sessions then go into one least squares. No input is out of the ordinary.
    """

    each: int = Field(25, ge=1, description="queries of a session")

    layers: ClassVar[tuple[str, ...]] = ("matrix",)
    takes: ClassVar[tuple[str, ...]] = ("matrix",)
    expected: ClassVar[dict[str, tuple[Expected, str]]] = {
        UNPROTECTED: _ALIGNED,
        SHUFFLE: _ALIGNED,
        BUDGET: ("chance", "fewer equations than unknowns pass, over all sessions of a client"),
        SHARES: ("chance", "the client decrypts uniform numbers"),
    }

    def guess(self, oracle: Oracle) -> Guess:
        """The weights of all sessions' equations."""
        shape, size = oracle.term.weight.shape, int(np.prod(oracle.shape))
        common = _row(0, size), _row(1, size)
        inputs: list[np.ndarray] = []
        answers: list[np.ndarray] = []
        note = ""
        try:
            while len(inputs) < size + 1 + _SPARE:
                told = [oracle.ask(row.reshape(oracle.shape)).numbers[:, 0, 0] for row in common]
                order = np.lexsort(told)  # two, so that hardly any channels tie
                for _ in range(self.each):
                    row = _row(len(inputs) + 2, size)
                    seen = oracle.ask(row.reshape(oracle.shape)).numbers[:, 0, 0]
                    inputs.append(row)
                    answers.append(seen[order])
                oracle = oracle.another()
        except Refused as why:
            note = str(why)
        if not inputs:
            return Guess(np.zeros(shape, np.int64), note)
        matrix = np.concatenate([np.stack(inputs), np.ones((len(inputs), 1), np.int64)], 1)
        solved = solve_rounded(matrix, np.stack(answers))
        return Guess(solved[:-1].T.reshape(shape), note)


def _row(k: int, size: int) -> np.ndarray:
    """An ordinary input of the client's, int64 [size]; which one says its number."""
    steps = np.arange(size, dtype=np.uint64) + np.uint64(size * k + 1)
    mixed = steps * np.uint64(0x9E3779B97F4A7C15)
    return ((mixed ^ (mixed >> np.uint64(29))) >> np.uint64(32)).astype(np.int64) % _HIGH
