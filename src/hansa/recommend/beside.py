"""A run beside what is simple, and the lists that it makes, as tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from hansa.base.lazy import polars as pl
from hansa.recommend.baseline_settings import BASELINES_FILE
from hansa.report import RunFolder
from hansa.report.grid import Grid
from hansa.report.series import measurements, without_moments
from hansa.report.tables import final_table

CALLED = {
    "isolated": "isolated nodes",
    "global_mean": "mean of all ratings",
    "user_mean": "each user's own mean",
    "bias": "biases of users and items",
    "central_mf": "central matrix factorization",
    "popularity": "most popular items",
}
"""What a baseline is in words, in a reader's order."""
THIS = "this run"
_ERRORS = {
    "rmse": "RMSE, mean of nodes",
    "rmse_pooled": "RMSE pooled",
    "rmse_per_user": "RMSE, mean of users",
    "mae_pooled": "MAE pooled",
}
_LAST = ("rmse", "mae", "train_loss", "ratings")
_COSTS = ("bytes_sent", "modelled_time", "energy", "round_seconds")
_LISTS = ("ndcg", "hr", "recall", "precision", "mrr", "coverage", "novelty")
_SHOWN_AS = {"ndcg": "NDCG", "hr": "HR", "mrr": "MRR"}


def rows_of(folder: RunFolder) -> dict[str, Mapping[str, Any]]:
    """Figures by what came to them: this run first, as far as it is, then the baselines."""
    final = (folder.summary or {}).get("final") or {}
    table = folder.read_json(BASELINES_FILE) or {}
    ordered = {name: table[name] for name in CALLED if name in table}
    return {THIS: final, **ordered}


def list_names(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The figures of lists that there are, such as ``ndcg@10`` and ``ndcg@10_sampled99``."""
    every = {name for row in rows.values() for name in row if re.match(r"\w+@\d+", name)}
    return sorted(every, key=lambda name: (_LISTS.index(name.partition("@")[0]), len(name), name))


def baselines_table(folder: RunFolder, title: str = "") -> Grid:
    """This run and its baselines: errors in stars."""
    return Grid(title, ["", *_ERRORS.values()], _cells(rows_of(folder), _ERRORS))


def last_table(folder: RunFolder, *, every: bool = False) -> Grid:
    """What was measured last of nodes, and what that cost; what lists are like is told apart."""
    if every:
        return final_table(folder, every=True)
    metrics = without_moments(measurements(folder))
    return final_table(folder, metrics.filter(pl.col("name").is_in([*_LAST, *_COSTS])))


def lists_table(folder: RunFolder, title: str = "") -> Grid:
    """Figures of lists alone."""
    rows = rows_of(folder)
    names = list_names(rows)
    cells = _cells(rows, names)
    return Grid(title, ["", *map(list_label, names)], cells)


def groups_table(folder: RunFolder) -> Grid:
    """Errors of users and items that nobody trained on, of this run and its baselines."""
    rows = rows_of(folder)
    final = rows[THIS]
    cells = []
    for kind, ratings in (("users", "cold_user_ratings"), ("items", "cold_item_ratings")):
        if not final.get(f"cold_{kind}"):
            continue
        many = [f"{int(final[f'cold_{kind}']):,}", f"{int(final[ratings]):,}"]
        for who, row in rows.items():
            if row.get(f"rmse_cold_{kind}") is not None:
                cell = _cell(row[f"rmse_cold_{kind}"])
                cells.append([f"cold {kind}", CALLED.get(who, who), *many, cell])
    return Grid("", ["", "", "how many", "test ratings", "RMSE"], cells, words=2)


def fallbacks(folder: RunFolder) -> list[str]:
    """Which baselines fall back on what holds for all, and for how many test ratings."""
    by_count: dict[int, list[str]] = {}
    for name, row in rows_of(folder).items():
        if count := row.get("fallback_ratings"):
            by_count.setdefault(int(count), []).append(CALLED[name])
    return [
        f"{count:,} test ratings are of users who have none to train on; predicted as anybody's by "
        f"{', '.join(names)}"
        for count, names in by_count.items()
    ]


def list_label(name: str) -> str:
    """``ndcg@10_sampled99`` as people write it."""
    stem, _, rest = name.partition("@")
    length, _, sampled = rest.partition("_sampled")
    text = f"{_SHOWN_AS.get(stem, stem)}@{length}"
    return f"{text} of {sampled} sampled" if sampled else text


def _cells(rows: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> list[list[str]]:
    """A line for each that has any of these figures."""
    return [
        [CALLED.get(who, who), *(_cell(row.get(name)) for name in names)]
        for who, row in rows.items()
        if any(row.get(name) is not None for name in names)
    ]


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4f}"
