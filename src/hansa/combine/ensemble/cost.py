"""What one client sends and receives, by FENS's formula; counted bytes stand beside it."""

from __future__ import annotations

BYTES = 4  # of a float32


def one_shot(model_bytes: float) -> float:
    """OFL: the first model down, the trained one up."""
    return 2 * model_bytes


def iterative(model_bytes: float, rounds: int) -> float:
    """FL: so many models down and up; to the round of the best accuracy."""
    return 2 * model_bytes * rounds


def ensemble(
    model_bytes: float, members: int, parameters: int, rounds: int, *, own: bool = True
) -> float:
    """FENS: one shot, the ensemble at a fourth of its size, and phase 2 on ``parameters`` numbers.

    Args:
        own: a client's own model is sent back to it as well.
    """
    down = (members if own else members - 1) * model_bytes / 4
    return one_shot(model_bytes) + down + 2 * rounds * parameters * BYTES
