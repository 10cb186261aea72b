"""How good a model is: sums over examples, and the figure that they come to.

The law of every :class:`Metric`: the sums of a union of examples are the sum of the sums. A new one
is a class with ``sums`` and ``value`` in a file of the user's own; its figures then are in runs,
ensembles and receipts of requests to forget.
"""

from typing import TYPE_CHECKING

from hansa.base.lazy import front

if TYPE_CHECKING:
    from hansa.metrics.classes import F1, Accuracy, BalancedAccuracy, Confusion, Precision, Recall
    from hansa.metrics.loss import MeanLoss
    from hansa.metrics.metric import Metric
    from hansa.metrics.metric_set import MetricSet, usual
    from hansa.metrics.probabilities import AUROC, CalibrationError
    from hansa.metrics.regression import MAE, RMSE


__all__ = [
    "AUROC",
    "F1",
    "MAE",
    "RMSE",
    "Accuracy",
    "BalancedAccuracy",
    "CalibrationError",
    "Confusion",
    "MeanLoss",
    "Metric",
    "MetricSet",
    "Precision",
    "Recall",
    "usual",
]

__getattr__ = front(__name__)
