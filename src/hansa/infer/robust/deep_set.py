"""DeepSet: an encoder of each member's row, any robust pooling, a decoder (Zaheer et al., 2017).

As robust federated inference has it (2025): encoder and decoder are two linear layers with a ReLU
between, and the mean pools in training. When it answers, a robust aggregator may pool the encoded
rows in the mean's place; with a trimmed mean that is the paper's DeepSet-TM. One training serves
all poolings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import Lazy, torch
from hansa.base.streams import Streams
from hansa.ensemble.aggregators import Aggregator, Mean
from hansa.infer.robust import set_training
from hansa.infer.robust.learned import LearnedAggregator
from hansa.infer.robust.pooled_set import PooledSet
from hansa.infer.robust.server_set import ServerSet

if TYPE_CHECKING:
    from torch import Tensor, nn

networks = Lazy("hansa.ensemble.networks")  # they need torch


@register(
    "deep_set",
    paper="Robust federated inference",
    year=2025,
    url="https://arxiv.org/abs/2510.00310",
)
class DeepSetAggregator(LearnedAggregator):
    """A network that does not tell members apart, trained against liars, with robust pooling."""

    only_answering: ClassVar[tuple[str, ...]] = ("pooling",)

    training: Literal["none", "adversarial", "kvote"] = Field(
        "kvote",
        description="none: on honest rows; adversarial: against rows found by gradient steps; "
        "kvote: against the worst one-hot row, which needs no gradients",
    )
    pooling: Aggregator = Field(
        Mean(), description="makes one of the encoded rows when it answers; the mean trains it"
    )
    hidden: int = Field(128, ge=1, description="width d of its layers")
    lr: float = Field(1e-3, gt=0, description="Adam's rate")
    decay: float = Field(0.999, gt=0, le=1, description="factor on the rate after each epoch")
    epochs: int = Field(6, ge=1, description="passes over all examples and their liars")
    batch_size: int = Field(256, ge=1, description="examples a step")
    masks: int = Field(100, ge=1, description="sets of liars drawn for each example")
    chosen_by: Literal["attacked", "clean"] = Field(
        "attacked",
        description="the epoch that is kept has, on held-out examples, the least loss under the "
        "training's attack, or the best honest accuracy, as published",
    )
    steps: int = Field(10, ge=1, description="gradient steps of a liar (adversarial)")
    step_size: float = Field(0.1, gt=0, description="length of such a step, in logits")
    candidates: int = Field(
        24, ge=1, description="classes that liars try (kvote): all, or where there are more the "
        "likeliest and some at random",
    )  # fmt: skip

    def check(self, members: int, f: int) -> None:
        """The pooling needs enough members."""
        if members < self.pooling.least:
            name, least = self.pooling.name, self.pooling.least
            problem = f"{name} needs {least} members, and there are {members}"
            raise ConfigError("pooling", name, problem, "a smaller f, or more members")

    def network(self, classes: int) -> nn.Module:
        """Its network; numbers are drawn from torch's global generator."""
        encoder = networks.two_layers(classes, self.hidden, self.hidden)
        decoder = networks.two_layers(self.hidden, self.hidden, classes)
        return networks.SetNetwork(encoder, decoder)

    def train(
        self,
        learning: ServerSet,
        judging: ServerSet,
        f: int,
        streams: Streams,
        say: Callable[[str], None],
    ) -> dict[str, Tensor]:
        """Minimise the cross-entropy of attacked rows; the best epoch on judging ones is kept."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(streams.integer("aggregator"))
            network = self.network(learning.classes)
        plan = set_training.TrainingPlan(
            inner=self.training,
            lr=self.lr,
            decay=self.decay,
            epochs=self.epochs,
            batch_size=self.batch_size,
            masks=self.masks,
            steps=self.steps,
            step_size=self.step_size,
            candidates=self.candidates,
            chosen_by=self.chosen_by,
        )
        return set_training.train(network, learning, judging, f, plan, streams, say)

    def build(self, name: str, classes: int, learned: Mapping[str, Tensor]) -> PooledSet:
        """The network with its pooling."""
        network = self.network(classes)
        network.load_state_dict(dict(learned))
        return PooledSet(name, network.eval().requires_grad_(False), self.pooling)
