"""Combining models that clients trained alone: one-shot ensembles (FENS) and their baselines.

:func:`prepare` checks everything, :func:`combine` does it; an ensemble is saved and loaded by
``hansa.combine.ensemble.store``.
"""

from typing import TYPE_CHECKING

from hansa.base.lazy import front

if TYPE_CHECKING:
    from hansa.combine.ensemble.aggregate import Fit, fit, out_of_fold
    from hansa.combine.ensemble.ensemble_settings import (
        AggregateSettings,
        BaselineSettings,
        EnsembleSettings,
        LocalSettings,
        Predictor,
    )
    from hansa.combine.ensemble.finished import Finished
    from hansa.combine.ensemble.judgement import Judged, choose
    from hansa.combine.ensemble.judging import judge
    from hansa.combine.ensemble.members import Member
    from hansa.combine.ensemble.pipeline import Prepared, Result, combine, describe_members, prepare
    from hansa.combine.ensemble.proxies import Division, Scores
    from hansa.combine.ensemble.store import Loaded, load, load_members
    from hansa.experiment.played import Place

__getattr__ = front(__name__)

__all__ = [
    "AggregateSettings",
    "BaselineSettings",
    "Division",
    "EnsembleSettings",
    "Finished",
    "Fit",
    "Judged",
    "Loaded",
    "LocalSettings",
    "Member",
    "Place",
    "Predictor",
    "Prepared",
    "Result",
    "Scores",
    "choose",
    "combine",
    "describe_members",
    "fit",
    "judge",
    "load",
    "load_members",
    "out_of_fold",
    "prepare",
]
