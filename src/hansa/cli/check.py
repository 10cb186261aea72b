"""``hansa check``: all that can be known of a run before it starts."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.base.errors import ConfigError
from hansa.cli.answer import Answer, answering
from hansa.cli.audit import show_plan
from hansa.cli.options import (
    Debug,
    Device,
    Json,
    Nodes,
    Rounds,
    Seed,
    Sets,
    Target,
    read_settings,
)

if TYPE_CHECKING:
    from hansa.experiment.settings_file import SettingsFile


def check(
    target: Target = None,
    sets: Sets = None,
    seed: Seed = None,
    rounds: Rounds = None,
    nodes: Nodes = None,
    device: Device = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Load the data, build everything, print the plan of a run, and start nothing.

    A file says whose it is by its verb: learn, combine, merge, route, private or audit. One
    without is an ensemble's if it has a setting that only ensembles have, such as clients.
    """
    with answering(as_json, debug) as answer:
        from hansa.experiment import RunFile

        more = {"seed": seed, "rounds": rounds, "nodes": nodes, "device": device}
        chosen = _settings(target, sets, **more)
        if show := _SHOWN.get(chosen.own_verb()):
            show(answer, chosen)
        elif isinstance(chosen, RunFile):
            _run(answer, chosen)
        elif chosen.checks:
            _checked(answer, chosen)
        else:
            problem = f"is of hansa {chosen.command}, which has no plan to show"
            raise ConfigError("file", target, problem, f"hansa {chosen.command} {target}")
        answer.line("This run can start.")
        given = sets or any(value is not None for value in more.values())
        if not (given and chosen.own_verb() == "sweep"):  # whose --set names what is swept
            answer.line(_command(chosen, target, sets, more))


def _command(
    chosen: SettingsFile, target: str | None, sets: list[str] | None, more: dict[str, Any]
) -> str:
    """What runs just that which was checked."""
    changes = [
        *(sets or ()),
        *(f"{key}={value}" for key, value in more.items() if value is not None),
    ]
    words = [word for change in changes for word in ("--set", change)]
    return shlex.join(["hansa", *chosen.command.split(), *([target] if target else []), *words])


def _settings(target: str | None, sets: list[str] | None, **more: Any) -> SettingsFile:
    """What is checked: a file of either verb, or what ``hansa learn`` makes of the words."""
    from hansa.combine.merge.mergekit_file import in_own_form
    from hansa.experiment.runfile import is_file
    from hansa.experiment.settings_file import kind_of, override, read_settings_file

    if target is None or not is_file(target):
        return read_settings(target, sets, **more)
    own = in_own_form(read_settings_file(Path(target)))
    changes = tuple(sets or ())
    return kind_of(override(own, changes, **more)).changed(own, changes, **more)


def _run(answer: Answer, chosen: Any) -> None:
    from hansa.experiment import plan, prepare

    answer.data = facts = plan(chosen, prepare(chosen))
    apart = ("remarks", "forecast")
    _table(answer, {key: value for key, value in facts.items() if key not in apart})
    if takes := facts["forecast"]:
        answer.line(
            f"It takes about {takes['seconds']:.3g} s here (training {takes['training']:.3g}, "
            f"measuring {takes['measuring']:.3g}, exchange {takes['exchange']:.3g}) and "
            f"{takes['memory_mb']:,} MB, if nobody stops early: {takes['step_ms']:.3g} ms a step."
        )
    for remark in facts["remarks"]:
        answer.line(f"remark: {remark}")


def _served(answer: Answer, chosen: Any) -> None:
    from hansa.cli.serving import opened
    from hansa.infer.serving.serve_model import aggregate_of, plan

    file, aggregator, names = opened(chosen, trust=False)
    answer.data = facts = plan(file, aggregate_of(file, aggregator, names))
    _table(answer, facts)


def _merged(answer: Answer, chosen: Any) -> None:
    from hansa.combine.merge.run import check as opened

    models = opened(chosen)
    facts: dict[str, Any] = {"tasks": type(chosen.tasks).name}
    if models is not None:
        facts |= {"models": len(models.models), "model_bytes": models.model_bytes,
                  "uploaded_bytes": models.uploaded_bytes}  # fmt: skip
    sizes = "1, 2, 3, 5 and all" if chosen.sizes is None else ", ".join(map(str, chosen.sizes))
    answer.data = facts = {
        **facts, "algorithms": ", ".join(chosen.named()), "sizes": sizes, "order": chosen.order,
    }  # fmt: skip
    _table(answer, facts)


def _routed(answer: Answer, chosen: Any) -> None:
    chosen.check()
    answer.data = facts = {
        "tasks": type(chosen.tasks).name,
        "encoder": type(chosen.encoder).name,
        "association": type(chosen.association).name,
        "methods": ", ".join(chosen.named()),
        "regimes": ", ".join(chosen.regimes),
        "seeds": chosen.repeats,
    }
    _table(answer, facts)


def _private(answer: Answer, chosen: Any) -> None:
    from hansa.infer.private.run import checked
    from hansa.infer.private.sessions.sides import server_model

    network, program, scheme = checked(chosen)
    steps = range(server_model(program, scheme).steps(0))
    answer.data = facts = {
        "network": f"run {chosen.run}" if chosen.run is not None else type(chosen.model).name,
        "test_examples": len(network.dataset.test),
        "queries": chosen.queries,
        "mode": scheme.mode,
        "packing": scheme.packing,
        "shuffle": scheme.hides,
        "profile": scheme.profile,
        "accumulator_bits": program.accumulator_bits,
        "requests": len(steps),
    }
    _table(answer, facts)
    if chosen.run is None:
        answer.line("Bits are of the network before its training.")


def _ensemble(answer: Answer, chosen: Any) -> None:
    from hansa.combine.ensemble import prepare
    from hansa.combine.ensemble.plan import plan, remarks
    from hansa.combine.ensemble.run_members import open_run
    from hansa.experiment.prepare import check_device
    from hansa.report.grid import Grid
    from hansa.report.units import quantity

    check_device(chosen.device)
    prepared = prepare(chosen, open_run=open_run)
    answer.data = facts = plan(prepared) | {"remarks": remarks(prepared)}
    _table(answer, {k: v for k, v in facts.items() if not isinstance(v, list)})
    rows = [
        [
            model["form"],
            str(model["clients"]),
            "when fitted" if model["bytes"] is None else f"{model['parameters']:,}",
            quantity(model["bytes"], "bytes"),
        ]
        for model in facts["models"]
    ]
    answer.table(Grid("Models", ["model", "clients", "parameters", "bytes"], rows))
    rows = [
        [
            rule["name"],
            f"{rule['parameters']:,}",
            quantity(rule["phase_2_bytes"], "bytes"),
            quantity(rule["bytes"], "bytes"),
        ]
        for rule in facts["rules"]
    ]
    columns = ["rule", "parameters", "phase 2", "in all"]
    answer.table(Grid("Bytes of one client, by FENS's formula", columns, rows))
    if any(model["bytes"] is None for model in facts["models"]):
        answer.line(
            "Fitted predictors count nothing here: their size is known when they are fitted."
        )
    for note in facts["notes"]:
        answer.line(f"warning: {note}")
    for remark in facts["remarks"]:
        answer.line(f"remark: {remark}")
    if facts["baselines"]:
        answer.line(f"baselines: {', '.join(facts['baselines'])}")


def _swept(answer: Answer, chosen: Any) -> None:
    from hansa.experiment.beginning import check as checked
    from hansa.experiment.settings_file import kind_of
    from hansa.experiment.sweep.planned import plan_facts, plan_table, planned, refusal

    plan = planned(chosen)
    if plan.refused:
        raise refusal(plan.refused, len(plan.settings) + len(plan.refused))
    if plan.runs:
        first = plan.runs[0].settings()
        checked(kind_of(first).parse(first))
    answer.data = plan_facts(plan)
    answer.table(plan_table(plan))


def _checked(answer: Answer, chosen: SettingsFile) -> None:
    """A file whose kind has a check and no plan."""
    from hansa.experiment.beginning import check as checked

    checked(chosen)
    answer.data = {"command": chosen.command}


def _table(answer: Answer, facts: dict[str, Any]) -> None:
    from hansa.report.grid import Grid
    from hansa.report.units import label

    rows = [[label(key), _shown(value, key)] for key, value in facts.items()]
    answer.table(Grid("Plan", ["", ""], rows, words=2))


_SHOWN = {
    "audit": show_plan,
    "serve": _served,
    "merge": _merged,
    "route": _routed,
    "private": _private,
    "combine": _ensemble,
    "sweep": _swept,
}
"""What shows the plan of a verb's file; other runs are shown as those of learn."""


def _shown(value: Any, key: str = "") -> str:
    from hansa.report.units import quantity

    if isinstance(value, dict) and "min" not in value:
        return ", ".join(f"{name} {_shown(one)}" for name, one in value.items())
    if isinstance(value, dict):
        low, high = value["min"], value["max"]
        return _shown(low) if low == high else f"{_shown(low)} to {_shown(high)}"
    if "bytes" in key.split("_") and isinstance(value, int):
        return quantity(value, "bytes")
    return f"{value:,}" if isinstance(value, int) else str(value)
