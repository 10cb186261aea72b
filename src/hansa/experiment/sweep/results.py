"""What a sweep came to: a row a setting, the page, and the table as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hansa.base.lazy import polars as pl
from hansa.base.paths import short
from hansa.experiment.sweep.planned import PlannedRun, SweepPlan, as_text
from hansa.experiment.sweep.sweep_folder import SweepFolder
from hansa.report import RunFolder
from hansa.report.comparing import Group
from hansa.report.comparison import write_comparison
from hansa.report.grid import Grid
from hansa.report.marks import marked
from hansa.report.scores import scores
from hansa.report.series import final, measurements
from hansa.report.several.reaching import Target, reach_table, target_of, to_reach
from hansa.report.several.seeds import seed_statistics
from hansa.report.several.seeds_table import settings_of_seeds
from hansa.report.tables import diverged

PAGE, TABLE = "report.html", "table"
_TOLD = ("mean", "std", "n", "worst", "seeds")


def setting_rows(
    plan: SweepPlan, ended: Sequence[tuple[PlannedRun, RunFolder]]
) -> list[dict[str, Any]]:
    """One mapping a setting, in their order: what makes it, and statistics over its seeds.

    ``metric`` is the score by which it is judged, whose ``mean``, ``std`` (n - 1), ``n``,
    ``worst`` and ``seeds`` stand beside it; ``metrics`` has those of every figure. ``diverged`` are
    the seeds that did. Where there are figures to reach, ``reached`` has by target and by what was
    spent (round, bytes, seconds ...) the same, over the ``n`` of ``runs`` that got there.
    """
    folders = [folder for _, folder in ended]
    own_runs = _own_runs(plan, ended)
    groups = [Group(str(k), tuple(own)) for k, own in enumerate(own_runs) if own]
    reached = _reached(plan, ended, groups)
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
                "diverged": _diverged(ended, own),
                **({"reached": reached.get(str(number), {})} if reached else {}),
            }
        )
    return rows


def tables(plan: SweepPlan, ended: Sequence[tuple[PlannedRun, RunFolder]]) -> list[Grid]:
    """The tables for a terminal: a row a setting; and one for each figure to be reached."""
    folders, groups = [folder for _, folder in ended], named_groups(plan, ended)
    targets = _targets(plan, folders)
    grids = [settings_of_seeds(folders, groups=groups)]
    if targets:
        frame = to_reach(folders, targets, groups)
        grids += [reach_table(frame, target) for target in targets]
    return grids


def named_groups(plan: SweepPlan, ended: Sequence[tuple[PlannedRun, RunFolder]]) -> list[Group]:
    """The runs by setting, called by what was swept, and with how many of them diverged."""
    groups, taken = [], set()
    for setting, own in zip(plan.settings, _own_runs(plan, ended), strict=True):
        if not own:
            continue
        apart = {field: setting.changes[field] for field in plan.varied}
        name = ", ".join(_called(field, value) for field, value in apart.items())
        name = setting.words if not name or name in taken else name
        taken.add(name)
        lost = len(_diverged(ended, own))
        remark = f" ({lost} of {len(own)} diverged)" if lost else ""
        marks = ended[own[0]][1].marks
        groups.append(
            Group(marked((name or setting.name or "the run") + remark, marks), tuple(own))
        )
    return groups


def _called(field: str, value: Any) -> str:
    """``jwins``, ``lr 0.05``, ``choco gamma 0.5``: a value that was swept, in few words."""
    last = field.rpartition(".")[2]
    if isinstance(value, Mapping) and "name" in value:
        own = {key: item for key, item in value.items() if key != "name"}
        return " ".join([str(value["name"]), *(f"{key} {as_text(own[key])}" for key in own)])
    if isinstance(value, str):
        return (
            short(value) if last in ("algorithm", "name", "method", "model") else f"{last} {value}"
        )
    return f"{last} {as_text(value)}"


def _own_runs(plan: SweepPlan, ended: Sequence[tuple[PlannedRun, RunFolder]]) -> list[list[int]]:
    """The places among ``ended`` of each setting's runs."""
    return [
        [k for k, (run, _) in enumerate(ended) if run.setting is setting]
        for setting in plan.settings
    ]


def _diverged(ended: Sequence[tuple[PlannedRun, RunFolder]], own: Sequence[int]) -> list[int]:
    """The seeds, among some runs, of those that diverged."""
    return [ended[k][0].seed for k in own if diverged(ended[k][1])]


def _targets(plan: SweepPlan, folders: Sequence[RunFolder]) -> list[Target]:
    """What is to be reached: what was asked for, else what ends the runs."""
    main = next(iter(scores(list(final(measurements(folders[0]))["name"]))), "") if folders else ""
    wanted = list(plan.reach)
    for setting in () if wanted else plan.settings:
        until = getattr(setting.chosen, "until", None)
        if until is not None and until.reaches is not None and (until.metric or main):
            wanted.append(f"{until.metric or main}={until.reaches!r}")
    targets = [target_of(text) for text in dict.fromkeys(wanted)]
    measured = {name for folder in folders for name in measurements(folder)["name"].unique()}
    return [target for target in targets if target.metric in measured]


def _reached(
    plan: SweepPlan, ended: Sequence[tuple[PlannedRun, RunFolder]], groups: Sequence[Group]
) -> dict[str, dict[str, dict[str, Any]]]:
    """By group, by target and by what was spent: the statistics of those that got there."""
    folders = [folder for _, folder in ended]
    targets = _targets(plan, folders)
    every: dict[str, dict[str, dict[str, Any]]] = {}
    for row in to_reach(folders, targets, groups).to_dicts() if targets else ():
        own = every.setdefault(row["setting"], {}).setdefault(row["target"], {})
        own[row["metric"]] = {key: row[key] for key in (*_TOLD, "runs")}
    return every


def write_results(
    folder: SweepFolder, plan: SweepPlan, ended: Sequence[tuple[PlannedRun, RunFolder]]
) -> None:
    """Write the page, and the table of every figure of every setting as CSV and Parquet."""
    rows = []
    for row in setting_rows(plan, ended):
        for metric, told in row["metrics"].items():
            seeds = " ".join(map(str, told["seeds"]))
            rows.append({**_columns(row), "metric": metric, **told, "seeds": seeds})
        for target, spent in row.get("reached", {}).items():
            for axis, told in spent.items():
                own = {key: told[key] for key in _TOLD} | {
                    "seeds": " ".join(map(str, told["seeds"]))
                }
                rows.append({**_columns(row), "metric": f"{axis} to {target}", **own})
    if rows:
        frame = pl.DataFrame(rows, infer_schema_length=None)
        frame.write_csv(folder.path / f"{TABLE}.csv")
        frame.write_parquet(folder.path / f"{TABLE}.parquet")
        folders = [run for _, run in ended]
        reach = _targets(plan, folders)
        groups = named_groups(plan, ended)
        write_comparison(folders, folder.path / PAGE, reach=reach, groups=groups)


def _columns(row: dict[str, Any]) -> dict[str, Any]:
    """What makes a setting, a column a field; what is no number or text in words."""
    plain = (str, int, float, bool, type(None))
    columns = {k: v if isinstance(v, plain) else str(v) for k, v in row["changes"].items()}
    return {"setting": row["setting"], **columns}
