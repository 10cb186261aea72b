"""Baselines that average the clients' models: one round of FedAvg, many, and FENS's fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hansa.base.component import register
from hansa.combine.ensemble import cost
from hansa.combine.ensemble.baseline import Baseline, Compared
from hansa.combine.ensemble.ensemble_settings import BaselineSettings, algorithm
from hansa.engine import Algorithm
from hansa.models import ParameterLayout, shared_copy

if TYPE_CHECKING:
    from hansa.combine.ensemble.harness import Harness
    from hansa.experiment.played import Played


@register("fedavg_once", paper="McMahan et al.", year=2017, url="https://arxiv.org/abs/1602.05629")
class FedAvgOnce(Baseline):
    """One round of FedAvg, the best of ``baselines.once`` epochs."""

    def run(self, harness: Harness) -> Compared:
        tried = {}
        for epochs in harness.settings.baselines.once:
            name = f"fedavg_once_{epochs}"
            tried[epochs] = harness.play(name, algorithm("fedavg"), harness.whole, 1, epochs)
        best = max(tried, key=lambda epochs: tried[epochs].curve[-1][1])
        at, accuracy = tried[best].curve[-1]
        counted, figures = harness.each(tried[best]), tried[best].figures.get(at, {})
        note = f"best on the test set of {', '.join(map(str, tried))} epochs: {best}"
        formula = cost.one_shot(harness.size)
        return Compared(type(self).name, accuracy, formula, counted, note, figures=figures)


@register("fedavg", paper="McMahan et al.", year=2017, url="https://arxiv.org/abs/1602.05629")
class FedAvgRounds(Baseline):
    """Many rounds of FedAvg; with ``baselines.patience`` until the loss on the proxies is flat."""

    def algorithm(self, given: BaselineSettings, **more: Any) -> tuple[Algorithm, float | None]:
        """What runs, and the clients' rate; none: that of ``baselines.optimizer``."""
        return algorithm("fedavg", **more), None

    def run(self, harness: Harness) -> Compared:
        name, asked = type(self).name, harness.settings.baselines
        more: dict[str, Any] = {}
        if asked.patience is not None:
            rule = {"window": 1, "patience": asked.patience, "strict": True}
            more = {"stop": rule, "select": "best"}
        chosen, lr = self.algorithm(asked, **more)
        if asked.patience is not None:
            return _until_flat(harness, name, chosen, lr, asked.patience)
        played = harness.play(name, chosen, harness.whole, asked.rounds, asked.local_epochs, lr)
        return _best(harness, name, played, asked.rounds)


@register("fedadam", paper="Reddi et al.", year=2021, url="https://arxiv.org/abs/2003.00295")
class FedAdamRounds(FedAvgRounds):
    """Many rounds of FedAdam, with the rates of ``baselines``; ``patience`` as for ``fedavg``."""

    def algorithm(self, given: BaselineSettings, **more: Any) -> tuple[Algorithm, float | None]:
        server = {"name": "adam", "lr": given.adam_server_lr}
        return algorithm("fedadam", server=server, **more), given.adam_lr


@register("fine_tuned", paper="Allouah et al.", year=2024, url="https://arxiv.org/abs/2411.07182")
class FineTuned(Baseline):
    """FedAvg on what members are trained on, then FedAvg on the proxies."""

    def run(self, harness: Harness) -> Compared:
        asked, division = harness.settings.baselines, harness.division
        name, rounds, epochs = type(self).name, asked.rounds, asked.local_epochs
        before = f"{name}_before"
        first = harness.play(before, algorithm("fedavg"), division.train, rounds, epochs)
        start = shared_copy(harness.module)
        ParameterLayout.of(start).load_(start, first.rows[0])
        proxies = [part for part in division.proxy if len(part)]
        second = harness.play(name, algorithm("fedavg"), proxies, rounds, epochs, start=start)
        compared = _best(harness, name, second, rounds, before=rounds)
        whole = compared.counted + harness.each(first)
        return replace(compared, counted=whole, curve=())


def _until_flat(
    harness: Harness, name: str, chosen: Algorithm, lr: float | None, patience: int
) -> Compared:
    """Until the loss on the proxies no longer falls; its lowest counts."""
    asked, division = harness.settings.baselines, harness.division
    played = harness.play(
        name, chosen, division.train, asked.rounds, asked.local_epochs, lr, held=division.proxy
    )
    module = shared_copy(harness.module)
    ParameterLayout.of(module).load_(module, played.rows[0].cpu())
    stopped = played.rounds < asked.rounds
    at = max(played.rounds - patience, 1) if stopped else played.rounds
    note = f"lowest loss on the proxies about round {at}, stopped after {played.rounds}"
    if not stopped:
        note = f"still gaining on the proxies after all {at} rounds"
    counted = harness.each(played) * at / played.rounds
    accuracy, formula = harness.accuracy(module), cost.iterative(harness.size, at)
    course, figures = _course(harness, played), harness.figures(module)
    return Compared(name, accuracy, formula, counted, note, course, figures)


def _best(harness: Harness, name: str, played: Played, rounds: int, before: int = 0) -> Compared:
    """Its best measurement on the test set."""
    at, accuracy = max(played.curve, key=lambda point: point[1])
    counted = harness.each(played) * at / rounds
    note = f"best on the test set, after round {at} of {rounds}"
    formula = cost.iterative(harness.size, before + at)
    course, figures = _course(harness, played), played.figures.get(at, {})
    return Compared(name, accuracy, formula, counted, note, course, figures)


def _course(harness: Harness, played: Played) -> Sequence[tuple[int, float, float]]:
    each = harness.each(played) / max(played.rounds, 1)
    return [(at, accuracy, each * at) for at, accuracy in played.curve]
