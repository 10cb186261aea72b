"""What a line of the table says besides accuracy, where it is asked."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from hansa.base.spec import DataSpec
from hansa.combine.ensemble.ensemble_settings import EnsembleSettings
from hansa.metrics import MetricSet

if TYPE_CHECKING:
    from torch import Tensor


class Figures:
    """The metrics of an ensemble's file, of models that are asked about the test set.

    Raises:
        ConfigError: one does not measure such data, or fails.
    """

    def __init__(self, settings: EnsembleSettings, spec: DataSpec) -> None:
        self.metrics = MetricSet(settings.metrics, spec)
        self._asked = bool(settings.metrics)
        if self._asked:
            self.metrics.try_out()

    def of(self, answers: Tensor, targets: Tensor) -> dict[str, Any]:
        """``figures`` by name of scores [m, C] and classes [m], None where there is none."""
        if not self._asked:
            return {}
        values = self.metrics.of(answers, targets)
        return {"figures": {k: v if math.isfinite(v) else None for k, v in values.items()}}
