"""A cut of models with batch normalization: each merged model's own statistics, counted anew.

An artefact keeps the statistics of every model, since they are never merged. In a cut they stay
with a model that shares nothing; all others get those that their merged weights have on the inputs
of their task. Models that come to the same have them once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hansa.base.errors import ConfigError
from hansa.combine.merge.batch_norm import is_statistic
from hansa.combine.merge.cut import Cut
from hansa.combine.merge.merged_models import MergedModels
from hansa.combine.merge.recounting import Recounting
from hansa.weights.composition import CompositionPlan, PlanWriter, StoredPlan
from hansa.weights.model_folder import ModelFolder
from hansa.weights.tensor_file import raw_bytes

if TYPE_CHECKING:
    from torch import Tensor


def recounted(
    done: Cut, recounting: Recounting | None, form: ModelFolder, budget: int | None = None
) -> Cut:
    """A cut that was just made, with statistics counted anew in its file, and its new size.

    Args:
        recounting: None: models without batch normalization, whose cut stays as it is.
        form: of the base, which knows what the module calls each tensor.

    Raises:
        ConfigError: the module or its inputs do not fit, or the file is above the budget now, since
            models had statistics in common; the file is gone then.
        DiskError: the disk is full or fails.
    """
    if recounting is None:
        return done
    before = _payload(done.path)
    try:
        _rewrite(done.path, recounting, form)
    except BaseException:
        done.path.unlink()
        raise
    size, payload = done.path.stat().st_size, _payload(done.path)
    if budget is not None and size > budget:
        done.path.unlink()
        problem = f"is less than the {size} bytes with statistics of each model's own"
        raise ConfigError("budget", budget, problem, f"{size} bytes or more")
    ledger = replace(done.ledger, own=done.ledger.own + payload - before)
    models = done.size * ledger.total / done.ledger.total
    return replace(done, bytes=size, payload=ledger.total, ledger=ledger, size=models)


def _rewrite(cut: Path, recounting: Recounting, form: ModelFolder) -> None:
    stored = StoredPlan.open(cut)
    plan = stored.plan
    fresh = _fresh(stored, recounting, form)
    if not fresh:
        return
    kept = dict(plan.facts["kept"])
    sources: dict[str, str | tuple[str, int]] = {
        key: key for key in stored.entries if not is_statistic(key.rpartition("/")[0])
    }
    for name in filter(is_statistic, plan.facts["kept"]):
        kept[name] = []
        distinct: dict[bytes, str] = {}
        for member, key in enumerate(plan.facts["kept"][name]):
            new = (name, member) in fresh
            digits = bytes(raw_bytes(fresh[name, member] if new else stored.tensor(key)))
            place = distinct.setdefault(digits, f"kept/{name}/{len(distinct)}")
            sources[place] = (name, member) if new else key
            kept[name].append(place)
    entries = {}
    for key, source in sources.items():
        like = source if isinstance(source, str) else plan.facts["kept"][source[0]][source[1]]
        entries[key] = (stored.entries[like].dtype, stored.entries[like].shape)
    with PlanWriter(cut, replace(plan, facts={**plan.facts, "kept": kept}), entries) as writer:
        for key, source in sources.items():
            tensor = stored.tensor(source) if isinstance(source, str) else fresh[source]
            writer.write(key, tensor)


def _fresh(
    stored: StoredPlan, recounting: Recounting, form: ModelFolder
) -> dict[tuple[str, int], Tensor]:
    """The new statistics by canonical name and model."""
    names: Mapping[str, str] = {name: entry.stored for name, entry in form.entries.items()}
    models, fresh = MergedModels(stored), {}
    for member in _merged(stored.plan):
        task = stored.plan.members[member].name
        state = {names.get(name, name): t for name, t in models.state_dict(task).items()}
        counted = recounting.counted(task, state)
        for name in filter(is_statistic, names):
            like = stored.entries[stored.plan.facts["kept"][name][member]]
            tensor = counted[names[name]]
            if tuple(tensor.shape) != like.shape:
                raise ConfigError("tasks.module", names[name], f"is {tuple(tensor.shape)} there")
            fresh[name, member] = tensor
    return fresh


def _merged(plan: CompositionPlan) -> list[int]:
    """The models that are no longer what they were: blocks that were equal before do not count."""
    merged: set[int] = set()
    for block in plan.blocks:
        versions = plan.facts["versions"].get(block.name, range(len(plan.members)))
        for group in block.groups:
            if len({versions[member] for member in group.members}) > 1:
                merged |= set(group.members)
    return sorted(merged)


def _payload(cut: Path) -> int:
    return sum(entry.bytes for entry in StoredPlan.open(cut).entries.values())
