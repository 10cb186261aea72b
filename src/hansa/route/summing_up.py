"""The table of a run: regimes by methods, over seeds, normalised to each pool's own oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hansa.route.evaluation import normalised

CLEAN, NOISY = "clean", "noisy"


def regime_label(pool: str, regime: str) -> str:
    """What tables call a regime: of the spoilt pool with that before it."""
    return regime if pool == CLEAN else f"{pool}_{regime}"


def summed_up(measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """``table`` and what else a summary says of pools that were tried.

    A row: ``regime``, ``method``, ``score`` (the mean over domains of the score by the oracle's
    with everything there; None where the oracle gets nothing right), ``raw`` (the mean score),
    ``touched`` (adapters a query), ``domains`` (raw scores), ``seeds``.
    """
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in measured:
        oracle = oracle_of(one)
        for row in one["rows"]:
            score = normalised(row["domains"], oracle)
            at = regime_label(one["pool"], row["regime"]), row["method"]
            rows.setdefault(at, []).append({**row, "score": score})
    table = []
    for (regime, method), some in rows.items():
        scores = [row["score"] for row in some if row["score"] is not None]
        domains = {d: _mean([row["domains"][d] for row in some]) for d in some[0]["domains"]}
        table.append(
            {
                "regime": regime,
                "method": method,
                "score": _mean(scores) if scores else None,
                "low": min(scores, default=None),
                "high": max(scores, default=None),
                "raw": _mean([row["raw"] for row in some]),
                "touched": _mean([row["touched"] for row in some]),
                "domains": domains,
                "seeds": len(some),
            }
        )
    return {
        "table": table,
        "pools": [
            {key: one[key] for key in ("seed", "pool", "adapters", "association", "fit",
                                       "retrieval", "abstention", "refused") if key in one}
            for one in measured
        ],
        "peers": [{"seed": one["seed"], **one["peers"]} for one in measured if "peers" in one],
    }  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def oracle_of(measured: Mapping[str, Any]) -> dict[str, float]:
    """The oracle's scores by domain in what was measured of a pool; none before it was."""
    for row in measured["rows"]:
        if row["method"] == "oracle":
            return dict(row["domains"])
    return {}
