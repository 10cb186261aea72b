"""Forgetting in a run folder: opens the run, runs a method, measures, and leaves a receipt."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.base.threads import one_thread
from hansa.data import label_histogram
from hansa.engine import Job
from hansa.experiment.hosting import opened
from hansa.forget.erase import keep, reported, shelve
from hansa.forget.measure import Judge, attack_remark, marker_verdicts
from hansa.forget.method import Forgetting
from hansa.forget.quickdrop import AscendAndRecover, Distilled, QuickDrop
from hansa.forget.recovery import Recovery
from hansa.forget.request import Request, check_request
from hansa.forget.requests import fingerprint, now, scrub
from hansa.forget.retrain import Retrain
from hansa.forget.shards import Shards
from hansa.forget.trained import Trained, open_trained
from hansa.forget.verdict import judge_outcome
from hansa.metrics import Metric
from hansa.models import ParameterLayout

if TYPE_CHECKING:
    from torch import Tensor

_SMALL = 1 << 20


def forget(
    path: str | Path,
    request: Request,
    method: Forgetting | None = None,
    oracle: bool = False,
    controls: bool = False,
    allow_relearn: bool = False,
    tell: Callable[[str], None] | None = None,
    metrics: Sequence[Metric] = (),
) -> dict[str, Any]:
    """Make a run forget, and return the receipt.

    Without a method, a run with several cohorts is served by ``shards``, others by ``quickdrop``.

    Everything is checked before work begins, and the run changes in one step at the end: an
    interrupt leaves it as it was, and asking again gives the same model. A request whose goal was
    reached is not served again by the same method; its receipt comes back. One whose goal was not,
    ``status: incomplete``, destroys nothing, and may be asked for again.

    Args:
        oracle: also retrain without the data, and say how far the model is from that.
        controls: also run QuickDrop with random examples and with noise as its images.
        allow_relearn: keep the forgotten data's synthetic images, for :func:`relearn`.
        tell: is given what there is to know of the method before it begins, a line each.
        metrics: are measured besides those that the run's file names.

    Raises:
        ConfigError: the request or the method does not fit the run; says what does.
    """
    with opened(path):
        run = open_trained(path)
        if metrics:
            every = (*run.job.evaluate.metrics, *metrics)
            run.job.evaluate = run.job.evaluate.model_copy(update={"metrics": every})
            run.job.metrics.try_out()
        chosen = method or (Shards() if run.job.servers > 1 else QuickDrop())
        served = run.requests.serving(request)
        if served and (method is None or served["method"]["name"] == type(method).name):
            return {"status": "done", **served, "repeated": True}
        _check(run, request, chosen, asked_by_name=method is not None)
        federation = run.federation(request)
        chosen.check(federation)
        if oracle:
            Retrain().check(federation)
        caveats = chosen.caveats(federation)
        if tell is not None:
            for line in caveats:
                tell(line)
        judge, before = Judge(federation), federation.row
        with _threads(run.job):
            row, story = chosen.forget(federation)
        figures: dict[str, Any] = {"before": judge.figures(before)}
        middle = story.pop("model_after_ascent", None)
        if middle is not None:
            figures["after_ascent"] = judge.figures(middle)
        figures["after"] = judge.figures(row)
        receipt: dict[str, Any] = {
            "kind": "forget",
            "time": now(),
            "request": request.dump(),
            "what": request.named(run.class_names),
            "method": chosen.dump(),
            "model_before": fingerprint(before),
            "model_after": fingerprint(row),
            "figures": figures,
            **({"metrics": run.job.metrics.facts()} if run.job.evaluate.metrics else {}),
            "cost": federation.ledger.dump(),
            "caveats": caveats,
            "membership_attack": attack_remark(figures["before"]["membership_auc"]),
            "story": story,
            "distance_to_oracle": None,
        }
        perfect = None
        if oracle or isinstance(chosen, Retrain):
            perfect = _compare(run, request, judge, row, chosen, receipt)
        receipt["markers"] = marker_verdicts(receipt["figures"])
        if controls and run.layout is not None:
            receipt["controls"] = _controls(run, request, judge, chosen)
        until = chosen.ascent.until if isinstance(chosen, AscendAndRecover) else 1.0
        verdict = judge_outcome(
            federation, row, perfect, type(chosen).exact, until, run.class_names,
            run.requests.served,
        )  # fmt: skip
        receipt |= {
            "status": verdict.status,
            "goal": verdict.goal,
            "missing": list(verdict.missing),
        }
        run.settle(row, federation.nodes)
        return keep(run, request, receipt, allow_relearn)


def _check(run: Trained, request: Request, chosen: Forgetting, asked_by_name: bool) -> None:
    """Refuse what cannot be forgotten, or not by this method any more."""
    parts, past = list(run.job.parts), run.requests.past
    targets = run.job.dataset.train.targets.cpu().numpy()
    histogram = label_histogram(targets, parts, run.job.dataset.spec.classes)
    again = request & run.requests.open
    if asked_by_name and not request - past:
        again = request
    check_request(request, past - again, histogram, parts, run.class_names)
    if chosen.needs_images and (gone := request & run.requests.served):
        raise ConfigError(
            "method",
            type(chosen).name,
            f"the synthetic images of {gone.named(run.class_names)} were destroyed, as its request "
            "was served",
            "--method retrain or --method sga, which work on the original examples",
        )


def relearn(path: str | Path, request: Request, recovery: Recovery | None = None) -> dict[str, Any]:
    """Learn anew what a request made a run forget, from the images that were kept for it.

    Raises:
        ConfigError: it was never forgotten, or its images were destroyed.
    """
    how = recovery or Recovery(rounds=4)
    with opened(path):
        run = open_trained(path)
        if run.job.servers > 1:
            problem = "cohorts keep nothing from which it could be learned anew"
            raise ConfigError("relearn", str(request) or None, problem, "begin a new run")
        if not request or request - run.requests.past:
            problem = "is not among what this run has forgotten"
            fix = f"forgotten now: {run.requests.past.named(run.class_names) or 'nothing'}"
            raise ConfigError("relearn", request.named(run.class_names) or None, problem, fix)
        kept = run.requests.withheld(request)
        if kept is None and not request - run.requests.open:
            kept = {}  # it was never forgotten well enough: all are where they were
        if kept is None:
            raise ConfigError(
                "relearn",
                request.named(run.class_names),
                "its synthetic images were destroyed, as an erasure asks for",
                "train again; next time, forget it with --allow-relearn",
            )
        images, rest = run.images, run.requests.past - request
        for client, row in kept.items():  # 0 where they hold nothing of the request
            images[client] = images.get(client, torch.zeros_like(row)) + row
        if run.layout is not None:
            scrub(images, run.layout, rest)
        federation = run.federation(request)
        federation.past, federation.images = rest, images
        judge, before = Judge(federation), federation.row
        federation.request = Request()
        with _threads(run.job):
            row, story = how.run(federation, before, federation.synthetic(forget=False))
        receipt = {
            "kind": "relearn",
            "status": "done",
            "time": now(),
            "request": request.dump(),
            "what": request.named(run.class_names),
            "method": {"name": "relearn", **how.model_dump(mode="json")},
            "model_before": fingerprint(before),
            "model_after": fingerprint(row),
            "figures": {"before": judge.figures(before), "after": judge.figures(row)},
            "cost": federation.ledger.dump(),
            "story": story,
            "distance_to_oracle": None,
        }
        shelve(run, images)
        run.settle(row)
        folder = run.requests.commit(run.block, run.done, receipt, layout=run.layout)
        run.folder.event("relearned", request=str(request))
        return reported(run, folder)


def _threads(job: Job) -> contextlib.AbstractContextManager[None]:
    return one_thread(ParameterLayout.of(job.module).nbytes < _SMALL and job.device == "cpu")


def _compare(
    run: Trained,
    request: Request,
    judge: Judge,
    row: Tensor,
    chosen: Forgetting,
    receipt: dict[str, Any],
) -> Tensor:
    """Add the oracle's figures and the distance to it; returns its model [D]."""
    if isinstance(chosen, Retrain):
        receipt["figures"]["oracle"] = receipt["figures"]["after"]
        receipt["oracle_cost"] = receipt["cost"]
        receipt["distance_to_oracle"] = judge.distance(row, row)
        return row
    federation = run.federation(request)
    with _threads(run.job):
        perfect, _ = Retrain().forget(federation)
    receipt["figures"]["oracle"] = judge.figures(perfect)
    receipt["oracle_cost"] = federation.ledger.dump()
    receipt["distance_to_oracle"] = judge.distance(row, perfect)
    return perfect


def _controls(run: Trained, request: Request, judge: Judge, chosen: Forgetting) -> dict[str, Any]:
    """What the same steps do with images that were not distilled."""
    figures = {}
    if isinstance(chosen, Distilled):
        base = chosen
    else:
        names = ("ascent", "recovery")
        base = QuickDrop(**{name: getattr(chosen, name) for name in names if hasattr(chosen, name)})
    for stand_in in ("random_real", "noise"):
        control = base.model_copy(update={"stand_in": stand_in})
        row, story = control.forget(run.federation(request))
        middle = judge.figures(story["model_after_ascent"])
        figures[stand_in] = {"after_ascent": middle, "after": judge.figures(row)}
    return figures
