"""What comes to networks: asked and handed out in one way, whichever verb made them."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

from hansa.experiment.deliverable import Deliverable
from hansa.report import RunFolder
from hansa.report.predictions import Predictions
from hansa.report.product import Product
from hansa.report.which import Which


class NetworkProduct(Product):
    """A verb whose runs come to networks: a subclass says which."""

    @abstractmethod
    def delivered(self, run: RunFolder, which: Which) -> Deliverable:
        """The network that is meant.

        Raises:
            ConfigError: the run has not finished, or it is not clear which of its models.
        """

    def model(self, run: RunFolder, which: Which) -> Any:
        """The network."""
        return self.delivered(run, which).module

    def answers(self, run: RunFolder, data: Any, which: Which) -> Predictions:
        """What the network says."""
        from hansa.experiment.predicting import predictions

        one = self.delivered(run, which)
        return predictions(one.module, one.signature, data)

    def export(
        self, run: RunFolder, out: Path, which: Which, merged: bool = False, card: bool = False
    ) -> Path:
        """The network as a file or a folder."""
        from hansa.experiment.export import check_out, deliver

        check_out(out, merged, card)
        return deliver(self.delivered(run, which), run, out, merged, card)
