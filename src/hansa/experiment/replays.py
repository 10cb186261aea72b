"""A run done again in ``simulate``: its order, and its faults that nobody had planned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hansa.base.errors import CheckpointError, ConfigError
from hansa.engine import Simulate
from hansa.engine.runtimes.checkpoint import peek, sealed
from hansa.engine.runtimes.recordings import Recording
from hansa.experiment.equality import compared
from hansa.experiment.runfile import RunFile, run_kind
from hansa.report import RunFolder
from hansa.report.joining import SITE

FREE = ("runtime", "checkpoint", "rounds", "device", "plugins", "sinks")
"""Settings that may differ between a recorded run and its replay."""
_ALONE = "hansa learn --replay RUN alone"


def replay_of(path: str | Path, overrides: tuple[str, ...] = (), **more: Any) -> RunFile:
    """The settings that replay a run in ``simulate``.

    Args:
        overrides, more: as of :meth:`RunFile.of`.

    Raises:
        ConfigError: no round was recorded, or the settings replay nothing.
        CheckpointError: there is no such run.
    """
    folder = RunFolder.open(path)
    settings = dict(folder.config)
    kind = run_kind(settings)
    own_pace = kind.parse(settings).algorithm.own_pace
    done = _recording(folder, own_pace).done
    settings["runtime"] = {"name": "simulate", "replay": str(folder.path.absolute())}
    settings["checkpoint"] = _checkpoint(folder, dict(settings.get("checkpoint") or {}), done)
    settings.pop("sinks", None)
    run = kind.of(settings, overrides, **more)
    if getattr(run.runtime, "replay", None) is None:
        problem = "replays nothing: the sockets would say again what comes when"
        raise ConfigError("runtime", run.runtime.name, problem, _ALONE)
    return run


def check_replay(run: RunFile) -> None:
    """Refuse to replay what is no recording of this very run.

    Raises:
        ConfigError: says what differs, or what is damaged.
    """
    if not isinstance(run.runtime, Simulate) or run.runtime.replay is None:
        return
    path = run.runtime.replay
    try:
        folder, ours = RunFolder.open(path), run.dump()
    except CheckpointError as error:
        raise ConfigError("runtime.replay", path, str(error), "the folder of a run") from error
    theirs = folder.config
    differ = [name for name in ours if name not in FREE and theirs.get(name) != ours[name]]
    if differ:
        problem = f"is another run: {', '.join(differ)} differ"
        raise ConfigError("runtime.replay", path, problem, _ALONE)
    recording = _recording(folder, run.algorithm.own_pace)
    if run.rounds > max(recording.done, int(theirs.get("rounds", 0))):
        problem, fix = f"{path} has recorded {recording.done}", f"at most {recording.done}"
        raise ConfigError("rounds", run.rounds, problem, fix)
    if recording.faults.rewinds and run.algorithm.own_pace:
        problem = "says that nodes came back, and nobody keeps step with others there"
        raise ConfigError("runtime.replay", path, problem, "a run of an algorithm with rounds")


def verdict(run: RunFile, folder: RunFolder, done: int) -> dict[str, Any]:
    """``equal`` and ``compared`` of a replay that has come to its end; nothing of another run.

    Args:
        folder: the replay's.
        done: its rounds.
    """
    if not isinstance(run.runtime, Simulate) or run.runtime.replay is None:
        return {}
    theirs = RunFolder.open(run.runtime.replay)
    recording = _recording(theirs, run.algorithm.own_pace)
    return compared(theirs, folder, recording.faults, done, recording.own_pace)


def _checkpoint(folder: RunFolder, settings: dict[str, Any], done: int) -> dict[str, Any]:
    """Settings by which a replay saves when the run last did, and keeps it."""
    rounds = [int(peek(one).get("round", 0)) for one in sealed(folder.path / "checkpoints")]
    last = max((round for round in rounds if round <= done), default=0)
    every = int(settings.get("every", 0))
    if last and last != done and (not every or last % every):
        every = last
    return settings | {"every": every, "keep": int(settings.get("keep", 2)) + 2}


def _recording(folder: RunFolder, own_pace: bool) -> Recording:
    """What a run has recorded, if that is at least one round."""
    path = str(folder.path)
    if (folder.path / SITE).is_file():
        problem = "is one site's own: it does not tell what the nodes of other sites missed"
        fix = "the run file in simulate, which comes to the same where nothing was missed"
        raise ConfigError("runtime.replay", path, problem, fix)
    try:
        recording = Recording.read(folder, own_pace)
    except CheckpointError as error:
        fix = "the folder of a run that is whole"
        raise ConfigError("runtime.replay", path, str(error), fix) from error
    if not recording.done:
        problem = "has recorded no round"
        raise ConfigError("runtime.replay", path, problem, "the folder of a run of some rounds")
    return recording
