"""Runs of the combine verb: a folder with models, quantized ensemble, rule and table.

::

    config.yaml, environment.json, events.jsonl, summary.json, report.html   as of any run
    table.json, table.md     every rule, member and baseline: accuracy and bytes of one client
    metrics/                 accuracy of the rule that is kept, of learned rules, of members
    ensemble/                what ``hansa combine predict`` applies (see ``store.py``)
    members/, rule_*/, baselines/   a run folder for each run of the engine
    finished/                what an interrupted run goes on from; gone when it has ended
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.files import atomic_write
from hansa.combine.ensemble.ensemble_file import EnsembleFile
from hansa.combine.ensemble.ensemble_settings import AggregateSettings
from hansa.combine.ensemble.finished import FINISHED, Finished
from hansa.combine.ensemble.members import Member
from hansa.combine.ensemble.own_code import carried
from hansa.combine.ensemble.page import markdown
from hansa.combine.ensemble.pipeline import Prepared, Result, combine, describe_members, prepare
from hansa.combine.ensemble.plan import remarks
from hansa.combine.ensemble.proxies import standardizes
from hansa.combine.ensemble.run_members import open_run
from hansa.combine.ensemble.store import load_members
from hansa.data import Dataset
from hansa.experiment.environment import describe_machine
from hansa.experiment.hosting import Hosting, begun, check_verb, hosted, placed, reopened
from hansa.experiment.inputs import INPUTS, check_inputs, describe_inputs
from hansa.experiment.played import Place
from hansa.experiment.prepare import check_device
from hansa.report import RunFolder

Say = Callable[[str], None]


def ensemble(
    settings: EnsembleFile | Mapping[str, Any],
    out: str | Path | None = None,
    say: Say = lambda text: None,
    report: bool = True,
) -> RunFolder:
    """Train alone, upload once, combine.

    Args:
        out: the run folder; by default a new one under ``runs/``.
        say: is told what begins.

    Raises:
        ConfigError: a setting that cannot work, before anything is written.
        DataError: the data are missing or damaged.
        RunError: training failed; the folder says where.
    """
    chosen = settings if isinstance(settings, EnsembleFile) else EnsembleFile.parse(settings)
    return _begin(chosen, out, say, report, None)


def check(chosen: EnsembleFile) -> None:
    """All that can be checked before anybody trains.

    Raises:
        ConfigError: a setting that cannot work.
        DataError: the data are missing or damaged.
    """
    check_device(chosen.device)
    prepare(chosen, open_run=open_run)


def resume(
    run: str | Path,
    changes: Mapping[str, Any] | None = None,
    say: Say = lambda text: None,
    report: bool = True,
) -> RunFolder:
    """Go on with an ensemble that was interrupted; it ends as if it had not been.

    Members that are trained, rules that are fitted and baselines that are done are loaded; what
    was begun is begun anew.

    Args:
        changes: settings to replace, only among ``EnsembleFile.resumable``.

    Raises:
        CheckpointError: the folder is not an ensemble's, or is damaged.
        ConfigError: it has finished, or a setting cannot change any more.
    """
    with reopened(run, EnsembleFile, changes) as again:
        folder, chosen = again.folder, again.settings
        check_device(chosen.device)
        prepared = prepare(chosen, folder.read_json("removal.json") is None, open_run)
        check_inputs(folder, chosen, prepared.dataset, _parts(prepared))
        members = _removals(folder, prepared)
        again.enter()  # measurements are written at the end, all at once
        with hosted(folder, chosen.verb, report) as hosting:
            _work(hosting, prepared, say, members)
        return folder


def _parts(prepared: Prepared) -> list[np.ndarray]:
    return [*prepared.division.train, *prepared.division.proxy]


def _removals(folder: RunFolder, prepared: Prepared) -> list[Member] | None:
    """Members of a removal that was interrupted before it had taken them over; else none."""
    removal, spec = folder.read_json("removal.json"), prepared.dataset.spec
    kept = set(removal["kept_clients"]) if removal else set()
    if kept <= set(Finished(folder.path / FINISHED).members(spec)):
        return None
    before = load_members(Path(removal["from"]) / "ensemble", spec, trust=True)
    return [member for member in before if member.client in kept]


def remove(
    run: str | Path,
    client: int,
    out: str | Path | None = None,
    say: Say = lambda text: None,
    report: bool = True,
) -> RunFolder:
    """An ensemble without a client: its model is dropped and phase 2 is done anew without it.

    Members are trained alone, and rule and choice are fitted on the others' proxies, so that none
    has seen the client's examples. What standardizes the inputs has: it stays, since the kept
    models need it. ``removal.json`` says what was kept.

    Raises:
        CheckpointError: the folder holds no ensemble.
        ConfigError: there is no such client, or it is the last.
    """
    folder = RunFolder.open(run)
    check_verb(folder, EnsembleFile)
    before = EnsembleFile.parse(carried(folder.config, folder.path / "ensemble"))
    left = [i for i in range(before.clients) if i not in before.without]
    if client not in left:
        fix = f"one of {', '.join(map(str, left))}"
        raise ConfigError("client", client, "has no model in this ensemble", fix)
    if left == [client]:
        raise ConfigError("client", client, "is the last: every client would be gone", "delete it")
    settings = before.model_copy(update={"without": (*before.without, client)})
    dataset = prepare(settings, anew=False).dataset
    check_inputs(folder, settings, dataset, held=("members.",))
    members = load_members(folder.path / "ensemble", dataset.spec, trust=True)
    kept = [member for member in members if member.client != client]
    removal = {
        "removed": client,
        "from": str(folder.path.resolve()),
        "kept_clients": [member.client for member in kept],
        "kept_models": "as they were: each was trained on its own client's examples alone",
        "kept_statistics": _kept_statistics(settings, dataset, client),
        "refitted": [rule.name for rule in settings.rules],
    }
    return _begin(settings, out, say, report, kept, removal)


def _kept_statistics(settings: EnsembleFile, dataset: Dataset, client: int) -> str:
    """What is left of a removed client in how inputs are prepared."""
    statistics = []
    if standardizes(settings, dataset):
        statistics.append("means and deviations of the inputs")
    if dataset.fill is not None:
        statistics.append("the means that fill missing values")
    if not statistics:
        return "none: inputs are prepared without statistics over examples"
    left = ",".join(map(str, settings.without))
    return (
        f"{' and '.join(statistics)} are over all clients' examples, client {client}'s too, since "
        f"the kept models were trained on inputs prepared by them; without any: data.normalize: "
        f"none, or train anew with --set without=[{left}]"
    )


def _begin(
    chosen: EnsembleFile,
    out: str | Path | None,
    say: Say,
    report: bool,
    members: list[Member] | None,
    removal: Mapping[str, Any] | None = None,
) -> RunFolder:
    check_device(chosen.device)
    with placed(chosen, out) as path:
        prepared = prepare(chosen, removal is None, open_run)
        inputs = describe_inputs(chosen, prepared.dataset, _parts(prepared))
        environment = {**describe_machine(chosen.seed), INPUTS: inputs}
        environment["metrics"] = prepared.figures.metrics.facts()
        with begun(path, chosen, environment, report) as hosting:
            folder = hosting.folder
            for note in prepared.division.notes:
                say(f"warning: {note}")
                folder.event("warning", text=note)
            folder.write_json("remarks.json", remarks(prepared))
            if removal:
                folder.write_json("removal.json", removal)
            _describe(folder, prepared)
            _work(hosting, prepared, say, members)
        return folder


def _work(hosting: Hosting, prepared: Prepared, say: Say, members: list[Member] | None) -> None:
    """Both phases, and all that is said of them."""
    folder, settings = hosting.folder, prepared.settings
    hosting.passing = folder.path / FINISHED
    place = Place(settings.runtime, tuple(folder.config["plugins"]))
    result = combine(prepared, folder.path, say, members, place)
    hosting.facts = lambda: _facts(result)
    _record(folder, result, settings.aggregate, say)


def _record(folder: RunFolder, result: Result, aggregate: AggregateSettings, say: Say) -> None:
    """Metrics, tables and what a reader should know."""
    clients = [member.client for member in result.members]
    folder.record(0, "member_accuracy", result.member_accuracy, node=clients)
    last, many = aggregate.rounds, len(clients)
    for row in result.table:
        if row["kind"] != "rule":
            continue
        curve = result.fits[row["name"]].curve
        for done, value in curve:
            folder.record(done, f"accuracy_{row['name']}", value)
        if row["name"] == result.chosen:  # the run's own accuracy, which others compare with
            points = [*(point for point in curve if point[0] < last), (last, row["accuracy"])]
            for done, value in points if curve else ((0, row["accuracy"]), *points):
                share = 1.0 if aggregate.over == "server" else done / last
                each = row["counted"] - row["phase_2"] * (1 - share)
                folder.record(done, "accuracy", value, bytes=round(each * many))
    folder.event("chosen", rule=result.chosen, why=result.reason)
    for text in result.doubts:
        say(f"warning: {text}")
        folder.event("warning", text=text)
    if result.unsaved:
        text = f"the models of clients {', '.join(result.unsaved)} have no form on disk: predict "
        text += "and remove cannot take this ensemble"
        say(f"warning: {text}")
        folder.event("warning", text=text)
    folder.write_json("table.json", {"rows": result.table, "members": describe_members(result)})
    with atomic_write(folder.path / "table.md", "w") as file:
        file.write(markdown(result.table, result.chosen))


def _facts(result: Result) -> dict[str, Any]:
    """What the summary says of it."""
    phases = {name: round(seconds, 3) for name, seconds in result.seconds.items()}
    rules = {row["name"]: row for row in result.table if row["kind"] == "rule"}
    figures = {row["name"]: row["figures"] for row in result.table if row.get("figures")}
    return {
        "clients": len(result.members),
        "chosen": result.chosen,
        "why": result.reason,
        "accuracy": result.accuracy,
        "rules": {name: row["accuracy"] for name, row in rules.items()},
        "baselines": {r["name"]: r["accuracy"] for r in result.table if r["kind"] == "baseline"},
        **({"figures": figures} if figures else {}),
        "bytes_sent": round(rules[result.chosen]["counted"] * len(result.members)),
        "seconds": round(sum(result.seconds.values()), 3),
        "phases": phases,
    }


def _describe(folder: RunFolder, prepared: Prepared) -> None:
    """Leave the split of the data where the report finds it."""
    dataset, division = prepared.dataset, prepared.division
    names = dataset.class_names or tuple(map(str, range(dataset.spec.classes)))
    folder.write_json(
        "partition.json",
        {
            "clients": division.clients,
            "sizes": [len(part) for part in division.train],
            "proxies": [len(part) for part in division.proxy],
            "classes": list(names),
            "histogram": division.counts.tolist(),
        },
    )
