"""Passes over a node's data, or the same number of steps: nothing may tell them apart."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from hansa.base.errors import ConfigError
from hansa.engine import Job

STEPS = 22  # of 8 examples in one pass over 179 or 180
PHONES = {"name": "phones", "battery_share": 1.7e-6}
RUNS: dict[str, dict[str, Any]] = {
    "batteries": {"clock": PHONES},
    "greedy": {"clock": PHONES, "algorithm": "greedy"},
    "fedavg": {"clock": PHONES, "algorithm": "fedavg"},
    "adpsgd": {"clock": {"name": "modelled", "spread": 1.0}, "algorithm": "adpsgd"},
    "adpsgd with a budget": {
        "clock": {"name": "modelled", "spread": 1.0},
        "algorithm": "adpsgd",
        "train.budget": {"name": "uniform", "low": 1, "high": 22},
    },
    "quickdrop": {"algorithm": {"name": "quickdrop", "condensation": {"every": 5}}},
    "quickdrop synthetic": {
        "algorithm": {"name": "quickdrop", "variant": "synthetic", "condensation": {"every": 30}},
        "rounds": 1,
    },
}


@pytest.mark.parametrize("changes", RUNS.values(), ids=RUNS)
def test_a_pass_is_its_steps(
    make_job: Callable[..., Job], host: Callable[..., Any], changes: dict[str, Any]
) -> None:
    changes = {"rounds": 3, "model": "logistic", **changes}
    if "quickdrop" in str(changes):
        changes |= {"nodes": 60, "train.batch_size": 5}  # a pass is 4 batches of 23 or 24
    steps = STEPS if "nodes" not in changes else 4
    by_steps, _ = host(make_job({**changes, "train.local_steps": steps}))
    by_passes, _ = host(make_job({**changes, "train.local_epochs": 1}))
    assert torch.equal(by_steps.rows, by_passes.rows)
    for name, value in by_steps.state.items():
        assert torch.equal(value, by_passes.state[name]), name
    for name, shelf in by_steps.shelves.items():
        assert torch.equal(shelf.all()[1], by_passes.shelves[name].all()[1])
    if "battery_rounds" in by_steps.state:  # the default of 2 steps would last all rounds
        assert int(by_steps.state["battery_rounds"][:4].min()) < 3


@pytest.mark.parametrize("clock", ["phones", "devices"])
def test_a_battery_too_small_for_a_pass_is_refused(
    make_job: Callable[..., Job], clock: str
) -> None:
    share = {"phones": 2e-6, "devices": 1e-8}[clock]
    chosen = {"clock": {"name": clock, "battery_share": share}, "model": "logistic"}
    with pytest.raises(ConfigError, match="one round of training"):
        make_job({**chosen, "train.local_epochs": 40})
    with pytest.raises(ConfigError, match="one round of training"):
        make_job({**chosen, "train.local_steps": 40 * STEPS})
