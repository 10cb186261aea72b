"""What ends a run before its last round, refused before any work where it could not be told."""

from __future__ import annotations

from hansa.base.errors import ConfigError
from hansa.engine import BySite, Simulate
from hansa.experiment.runfile import RunFile


def check_until(run: RunFile) -> None:
    """Refuse what nobody could keep to; nothing imports torch.

    Raises:
        ConfigError: naming the setting.
    """
    until, method, runtime = run.until, run.algorithm, run.runtime
    if until is None:
        return
    for field in ("seconds", "joules"):
        if getattr(until, field) is not None and not run.clock.modelled:
            problem = f"is modelled, and clock: {run.clock.name} models nothing"
            fix = "clock: phones, modelled or devices"
            raise ConfigError(f"until.{field}", getattr(until, field), problem, fix)
    if isinstance(runtime, BySite):
        problem = "needs all nodes together, and sites of several owners do not tell each other"
        raise ConfigError("until", None, problem, "rounds, on which they agree")
    if method.own_pace and not isinstance(runtime, Simulate):
        problem = f"needs all nodes together, and in {method.name} no worker waits for others"
        raise ConfigError("until", None, problem, "runtime: simulate, or rounds")
    on_crash = getattr(runtime, "on_crash", "stop")
    if on_crash != "stop":
        problem = "loses workers, of whom nobody knows what they have spent"
        raise ConfigError("runtime.on_crash", on_crash, problem, "on_crash: stop, or no until")
    if until.patience is not None and run.faults is not None and run.faults.crash:
        problem = "brings a node back as it was, with what its patience was then"
        raise ConfigError("faults.crash", None, problem, "faults.absent, or no until.patience")
