"""A run done again in the order in which things happened in another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hansa.base.errors import CheckpointError, ConfigError
from hansa.engine import Simulate
from hansa.engine.runtimes.arrivals_file import read_arrivals
from hansa.experiment.runfile import RunFile
from hansa.report import RunFolder

FREE = ("runtime", "checkpoint", "rounds", "device", "plugins")
"""Settings that may differ between a recorded run and its replay."""


def replay_of(path: str | Path, overrides: tuple[str, ...] = (), **more: Any) -> RunFile:
    """The settings that replay a run in ``simulate``.

    Args:
        overrides, more: as of :meth:`RunFile.of`.

    Raises:
        ConfigError: it has no rounds whose order was recorded, or the settings replay nothing.
        CheckpointError: there is no such run.
    """
    folder = RunFolder.open(path)
    settings = dict(folder.config)
    settings["runtime"] = {"name": "simulate", "replay": str(folder.path.absolute())}
    done = _recorded(folder.path)
    settings["rounds"] = min(int(settings["rounds"]), done)
    run = RunFile.of(settings, overrides, **more)
    if getattr(run.runtime, "replay", None) is None:
        problem = "replays nothing: the sockets would say again what comes when"
        raise ConfigError("runtime", run.runtime.name, problem, "hansa learn --replay RUN alone")
    return run


def check_replay(run: RunFile) -> None:
    """Refuse to replay what is no recording of this very run.

    Raises:
        ConfigError: says what differs, or what is damaged.
    """
    if not isinstance(run.runtime, Simulate) or run.runtime.replay is None:
        return
    path = run.runtime.replay
    if not run.algorithm.own_pace:
        problem = f"{run.algorithm.name} goes by rounds, so that there is no order to replay"
        raise ConfigError("runtime.replay", path, problem, "an algorithm such as adpsgd or fedbuff")
    try:
        theirs, ours = RunFolder.open(path).config, run.dump()
    except CheckpointError as error:
        raise ConfigError("runtime.replay", path, str(error), "the folder of a run") from error
    differ = [name for name in ours if name not in FREE and theirs.get(name) != ours[name]]
    if differ:
        problem = f"is another run: {', '.join(differ)} differ"
        raise ConfigError("runtime.replay", path, problem, "hansa learn --replay RUN alone")
    done = _recorded(Path(path))
    if done < run.rounds:
        raise ConfigError("rounds", run.rounds, f"{path} has recorded {done}", f"at most {done}")


def _recorded(path: Path) -> int:
    """How many rounds a run has recorded."""
    try:
        return read_arrivals(path)[1]
    except CheckpointError as error:
        fix = "the folder of a run of adpsgd or fedbuff"
        raise ConfigError("runtime.replay", str(path), str(error), fix) from error
