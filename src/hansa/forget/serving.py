"""What the server does to serve a request, from the first order to the last.

A method changes the model; what it comes to is measured and judged; and where the goal is reached,
the clients destroy what has to go. The facts that it leaves are what the receipt is made of.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from hansa.forget.directed import Directed
from hansa.forget.erase import described, erased, restored
from hansa.forget.federation import Asking, Federation
from hansa.forget.measure import Judge
from hansa.forget.method import Forgetting
from hansa.forget.quickdrop import AscendAndRecover, Distilled, QuickDrop
from hansa.forget.recovery import Recovery
from hansa.forget.request import Request
from hansa.forget.requests import fingerprint
from hansa.forget.retrain import Retrain
from hansa.forget.verdict import judge_outcome


class Serving(Directed):
    """A request to forget."""

    how: Forgetting = Field(description="the method")
    metrics: bool = Field(False, description="measure what the run's metrics say, too")
    controls: bool = Field(False, description="also what the same steps do with other images")
    pixels: int = Field(0, ge=0, description="numbers of a synthetic image; 0: there are none")
    keep: str = Field("", description="shelf for the images that are taken; empty: they go")
    withheld: tuple[str, ...] = Field((), description="shelves with images of other requests")
    served: Request = Field(Request(), description="what earlier requests have forgotten")
    names: tuple[str, ...] = Field((), description="of the classes")

    def program(self, federation: Federation) -> Asking[dict[str, Any]]:
        judge = yield from Judge.of(federation, self.metrics)
        before, oracle = federation.row, federation.oracle
        if type(self.how).exact:
            assert federation.given is not None  # it was trained before
            row, story = federation.given, dict[str, Any]()
        else:
            row, story = yield from self.how.forget(federation)
        figures = {"before": (yield from judge.figures(before))}
        if (middle := story.pop("model_after_ascent", None)) is not None:
            figures["after_ascent"] = yield from judge.figures(middle)
        figures["after"] = yield from judge.figures(row)
        facts: dict[str, Any] = {
            "model_before": fingerprint(before),
            "model_after": fingerprint(row),
            "figures": figures,
            "cost": federation.ledger.dump(),
            "story": story,
            "distance_to_oracle": None,
        }
        if isinstance(self.how, Retrain):
            oracle = row
        if oracle is not None:
            figures["oracle"] = yield from judge.figures(oracle)
            facts["distance_to_oracle"] = yield from judge.distance(row, oracle)
        if self.controls and self.pixels:
            facts["controls"] = yield from self._controls(federation, judge)
        until = self.how.ascent.until if isinstance(self.how, AscendAndRecover) else 1.0
        verdict = yield from judge_outcome(
            federation, row, oracle, type(self.how).exact, until, self.names, self.served
        )
        facts |= {
            "status": verdict.status, "goal": verdict.goal, "missing": list(verdict.missing),
        }  # fmt: skip
        if verdict.status == "done":
            facts |= yield from self._erase(federation)
        federation.row = row
        return facts

    def _controls(self, federation: Federation, judge: Judge) -> Asking[dict[str, Any]]:
        """What the same steps do with images that were not distilled."""
        base = self.how
        if not isinstance(base, Distilled):
            names = ("ascent", "recovery")
            base = QuickDrop(**{n: getattr(base, n) for n in names if hasattr(base, n)})
        figures = {}
        for stand_in in ("random_real", "noise"):
            control = base.model_copy(update={"stand_in": stand_in})
            again = federation.relabelled(federation.request, federation.past)
            row, story = yield from control.forget(again)
            middle = yield from judge.figures(story["model_after_ascent"])
            figures[stand_in] = {"after_ascent": middle, "after": (yield from judge.figures(row))}
        return figures

    def _erase(self, federation: Federation) -> Asking[dict[str, Any]]:
        """Destroy what the request names; what has been, and what is left of the images."""
        facts: dict[str, Any] = {}
        if federation.updates is not None:  # what the leavers have sent is theirs as well
            federation.updates[:, list(federation.request.clients)] = 0.0
        if self.pixels:
            quiet = federation.relabelled(federation.request, federation.past)
            facts["erased"] = yield from erased(quiet, self.keep, self.withheld)
            facts["images"] = yield from described(quiet, self.pixels)
        return facts


class Relearning(Directed):
    """A request to learn anew what was forgotten, from images that were kept for it."""

    how: Recovery = Field(description="the rounds that bring it back")
    metrics: bool = Field(False, description="measure what the run's metrics say, too")
    kept: str = Field("", description="shelf with the images; empty: they are where they were")
    dropped: tuple[str, ...] = Field((), description="shelves that nobody needs afterwards")

    def program(self, federation: Federation) -> Asking[dict[str, Any]]:
        """The request is what is learned anew, the past what stays forgotten."""
        quiet = federation.relabelled(federation.request, federation.past)
        yield from restored(quiet, self.kept, self.dropped)
        judge = yield from Judge.of(federation, self.metrics)
        before = federation.row
        everything = federation.relabelled(Request(), federation.past)
        images = yield from everything.synthetic(forget=False)
        row, story = yield from self.how.run(everything, before, images)
        figures = {"before": (yield from judge.figures(before))}
        figures["after"] = yield from judge.figures(row)
        federation.row = row
        return {
            "model_before": fingerprint(before),
            "model_after": fingerprint(row),
            "figures": figures,
            "cost": everything.ledger.dump(),
            "story": story,
            "distance_to_oracle": None,
            "status": "done",
        }
