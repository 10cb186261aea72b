"""A metric of one's own: how often the class is among the two most likely."""

from hansa.base.component import register
from hansa.metrics import Metric


@register("top_two")
class TopTwo(Metric):
    """Share of the examples whose class is among the two highest scores."""

    share = True

    def sums(self, outputs, targets, spec):  # type: ignore[no-untyped-def]
        """How many."""
        return (outputs.topk(2).indices == targets.unsqueeze(1)).sum()

    def value(self, sums, count):  # type: ignore[no-untyped-def]
        """The share."""
        return float(sums) / count
