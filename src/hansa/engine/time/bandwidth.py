"""Transfers that share links: who gets how much of a sender's upload and a receiver's download.

Data flow like a fluid: at any moment each transfer has a rate, no node's rates exceed its limits,
and rates change only when a transfer begins or ends. Two rules say who gets what:

* ``fair``: max-min fair by progressive filling (Bertsekas and Gallager, Data Networks, 6.5.2), as
  long TCP flows come close to: no transfer can get more without one that has no more getting less.
* ``greedy``: as CPFL's simulator: in the order of request each transfer takes what is free of both
  limits, min(free upload, free download), keeps it, waits where nothing is free, and takes what
  others free when they end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

Rule = Literal["fair", "greedy"]
Allot: TypeAlias = (
    "Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]"
)
_TIE = 1 + 1e-12  # transfers that end together end together, whatever the rounding
_NOTHING = 1e-9  # a part of a limit so small that it is rounding, not capacity


@dataclass(frozen=True)
class Segment:
    """A time in which rates stay.

    Attributes:
        begin: s.
        end: s.
        which: int64 [active], indices of the transfers under way or waiting.
        rates: float64 [active], bytes a second.
    """

    begin: float
    end: float
    which: np.ndarray
    rates: np.ndarray


@dataclass
class Transfers:
    """How transfers went.

    Attributes:
        finish: float64 [transfers], s.
        busy: float64 [nodes], seconds in which a node's link carried something.
        segments: all rates over time, if they were asked for.
    """

    finish: np.ndarray
    busy: np.ndarray
    segments: list[Segment] = field(default_factory=list)


def flow(
    senders: np.ndarray,
    receivers: np.ndarray,
    nbytes: np.ndarray,
    start: np.ndarray,
    up: np.ndarray,
    down: np.ndarray,
    rule: Rule = "fair",
    record: bool = False,
) -> Transfers:
    """Let transfers share links.

    Work grows with the square of the number of transfers.

    Args:
        senders: int64 [transfers], nodes.
        receivers: int64 [transfers], nodes.
        nbytes: bytes of each transfer, at least 0.
        start: s, when each is asked for; the order of request, ties by index.
        up: bytes a second that each node can send, above 0, float64 [nodes]; inf: no limit.
        down: as ``up``, to receive.
        rule: who gets what, see the module's text.
        record: keep the segments.
    """
    left = np.asarray(nbytes, dtype=np.float64).copy()
    start = np.asarray(start, dtype=np.float64)
    done = Transfers(start.copy(), np.zeros(len(up)))
    free = np.isinf(up[senders]) & np.isinf(down[receivers])
    waiting = np.argsort(start, kind="stable")
    waiting = waiting[((left > 0) & ~free)[waiting]]  # the others take no time
    active, rates = waiting[:0], np.zeros(0)
    allot = _fair if rule == "fair" else _greedy
    now = 0.0
    while len(active) or len(waiting):
        if not len(active):
            now = float(start[waiting[0]])
        begun = int(np.searchsorted(start[waiting], now, side="right"))
        active = np.concatenate([active, waiting[:begun]])
        rates, waiting = np.concatenate([rates, np.zeros(begun)]), waiting[begun:]
        s, r = senders[active], receivers[active]
        rates = allot(s, r, up, down, rates)
        with np.errstate(divide="ignore"):
            needed = left[active] / rates  # a transfer that waits needs for ever
        step, ends = float(needed.min()), True
        if len(waiting) and start[waiting[0]] < now + step:
            step, ends = float(start[waiting[0]]) - now, False
        after = now + step if ends else float(start[waiting[0]])
        if record:
            done.segments.append(Segment(now, after, active, rates))
        moving = rates > 0
        done.busy[np.union1d(s[moving], r[moving])] += step
        over = needed <= step * _TIE
        left[active] = np.where(over, 0, np.maximum(left[active] - rates * step, 0))
        done.finish[active[over]] = after
        now, active, rates = after, active[~over], rates[~over]
    return done


def _fair(
    senders: np.ndarray, receivers: np.ndarray, up: np.ndarray, down: np.ndarray, _: np.ndarray
) -> np.ndarray:
    """Max-min fair rates. In a turn every link that is tighter than all it meets is filled."""
    spare = np.concatenate([up, down])
    links = np.stack([senders, receivers + len(up)])
    rates, open_ = np.zeros(len(senders)), np.ones(len(senders), dtype=bool)
    while open_.any():
        used = links[:, open_]
        count = np.bincount(used.ravel(), minlength=len(spare))
        share = np.where(count > 0, spare / np.maximum(count, 1), np.inf)
        rate = share[used].min(axis=0)
        lowest = np.full(len(spare), np.inf)
        for side in used:
            np.minimum.at(lowest, side, rate)
        full = share <= lowest
        fixed = full[used[0]] & np.isfinite(share[used[0]])
        fixed |= full[used[1]] & np.isfinite(share[used[1]])
        chosen = np.flatnonzero(open_)[fixed]
        rates[chosen] = rate[fixed]
        for side in links:
            taken = np.bincount(side[chosen], weights=rates[chosen], minlength=len(spare))
            spare = np.maximum(spare - taken, 0)
        open_[chosen] = False
    return rates


def _greedy(
    senders: np.ndarray, receivers: np.ndarray, up: np.ndarray, down: np.ndarray, rates: np.ndarray
) -> np.ndarray:
    """First come, first served: everyone keeps its rate and takes what is free on both sides."""
    rates = rates.copy()
    free_up = up - np.bincount(senders, weights=rates, minlength=len(up))
    free_down = down - np.bincount(receivers, weights=rates, minlength=len(down))
    least_up = np.where(np.isinf(up), 0, up) * _NOTHING
    least_down = np.where(np.isinf(down), 0, down) * _NOTHING
    some = (free_up > least_up)[senders] & (free_down > least_down)[receivers]
    for k in np.flatnonzero(some):
        i, j = senders[k], receivers[k]
        if free_up[i] > least_up[i] and free_down[j] > least_down[j]:
            more = min(free_up[i], free_down[j])
            rates[k] += more
            free_up[i] -= more
            free_down[j] -= more
    return rates
