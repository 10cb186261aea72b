"""Runs a sweep: checks all of it, runs what is left, and leaves a table and a page."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hansa.base.errors import ConfigError
from hansa.base.telling import doing
from hansa.base.temporary import passing_folder
from hansa.base.threads import cores
from hansa.experiment.places import default_folder, reserved
from hansa.experiment.sweep.crew import Crew, Order, Outcome, Places, on_this_machine
from hansa.experiment.sweep.planned import PlannedRun, Refused, Setting, SweepPlan, planned, refusal
from hansa.experiment.sweep.progress import SweepProgress
from hansa.experiment.sweep.sweep_file import SweepFile, swept_settings
from hansa.experiment.sweep.sweep_folder import ENDED, UNBEGUN, SweepFolder
from hansa.experiment.sweep.worker import DIVERGED, FAILED, FITS, INTERRUPTED, SPARED
from hansa.report import RunFolder
from hansa.report.folder import held

MakePlaces = Callable[[Path, int], Places]
"""Where processes live, of the folder of their accounts and the cores that each may use."""


@dataclass(frozen=True)
class How:
    """How a sweep is run, which changes nothing of what comes of it.

    Attributes:
        jobs: runs at a time; None: as many as this machine has cores for.
        skip_refused: run the rest where some settings cannot work.
        retry: have runs that failed tried again.
        pages: write each run's own page too.
        quiet: no progress.
        drop_diverged: a setting of which a run diverged gets no more seeds: they stay not begun.
        on: has Ray give each run a place: ``ray``, one of the sweep's own on this machine, or the
            ``HOST:PORT`` of a cluster all of whose machines see the sweep's folder. Empty: runs are
            processes here.
        places: where processes live.
    """

    jobs: int | None = None
    skip_refused: bool = False
    retry: bool = False
    pages: bool = False
    quiet: bool = False
    drop_diverged: bool = False
    on: str = ""
    places: MakePlaces = on_this_machine


@dataclass(frozen=True)
class Swept:
    """A sweep that has been run as far as it went.

    Attributes:
        outcomes: how each run ended, by its name.
    """

    folder: SweepFolder
    plan: SweepPlan
    outcomes: dict[str, Outcome]

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.folder.path

    def runs(self) -> list[RunFolder]:
        """The folders of the runs that came to an end, by settings and seeds."""
        return [folder for _, folder in self.ended()]

    def ended(self) -> list[tuple[PlannedRun, RunFolder]]:
        """The runs that came to an end, with their folders."""
        return self.folder.folders(self.plan)

    def table(self) -> list[dict[str, Any]]:
        """A row a setting: see :func:`hansa.experiment.sweep.results.setting_rows`."""
        from hansa.experiment.sweep.results import setting_rows

        return setting_rows(self.plan, self.ended())

    def with_status(self, *statuses: str) -> list[str]:
        """The names of the runs that ended so."""
        return [name for name, one in self.outcomes.items() if one["status"] in statuses]

    def facts(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        counts: dict[str, int] = {}
        for outcome in self.outcomes.values():
            counts[outcome["status"]] = counts.get(outcome["status"], 0) + 1
        failed = [
            {"run": name, "error": self.outcomes[name].get("error", "")}
            for name in self.with_status(FAILED)
        ]
        refused = [{"setting": one.words, "error": str(one.error)} for one in self.plan.refused]
        whole = set(counts) <= {*ENDED, SPARED}
        return {
            "sweep_dir": str(self.path),
            "verb": "sweep",
            "status": "finished" if whole else "unfinished",
            "seeds": list(self.plan.seeds),
            "runs": counts,
            "settings": self.table(),
            "failed": failed,
            "refused": refused,
        }


def sweep(
    settings: SweepFile | Mapping[str, Any] | str | Path,
    out: str | Path | None = None,
    jobs: int | None = None,
    how: How = How(),
) -> Swept:
    """Run every setting of a sweep with every seed.

    Args:
        settings: of a sweep; its file's path; or plain data. A file of another verb, or an
            algorithm's name, is a sweep of that alone.
        out: its folder; by default a new one under ``runs/``.
        jobs: runs at a time, as of ``how``.
        how: it is run, which changes nothing of what comes of it.

    Raises:
        ConfigError: a setting that cannot work, before any run starts.
        KeyboardInterrupt: it was asked to end before any run had begun.
    """
    chosen = settings if isinstance(settings, SweepFile) else SweepFile.parse(as_sweep(settings))
    how = how if jobs is None else replace(how, jobs=jobs)
    plan = planned(chosen)
    _refuse(plan, how)
    place = reserved(default_folder(chosen)) if out is None else contextlib.nullcontext(Path(out))
    with place as path:
        folder = SweepFolder(path.expanduser())
        folder.check_free()
        with _places(plan, how) as (places, several):
            plan = _checked(plan, how, places, several)
            with held(folder.path):
                folder.write(chosen)
                folder.keep(plan)
                return _work(folder, plan, how, places, several)


def resume_sweep(
    path: str | Path,
    changes: Mapping[str, Any] | None = None,
    how: How = How(),
) -> Swept:
    """Go on with a sweep: runs that ended are kept, interrupted ones go on from their checkpoints.

    Args:
        changes: more ``seeds``, or more ``samples`` of what is random.

    Raises:
        CheckpointError: it is no sweep's folder, or another process runs it.
        ConfigError: what cannot change would, or some seeds are not there any more.
    """
    folder = SweepFolder.open(path)
    with held(folder.path):
        before = SweepFile.parse(folder.read())
        again = SweepFile.parse({**folder.read(), **(changes or {})})
        plan, known = planned(again), planned(before)
        lost = {run.name for run in known.runs} - {run.name for run in plan.runs}
        if lost:
            names = ", ".join(sorted(lost)[:3])
            problem = f"would leave out runs that are there, such as {names}"
            raise ConfigError("seeds", None, problem, "those that there were, and more")
        _refuse(plan, replace(how, skip_refused=how.skip_refused or bool(known.refused)))
        if not any(_is_left(folder.outcome(run), how) for run in plan.runs):
            if again != before:
                folder.write(again)
            return _work(folder, plan, how, None, 1)
        with _places(plan, how) as (places, jobs):
            folder.write(again)
            folder.keep(plan)
            return _work(folder, plan, how, places, jobs)


def as_sweep(target: Mapping[str, Any] | str | Path) -> dict[str, Any]:
    """The settings of a sweep: those in a sweep's file, or one of whatever else is named."""
    settings = dict(target) if isinstance(target, Mapping) else swept_settings(target)
    verb = SweepFile.own_verb()
    return settings if settings.get("verb") == verb else {"verb": verb, "run": settings}


def cores_each(plan: SweepPlan) -> int:
    """Cores that a run takes: one for each of its workers."""
    runtimes = (getattr(setting.chosen, "runtime", None) for setting in plan.settings)
    return max([1, *(getattr(runtime, "workers", 1) for runtime in runtimes)])


def default_jobs(plan: SweepPlan) -> int:
    """As many runs at a time as there are cores for."""
    return max(1, min(cores() // cores_each(plan), len(plan.runs)))


def _refuse(plan: SweepPlan, how: How) -> None:
    every = len(plan.settings) + len(plan.refused)
    if plan.refused and not (how.skip_refused and plan.settings):
        raise refusal(plan.refused, every)


@contextlib.contextmanager
def _places(plan: SweepPlan, how: How) -> Iterator[tuple[Places, int]]:
    """Where processes live, and how many at a time; they end with this."""
    jobs = default_jobs(plan) if how.jobs is None else how.jobs
    if jobs < 1:
        raise ConfigError("jobs", jobs, "is no number of runs", "1 or more")
    if how.on:
        with _on_ray(plan, how) as both:
            yield both
        return
    with passing_folder("hansa-sweep-") as logs:
        places = how.places(logs, max(1, cores() // jobs))
        try:
            yield places, jobs
        finally:
            places.close()


@contextlib.contextmanager
def _on_ray(plan: SweepPlan, how: How) -> Iterator[tuple[Places, int]]:
    """Ray's places for runs, and for how many at a time it has cores."""
    from hansa.experiment.sweep.on_ray import OnRay, check_runs

    runtimes = (getattr(setting.chosen, "runtime", None) for setting in plan.settings)
    check_runs(how.on, [getattr(runtime, "name", "") for runtime in runtimes])
    each = cores_each(plan)
    own = how.jobs * each if how.jobs else cores()
    logs = tempfile.mkdtemp(prefix="hansa-sweep-")
    doing("starting Ray" if how.on == "ray" else f"reaching Ray at {how.on}")
    try:
        places = OnRay(Path(logs), cores(), how.on, own, each)
    except ConfigError:  # where else it does not come, its log stays
        shutil.rmtree(logs, ignore_errors=True)
        raise
    try:
        yield places, how.jobs or min(places.room, len(plan.runs))
    finally:
        places.close()
        shutil.rmtree(logs, ignore_errors=True)


def _checked(plan: SweepPlan, how: How, places: Places, jobs: int) -> SweepPlan:
    """The plan without what its data, its model or its runtime do not allow.

    Raises:
        ConfigError: something does not fit, and is not to be skipped.
        KeyboardInterrupt: it was asked to end.
    """
    with (
        passing_folder("hansa-check-") as notes,
        SweepProgress(how.quiet, "settings checked", said=False) as told,
    ):
        orders = [
            Order(
                setting.name or "the run",
                notes / f"{k}.json",
                {"task": "check", "settings": setting.chosen.dump()},
            )
            for k, setting in enumerate(plan.settings)
        ]
        crew = Crew(places, jobs, told)
        outcomes = crew.work(orders)
        if crew.asked:
            raise KeyboardInterrupt
    fine: list[Setting] = []
    refused = list(plan.refused)
    for order, setting in zip(orders, plan.settings, strict=True):
        outcome = outcomes[order.name]
        if outcome["status"] == FITS:
            fine.append(setting)
        else:
            refused.append(Refused(setting.words or setting.name, _error(outcome)))
    checked = replace(plan, settings=tuple(fine), refused=tuple(refused))
    _refuse(checked, how)
    return checked


def _error(outcome: Outcome) -> ConfigError:
    """What a check found."""
    if "problem" in outcome:
        value = None if outcome["value"] == "None" else outcome["value"]
        return ConfigError(outcome["field"], value, outcome["problem"], outcome["fix"])
    return ConfigError("", None, outcome.get("error", "cannot be checked"))


def _work(
    folder: SweepFolder, plan: SweepPlan, how: How, places: Places | None, jobs: int
) -> Swept:
    """Run what is left, and write what came of all."""
    outcomes = {run.name: folder.outcome(run) for run in plan.runs}
    left = [run for run in plan.runs if _is_left(outcomes[run.name], how)]
    orders = [folder.order(run, how.pages) for run in left]
    with SweepProgress(how.quiet, "runs", len(plan.runs) - len(orders)) as told:
        asked = 0
        if places is not None:
            crew = Crew(places, jobs, told)
            crew.spared = _spared(plan, outcomes, crew) if how.drop_diverged else None
            crew.work(orders)
            asked = crew.asked
        outcomes |= {run.name: folder.outcome(run) for run in left}
        swept = Swept(folder, plan, outcomes)
        from hansa.experiment.sweep.results import write_results

        ended = swept.ended()
        if ended and not (asked and len(ended) < 2):
            told.doing("drawing the page")
            write_results(folder, plan, ended)
    return swept


def _spared(plan: SweepPlan, before: Mapping[str, Outcome], crew: Crew) -> Callable[[str], bool]:
    """Whether a run is not begun any more: another seed of its setting has diverged."""
    alike: dict[str, list[str]] = {}
    for run in plan.runs:
        alike.setdefault(run.setting.name, []).append(run.name)
    own = {run.name: alike[run.setting.name] for run in plan.runs}

    def spared(name: str) -> bool:
        outcomes = (crew.outcomes.get(one) or before[one] for one in own[name])
        return any(outcome["status"] == DIVERGED for outcome in outcomes)

    return spared


def _is_left(outcome: Outcome, how: How) -> bool:
    if outcome["status"] in ENDED:
        return False
    return outcome["status"] in (UNBEGUN, INTERRUPTED, "unfinished") or how.retry
