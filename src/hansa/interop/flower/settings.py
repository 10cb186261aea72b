"""The run file that both sides of a Flower app go by."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from hansa.base.errors import ConfigError
from hansa.experiment import RunFile

OWN = ("device", "runtime", "checkpoint", "plugins")
"""What each party chooses for itself."""


def for_flower(run: RunFile) -> RunFile:
    """A run file as a Flower app runs it: every client is a block of one node.

    Raises:
        ConfigError: the algorithm is none of clients and servers, or has no rounds; or the run is
            to be differentially private, or to end by a budget.
    """
    if run.algorithm.own_pace:
        raise ConfigError(
            "algorithm",
            type(run.algorithm).name,
            "has no rounds, and a Flower app carries its messages in rounds",
            "a federated method such as fedavg; or hansa learn with runtime: processes",
        )
    if not run.algorithm.servers(run.nodes):
        raise ConfigError(
            "algorithm",
            type(run.algorithm).name,
            "has no server: its nodes talk to each other, and Flower's only to a server",
            "a federated method such as fedavg; or hansa learn, which runs this one",
        )
    if run.privacy is not None:
        problem = "keeps its accounts from round to round, and a Flower app's clients keep nothing"
        raise ConfigError("privacy", run.privacy.name, problem, "hansa learn, which runs this one")
    if run.until is not None:
        problem = "goes by what all have spent, and a Flower app's clients tell nobody"
        raise ConfigError("until", None, problem, "rounds; or hansa learn, which runs this one")
    if run.train.strategy != "auto":
        return run
    return run.model_copy(update={"train": run.train.model_copy(update={"strategy": "looped"})})


def to_text(run: RunFile) -> str:
    """The settings that a server tells its clients."""
    return json.dumps({k: v for k, v in run.dump().items() if k != "runtime"}, sort_keys=True)


def agreed(told: str, own: str | None) -> str:
    """A client's settings: those that the server told, or its ``own`` where it has some.

    Raises:
        ConfigError: the client's own are those of another run.
    """
    if own is None:
        return told
    theirs, ours = json.loads(told), json.loads(own)
    other = [key for key in ours if key not in OWN and theirs.get(key) != ours[key]]
    if other:
        raise ConfigError(
            ", ".join(other),
            None,
            "not the same in the run files of this client and of the server",
            "agree on one run file",
        )
    return own


def digest(text: str) -> str:
    """A short name of a run."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def overrides(config: dict[str, Any]) -> tuple[str, ...]:
    """What ``[tool.flwr.app.config.set]`` changes in the run file, as ``--set`` does."""
    return tuple(
        f"{key.removeprefix('set.')}={json.dumps(value)}"
        for key, value in config.items()
        if key.startswith("set.")
    )
