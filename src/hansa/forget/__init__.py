"""Forgetting: what a class, a client or an example taught a model is taken out of it again.

A :class:`Request` says what; a method of the kind ``forgetting`` does it on a :class:`Federation`,
the clients and the server of a run that was trained; a :class:`Judge` measures what came of it.
"""

from typing import TYPE_CHECKING

from hansa.base.lazy import front

if TYPE_CHECKING:
    from hansa.forget.ascent import Ascent
    from hansa.forget.cohorts import InCohorts
    from hansa.forget.downweighting import Downweight
    from hansa.forget.federaser import FedEraser
    from hansa.forget.federation import Federation
    from hansa.forget.gradient_ascent import GradientAscent
    from hansa.forget.ledger import Cost, Ledger
    from hansa.forget.measure import Judge, attack_remark, marker_verdicts
    from hansa.forget.method import Forgetting
    from hansa.forget.projected import ProjectedAscent
    from hansa.forget.pruning import Pruning
    from hansa.forget.quickdrop import (
        AscendAndRecover,
        Distilled,
        Noise,
        OnOriginals,
        QuickDrop,
        RandomReal,
    )
    from hansa.forget.recovery import Recovery
    from hansa.forget.request import Request, check_request
    from hansa.forget.retrain import Retrain
    from hansa.forget.shards import Shards
    from hansa.forget.verdict import Verdict, judge_outcome


__all__ = [
    "AscendAndRecover",
    "Ascent",
    "Cost",
    "Distilled",
    "Downweight",
    "FedEraser",
    "Federation",
    "Forgetting",
    "GradientAscent",
    "InCohorts",
    "Judge",
    "Ledger",
    "Noise",
    "OnOriginals",
    "ProjectedAscent",
    "Pruning",
    "QuickDrop",
    "RandomReal",
    "Recovery",
    "Request",
    "Retrain",
    "Shards",
    "Verdict",
    "attack_remark",
    "check_request",
    "judge_outcome",
    "marker_verdicts",
]

__getattr__ = front(__name__)
