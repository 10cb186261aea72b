"""What the benchmarks of forgetting share: a request's figures, means with the worst, tables."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from hansa.forget import Cost, Federation, Forgetting, Judge, Ledger
from hansa.forget.case import Case
from hansa.forget.federation import Asking
from hansa.forget.method import Exact
from hansa.forget.playing import tried

Row = dict[str, float]
WORST = {"forget": max, "apart": max, "retain": min, "backdoor": max, "canaries": max}
"""Which end of a column is the bad one. Of clients' own examples it is ``apart`` that counts."""
WHOLE = ("gradients", "checks", "bytes", "images", "sent kB", "stored kB")


class Bench:
    """A request on a run, tried in this process: the run stays as it is.

    Args:
        row: float32 [D], the model that it begins with; none: the run's.
    """

    def __init__(self, case: Case, row: Tensor | None = None) -> None:
        self.case = case
        self.row = case.server.models()[1][0].clone() if row is None else row

    def forgotten(self, method: Forgetting) -> tuple[Tensor, Ledger, dict[str, Any]]:
        """(the model [D], what it cost, what there is to say) of a method."""
        method.check(self.case)
        if isinstance(method, Exact):
            with tempfile.TemporaryDirectory() as place:
                again = method.train_again(self.case, Path(place) / "again")
            return again.row, again.ledger, again.story

        def program(federation: Federation) -> Asking[tuple[Tensor, Ledger, dict[str, Any]]]:
            row, story = yield from method.forget(federation)
            return row, federation.ledger, story

        return tried(self.case, program, row=self.row)

    def figures(self, row: Tensor) -> Row:
        """What :meth:`hansa.forget.Judge.figures` says of a model [D]."""

        def program(federation: Federation) -> Asking[Row]:
            judge = yield from Judge.of(federation)
            return (yield from judge.figures(row))

        return tried(self.case, program)

    def distance(self, row: Tensor, oracle: Tensor) -> Row:
        """How far a model [D] is from another."""

        def program(federation: Federation) -> Asking[Row]:
            judge = yield from Judge.of(federation)
            return (yield from judge.distance(row, oracle))

        return tried(self.case, program)


def served(bench: Bench, method: Forgetting) -> tuple[Tensor, Cost]:
    """(the model [D], what it cost) of one request."""
    row, ledger, _ = bench.forgotten(method)
    return row, ledger.total


def figures(judge: Bench, row: Tensor, cost: Cost | None, perfect: Tensor | None) -> Row:
    """A model's figures, accuracies in percent; ``apart`` and ``agree`` are to the oracle's.

    Args:
        cost: of the request; None where nothing was done.
        perfect: the oracle's model [D]; None where nobody trained one.
    """
    nan, found = float("nan"), judge.figures(row)
    distance = {} if perfect is None else judge.distance(row, perfect)
    return {
        **{name: 100 * value for name, value in found.items() if name != "membership_auc"},
        "auc": found["membership_auc"],
        "apart": 100 * abs(distance.get("forget_gap", nan)),
        "agree": 100 * distance.get("forget_agreement", nan),
        "gradients": nan if cost is None else cost.sample_gradients,
        "checks": nan if cost is None else cost.sample_checks,
        "bytes": nan if cost is None else cost.bytes,
        "seconds": nan if cost is None else cost.seconds,
    }


def mean(rows: Sequence[Mapping[str, float]]) -> Row:
    """Column by column, with ``worst NAME`` for those that have a bad end.

    A column that some rows lack is left out; a figure that is missing is left out of the mean.
    """
    found: Row = {}
    for name in rows[0]:
        if not all(name in row for row in rows):
            continue
        values = [row[name] for row in rows if not np.isnan(row[name])]
        found[name] = float(np.mean(values)) if values else float("nan")
        if name in WORST and f"worst {name}" not in rows[0]:
            found[f"worst {name}"] = WORST[name](values) if values else float("nan")
        elif name.startswith("worst "):  # of means that know their worst already
            end = WORST[name.removeprefix("worst ")]
            found[name] = end(values) if values else float("nan")
    return found


def over(found: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, Row]:
    """The mean of each method's rows, of those that have it."""
    names = dict.fromkeys(name for one in found for name in one)
    return {name: mean([one[name] for one in found if name in one]) for name in names}


def shown(value: float, name: str) -> str:
    """A cell."""
    if np.isnan(value):
        return "-"
    digits = {"auc": ".2f", "seconds": ".2f"} | dict.fromkeys(WHOLE, ",.0f")
    return format(value, digits.get(name, ".1f"))


def table(found: Mapping[str, Mapping[str, float]], columns: Sequence[str]) -> list[list[str]]:
    """Rows of text: a name and its cells."""
    return [[name, *(shown(row[c], c) for c in columns)] for name, row in found.items()]


def lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    text = "| " + " | ".join(header) + " |\n" + "|" + "---|" * len(header) + "\n"
    return text + "".join("| " + " | ".join(row) + " |\n" for row in rows)


def closest(found: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> str:
    """The methods by their mean distance to the oracle, the nearest first, in a sentence."""
    order = sorted((name for name in names if name in found), key=lambda n: found[n]["apart"])
    told = [
        f"{name} {found[name]['apart']:.1f} ({found[name]['worst apart']:.1f})" for name in order
    ]
    return "Points from the oracle, mean (worst), the nearest first: " + ", ".join(told) + "."
