"""The table of a run: each rule's rows over seeds, and a line a rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hansa.infer.robust.measuring_attacks import ANY, CLEAN, WORST

TABLE = "table.json"


def summed_up(measured: Sequence[dict[str, Any]], f: int) -> dict[str, Any]:
    """``table``, a row for each rule, attack, identity and f, and ``rules``, a row for each rule.

    ``accuracy`` is the mean over seeds, ``low`` and ``high`` its range.

    Args:
        measured: what is known of each seed and rule.
        f: how many lie in the line of a rule.
    """
    values: dict[tuple[str, str, str, int], list[float]] = {}
    for one in measured:
        for row in one["rows"]:
            key = (one["aggregator"], row["attack"], row["identity"], row["f"])
            values.setdefault(key, []).append(row["accuracy"])
    table = [
        {
            "aggregator": name,
            "attack": attack,
            "identity": identity,
            "f": f,
            "accuracy": sum(each) / len(each),
            "low": min(each),
            "high": max(each),
            "seeds": len(each),
        }
        for (name, attack, identity, f), each in values.items()
    ]
    names = list(dict.fromkeys(one["aggregator"] for one in measured))
    return {"table": table, "rules": [_rule(name, measured, table, f) for name in names]}


def _rule(
    name: str, measured: Sequence[dict[str, Any]], table: Sequence[dict[str, Any]], f: int
) -> dict[str, Any]:
    own = [one for one in measured if one["aggregator"] == name]
    rows = [row for row in table if row["aggregator"] == name]

    def accuracy(attack: str, identity: str) -> float | None:
        fit = [
            row["accuracy"]
            for row in rows
            if (row["attack"], row["identity"]) == (attack, identity)
            and row["f"] == (0 if attack == CLEAN else f)
        ]
        return fit[0] if fit else None

    def mean(key: str) -> float:
        return sum(one[key] for one in own) / len(own)

    figures = list(dict.fromkeys(k for one in own for k in one.get("figures", {})))
    return {
        "aggregator": name,
        "clean": accuracy(CLEAN, "fixed"),
        "fixed": accuracy(WORST, "fixed"),
        "worst": accuracy(WORST, "worst"),
        "certified": accuracy(ANY, "certified"),
        "how": own[0]["how"],
        "train_seconds": mean("train_seconds"),
        "measure_seconds": sum(sum(one["seconds"].values()) for one in own) / len(own),
        "query_ms": mean("query_ms"),
        "certify_ms": mean("certify_ms"),
        **{k: sum(one["figures"][k] for one in own) / len(own) for k in figures},
    }
