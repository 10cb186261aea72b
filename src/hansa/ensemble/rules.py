"""Rules: how the scores of M members become one prediction, as components found by name.

The six of FENS (Allouah et al., NeurIPS 2024, appendix B), the DeepSet of robust federated
inference, any aggregator of rows, and a residual rule of ours. A rule that only weighs uses
``(scores * weights).sum``, so that equal weights give equal bits whichever rule they come from.
Deviations from the published code: weights start from 1 / M, not at random, so that the first round
is the plain average; for votes see ``voting.py``, and for the mixture of experts ``experts.py``.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from hansa.base.component import Component, register
from hansa.base.errors import ConfigError
from hansa.base.lazy import Lazy, nn, torch
from hansa.base.streams import Streams
from hansa.ensemble.aggregators import Aggregator, Median
from hansa.ensemble.panel import Panel
from hansa.ensemble.weights import label_weights

if TYPE_CHECKING:
    from torch import Tensor

networks = Lazy("hansa.ensemble.networks")  # they need torch


class Rule(Component, kind="rule"):
    """Builds the module that maps rows [m, M * C] to scores [m, C]."""

    learned: ClassVar[bool] = False
    """Whether its numbers come from gradient steps."""
    sees_input: ClassVar[bool] = False
    """Whether the model's input rides along in the rows."""
    counts_votes: ClassVar[bool] = False
    """Whether it is built from the tallies of :func:`tally`."""
    starts_plain: ClassVar[bool] = False
    """Whether its first numbers make it a rule that is not learned, from which it departs."""

    @abstractmethod
    def build(self, panel: Panel, votes: Tensor | None = None) -> nn.Module:
        """The rule's module, its numbers drawn from torch's global generator.

        Args:
            votes: [M, classes, classes], for a rule that counts votes.

        Raises:
            ConfigError: what the rule needs is not known of the members.
        """


class LearnedRule(Rule):
    """A rule with parameters."""

    learned: ClassVar[bool] = True
    lr: float = Field(1e-3, gt=0, description="step size of phase 2's own optimizer")


def initial_rule(
    rule: Rule, panel: Panel, streams: Streams, votes: Tensor | None = None
) -> nn.Module:
    """A rule's module at its first numbers, which depend on the settings and the seed alone."""
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(streams.integer("aggregator"))
        return rule.build(panel, votes)


@register("average", paper="Guha et al.", year=2019, url="https://arxiv.org/abs/1902.11175")
class Average(Rule):
    """The mean of the scores (FedENS; Guha et al., 2019)."""

    def build(self, panel: Panel, votes: Tensor | None = None) -> nn.Module:
        """Equal weights."""
        return networks.Fixed(panel, torch.full((panel.members, panel.outputs), 1 / panel.members))


@register("robust")
class Robust(Rule):
    """What an aggregator makes of the scores, such as their median; its mean is ``average``."""

    aggregator: Aggregator = Field(Median(), description="makes one of the members' scores")

    def build(self, panel: Panel, votes: Tensor | None = None) -> nn.Module:
        """The aggregator, all members alike."""
        if panel.members < self.aggregator.least:
            name, least = self.aggregator.name, self.aggregator.least
            problem = f"{name} needs {least} members, and there are {panel.members}"
            raise ConfigError("rules", self.name, problem, "more members, or another aggregator")
        return networks.Aggregated(panel, self.aggregator)


@register("label_weighted", paper="Gong et al.", year=2022)
class LabelWeighted(Rule):
    """Each member weighs for a class by its share of the examples (FedKD; Gong et al., 2022).

    Where one score tells two classes apart, a member weighs by the mean of its two shares.
    """

    def build(self, panel: Panel, votes: Tensor | None = None) -> nn.Module:
        """Weights from label counts."""
        if panel.counts is None:
            problem = "needs how many examples of each class every member was trained on"
            raise ConfigError("rules", self.name, problem, "average, or tell the counts")
        weights = label_weights(panel.counts).float()
        return networks.Fixed(panel, weights.mean(1, keepdim=True) if panel.binary else weights)


@register("linear", paper="Allouah et al.", year=2024, url="https://arxiv.org/abs/2411.07182")
class Linear(LearnedRule):
    """One trained weight a member, and one shared bias: M + 1 parameters."""

    lr: float = Field(1e-2, gt=0, description="step size of phase 2's own optimizer")

    def build(self, panel: Panel, votes: Tensor | None = None) -> nn.Module:
        """Weights 1 / M and bias 0."""
        return networks.Weights(panel, 1, bias=True)


@register("per_class", paper="Allouah et al.", year=2024, url="https://arxiv.org/abs/2411.07182")
class PerClass(LearnedRule):
    """One trained weight for each member and class: M * C parameters."""

    lr: float = Field(1e-2, gt=0, description="step size of phase 2's own optimizer")

    def build(self, panel: Panel, votes: Tensor | None = None) -> nn.Module:
        """Weights 1 / M."""
        return networks.Weights(panel, panel.outputs, bias=False)


@register("neural", paper="Allouah et al.", year=2024, url="https://arxiv.org/abs/2411.07182")
class Neural(LearnedRule):
    """One hidden layer over all scores, of ``width`` units a member."""

    width: int = Field(2, ge=1, description="hidden units for each member")
    activation: Literal["relu", "sigmoid"] = Field("relu", description="of the hidden layer")

    def build(self, panel: Panel, votes: Tensor | None = None) -> Any:
        """Two linear layers with biases."""
        hidden = self.width * panel.members
        between = nn.ReLU() if self.activation == "relu" else nn.Sigmoid()
        first, last = nn.Linear(panel.width, hidden), nn.Linear(hidden, panel.outputs)
        return nn.Sequential(first, between, last)


@register("residual")
class Residual(Neural):
    """Label weights plus a network that starts from nothing: both are trained.

    Ours: it starts as ``label_weighted`` (``average`` where label counts are not known) and so
    keeps what that is worth on even data, where the plain network loses to it.
    """

    starts_plain: ClassVar[bool] = True

    def build(self, panel: Panel, votes: Tensor | None = None) -> nn.Module:
        """The network's last layer is 0."""
        plain = Average() if panel.counts is None else LabelWeighted()
        fixed = plain.build(panel).get_buffer("weights")
        start = fixed.expand(panel.members, panel.outputs).clone()
        network = super().build(panel)
        nn.init.zeros_(network[2].weight)
        nn.init.zeros_(network[2].bias)
        return networks.Corrected(panel, start, network)


@register("deep_set", paper="Zaheer et al.", year=2017, url="https://arxiv.org/abs/1703.06114")
class DeepSet(LearnedRule):
    """A network that does not tell members apart, so that it takes any number of them."""

    hidden: int = Field(32, ge=1, description="width of its layers")

    def build(self, panel: Panel, votes: Tensor | None = None) -> nn.Module:
        """Encoder, mean, decoder (Zaheer et al., 2017)."""
        encoder = networks.two_layers(panel.outputs, self.hidden, self.hidden).append(nn.ReLU())
        return networks.SetNetwork(encoder, nn.Linear(self.hidden, panel.outputs), panel)
