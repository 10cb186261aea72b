"""Where a run that is resumed goes on from."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hansa.base.errors import ConfigError, HansaWarning
from hansa.engine import Job, read_manifest
from hansa.engine.runtimes.checkpoint import check_frozen, peek, sealed
from hansa.engine.until import MARK
from hansa.experiment.hosting import Reopened
from hansa.experiment.runfile import RunFile
from hansa.models import frozen_digest
from hansa.report import RunFolder

ENDED = ("finished", "diverged")
"""The status of a run that came to its last round."""


@dataclass(frozen=True)
class Start:
    """Where a run starts; without anything at its first round.

    Attributes:
        checkpoint: of which round its nodes are.
        manifest: what the checkpoint says of the run.
        over: no round is left, and only the end of the run is missing.
    """

    checkpoint: Path | None = None
    manifest: dict[str, Any] = field(default_factory=dict)
    over: bool = False

    @property
    def done(self) -> int:
        """The rounds that are done."""
        return int(self.manifest.get("round", 0))

    @classmethod
    def of(cls, folder: RunFolder, chosen: RunFile) -> Start:
        """The newest checkpoint of a run; if measurements are damaged, the newest before those.

        Raises:
            CheckpointError: the checkpoint is damaged.
            ConfigError: no round is left.
        """
        checkpoints = sealed(folder.path / "checkpoints")
        lost = folder.find_damage()
        if lost is not None:  # as far as the measurements go, if a checkpoint is as old as that
            checkpoints = [
                one for one in checkpoints if int(peek(one).get("part", 0)) < lost
            ] or checkpoints[-1:]
        checkpoint = checkpoints[-1] if checkpoints else None
        start = cls(checkpoint, read_manifest(checkpoint) if checkpoint else {})
        summary = folder.summary or {}
        ended = summary.get("status") in ENDED and chosen.train.on_divergence == "report"
        ended |= summary.get("status") == "finished"
        asked = int(folder.config.get("rounds", 0))
        done = max(start.done, int(summary.get("rounds", 0)) if ended else 0)
        stopped = bool(start.manifest.get("stopped")) or (ended and done < asked)
        if stopped and _longer(folder, chosen, start.manifest):
            return start
        if stopped and ended:
            problem = f"ended by its own rule after round {done}: no round is left"
            raise ConfigError("resume", str(folder.path), problem, "begin a new run")
        over = stopped or (start.done == asked == chosen.rounds and not ended)
        if not over and done >= chosen.rounds:
            what = f"the run in {folder.path} has finished its {done} rounds"
            problem = what if ended else f"round {done} is done already"
            raise ConfigError("rounds", chosen.rounds, problem, "a larger number")
        return cls(start.checkpoint, start.manifest, over)

    def check(self, job: Job) -> None:
        """Refuse a job that cannot go on from here, before anything in the folder changes.

        Raises:
            CheckpointError: its model stands on other frozen parameters.
        """
        digest = frozen_digest(job.module)
        for entry in self.manifest.get("files", ()):
            assert self.checkpoint is not None
            check_frozen(self.checkpoint, entry, digest)

    def enter(self, again: Reopened[RunFile]) -> None:
        """Take a run's folder back to where this starts."""
        folder = again.folder
        if self.checkpoint is None and (folder.summary or {}).get("saved"):
            text = "there is no checkpoint any more, so the run begins anew"
            warnings.warn(HansaWarning(text), stacklevel=3)
        again.enter(self.done)
        first = folder.first_missing(self.done)
        if first is not None:
            text = (
                f"nothing is known any more of what was measured in rounds {first} to {self.done}"
            )
            folder.event("warning", text=text)
            warnings.warn(HansaWarning(text), stacklevel=3)


def _longer(folder: RunFolder, chosen: RunFile, manifest: dict[str, Any]) -> bool:
    """Whether a run that its budget or its patience has ended has another one now."""
    reason = (folder.summary or {}).get("ended") or manifest.get("so_far", {}).get("reason", "")
    return MARK in str(reason) and folder.config.get("until") != chosen.dump()["until"]
