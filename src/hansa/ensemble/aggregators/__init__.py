"""Aggregators: one row of many, of a model's numbers or of scores, some rows at a time.

Servers, gossip, ensembles and robust inference share this seam (``aggregator.py``). What looks at
each number alone is in ``coordinate_wise.py``; what looks at whole rows and how far they are from
each other has a file each.
"""

from typing import TYPE_CHECKING

from hansa.base.lazy import front

if TYPE_CHECKING:
    from hansa.ensemble.aggregators.aggregator import Aggregator, Buffered, ModelAggregator
    from hansa.ensemble.aggregators.bucketing import Bucketing
    from hansa.ensemble.aggregators.centered_clipping import CenteredClipping
    from hansa.ensemble.aggregators.coordinate_wise import CoordinateWise, Median, TrimmedMean
    from hansa.ensemble.aggregators.geometric_median import GeometricMedian
    from hansa.ensemble.aggregators.krum import Krum, MultiKrum
    from hansa.ensemble.aggregators.majority_vote import MajorityVote
    from hansa.ensemble.aggregators.mean import Mean
    from hansa.ensemble.aggregators.nnm import NearestNeighborMixing
    from hansa.ensemble.aggregators.whole_rows import WholeRows

__getattr__ = front(__name__)

__all__ = [
    "Aggregator",
    "Bucketing",
    "Buffered",
    "CenteredClipping",
    "CoordinateWise",
    "GeometricMedian",
    "Krum",
    "MajorityVote",
    "Mean",
    "Median",
    "ModelAggregator",
    "MultiKrum",
    "NearestNeighborMixing",
    "TrimmedMean",
    "WholeRows",
]
