"""How a run is told in words: how it ended, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence

from hansa.report.measured import Measured
from hansa.report.tables import diverged, totals
from hansa.report.units import number, quantity

EARLY = "stopped early"


def status(of: Measured) -> str:
    """How a run ended, in a word: its summary's, or that it ended by its own rule."""
    word = str(of.summary.get("status", "unfinished"))
    early = of.summary.get("ended") or _asked(of) > _done(of)
    return EARLY if word == "finished" and early else word


def ending(of: Measured) -> str:
    """How a run ended, as the end of a sentence that began with who did what."""
    done, asked = _done(of), _asked(of)
    rounds = _rounds(done)
    after = f" after {rounds}" if done else " before its first round was over"
    of_asked = f" of {number(asked)}" if asked > done > 0 else ""
    match status(of):
        case "finished":
            return f"for {rounds} and finished" if done else "and finished"
        case "stopped early":
            why = of.summary.get("ended")
            how = "early" if why else "by its own rule"
            because = f", as {why}" if why else ""
            return f"and stopped {how}{after}{of_asked}{because}"
        case "diverged":
            return f"for {rounds} and diverged{_where(of)}"
        case "interrupted":
            saved = of.summary.get("saved", 0)
            keeps = f", the last checkpoint is of round {number(saved)}" if saved else ""
            return f"until it was interrupted{after}{of_asked}{keeps}"
        case "failed":
            return f"until it failed{after}{of_asked}{_error(of)}"
        case "unfinished":
            begun = f"{after}{of_asked}" if done else ""
            return f"and has not ended: it goes on, or was killed{begun}"
        case other:
            return f"and is {other}{after}{of_asked}"


def cost(of: Measured, names: Sequence[str] = ("bytes", "modelled_time", "energy", "time")) -> str:
    """What a run spent in all, as a sentence; empty where nothing was measured."""
    words = {"bytes": "sent", "modelled_time": "of modelled time", "time": "of wall time"}
    spent = totals(of.run, of.metrics)
    parts = [
        f"{quantity(spent[name], name)} {words.get(name, 'of ' + name)}".strip()
        for name in names
        if name in spent
    ]
    return f"It cost {listed(parts)}." if parts else ""


def listed(parts: Sequence[str]) -> str:
    """Words as a list in a sentence: a, b and c."""
    *first, last = parts or [""]
    return f"{', '.join(first)} and {last}" if first else last


def _rounds(count: int) -> str:
    return f"{number(count)} round{'s' * (count != 1)}"


def _done(of: Measured) -> int:
    # An interrupt may come between the end of a round and what the summary says of it.
    return max(of.rounds, *(int(of.summary.get(name) or 0) for name in ("rounds", "saved")))


def _asked(of: Measured) -> int:
    return int(of.config.get("rounds") or 0)


def _where(of: Measured) -> str:
    event = diverged(of.run)
    return f", first in round {number(event['round'])}" if event else ""


def _error(of: Measured) -> str:
    """What a failed run said of its end."""
    said = [event for event in of.run.events() if event["kind"] == "failed"]
    text = str(said[-1].get("error", "")).partition("\n")[0] if said else ""
    return f": {text}" if text else ""
