"""Models of runs of ``hansa learn``, of a server, of nodes or of one site; also made to forget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hansa.base.component import register
from hansa.experiment.deliverable import Deliverable
from hansa.experiment.network_product import NetworkProduct
from hansa.report import RunFolder
from hansa.report.which import Which


@register("learn")
class LearnedModel(NetworkProduct):
    """The model that a run came to: its server's, a node's, or the nodes' average."""

    def claim(self, config: Mapping[str, Any]) -> bool:
        """Settings without a verb are of these runs."""
        return config.get("verb", type(self).name) == type(self).name

    def delivered(self, run: RunFolder, which: Which) -> Deliverable:
        """A node's network, or the one that there is."""
        from hansa.experiment.run_model import open_models

        which.only("a run's models", "node", "average")
        models = open_models(run)
        chosen = "average" if which.average else which.node
        facts = {"run": run.path.resolve().name, "round": models.done, "node": chosen, **run.marks}
        module = models.module(which.node, which.average)
        return Deliverable(module, models.signature, facts, models.settings.model)

    def trained(self, run: RunFolder) -> Any:
        """With its job and its block."""
        from hansa.experiment.runfile import run_kind
        from hansa.experiment.trained import open_trained, settings_of

        return open_trained(run, settings_of(run, kind=run_kind(run.config)))
