"""FENS from data to a table: train alone, upload once, combine (Allouah et al., NeurIPS 2024)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.losses import predicted
from hansa.base.streams import Streams
from hansa.combine.ensemble import cost, store
from hansa.combine.ensemble.aggregate import Fit, check_learning, fit, out_of_fold
from hansa.combine.ensemble.attacked import check_attack
from hansa.combine.ensemble.baseline import check, check_members, chosen_baselines
from hansa.combine.ensemble.brought import OpenRun, bring, counted, no_runs, owners
from hansa.combine.ensemble.ensemble_settings import EnsembleSettings, Predictor
from hansa.combine.ensemble.figures import Figures
from hansa.combine.ensemble.finished import FINISHED, Finished, slug
from hansa.combine.ensemble.harness import Harness
from hansa.combine.ensemble.judgement import JUDGING, Judged, choose
from hansa.combine.ensemble.judging import OutOfFold, judge
from hansa.combine.ensemble.members import Member, train_members
from hansa.combine.ensemble.proxies import Division, Scores, divide, restandardized
from hansa.combine.ensemble.scoring import score
from hansa.data import Dataset
from hansa.engine.exchange.attackers import Attackers
from hansa.ensemble import Rule, state_bytes
from hansa.experiment.played import HERE, Place
from hansa.models import initial_model

_ENOUGH = 20
"""Proxies that are needed to tell a guess from what is worse."""
_WORSE = 0.5  # of what guessing gets right
Say = Callable[[str], None]


@dataclass(frozen=True)
class Prepared:
    """All that can be known before anything is trained."""

    settings: EnsembleSettings
    dataset: Dataset
    division: Division
    rules: dict[str, Rule]
    figures: Figures
    brought: dict[int, Member] = field(default_factory=dict)
    attackers: Attackers | None = None


@dataclass
class Result:
    """What came of it.

    Attributes:
        table: a line for each rule, single member and baseline (see :func:`_line`).
        chosen, reason: the rule that is kept, and why.
        unsaved: clients whose models have no form on disk.
        doubts: what a reader should know of members that were brought.
    """

    members: list[Member]
    scores: Scores
    fits: dict[str, Fit]
    judged: Judged | None
    chosen: str
    reason: str
    table: list[dict[str, Any]] = field(default_factory=list)
    member_accuracy: list[float] = field(default_factory=list)
    member_figures: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    unsaved: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    @property
    def kept(self) -> Fit:
        """The rule that is kept."""
        return self.fits[self.chosen]

    @property
    def accuracy(self) -> float:
        """On the test set, of the ensemble with the rule that is kept."""
        return next(row["accuracy"] for row in self.table if row["name"] == self.chosen)


def prepare(settings: EnsembleSettings, anew: bool = True, open_run: OpenRun = no_runs) -> Prepared:
    """Load and check everything.

    Args:
        anew: inputs are standardized by the clients that take part, and members that are brought
            are read; otherwise, where members are there already, all is as it was for them: by all
            clients, also by those that are left out.
        open_run: reads members that are runs of ``hansa learn``.

    Raises:
        ConfigError: a setting that cannot work, with the way out.
        DataError: the data are missing or damaged.
    """
    streams = Streams(settings.seed)
    try:
        dataset = settings.data.load(streams)
        division = divide(settings, dataset, streams)
        if anew and settings.without:
            dataset = restandardized(settings, dataset, division)
    except ConfigError as error:
        if error.field == "nodes":
            fix = error.fix.replace("nodes", "clients")
            raise ConfigError("clients", error.value, error.problem, fix) from None
        ours = error.field.split(".")[0] in type(settings).model_fields
        raise error if ours else error.under("data") from None
    figures = Figures(settings, dataset.spec)
    rules = {rule.name: rule for rule in settings.rules}
    if len(rules) < len(settings.rules):
        names = [rule.name for rule in settings.rules]
        raise ConfigError("rules", names, "has a name twice", "each rule once")
    if settings.choose not in (*JUDGING, *rules):
        fix = f"{', '.join(JUDGING)} or one of {', '.join(rules)}"
        raise ConfigError("choose", settings.choose, "is not among the rules", fix)
    left = len(division.clients)
    if settings.choose == "robust" and 2 * settings.f >= left:
        problem = f"of {left} members cannot be outvoted: f is below half of them"
        raise ConfigError("f", settings.f, problem, f"at most {(left - 1) // 2}, or more clients")
    train = len(owners(settings)) < len(division.clients)
    if train and not settings.models and not settings.predictors:
        raise ConfigError("models", None, "there is neither a network nor a predictor", "[mlp]")
    for k, form in enumerate(settings.models):
        try:
            initial_model(form, dataset.spec, streams)
        except ConfigError as error:
            raise error.under(f"models.{k}") from None
    try:
        settings.local.check_augment(dataset.spec)
    except ConfigError as error:
        raise error.under("local") from None
    if settings.aggregate.augment:
        problem = "a rule learns on scores, which are no images"
        raise ConfigError("aggregate.augment", None, problem, "local.augment")
    holders = sum(len(part) > 0 for part in division.proxy)
    check_learning(settings.aggregate, holders, settings.rules, streams)
    try:
        settings.runtime.check(len(division.clients))
    except ConfigError as error:
        raise error.under("runtime") from None
    check(settings, dataset)
    brought = bring(settings, dataset, open_run) if anew else {}
    division = replace(division, counts=counted(settings, dataset, division))
    if brought:
        text = f"clients {', '.join(map(str, sorted(brought)))} bring models that were trained "
        text += "elsewhere: whether they have seen proxies or test examples is not known here"
        division = replace(division, notes=(*division.notes, text))
    check_members(settings, list(brought.values()))
    attackers = check_attack(settings, division.clients, owners(settings))
    return Prepared(settings, dataset, division, rules, figures, brought, attackers)


def combine(
    prepared: Prepared,
    path: Path,
    say: Say,
    members: list[Member] | None = None,
    place: Place = HERE,
) -> Result:
    """Both phases, all rules and baselines; runs and the ensemble go below ``path``.

    What was finished there before an interrupt is not done again, and the result is the same.

    Args:
        say: is told what begins.
        members: models of the division's clients where phase 1 is done already.
        place: where clients live.

    Raises:
        RunError: training failed.
        CheckpointError: what was finished before an interrupt is damaged.
    """
    settings, dataset, division = prepared.settings, prepared.dataset, prepared.division
    finished = Finished(path / FINISHED)
    if members is not None:
        finished.keep_members(members)
    timer = _Timer(finished)
    trained = {m.client: m for m in members or ()} or finished.members(dataset.spec)
    members = _phase_one(prepared, path, say, trained, place, finished)
    timer.lap("phase_1")
    earlier = finished.scores()
    if earlier is None:
        say(f"{sum(map(len, division.proxy))} proxies are scored by {len(members)} models")
    scores = score(
        settings, dataset, division, members, path / "members", place, earlier, finished.keep_scores
    )
    if scores.alignments is not None:
        pairs = zip(members, scores.alignments, strict=True)
        members = [replace(member, alignment=alignment) for member, alignment in pairs]
    timer.lap("scoring")
    fits: dict[str, Fit] = {}
    folds: dict[str, OutOfFold] = {}
    for name, rule in prepared.rules.items():
        fits[name], without = _rule(prepared, rule, scores, path, say, place, finished)
        if without is not None:
            folds[name] = without
        timer.lap("phase_2")
    judged = None
    if settings.choose in JUDGING:
        f = settings.f if settings.choose == "robust" else None
        count, into = settings.aggregate.folds, path / "judging"
        judged = judge(prepared.rules, folds, scores, count, settings.seed, into, f, place)
        timer.lap("phase_2")
    chosen, reason = choose(settings.choose, prepared.rules, judged)
    result = Result(members, scores, fits, judged, chosen, reason)
    for name, fitted in fits.items():
        result.table.append(_line(prepared, result, name, fitted))
    _single(prepared, result)
    result.doubts = _doubts(prepared, members, scores)
    result.unsaved = store.save(
        path / "ensemble",
        dataset,
        scores.panel,
        members,
        result.kept,
        settings.data.interface(),
        place.plugins,
    )
    timer.lap("phase_2")
    if settings.baselines.methods:
        harness = Harness(
            settings, dataset, division, members, scores, result.kept, path / "baselines", place
        )
        for method in chosen_baselines(settings):
            name = type(method).name
            row = finished.baseline(name)
            if row is None:
                say(f"baseline {name}")
                row = method.run(harness).line()
                finished.keep_baseline(name, row)
            result.table.append({"kind": "baseline", **row})
            timer.lap("baselines")
    result.seconds = timer.seconds
    return result


def _doubts(prepared: Prepared, members: list[Member], scores: Scores) -> list[str]:
    """Brought members that are worse than a guess: their outputs may stand for other classes."""
    dataset, doubts = prepared.dataset, []
    names = ", ".join(dataset.class_names or map(str, range(dataset.spec.classes)))
    for member, said in zip(members, scores.train, strict=True):
        if member.client not in prepared.brought or len(said) < _ENOUGH:
            continue
        right = float((predicted(said) == scores.targets).double().mean())
        if right < _WORSE / dataset.spec.classes:
            doubts.append(
                f"the model that client {member.client} brings gets {100 * right:.0f} % of the "
                f"proxies right, less than guessing would: are its outputs the classes {names}, in "
                "this order, and are its inputs prepared as it was trained (members: takes)?"
            )
    return doubts


class _Timer:
    """Seconds of each phase, over interrupts."""

    def __init__(self, finished: Finished) -> None:
        self.finished, self.seconds = finished, finished.seconds()
        self.last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """What passed since the last lap belongs to this phase."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self.last
        self.last = now
        self.finished.keep_seconds(self.seconds)


def _phase_one(
    prepared: Prepared,
    path: Path,
    say: Say,
    trained: dict[int, Member],
    place: Place,
    finished: Finished,
) -> list[Member]:
    """The members, those that are not trained yet too."""
    settings, division = prepared.settings, prepared.division
    left = len(set(division.clients) - set(trained) - set(prepared.brought))
    if left:
        say(f"{left} {'more ' * bool(trained)}clients train alone")
    keep = finished.keep_members
    return train_members(
        settings, prepared.dataset, division.clients, division.train, path / "members", place,
        trained, keep, prepared.brought,
    )  # fmt: skip


def _rule(
    prepared: Prepared,
    rule: Rule,
    scores: Scores,
    path: Path,
    say: Say,
    place: Place,
    finished: Finished,
) -> tuple[Fit, OutOfFold | None]:
    """A rule, fitted on all proxies and out of fold, now or before an interrupt."""
    settings = prepared.settings
    found = finished.rule(rule, scores.panel)
    if found is not None:
        return found
    say(f"rule {rule.name}")
    folder = path / f"rule_{slug(rule.name)}"
    liars, seed = prepared.attackers, settings.seed
    fitted = fit(rule, scores, settings.aggregate, seed, folder, place, liars)
    without = None
    if settings.choose in JUDGING and rule.learned:
        without = out_of_fold(rule, scores, settings.aggregate, seed, place, liars)
    finished.keep_rule(fitted, without)
    return fitted, without


def _line(prepared: Prepared, result: Result, name: str, found: Fit) -> dict[str, Any]:
    """A rule's line: accuracy on the test set and on the proxies, and bytes of one client."""
    settings, scores, members = prepared.settings, result.scores, result.members
    answers = found.answers(scores.test_rows(found.rule))
    hits = predicted(answers) == scores.test_targets
    judged = result.judged
    uploads = [member.upload or state_bytes(member.module) for member in members]
    mean = float(np.mean(uploads))
    # Phase 1 brings the first model and takes the trained one; then everybody gets the ensemble.
    counted = 2 * mean + sum(member.download for member in members)
    counted += found.bytes_sent / len(members)
    if scores.alignments is not None:  # a sum of squares of each member's scores, and a factor back
        counted += 2 * 4 * len(members)
    rounds = settings.aggregate.rounds
    formula = cost.ensemble(mean, len(members), found.parameters, rounds)
    return {
        "kind": "rule",
        "name": name,
        "accuracy": float(hits.double().mean()),
        **prepared.figures.of(answers, scores.test_targets),
        "proxy_accuracy": judged.accuracy(name) if judged else None,
        **_robust(settings, judged, name),
        "parameters": found.parameters,
        "formula": formula,
        "counted": counted,
        "phase_2": found.bytes_sent / len(members),
        "judging": judged.bytes_sent[name] / len(members) if judged else 0.0,
        "seconds": found.seconds,
        "peers": list(found.peers),
        "note": "; ".join(filter(None, [_alone(found), result.reason * (name == result.chosen)])),
    }


def _robust(settings: EnsembleSettings, judged: Judged | None, rule: str) -> dict[str, Any]:
    """What is left of a rule's accuracy on the proxies where some members lie."""
    if judged is None or judged.robust is None:
        return {}
    return {"liars": settings.f, "proxy_robust_accuracy": judged.robust_accuracy(rule)}


def _alone(found: Fit) -> str:
    """What single peers' rules come to, before their mean is taken."""
    if not found.peers:
        return ""
    low, high, mean = min(found.peers), max(found.peers), float(np.mean(found.peers))
    return (
        f"the mean of {len(found.peers)} peers' rules, alone {mean:.3f} ({low:.3f} to {high:.3f})"
    )


def _single(prepared: Prepared, result: Result) -> None:
    """The members one by one on the test set."""
    targets = result.scores.test_targets
    hits = (predicted(result.scores.test) == targets).double().mean(1)
    result.member_accuracy = hits.tolist()
    result.member_figures = [prepared.figures.of(said, targets) for said in result.scores.test]
    best = int(hits.argmax())
    client = result.members[best].client
    result.table.append(
        {
            "kind": "member",
            "name": "best client",
            "accuracy": float(hits[best]),
            **result.member_figures[best],
            "formula": 0.0,
            "counted": 0.0,
            "note": f"client {client}, best on the test set",
        }
    )


def describe_members(result: Result) -> list[dict[str, Any]]:
    """Each member in plain data: form, accuracy on the test set, bytes up and down."""
    rows = zip(result.members, result.member_accuracy, result.member_figures, strict=True)
    return [
        {
            "client": m.client,
            "form": m.form.path if isinstance(m.form, Predictor) else m.form.name,
            "accuracy": accuracy,
            **figures,
            "upload_bytes": m.upload,
            "download_bytes": m.download,
        }
        for m, accuracy, figures in rows
    ]


__all__ = ["Prepared", "Result", "combine", "describe_members", "prepare"]
