"""What a sweep came to: a row a setting, the page, and the table as files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hansa.base.lazy import polars as pl
from hansa.experiment.sweep.planned import PlannedRun, SweepPlan
from hansa.experiment.sweep.sweep_folder import SweepFolder
from hansa.report import RunFolder
from hansa.report.comparing import Group
from hansa.report.comparison import write_comparison
from hansa.report.grid import Grid
from hansa.report.scores import scores
from hansa.report.several.seeds import seed_statistics
from hansa.report.several.seeds_table import settings_of_seeds

PAGE, TABLE = "report.html", "table"
_TOLD = ("mean", "std", "n", "worst", "seeds")


def setting_rows(
    plan: SweepPlan, ended: Sequence[tuple[PlannedRun, RunFolder]]
) -> list[dict[str, Any]]:
    """One mapping a setting, in their order: what makes it, and statistics over its seeds.

    ``metric`` is the score by which it is judged, whose ``mean``, ``std`` (n - 1), ``n``,
    ``worst`` and ``seeds`` stand beside it; ``metrics`` has those of every figure.
    """
    folders = [folder for _, folder in ended]
    own_runs = [
        [k for k, (run, _) in enumerate(ended) if run.setting is setting]
        for setting in plan.settings
    ]
    groups = [Group(str(k), tuple(own)) for k, own in enumerate(own_runs) if own]
    frame = seed_statistics(folders, groups=groups) if folders else None
    by_group: dict[str, dict[str, Any]] = {}
    for row in [] if frame is None else frame.to_dicts():
        by_group.setdefault(row["setting"], {})[row["metric"]] = {key: row[key] for key in _TOLD}
    rows = []
    for number, (setting, own) in enumerate(zip(plan.settings, own_runs, strict=True)):
        metrics = by_group.get(str(number), {})
        main = next(iter(scores(list(metrics))), None)
        rows.append(
            {
                "setting": setting.words or setting.name,
                "changes": setting.changes,
                "runs": [str(ended[k][1].path) for k in own],
                "metric": main,
                **(metrics[main] if main else dict.fromkeys(_TOLD)),
                "metrics": metrics,
            }
        )
    return rows


def table(ended: Sequence[tuple[PlannedRun, RunFolder]]) -> Grid:
    """The table for a terminal: a row a setting."""
    return settings_of_seeds([folder for _, folder in ended])


def write_results(
    folder: SweepFolder, plan: SweepPlan, ended: Sequence[tuple[PlannedRun, RunFolder]]
) -> None:
    """Write the page, and the table of every figure of every setting as CSV and Parquet."""
    rows = []
    for row in setting_rows(plan, ended):
        for metric, told in row["metrics"].items():
            seeds = " ".join(map(str, told["seeds"]))
            rows.append({**_columns(row), "metric": metric, **told, "seeds": seeds})
    if rows:
        frame = pl.DataFrame(rows, infer_schema_length=None)
        frame.write_csv(folder.path / f"{TABLE}.csv")
        frame.write_parquet(folder.path / f"{TABLE}.parquet")
        write_comparison([run for _, run in ended], folder.path / PAGE)


def _columns(row: dict[str, Any]) -> dict[str, Any]:
    """What makes a setting, a column a field; what is no number or text in words."""
    plain = (str, int, float, bool, type(None))
    columns = {k: v if isinstance(v, plain) else str(v) for k, v in row["changes"].items()}
    return {"setting": row["setting"], **columns}
