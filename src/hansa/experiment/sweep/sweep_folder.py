"""A sweep on disk.

::

    sweep.yaml        what was swept, over what, with which seeds: enough to sweep again
    runs/             the folder of each run
    notes/            how each run ended, or how far it is
    logs/             what its process printed
    table.csv, table.parquet, report.html   once some have ended
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hansa.base.errors import CheckpointError, ConfigError
from hansa.base.files import atomic_write, write_json
from hansa.base.yamltext import dump_yaml, load_yaml
from hansa.experiment.sweep.crew import Order, Outcome, noted_in
from hansa.experiment.sweep.planned import PlannedRun, SweepPlan, as_text
from hansa.experiment.sweep.sweep_file import SEED, SweepFile
from hansa.experiment.sweep.worker import DIVERGED, FAILED, FINISHED, INTERRUPTED, SPARED
from hansa.report import RunFolder
from hansa.report.folder import is_run

FILE, RUNS, NOTES, LOGS = "sweep.yaml", "runs", "notes", "logs"
ENDED = (FINISHED, DIVERGED)
UNBEGUN = "not begun"


@dataclass(frozen=True)
class SweepFolder:
    """Where a sweep and its runs are."""

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> SweepFolder:
        """The folder of a sweep.

        Raises:
            CheckpointError: it is none.
        """
        folder = cls(Path(path).expanduser())
        if not (folder.path / FILE).is_file():
            what = "is not the folder of a sweep, it has no" if folder.path.is_dir() else "has no"
            raise CheckpointError(f"{folder.path}: {what} {FILE}")
        return folder

    def write(self, sweep: SweepFile) -> None:
        """Keep what is swept."""
        with atomic_write(self.path / FILE, "w") as file:
            dump_yaml(sweep.dump(), file, sort_keys=False)

    def read(self) -> dict[str, Any]:
        """What is swept.

        Raises:
            CheckpointError: the file is damaged.
        """
        path = self.path / FILE
        try:
            settings = load_yaml(path.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
            raise CheckpointError(f"{path}: cannot be read ({error})") from error
        if not isinstance(settings, dict):
            raise CheckpointError(f"{path}: does not hold settings")
        return settings

    def folder_of(self, run: PlannedRun) -> Path:
        """The folder of a run, also before it is made."""
        return self.path / RUNS / run.name

    def note_of(self, run: PlannedRun) -> Path:
        """The file that says how it ended."""
        return self.path / NOTES / f"{run.name}.json"

    def outcome(self, run: PlannedRun) -> Outcome:
        """How a run ended; one that was killed with the sweep says nothing: it is interrupted."""
        folder, noted = self.folder_of(run), noted_in(self.note_of(run))
        crashed = noted.get("status") == FAILED
        if is_run(folder):
            summary = RunFolder.open(folder).summary or {}
            status = summary.get("status", FAILED if crashed else INTERRUPTED)
            same = noted.get("status") == status
            return {**(noted if same else {}), "status": status, "ended": summary.get("ended", "")}
        if crashed or noted.get("status") in (INTERRUPTED, SPARED):
            return noted
        return {"status": INTERRUPTED if noted else UNBEGUN}

    def order(self, run: PlannedRun, report: bool) -> Order:
        """What begins a run, or goes on with it."""
        folder = self.folder_of(run)
        if not is_run(folder):
            shutil.rmtree(folder, ignore_errors=True)  # it was killed before it was a run
        (self.path / LOGS).mkdir(exist_ok=True)
        packet = {
            "task": "resume" if is_run(folder) else "begin",
            "settings": run.settings(),
            "folder": str(folder),
            "report": report,
            "group": self.path.resolve().name,
            "tags": {k: as_text(v) for k, v in {**run.setting.changes, SEED: run.seed}.items()},
            "log": str(self.path / LOGS / f"{run.name}.log"),
        }
        return Order(run.name, self.note_of(run), packet)

    def folders(self, plan: SweepPlan) -> list[tuple[PlannedRun, RunFolder]]:
        """The runs that came to an end, in the order of their settings and seeds."""
        runs = [PlannedRun(setting, seed) for setting in plan.settings for seed in plan.seeds]
        ended = [run for run in runs if self.outcome(run)["status"] in ENDED]
        return [(run, RunFolder.open(self.folder_of(run))) for run in ended]

    def keep(self, plan: SweepPlan) -> None:
        """Note what each run is, for whoever looks at the folder."""
        facts = [
            {"run": run.name, "seed": run.seed, "changes": run.setting.changes} for run in plan.runs
        ]
        write_json(self.path / "runs.json", facts)

    def check_free(self) -> None:
        """Refuse a folder that holds something already.

        Raises:
            ConfigError: it does, or is a file.
        """
        if self.path.is_file():
            raise ConfigError("out", str(self.path), "is a file", "a new folder")
        if self.path.is_dir() and any(one.name != ".lock" for one in self.path.iterdir()):
            sweep = (self.path / FILE).is_file()
            fix = f"hansa sweep --resume {self.path}, or a new folder" if sweep else "a new folder"
            raise ConfigError("out", str(self.path), "is not empty", fix)
