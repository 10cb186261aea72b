"""What becomes of a run when one of its workers dies, and which runs can go on at all."""

from __future__ import annotations

from typing import Literal

from hansa.base.errors import ConfigError
from hansa.engine.algorithm import Algorithm

OnCrash = Literal["stop", "continue", "restart"]
"""The run ends; the others go on; the worker is started again and takes part from a later round
on."""


def check_crashes(on_crash: str, algorithm: Algorithm, colluding: bool, waits: bool) -> None:
    """Refuse to go on without a worker where that cannot be.

    Args:
        colluding: attackers agree with each other.
        waits: the run file has messages waited for that do not come, or ends the run for them.

    Raises:
        ConfigError: naming why.
    """
    if on_crash == "stop":
        return
    problem, fix = "", "on_crash: stop, and hansa learn --resume afterwards"
    if algorithm.own_pace:
        problem = f"{algorithm.name} has no rounds in which a worker could be missing"
    elif why := algorithm.needs_all:
        problem = f"{algorithm.name} cannot go on without a worker: it {why}"
    elif colluding:
        problem = "the attackers agree with each other, and cannot if one is gone"
    elif waits:
        problem = "faults.on_missing says that messages of a worker that is gone are needed"
        fix = "on_crash: stop, or faults.on_missing: self"
    if problem:
        raise ConfigError("on_crash", on_crash, problem, fix)
