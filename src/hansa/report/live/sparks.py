"""What drawings of runs in a terminal share: the bar of rounds, and a line of bars of a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

_BARS = " ▁▂▃▄▅▆▇█"


def round_bar(done: int, rounds: int, width: int, colour: str) -> Text:
    """How many of all rounds are done, as a bar of ``width`` characters."""
    from rich.text import Text

    full = round(width * min(1.0, done / rounds))
    return Text.assemble(("━" * full, colour), ("─" * (width - full), "dim"))


def spark(values: Sequence[float | None], width: int = 32) -> str:
    """A line of bars, from the lowest value to the highest; empty where all are alike."""
    known = [value for value in values if value is not None]
    if len(known) < 2 or max(known) == min(known):
        return ""
    step = max(1, -(-len(known) // width))
    chosen = known[::-1][::step][::-1]
    low, high = min(chosen), max(chosen)
    span = (high - low) or 1.0
    return "".join(_BARS[1 + round((value - low) / span * (len(_BARS) - 2))] for value in chosen)
