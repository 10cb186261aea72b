"""Runs of ``hansa learn`` as members of an ensemble."""

from __future__ import annotations

from pathlib import Path

from hansa.combine.ensemble.brought import RunModel
from hansa.experiment.trained import open_trained, settings_of
from hansa.report import RunFolder


def open_run(path: Path, node: int | None) -> RunModel:
    """The model that a run came to, or that of one of its nodes.

    Raises:
        CheckpointError: the folder or its checkpoint is damaged.
        ConfigError: it is no such run, or has several models and none is named.
    """
    folder = RunFolder.open(path)
    settings = settings_of(folder, "path", "its members as files, or a run")
    run = open_trained(folder, settings, "path")
    return RunModel(settings.model, run.module(node), run.job.dataset)
