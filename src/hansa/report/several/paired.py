"""Paired differences: each setting against a baseline, over the seeds that both were run with.

With a seed come the division of the data, the first model and the graph, so that two settings of
one seed have much of their luck in common; differences within seeds are free of it. The interval
is that of Student's t of the mean difference. Beside the p-value of the paired t-test stands
Holm's, which allows for as many comparisons as there are settings against the baseline (Holm 1979,
"A simple sequentially rejective multiple test procedure"), and that of the exact test of all flips
of signs (Fisher 1935), which takes nothing for granted but can never be below 2 / 2^n.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import polars as pl
from hansa.base.lazy import stats
from hansa.report.comparing import (
    Group,
    comparison,
    data_name,
    groups_of,
    seeds_in,
    shown_scores,
)  # fmt: skip
from hansa.report.folder import RunFolder
from hansa.report.several.seeds import figures, seed_of
from hansa.report.units import dimension

LEVEL = 0.95
LEAST = 3  # seeds, for an interval or a p-value
_FLIPPED = 16  # seeds, of which all flips of signs are tried
_NOTHING = 1e-12  # of the differences' size: what they may waver and be the same
COLUMNS = (
    "metric", "unit", "setting", "baseline", "n", "difference", "low", "high", "p", "p_holm",
    "p_exact",
)  # fmt: skip


def paired_differences(
    folders: Sequence[RunFolder],
    metrics: Sequence[str] | None = None,
    baseline: str | None = None,
    rows: Sequence[Mapping[str, Any]] | None = None,
    groups: Sequence[Group] | None = None,
) -> pl.DataFrame:
    """One row a figure and setting but the baseline: the mean difference over shared seeds.

    Settings that were measured on other data than the baseline are left out.

    Args:
        folders: the runs.
        metrics: of which figures; None: of the scores.
        baseline: a setting's name, or a run's or its folder's; None: the first setting.
        rows: what ``comparison`` found, where it is at hand.
        groups: likewise of ``groups_of``.

    Returns:
        metric, unit, setting, baseline; n, the seeds that both have a finite figure of;
        difference, setting less baseline, null where n is 0; low and high, the ends of the 95 %
        interval of Student's t, each comparison for itself; p of the paired t-test; p_holm, for
        all settings against the baseline together; p_exact of all flips of signs, up to 16 seeds;
        seeds. With fewer than three seeds there is neither interval nor p. Where all seeds differ
        by exactly as much, that is the interval, and no t-test says more.

    Raises:
        ConfigError: the baseline is none of the settings.
    """
    rows, groups = rows or comparison(folders), groups or groups_of(folders)
    base = groups[place_of(baseline, folders, rows, groups)]
    data = data_name(folders[base.runs[0]])
    groups = [group for group in groups if data_name(folders[group.runs[0]]) == data]
    every = [figures(row) for row in rows]
    found: list[dict[str, Any]] = []
    for metric in shown_scores(list(rows)) if metrics is None else metrics:
        lines = []
        for group in groups:
            if group is base:
                continue
            fine = _paired(folders, every, group, base, metric)
            seeds = sorted(s for k, _ in fine if (s := seed_of(folders[k])) is not None)
            names = {"metric": metric, "unit": dimension(metric), "setting": group.name}
            names["baseline"] = base.name
            lines.append({**names, **of_differences([d for _, d in fine]), "seeds": seeds})
        corrected = holm([line["p"] for line in lines])
        found += [{**line, "p_holm": p} for line, p in zip(lines, corrected, strict=True)]
    schema: dict[str, Any] = dict.fromkeys(COLUMNS, pl.Float64)
    schema |= dict.fromkeys(COLUMNS[:4], pl.String)
    return pl.DataFrame(found, schema={**schema, "n": pl.Int64, "seeds": pl.List(pl.Int64)})


def paired_values(
    folders: Sequence[RunFolder],
    rows: Sequence[Mapping[str, Any]],
    groups: Sequence[Group],
    setting: str,
    metric: str,
) -> dict[str, list[float]]:
    """By every other setting the differences over shared seeds: this setting's figure less its.

    Args:
        folders: the runs.
        rows: what ``comparison`` found.
        groups: what ``groups_of`` found.
        setting: the name of the one from whose figures the others' are taken.
        metric: of which figure; seeds where one of the two has none are left out.
    """
    every = [figures(row) for row in rows]
    one = next(group for group in groups if group.name == setting)
    return {
        other.name: [d for _, d in _paired(folders, every, one, other, metric)]
        for other in groups
        if other is not one
    }


def of_differences(differences: Sequence[float]) -> dict[str, Any]:
    """The mean of paired differences with its interval and its p-values (None: there is none)."""
    d, n = np.asarray(differences, float), len(differences)
    mean = float(d.mean()) if n else None
    row = dict.fromkeys(("low", "high", "p", "p_exact"), None) | {"n": n, "difference": mean}
    if n < LEAST or mean is None:
        return row
    deviation = float(d.std(ddof=1))
    if deviation <= _NOTHING * np.abs(d).max():
        p = None if d.any() else 1.0
        return row | {"low": mean, "high": mean, "p": p, "p_exact": _flips(d)}
    error = deviation / math.sqrt(n)
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, n - 1))
    return row | {"low": mean - half, "high": mean + half, "p": p, "p_exact": _flips(d)}


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values corrected by Holm's steps, in their order; what is None counts for nothing."""
    order = sorted((p, k) for k, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for step, (p, k) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - step) * p))
        corrected[k] = highest
    return corrected


def shared(folders: Sequence[RunFolder], one: Group, other: Group) -> list[tuple[int, int]]:
    """Places of runs with equal seeds, (of one, of the other), where it is clear who belongs.

    Where a setting has seeds beside the run's own, such as ``data.seed``, all that both have count.
    """
    sides = [{k: seeds_in(folders[k]) for k in group.runs} for group in (one, other)]
    common = set.intersection(*(set(seeds) for side in sides for seeds in side.values()))
    keyed: list[dict[tuple[Any, ...], list[int]]] = [{}, {}]
    for side, into in zip(sides, keyed, strict=True):
        for k, seeds in side.items():
            into.setdefault(tuple(repr(seeds[name]) for name in sorted(common)), []).append(k)
    if not common:
        return []
    return [
        (mine[0], keyed[1][key][0])
        for key, mine in keyed[0].items()
        if len(mine) == len(keyed[1].get(key, ())) == 1
    ]


def place_of(
    baseline: str | None,
    folders: Sequence[RunFolder],
    rows: Sequence[Mapping[str, Any]],
    groups: Sequence[Group],
) -> int:
    """Which of the groups a name means.

    Raises:
        ConfigError: none of them.
    """
    if baseline is None:
        return 0
    for k, group in enumerate(groups):
        names = {group.name}
        for run in group.runs:
            names |= {rows[run]["run"], folders[run].path.name, str(folders[run].path)}
        if baseline.rstrip("/") in names:
            return k
    names = {group.name: None for group in groups}  # type: ignore[assignment]
    raise ConfigError("baseline", baseline, "is no setting here", f"one of: {'; '.join(names)}")


def _paired(
    folders: Sequence[RunFolder],
    every: Sequence[Mapping[str, float]],
    one: Group,
    other: Group,
    metric: str,
) -> list[tuple[int, float]]:
    """(place of the run of one, its figure less the other's) of shared seeds that have both."""
    pairs = [
        (k, every[k].get(metric), every[place].get(metric))
        for k, place in shared(folders, one, other)
    ]
    return [(k, a - b) for k, a, b in pairs if _finite(a, b)]  # type: ignore[operator]


def _flips(d: np.ndarray) -> float | None:
    if len(d) > _FLIPPED:
        return None
    if not d.any():
        return 1.0
    test = stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    return float(test.pvalue)


def _finite(*values: float | None) -> bool:
    return all(value is not None and math.isfinite(value) for value in values)
