"""What an ensemble would do, in numbers, before anything is trained."""

from __future__ import annotations

from typing import Any

from hansa.base.lazy import torch
from hansa.base.streams import Streams
from hansa.combine.ensemble import cost
from hansa.combine.ensemble.ensemble_settings import Predictor
from hansa.combine.ensemble.members import forms
from hansa.combine.ensemble.pipeline import Prepared
from hansa.data import Dataset
from hansa.ensemble import Int8, Panel, initial_rule, state_bytes
from hansa.experiment.remarks import unused_of_data
from hansa.models import Model, ParameterLayout, initial_model

_FLOAT = 4
_COPIES = (
    4  # of a model while it trains: itself, its gradient, what the optimizer keeps, the result
)


def plan(prepared: Prepared) -> dict[str, Any]:
    """Clients, models, bytes of one client by FENS's formula, and memory.

    Returns:
        facts by name; ``models`` and ``rules`` are lists with an entry for each. The sizes of
        fitted predictors are known when they are fitted, so they count nothing here.
    """
    settings, dataset, division = prepared.settings, prepared.dataset, prepared.division
    chosen = forms(settings)
    models, uploads, downloads = [], [], []
    for client, member in sorted(prepared.brought.items()):
        fitted = isinstance(member.form, Predictor)
        numbers = None if fitted else ParameterLayout.of(member.module).trainable
        name = member.form.path if isinstance(member.form, Predictor) else member.form.name
        line = {"form": f"{name}, of client {client}", "clients": 1, "parameters": numbers}
        models.append(line | {"bytes": None if fitted else member.upload})
        uploads.append(member.upload)
        downloads.append(member.download)
    kinds: list[Model | Predictor] = [*settings.models, *settings.predictors]
    for form in kinds:
        many = sum(chosen[c] is form and c not in prepared.brought for c in division.clients)
        if not many:
            continue
        if isinstance(form, Predictor):
            models.append({"form": form.path, "clients": many, "parameters": None, "bytes": None})
            continue
        module = initial_model(form, dataset.spec, Streams(settings.seed))
        size, parameters = state_bytes(module), ParameterLayout.of(module).trainable
        models.append({"form": form.name, "clients": many, "parameters": parameters, "bytes": size})
        packed = size if settings.quantize == "none" else Int8.of(module.state_dict()).nbytes
        uploads += [size] * many
        downloads += [packed] * many
    mean, members = sum(uploads) / max(len(uploads), 1), len(division.clients)
    proxies = [len(part) for part in division.proxy]
    sizes = [len(part) for part in division.train]
    return {
        "clients": members,
        **({"left_out": len(settings.without)} if settings.without else {}),
        "models": models,
        "train_examples": {"min": min(sizes), "max": max(sizes)},
        "proxies": {"min": min(proxies), "max": max(proxies)},
        "proxies_in_all": sum(proxies),
        "clients_without_proxies": sum(count == 0 for count in proxies),
        "test_examples": len(dataset.test),
        "epochs": settings.local.epochs,
        "model_bytes": round(mean),
        "one_shot_bytes": round(cost.one_shot(mean)),
        "ensemble_bytes": sum(downloads),
        "ensemble_bytes_by_formula": round(members * mean / 4),
        "rules": _rules(prepared, mean),
        "baselines": [type(method).name for method in settings.baselines.methods],
        "memory_bytes_at_least": _memory(prepared, uploads),
        "notes": list(division.notes),
    }


def _rules(prepared: Prepared, mean: float) -> list[dict[str, Any]]:
    """Each rule with its numbers and what they cost one client by the formula."""
    settings, rows = prepared.settings, []
    panel = _panel(prepared)
    for name, rule in prepared.rules.items():
        parameters, rounds = 0, settings.aggregate.rounds
        if rule.learned:
            module = initial_rule(rule, panel, Streams(settings.seed))
            parameters = ParameterLayout.of(module).trainable
        if settings.aggregate.over == "server":
            rounds = 0  # nothing travels in rounds
        phase_2 = cost.ensemble(0, panel.members, parameters, rounds)
        whole = cost.ensemble(mean, panel.members, parameters, rounds)
        rows.append(
            {
                "name": name,
                "parameters": parameters,
                "phase_2_bytes": round(phase_2),
                "bytes": round(whole),
            }
        )
    return rows


def remarks(prepared: Prepared) -> list[str]:
    """Of the data of an ensemble as they were read, and of their settings."""
    settings, attackers = prepared.settings, prepared.attackers
    remarks = [*prepared.dataset.notes, *unused_of_data(settings.data)]
    if attackers is not None:
        who = [prepared.division.clients[k] for k in attackers.nodes]
        text = f"attack: clients {', '.join(map(str, who))} upload what {attackers.attack.name} "
        remarks.append(f"{text}makes of their models, and send such updates of a rule")
    return remarks


def _panel(prepared: Prepared) -> Panel:
    spec, counts = prepared.dataset.spec, torch.from_numpy(prepared.division.counts)
    return Panel(len(prepared.division.clients), spec.outputs, counts, tuple(spec.shape))


def _memory(prepared: Prepared, uploads: list[int]) -> int:
    """Bytes of tensors that are held at once, without a model's activations."""
    dataset, division = prepared.dataset, prepared.division
    members, outputs = len(division.clients), dataset.spec.outputs
    asked = sum(map(len, division.proxy)) + len(dataset.test)
    scores = 2 * members * asked * outputs * _FLOAT  # as they come, and as rules take them
    phase_1 = _COPIES * sum(uploads)
    numbers = max((rule["parameters"] for rule in _rules(prepared, 0.0)), default=0)
    phase_2 = scores + _COPIES * (members + 1) * numbers * _FLOAT
    return _held(dataset) + sum(uploads) + max(phase_1, phase_2)


def _held(dataset: Dataset) -> int:
    splits = [dataset.train, dataset.test, dataset.validation, dataset.public]
    tensors = [t for split in splits if split is not None for t in (split.inputs, split.targets)]
    return sum(t.numel() * t.element_size() for t in tensors)
