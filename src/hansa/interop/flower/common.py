"""What a server says of a run besides its settings: global figures, and what clients have told.

A client goes by these and not by its own look at everybody's data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from hansa.base.lazy import torch
from hansa.data import Dataset
from hansa.engine import Job
from hansa.engine.holding import Holding
from hansa.engine.plan import Plan
from hansa.engine.roster import Roster
from hansa.engine.training.trial import Tried


def figures(job: Job) -> dict[str, Any]:
    """A run's figures, as a letter's facts hold them."""
    data, roster = job.dataset, job.roster
    tensors = {"scale": data.scale, "shift": data.shift}
    tensors |= dict(zip(("lowest", "highest"), data.limits, strict=True))
    return {
        "figures": {name: value.numpy() for name, value in tensors.items() if value is not None},
        "fill": data.fill,
        "trial": asdict(job.tried),
        "told": {"names": sorted(roster.told), **roster.arrays},
    }


def party(plan: Plan, holding: Holding, facts: Mapping[str, Any]) -> Job:
    """A client's job, from its own settings and examples and from what the server said."""
    job, trial = Job.of(plan, holding), dict(facts["trial"])
    job.dataset = _data(job.dataset, facts)
    job.trial = Tried(**trial | {"counters": tuple(trial["counters"])})
    told = dict(facts["told"])
    names = frozenset(told.pop("names"))
    job.joined = Roster(job.network.clients, names, told, job.algorithm.name)
    return job


def _data(data: Dataset, facts: Mapping[str, Any]) -> Dataset:
    device = data.train.inputs.device
    known = {k: torch.from_numpy(v).to(device) for k, v in facts["figures"].items()}
    return replace(
        data,
        scale=known.get("scale"),
        shift=known.get("shift"),
        fill=facts["fill"],
        known_limits=(known["lowest"], known["highest"]),
    )
