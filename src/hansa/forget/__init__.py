"""Forgetting: what a class, a client or an example taught a model is taken out of it again.

A :class:`Request` says what; a method of the kind ``forgetting`` does it on a :class:`Federation`,
the clients and the server of a run that was trained; a :class:`Judge` measures what came of it.
"""

from hansa.forget.cohorts import InCohorts
from hansa.forget.downweighting import Downweight
from hansa.forget.federaser import FedEraser
from hansa.forget.federation import Federation
from hansa.forget.gradient_ascent import GradientAscent
from hansa.forget.ledger import Cost, Ledger
from hansa.forget.measure import Judge, attack_remark, marker_verdicts
from hansa.forget.method import Ascent, Forgetting, Recovery
from hansa.forget.projected import ProjectedAscent
from hansa.forget.pruning import Pruning
from hansa.forget.quickdrop import Noise, QuickDrop, RandomReal
from hansa.forget.request import Request, check_request
from hansa.forget.retrain import Retrain
from hansa.forget.shards import Shards

__all__ = [
    "Ascent",
    "Cost",
    "Downweight",
    "FedEraser",
    "Federation",
    "Forgetting",
    "GradientAscent",
    "InCohorts",
    "Judge",
    "Ledger",
    "Noise",
    "ProjectedAscent",
    "Pruning",
    "QuickDrop",
    "RandomReal",
    "Recovery",
    "Request",
    "Retrain",
    "Shards",
    "attack_remark",
    "check_request",
    "marker_verdicts",
]
