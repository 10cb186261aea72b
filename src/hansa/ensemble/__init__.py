"""Many models as one: what learning, one-shot combination and robust inference share.

Weights say how much each model counts for each class, combiners turn the models' scores into
one prediction, an :class:`Ensemble` does both on given inputs, and :func:`distill` teaches one
student what an ensemble knows, :func:`data_free` without any data. A :class:`Rule` builds such a
combiner, trained or not, as a module over rows of cached scores; :func:`alignments` make scores
of different kinds comparable first; :class:`Int8` makes models small. Shapes: n models, m examples,
C scores of each.

An :class:`Aggregator` makes one row of many, of a model's numbers or of scores; an :class:`Attack`
says what attackers send instead of theirs.

:class:`Condensation` and :class:`Cells` make few images that teach what many do.
"""

from typing import TYPE_CHECKING

from hansa.base.lazy import front

if TYPE_CHECKING:
    from hansa.ensemble.aggregators import (
        Aggregator,
        Bucketing,
        Buffered,
        CenteredClipping,
        CoordinateWise,
        GeometricMedian,
        Krum,
        MajorityVote,
        Mean,
        Median,
        ModelAggregator,
        MultiKrum,
        NearestNeighborMixing,
        TrimmedMean,
        WholeRows,
    )
    from hansa.ensemble.alignment import Alignment, ScoreKind, alignments, kind_of
    from hansa.ensemble.attacks import Attack, Gaussian, Scene, SignFlip
    from hansa.ensemble.colluding_attacks import ALittleIsEnough, InnerProduct, Mimic
    from hansa.ensemble.combine import Combiner, Weighted, average, weighted_logits
    from hansa.ensemble.condensation import Cells, Condensation
    from hansa.ensemble.datafree import DataFree, data_free
    from hansa.ensemble.distillation import Distillation, distill
    from hansa.ensemble.ensemble import Ensemble, Rows, Scale, Teacher, logits_of
    from hansa.ensemble.experts import Experts
    from hansa.ensemble.inputs import Examples, InputForm
    from hansa.ensemble.int8 import Calibrated, Int8, state_bytes
    from hansa.ensemble.kvote import (
        loudness,
        surest_votes,
        votes_as_loud_as,
        worst_rows,
        worst_vote,
    )
    from hansa.ensemble.panel import Panel, as_combiner, rows_of
    from hansa.ensemble.rules import (
        Average,
        DeepSet,
        LabelWeighted,
        LearnedRule,
        Linear,
        Neural,
        PerClass,
        Residual,
        Robust,
        Rule,
        initial_rule,
    )
    from hansa.ensemble.synthetic import SyntheticLayout
    from hansa.ensemble.voting import Voting, tally
    from hansa.ensemble.weights import label_weights, uniform_weights

__getattr__ = front(__name__)

__all__ = [
    "ALittleIsEnough",
    "Aggregator",
    "Alignment",
    "Attack",
    "Average",
    "Bucketing",
    "Buffered",
    "Calibrated",
    "Cells",
    "CenteredClipping",
    "Combiner",
    "Condensation",
    "CoordinateWise",
    "DataFree",
    "DeepSet",
    "Distillation",
    "Ensemble",
    "Examples",
    "Experts",
    "Gaussian",
    "GeometricMedian",
    "InnerProduct",
    "InputForm",
    "Int8",
    "Krum",
    "LabelWeighted",
    "LearnedRule",
    "Linear",
    "MajorityVote",
    "Mean",
    "Median",
    "Mimic",
    "ModelAggregator",
    "MultiKrum",
    "NearestNeighborMixing",
    "Neural",
    "Panel",
    "PerClass",
    "Residual",
    "Robust",
    "Rows",
    "Rule",
    "Scale",
    "Scene",
    "ScoreKind",
    "SignFlip",
    "SyntheticLayout",
    "Teacher",
    "TrimmedMean",
    "Voting",
    "Weighted",
    "WholeRows",
    "alignments",
    "as_combiner",
    "average",
    "data_free",
    "distill",
    "initial_rule",
    "kind_of",
    "label_weights",
    "logits_of",
    "loudness",
    "rows_of",
    "state_bytes",
    "surest_votes",
    "tally",
    "uniform_weights",
    "votes_as_loud_as",
    "weighted_logits",
    "worst_rows",
    "worst_vote",
]
