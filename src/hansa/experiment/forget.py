"""Forgetting in a run folder: opens the run, runs a method, measures, and leaves a receipt."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.base.threads import one_thread
from hansa.data import label_histogram
from hansa.engine import Job
from hansa.engine.shelf import Shelf
from hansa.ensemble.condensation import nearest
from hansa.ensemble.synthetic import SHELF
from hansa.experiment.requests import fingerprint, now, scrub
from hansa.experiment.trained import Trained, open_trained
from hansa.forget import (
    Forgetting,
    Judge,
    Noise,
    QuickDrop,
    RandomReal,
    Recovery,
    Request,
    Retrain,
    Shards,
    attack_remark,
    check_request,
    marker_verdicts,
)
from hansa.models import ParameterLayout
from hansa.report import RunFolder
from hansa.report.folder import held
from hansa.report.grids import image_grid
from hansa.report.requests import write_request_page

if TYPE_CHECKING:
    from torch import Tensor

_SMALL = 1 << 20
COPY = 0.05
"""Root mean squared distance below which a synthetic image counts as a copy of an example."""


def forget(
    path: str | Path,
    request: Request,
    method: Forgetting | None = None,
    oracle: bool = False,
    controls: bool = False,
    allow_relearn: bool = False,
    tell: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Make a run forget, and return the receipt.

    Without a method, a run with several cohorts is served by ``shards``, others by ``quickdrop``.

    Everything is checked before work begins, and the run changes in one step at the end: an
    interrupt leaves it as it was, and asking again gives the same model. A request that was served
    already is not served again; its receipt comes back.

    Args:
        oracle: also retrain without the data, and say how far the model is from that.
        controls: also run QuickDrop with random examples and with noise as its images.
        allow_relearn: keep the forgotten data's synthetic images, for :func:`relearn`.
        tell: is given what there is to know of the method before it begins, a line each.

    Raises:
        ConfigError: the request or the method does not fit the run; says what does.
    """
    with _locked(path):
        run = open_trained(path)
        chosen = method or (Shards() if run.job.servers > 1 else QuickDrop())
        if served := run.requests.serving(request):
            return {**served, "repeated": True}
        parts = list(run.job.parts)
        targets = run.job.dataset.train.targets.cpu().numpy()
        histogram = label_histogram(targets, parts, run.job.dataset.spec.classes)
        check_request(request, run.requests.past, histogram, parts)
        federation = run.federation(request)
        chosen.check(federation)
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
            "method": chosen.dump(),
            "model_before": fingerprint(before),
            "model_after": fingerprint(row),
            "figures": figures,
            "cost": federation.ledger.dump(),
            "caveats": caveats,
            "membership_attack": attack_remark(figures["before"]["membership_auc"]),
            "story": story,
            "distance_to_oracle": None,
        }
        if oracle or isinstance(chosen, Retrain):
            _compare(run, request, judge, row, chosen, receipt)
        receipt["markers"] = marker_verdicts(receipt["figures"])
        if controls and run.layout is not None:
            receipt["controls"] = _controls(run, request, judge, chosen)
        run.settle(row, federation.outcome)
        return _keep(run, request, receipt, allow_relearn)


def relearn(path: str | Path, request: Request, recovery: Recovery | None = None) -> dict[str, Any]:
    """Learn anew what a request made a run forget, from the images that were kept for it.

    Raises:
        ConfigError: it was never forgotten, or its images were destroyed.
    """
    how = recovery or Recovery(rounds=4)
    with _locked(path):
        run = open_trained(path)
        if run.job.servers > 1:
            problem = "cohorts keep nothing from which it could be learned anew"
            raise ConfigError("relearn", str(request) or None, problem, "begin a new run")
        if not request or request - run.requests.past:
            problem = "is not among what this run has forgotten"
            fix = f"forgotten now: {run.requests.past or 'nothing'}"
            raise ConfigError("relearn", str(request) or None, problem, fix)
        kept = run.requests.withheld(request)
        if kept is None:
            raise ConfigError(
                "relearn",
                str(request),
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
            "time": now(),
            "request": request.dump(),
            "method": {"name": "relearn", **how.model_dump(mode="json")},
            "model_before": fingerprint(before),
            "model_after": fingerprint(row),
            "figures": {"before": judge.figures(before), "after": judge.figures(row)},
            "cost": federation.ledger.dump(),
            "story": story,
            "distance_to_oracle": None,
        }
        _shelve(run, images)
        run.settle(row)
        folder = run.requests.commit(run.block, run.done, receipt, layout=run.layout)
        run.folder.event("relearned", request=str(request))
        return _reported(run, request, folder, None)


def _threads(job: Job) -> contextlib.AbstractContextManager[None]:
    return one_thread(ParameterLayout.of(job.module).nbytes < _SMALL and job.device == "cpu")


def _locked(path: str | Path) -> contextlib.AbstractContextManager[None]:
    RunFolder.open(path)  # so that no lock is left in a folder that is no run
    return held(path)


def _compare(
    run: Trained,
    request: Request,
    judge: Judge,
    row: Tensor,
    chosen: Forgetting,
    receipt: dict[str, Any],
) -> None:
    """Add the oracle's figures and the distance to it."""
    if isinstance(chosen, Retrain):
        receipt["figures"]["oracle"] = receipt["figures"]["after"]
        receipt["oracle_cost"] = receipt["cost"]
        receipt["distance_to_oracle"] = judge.distance(row, row)
        return
    federation = run.federation(request)
    with _threads(run.job):
        perfect, _ = Retrain().forget(federation)
    receipt["figures"]["oracle"] = judge.figures(perfect)
    receipt["oracle_cost"] = federation.ledger.dump()
    receipt["distance_to_oracle"] = judge.distance(row, perfect)


def _controls(run: Trained, request: Request, judge: Judge, chosen: Forgetting) -> dict[str, Any]:
    """What the same steps do with images that were not distilled."""
    found = {}
    names = ("ascent", "recovery", "real_share", "examples")
    settings = {name: getattr(chosen, name) for name in names if hasattr(chosen, name)}
    for control in (RandomReal(**settings), Noise(**settings)):
        row, story = control.forget(run.federation(request))
        middle = judge.figures(story["model_after_ascent"])
        found[control.name] = {"after_ascent": middle, "after": judge.figures(row)}
    return found


def _keep(
    run: Trained, request: Request, receipt: dict[str, Any], allow_relearn: bool
) -> dict[str, Any]:
    """Destroy what has to be, write the request down, and return its receipt."""
    images, files = run.images, {}
    count, withheld = 0, {}
    if run.layout is not None:
        withheld = scrub(images, run.layout, request)
        count = sum(
            int((row != 0).any(1).sum()) for row in map(run.layout.stacked, withheld.values())
        )
        _shelve(run, images, dropped=request.clients)
        receipt["images"] = _describe(run, request, images)
        if picture := _picture(run, request, images):
            files["images.png"] = picture
    replaced = [run.requests.checkpoint]
    receipt["deleted"] = {
        "synthetic_images": count,
        "synthetic_images_of_clients": sorted(withheld),
        "kept_for_relearning": bool(withheld) and allow_relearn,
        "checkpoints": [str(p.relative_to(run.folder.path)) for p in replaced if p is not None],
        "not_here": "clients delete their original examples themselves",
    }
    kept = withheld if allow_relearn else {}
    folder = run.requests.commit(run.block, run.done, receipt, kept, files, run.layout)
    run.folder.event("forgotten", request=str(request), method=receipt["method"]["name"])
    return _reported(run, request, folder, files.get("images.png"))


def _reported(run: Trained, request: Request, folder: Path, png: bytes | None) -> dict[str, Any]:
    """The newest receipt, once its page is written."""
    receipt = run.requests.receipts[-1]
    title = f"{receipt['kind'].capitalize()} {request}, {receipt['method']['name']}"
    write_request_page(folder / "report.html", receipt, title, png)
    return {**receipt, "folder": str(folder)}


def _shelve(run: Trained, images: dict[int, Tensor], dropped: tuple[int, ...] = ()) -> None:
    """Put the clients' images back on their shelf, but for those who have left."""
    shelf = run.block.shelves.setdefault(SHELF, Shelf())
    for client, row in images.items():
        shelf.put(np.array([client]), row.unsqueeze(0))
    shelf.drop(np.array(dropped, dtype=np.int64))


def _remaining(run: Trained, request: Request, images: dict[int, Tensor]) -> list[Any]:
    federation = run.federation(Request())
    federation.past, federation.images = run.requests.past | request, images
    return federation.synthetic(forget=False)


def _describe(run: Trained, request: Request, images: dict[int, Tensor]) -> dict[str, Any]:
    """How many synthetic images are left, and how near they are to their clients' examples."""
    left, apart = 0, []
    dataset = run.job.dataset
    for holding in _remaining(run, request, images):
        index = torch.from_numpy(np.asarray(run.job.parts[holding.client]))
        examples, _ = dataset.gather(dataset.train, index.to(holding.x.device))
        apart.append(nearest(holding.x, examples.reshape(len(examples), *holding.x.shape[1:]))[0])
        left += len(holding.y)
    distances = torch.cat(apart) if apart else torch.zeros(0)
    return {
        "left": left,
        "bytes": 4 * left * (run.layout.pixels if run.layout else 0),
        "nearest_example": {
            "median": float(distances.median()) if left else None,
            "copies": float((distances < COPY).double().mean()) if left else None,
            "copy_below": COPY,
        },
    }


def _picture(run: Trained, request: Request, images: dict[int, Tensor]) -> bytes | None:
    """The images that are left, one line a class."""
    holdings = _remaining(run, request, images)
    if not holdings or run.job.dataset.spec.kind != "image":
        return None
    x = torch.cat([h.x for h in holdings]).cpu().numpy()
    y = torch.cat([h.y for h in holdings]).cpu().numpy()
    return image_grid(x, y)
