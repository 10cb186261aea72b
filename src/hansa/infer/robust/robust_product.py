"""What a run of ``hansa infer robust`` came to: the rule that it kept, and its clients' models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.experiment.deliverable import Deliverable
from hansa.experiment.network_product import NetworkProduct
from hansa.report import RunFolder
from hansa.report.which import Which

if TYPE_CHECKING:
    from hansa.report.predictions import Predictions


@register("infer")
class RobustModel(NetworkProduct):
    """All clients' models under a rule; or one client's."""

    command: ClassVar[str] = "infer robust"

    def answers(self, run: RunFolder, data: Any, which: Which) -> Predictions:
        """By the rule, with certificates; or what one client says."""
        from hansa.infer.robust.rule_answers import answered

        which.only("robust inference", "node", "rule")
        if which.node is not None:
            return super().answers(run, data, which)
        return answered(run.path, data, which.rule, trust=which.trust)

    def delivered(self, run: RunFolder, which: Which) -> Deliverable:
        """Rule and clients as one network, whose scores are logarithms of the rule's shares."""
        from hansa.infer.robust.robust_networks import UnderRule
        from hansa.infer.robust.rule_answers import client_models
        from hansa.infer.robust.rule_store import load_aggregator

        which.only("robust inference", "node", "rule")
        models = client_models(Path(run.path), which.trust)
        if models is None:
            problem = "had clients who sent answers and no models"
            fix = "a run whose clients were trained; hansa predict RUN takes their answers"
            raise ConfigError("run", str(run.path), problem, fix)
        facts: dict[str, Any] = {"run": run.path.resolve().name, "node": which.node, **run.marks}
        networks = models.modules()
        if which.node is not None:
            if not 0 <= which.node < len(networks):
                problem, fix = "is no client", f"a number from 0 to {len(networks) - 1}"
                raise ConfigError("node", which.node, problem, fix)
            return Deliverable(networks[which.node], models.signature, facts,
                               models.forms[which.node])  # fmt: skip
        rule = load_aggregator(run.path, which.rule, which.trust)
        facts |= {"members": len(networks), "rule": rule.name}
        return Deliverable(UnderRule(networks, rule), models.signature, facts)
