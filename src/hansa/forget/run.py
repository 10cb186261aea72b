"""Forgetting in a run folder: opens the run, has it served where its nodes live, keeps a receipt.

Here nobody's examples or images are looked at, and no model is computed: that is done by the run's
server and clients (:mod:`hansa.forget.serving`), in one process or several.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hansa.base.errors import ConfigError
from hansa.data import label_histogram
from hansa.engine import Runtime
from hansa.experiment.hosting import opened, write_page
from hansa.experiment.played import Place
from hansa.experiment.trained import STATE
from hansa.forget.attackers_asked import of_attackers
from hansa.forget.erase import withheld_shelf
from hansa.forget.measure import attack_remark, marker_verdicts
from hansa.forget.method import Exact, Forgetting
from hansa.forget.page import IMAGES
from hansa.forget.picture import picture
from hansa.forget.playing import Served, play, settle
from hansa.forget.quickdrop import QuickDrop
from hansa.forget.recovery import Recovery
from hansa.forget.request import Request, check_request
from hansa.forget.requests import now
from hansa.forget.retrain import Retrain
from hansa.forget.serving import Relearning, Serving
from hansa.forget.shards import Shards
from hansa.forget.trained import Trained, open_trained
from hansa.metrics import Metric

_AGAIN, _WORK, _ORACLE = "again", "work", "oracle"


def forget(
    path: str | Path,
    request: Request,
    method: Forgetting | None = None,
    oracle: bool = False,
    controls: bool = False,
    allow_relearn: bool = False,
    tell: Callable[[str], None] | None = None,
    metrics: Sequence[Metric] = (),
    runtime: Runtime | None = None,
) -> dict[str, Any]:
    """Make a run forget, and return the receipt.

    Without a method, a run with several cohorts is served by ``shards``, others by ``quickdrop``.

    Everything is checked before work begins, and the run changes in one step at the end: an
    interrupt, or the end of any process, leaves it as it was, and asking again gives the same
    model. A request whose goal was reached is not served again by the same method; its receipt
    comes back. One whose goal was not, ``status: incomplete``, destroys nothing, and may be asked
    for again.

    Args:
        oracle: also retrain without the data, and say how far the model is from that.
        controls: also run QuickDrop with random examples and with noise as its images.
        allow_relearn: keep the forgotten data's synthetic images, for :func:`relearn`.
        tell: is given what there is to know of the method before it begins, a line each.
        metrics: are measured besides those that the run's file names.
        runtime: where the run's nodes live meanwhile; none: where they lived in training.

    Raises:
        ConfigError: the request or the method does not fit the run; says what does.
        RunError: something failed on the way; the run is as it was.
    """
    with opened(path):
        run = open_trained(path, runtime)
        if metrics:
            every = (*run.job.evaluate.metrics, *metrics)
            run.job.evaluate = run.job.evaluate.model_copy(update={"metrics": every})
            run.job.metrics.try_out()
        chosen = method or (Shards() if run.job.servers > 1 else QuickDrop())
        served = run.requests.serving(request)
        if served and (method is None or served["method"]["name"] == type(method).name):
            return {"status": "done", **served, "repeated": True}
        _check(run, request, chosen, asked_by_name=method is not None)
        case = run.case(request)
        chosen.check(case)
        if oracle:
            Retrain().check(case)
        caveats = [*of_attackers(run.job.attackers, request, chosen), *chosen.caveats(case)]
        tell = tell or (lambda line: None)
        for line in caveats:
            tell(line)
        return _serve(run, request, chosen, oracle, controls, allow_relearn, caveats, tell)


def _serve(
    run: Trained,
    request: Request,
    chosen: Forgetting,
    oracle: bool,
    controls: bool,
    allow_relearn: bool,
    caveats: list[str],
    tell: Callable[[str], None],
) -> dict[str, Any]:
    part, case, checkpoint = run.requests.begin(), run.case(request), run.checkpoint
    given = perfect = cost = oracle_cost = None
    story: dict[str, Any] = {}
    place = Place(run.runtime)
    what = request.named(run.class_names)
    if isinstance(chosen, Exact):
        tell(f"training again without {what}")
        again = chosen.train_again(case, part / _AGAIN, place)
        given, cost, story = again.row, again.ledger.dump(), again.story
        checkpoint = again.checkpoint or checkpoint
        oracle_cost = cost if isinstance(chosen, Retrain) else None
    if oracle and oracle_cost is None:
        tell(f"training the oracle, without {what}")
        other = Retrain().train_again(case, part / _ORACLE, place)
        perfect, oracle_cost = other.row, other.ledger.dump()
    tell(f"{chosen.name}: {what}")
    own_shelf = withheld_shelf(case.number) if allow_relearn else ""
    program = Serving(
        **_plan(run, request),
        how=chosen,
        metrics=bool(run.job.evaluate.metrics),
        controls=controls,
        pixels=0 if run.layout is None else run.layout.pixels,
        keep=own_shelf,
        withheld=tuple(run.requests.shelves(lambda other: other != request)),
        served=run.requests.served,
        names=run.class_names,
    )
    done = _play(run, program, part, checkpoint, given=given, oracle=perfect)
    facts = done.facts
    was_done = facts["status"] == "done"
    receipt: dict[str, Any] = {
        "kind": "forget",
        **run.folder.marks,
        "time": now(),
        "request": request.dump(),
        "what": what,
        "method": chosen.dump(),
        **{name: facts[name] for name in ("model_before", "model_after", "figures")},
        **({"metrics": run.job.metrics.facts()} if run.job.evaluate.metrics else {}),
        "cost": cost or facts["cost"],
        "caveats": caveats,
        "membership_attack": attack_remark(facts["figures"]["before"]["membership_auc"]),
        "story": story or facts["story"],
        "distance_to_oracle": facts["distance_to_oracle"],
        **({"oracle_cost": oracle_cost} if oracle_cost else {}),
        "markers": marker_verdicts(facts["figures"]),
        **({"controls": facts["controls"]} if "controls" in facts else {}),
        **{name: facts[name] for name in ("status", "goal", "missing")},
    }
    files = {}
    if was_done and run.layout is not None:
        receipt["images"] = facts["images"]
        if shown := picture(done.checkpoint, run.layout, run.requests.past | request):
            files[IMAGES] = shown
    nothing = {"synthetic_images": 0, "synthetic_images_of_clients": []}
    replaced = [run.checkpoint] if was_done else []
    receipt["deleted"] = {
        **nothing,
        "kept_for_relearning": False,
        **facts.get("erased", {}),
        "checkpoints": [str(path.relative_to(run.folder.path)) for path in replaced],
        "not_here": "clients delete their original examples themselves",
    }
    folder = run.requests.commit(part, receipt, files)
    event = "forgotten" if was_done else "not forgotten"
    run.folder.event(event, request=str(request), method=receipt["method"]["name"])
    return _reported(run, folder)


def relearn(
    path: str | Path,
    request: Request,
    recovery: Recovery | None = None,
    runtime: Runtime | None = None,
) -> dict[str, Any]:
    """Learn anew what a request made a run forget, from the images that were kept for it.

    Raises:
        ConfigError: it was never forgotten, or its images were destroyed.
        RunError: something failed on the way; the run is as it was.
    """
    how = recovery or Recovery(rounds=4)
    with opened(path):
        run = open_trained(path, runtime)
        if run.job.servers > 1:
            problem = "cohorts keep nothing from which it could be learned anew"
            raise ConfigError("relearn", str(request) or None, problem, "begin a new run")
        if not request or request - run.requests.past:
            problem = "is not among what this run has forgotten"
            fix = f"forgotten now: {run.requests.past.named(run.class_names) or 'nothing'}"
            raise ConfigError("relearn", request.named(run.class_names) or None, problem, fix)
        kept = run.requests.withheld(request)
        if kept is None and not request - run.requests.open:
            kept = ""  # it was never forgotten well enough: all are where they were
        if kept is None:
            raise ConfigError(
                "relearn",
                request.named(run.class_names),
                "its synthetic images were destroyed, as an erasure asks for",
                "train again; next time, forget it with --allow-relearn",
            )
        rest = run.requests.past - request
        program = Relearning(
            **_plan(run, request) | {"past": rest},
            how=how,
            metrics=bool(run.job.evaluate.metrics),
            kept=kept,
            # What was kept of a request serves no more once a part of it is learned anew.
            dropped=tuple(run.requests.shelves(lambda other: bool(other - rest))),
        )
        part = run.requests.begin()
        facts = _play(run, program, part, run.checkpoint).facts
        receipt = {
            "kind": "relearn",
            **run.folder.marks,
            "status": "done",
            "time": now(),
            "request": request.dump(),
            "what": request.named(run.class_names),
            "method": {"name": "relearn", **how.model_dump(mode="json")},
            **facts,
        }
        folder = run.requests.commit(part, receipt)
        run.folder.event("relearned", request=str(request))
        return _reported(run, folder)


def _check(run: Trained, request: Request, chosen: Forgetting, asked_by_name: bool) -> None:
    """Refuse what cannot be forgotten, or not by this method any more."""
    parts, past = list(run.job.parts), run.requests.past
    train = run.job.dataset.train
    histogram = label_histogram(train.targets.cpu().numpy(), parts, run.job.dataset.spec.classes)
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


def _plan(run: Trained, request: Request) -> dict[str, Any]:
    """What every program is told of the run."""
    case = run.case(request)
    return {
        "learned": run.job.algorithm,
        "rounds": run.job.rounds,
        "done": run.done,
        "number": case.number,
        "request": request,
        "past": case.past,
    }


def _play(run: Trained, program: Any, part: Path, checkpoint: Path, **rows: Any) -> Served:
    """Have a program served, and put the state that it leaves where the request is prepared."""
    served = play(
        program,
        run.job,
        checkpoint,
        part / _WORK,
        place=Place(run.runtime),
        row=run.row,  # an exact method's checkpoint has another one already
        **rows,
    )
    return Served(served.facts, settle(served.checkpoint, part / STATE, run.checkpoint))


def _reported(run: Trained, folder: Path) -> dict[str, Any]:
    """The newest receipt, once its page is written."""
    receipt = run.requests.receipts[-1]
    write_page(run.folder, folder)
    return {**receipt, "folder": str(folder)}
