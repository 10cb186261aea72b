"""A model card: what a model was trained on and how, how good it is and for whom, what protects it.

Mitchell et al., "Model Cards for Model Reporting" (2019), https://arxiv.org/abs/1810.03993, in the
Markdown form that model hubs show. It says what the run's folder holds, and nothing else: what
nobody measured is said to be so.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from hansa.base.files import atomic_write
from hansa.base.paths import short
from hansa.report import RunFolder
from hansa.report.guarantee import privacy_note
from hansa.report.marks import warning
from hansa.report.scores import higher_is_better, is_share, scores
from hansa.report.series import final, measurements, without_moments
from hansa.report.tables import totals
from hansa.report.units import label, quantity

_SHOWN = 40  # classes
_UNATTESTED = ("tls", "secret")
"""Channels that say who the other is, and nothing of its hardware."""


def model_card(run: RunFolder, told: Mapping[str, Any], file: str) -> str:
    """The card of a model that was exported, as Markdown.

    Args:
        told: its facts.
        file: its numbers' file, beside the card.
    """
    parts = [_head(told), _title(run, told), _how_to(told, file)]
    parts += [_data(run, told), _training(run), _figures(run), _costs(run), _privacy(run)]
    parts += [_limits(run, told)]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def write_card(path: Path, run: RunFolder, told: Mapping[str, Any], file: str) -> None:
    """Write :func:`model_card` to a file, whole or not at all."""
    with atomic_write(path, "w") as out:
        out.write(model_card(run, told, file))


def _head(told: Mapping[str, Any]) -> str:
    """What hubs read; the licence is for who publishes to say."""
    kinds = {"image": "image-classification", "table": "tabular-classification",
             "tokens": "text-classification"}  # fmt: skip
    kind, task = told["input"]["kind"], told["task"]
    tag = kinds.get(kind, "")
    if task == "regression":
        tag = "tabular-regression" if kind == "table" else ""
    facts: dict[str, Any] = {"library_name": "hansa", "tags": ["collaborative-learning"]}
    if tag:
        facts["pipeline_tag"] = tag
    return f"---\n{yaml.safe_dump(facts, sort_keys=False)}---"


def _title(run: RunFolder, told: Mapping[str, Any]) -> str:
    chosen = _name(run.config.get("algorithm")) or str(run.config.get("verb", ""))
    whose = {None: "", "average": ", the average of all nodes' models"}.get(
        told.get("node"), f", the model of node {told.get('node')}"
    )
    lines = [f"# {told.get('run', run.path.resolve().name)}", ""]
    name = _name(told.get("model")) or "network"
    lines.append(f"`{name}` of {told['parameters']:,} parameters, trained with `{chosen}`{whose}.")
    if run.marks:
        lines += ["", f"**{warning(run.marks)}**"]
    return "\n".join(lines)


def _how_to(told: Mapping[str, Any], file: str) -> str:
    kind, shape = told["input"]["kind"], told["input"]["shape"]
    lines = ["## Use", ""]
    form = ", ".join(map(str, ["batch", *shape]))
    lines.append(f"- Input: {kind}, `[{form}]`" + (", channels first" * (kind == "image")) + ".")
    if columns := told.get("columns"):
        names = [c["name"] + (f" (one of {', '.join(c['words'])})" if c["words"] else "")
                 for c in columns[:_SHOWN]]  # fmt: skip
        lines.append(f"- Columns, in this order: {'; '.join(names)}.")
    if "onnx" in told:
        lines.append(f"- `{file}` takes values as they are stored; scaling is in the graph.")
        outputs = ", ".join(f"`{name}`" for name in told["onnx"]["outputs"])
        lines.append(f"- It gives {outputs}.")
    elif "scale" in told:
        lines.append("- Scale values first: `x * scale + shift`, as the JSON file has them.")
    if classes := told.get("classes"):
        more = f" ... ({len(classes)} in all)" if len(classes) > _SHOWN else ""
        lines.append(f"- Classes, in this order: {', '.join(classes[:_SHOWN])}{more}.")
    elif told["task"] == "regression":
        lines.append("- Output: an amount in the units of the training data's label.")
    return "\n".join(lines)


def _data(run: RunFolder, told: Mapping[str, Any]) -> str:
    dealt = run.read_json("partition.json") or {}
    data = run.config.get("data")
    settings: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
    rows: list[tuple[str, Any]] = [("Data set", _name(data)), ("Parties", _parties(run))]
    if sizes := dealt.get("sizes"):
        count, lowest, highest = dealt.get("examples", sum(sizes)), min(sizes), max(sizes)
        many = len(sizes) < dealt.get("clients", len(sizes))  # the folder has a sample of them
        who = f"each of {len(sizes):,} parties that were looked at" if many else "a party"
        rows.append(("Training examples", f"{count:,}; {who} has {lowest:,} to {highest:,}"))
    if (run.summary or {}).get("partial"):  # a site knows of no rows but its own
        rows.append(("Split over parties", "each site has its own; this folder is one site's"))
    elif partition := settings.get("partition"):
        rows.append(("Split over parties", _words(partition)))
    if kinds := told.get("classes"):
        rows.append(("Classes", len(kinds)))
    return _table("Training data", rows)


def _training(run: RunFolder) -> str:
    config, summary = run.config, run.summary or {}
    text = json.dumps(config, sort_keys=True, default=str)
    rows = [("Algorithm", _name(config.get("algorithm"))), ("Rounds", summary.get("rounds"))]
    if not (run.read_json("partition.json") or {}).get("servers"):
        rows.append(("Topology", _words(config.get("topology"))))
    train = config.get("train")
    if isinstance(train, Mapping):
        rows.append(("Optimizer", _words(train.get("optimizer"))))
        rows.append(("Batch size", train.get("batch_size")))
    rows += [("Seed", config.get("seed")), ("Ended", summary.get("ended") or summary.get("status"))]
    if attack := config.get("attack"):
        rows.append(("Attack, simulated on purpose", _words(attack)))
    rows.append(("Attested hardware", _attested(run)))
    rows.append(("Settings, SHA-256", f"`{hashlib.sha256(text.encode()).hexdigest()[:16]}`"))
    rows.append(("hansa", run.environment.get("hansa")))
    return _table("Training", rows)


def _attested(run: RunFolder) -> str:
    if run.marks:
        return "simulated: nothing was protected"
    runtime = run.config.get("runtime")
    channel = runtime.get("channel") if isinstance(runtime, Mapping) else None
    name = _name(channel)
    return f"channel {name}" if name not in ("", *_UNATTESTED) else "none"


def _figures(run: RunFolder) -> str:
    """The last measurement of what says how good models are, with the worst node's."""
    frame = final(without_moments(measurements(run)))
    rows = {row["name"]: row for row in frame.to_dicts()}
    names = [n for n in rows if n in scores(rows) or n in ("loss", "rmse")]
    lines = ["## How good it is", ""]
    if not names:
        return "\n".join([*lines, "The run measured nothing of the kind."])
    lines += ["| metric | mean | worst node | nodes | round |", "|---|---|---|---|---|"]
    for name in dict.fromkeys(names):
        row = rows[name]
        worst = row["min"] if higher_is_better(name) else row["max"]
        said = "-" if worst is None else quantity(worst, name)
        lines.append(
            f"| {label(name)} | {quantity(row['mean'], name)} | {said} | {row['nodes'] or 1} | "
            f"{row['round']} |"
        )
    about = "Measured on the run's test examples" + (
        "." if any(map(is_share, names)) else ", in the units of the label."
    )
    return "\n".join([*lines, "", f"{about} It is one run: how much seeds differ is not in it."])


def _costs(run: RunFolder) -> str:
    summary = run.summary or {}
    rows = [("Sent between parties", _quantity(summary, "bytes_sent"))]
    rows.append(("Wall time", f"{summary['seconds']:.1f} s" if "seconds" in summary else None))
    spent = totals(run)
    for name, words in (("modelled_time", "Modelled time"), ("energy", "Energy, modelled")):
        rows.append((words, quantity(spent[name], name) if spent.get(name) else None))
    return _table("What it cost", rows)


def _quantity(summary: Mapping[str, Any], name: str) -> str | None:
    value = summary.get(name)
    return None if value is None else quantity(float(value), name)


def _privacy(run: RunFolder) -> str:
    said = (run.summary or {}).get("privacy")
    lines = ["## Privacy", ""]
    if not said:
        lines.append(
            "No differential privacy. What a model has learned of single examples may be told from "
            "its numbers."
        )
        return "\n".join(lines)
    lines += ["| fact | value |", "|---|---|"]
    lines += [f"| {name} | {_scalar(value)} |" for name, value in _scalars(said)]
    return "\n".join([*lines, "", privacy_note(said)])


def _limits(run: RunFolder, told: Mapping[str, Any]) -> str:
    lines = ["## Intended use and limits", ""]
    lines.append("- For inputs of the same origin and form as the training data; nothing was "
                 "measured on any other.")  # fmt: skip
    if told["task"] != "regression":
        lines.append("- It always names one of its classes, also for what is none of them.")
    if run.config.get("attack"):
        lines.append("- Some parties attacked the training on purpose; it is an experiment.")
    lines.append("- Who may use it for what, and under which licence, is for its owners to say.")
    return "\n".join(lines)


def _parties(run: RunFolder) -> str | None:
    nodes = run.config.get("nodes") or (run.summary or {}).get("nodes")
    return None if nodes is None else str(nodes)


def _table(title: str, rows: list[tuple[str, Any]]) -> str:
    said = [f"| {name} | {value} |" for name, value in rows if value not in (None, "")]
    return "\n".join([f"## {title}", "", "| | |", "|---|---|", *said]) if said else ""


def _name(value: Any) -> str:
    """A component's name as settings have it."""
    found = value.get("name") if isinstance(value, Mapping) else value
    return short(str(found)) if found else ""


def _words(value: Any) -> str:
    """A component with the settings that say more than its name."""
    if not isinstance(value, Mapping):
        return _name(value)
    more = [f"{key} {_scalar(inner)}" for key, inner in _scalars(value) if key != "name"]
    return _name(value) + (f" ({', '.join(more[:8])})" if more else "")


def _scalars(value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, str | int | float | bool) and inner not in ("", None):
            yield key, inner


def _scalar(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
