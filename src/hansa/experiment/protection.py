"""Differential privacy that a run cannot have, refused before any work: what goes with what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hansa.base.errors import ConfigError
from hansa.engine import BySite
from hansa.engine.training.gradients import mixes_examples
from hansa.experiment.runfile import RunFile
from hansa.models import ParameterLayout
from hansa.privacy.accounting import check_accountant
from hansa.privacy.privacy import WAYS, Privacy

if TYPE_CHECKING:
    from torch import nn

_GOES = {
    "example": "an algorithm that trains in local steps alone, such as dpsgd or fedavg",
    "local": "an algorithm that sends whole models, such as dpsgd or fedavg",
    "central": "algorithm: {name: fedavg, weighting: uniform}",
    "distributed": "algorithm: secure_dpsgd",
}


def check_privacy(run: RunFile) -> None:
    """Refuse what would not protect, with the nearest that would; nothing imports torch.

    Raises:
        ConfigError: naming the setting.
    """
    privacy, method = run.privacy, run.algorithm
    if privacy is None:
        return
    try:
        check_accountant()
    except ConfigError as error:
        raise error.under("privacy") from None
    if why := method.unprotected(privacy.way):
        others = [text for way, text in WAYS.items() if not method.unprotected(way)]
        fix = "; or ".join(filter(None, [_GOES[privacy.way], *others]))
        raise ConfigError("privacy", privacy.name, f"does not protect: {method.name} {why}", fix)
    _check_crashes(run, privacy)
    if privacy.limit is None:
        return
    field, fix = "epsilon" if privacy.budget is None else "budget", "noise alone"
    if privacy.way != "example" and isinstance(run.runtime, BySite):
        problem = "cannot end a run among sites, which do not agree on that"
        raise ConfigError(f"privacy.{field}", privacy.limit, problem, f"{fix}, or privacy: example")


def _check_crashes(run: RunFile, privacy: Privacy) -> None:
    """Who comes back as it was some rounds ago has forgotten what it has spent since."""
    faults = run.faults
    if faults is not None and faults.crash:
        problem = "brings a node back as it was, without what its privacy has cost since"
        raise ConfigError("faults.crash", None, problem, "faults.absent, or no privacy")
    on_crash = getattr(run.runtime, "on_crash", "stop")
    if on_crash != "stop":
        problem = "may bring a node back as it was, without what its privacy has cost since"
        raise ConfigError("runtime.on_crash", on_crash, problem, "on_crash: stop")


def check_model(run: RunFile, module: nn.Module) -> None:
    """Refuse a model in which the examples of a batch depend on each other.

    Raises:
        ConfigError: naming it.
    """
    privacy = run.privacy
    if privacy is None or privacy.way != "example":
        return
    if mixes_examples(module) or ParameterLayout.of(module).statistics:
        problem = (
            "has normalization over a batch (or keeps statistics of it), so that one example "
            "changes the outputs of others and no clip bounds what it does"
        )
        fix = "GroupNorm in its place (norm: group), or privacy: central or local"
        raise ConfigError("", run.model.name, problem, fix)
