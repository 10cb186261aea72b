"""ScaleFL's sub-models: clients of small means train a narrow part of the model.

After Ilhan, Su and Liu, "ScaleFL: Resource-Adaptive Federated Learning With Heterogeneous
Clients", CVPR 2023, pp. 24532-24541. Every client has a level, for good; each level a width. A
client gets the numbers that its sub-model holds (see ``models/submodel.py``), trains and sends
these, and the server averages every number over the clients that hold it; a number that nobody
holds has no update. A narrow model takes less time, in proportion to its number of parameters.

Deviations: the paper also cuts depth, at early exits, with a loss over all exits and
self-distillation from the last; here models have one exit and only widths differ (so the first
two of the published levels, which differ in depth alone, are one). Updates are weighed like
FedAvg's, where the published code counts clients alike (``weighting: uniform``), and statistics
of normalization layers are averaged over the clients that hold them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.engine import Block, Network
from hansa.engine.block import Correction
from hansa.engine.training.budget import place
from hansa.ensemble.aggregators import Mean
from hansa.learn.federated.client_work import Work
from hansa.learn.federated.federated import Federated
from hansa.learn.federated.invitation import Terms
from hansa.learn.federated.mail import post_bytes
from hansa.models.submodel import held_numbers

if TYPE_CHECKING:
    from torch import Tensor


@register(
    "scalefl",
    paper="Ilhan et al.",
    year=2023,
    url="https://openaccess.thecvf.com/content/CVPR2023/html/Ilhan_ScaleFL_Resource-Adaptive_Federated_Learning_With_Heterogeneous_Clients_CVPR_2023_paper.html",
)
class ScaleFL(Federated):
    """FedAvg in which weak clients train narrow sub-models (Ilhan et al., 2023)."""

    tolerates_loss: ClassVar[bool] = True

    widths: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.7, 0.7, 0.75, 1.0), description="share of every hidden layer that each level trains"
    )
    shares: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (0.25, 0.25, 0.25, 0.25), description="shares of the clients at each level; their sum is 1"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.widths) != len(self.shares):
            problem = f"there are {len(self.widths)} widths"
            raise ConfigError("shares", self.shares, problem, "one share for each width")
        if abs(sum(self.shares) - 1) > 1e-6:
            raise ConfigError("shares", self.shares, "do not add up to 1", "such as [0.5, 0.5]")
        if self.global_momentum:
            raise ConfigError(
                "global_momentum",
                self.global_momentum,
                "would tell clients of numbers that they do not hold",
                "0, or a server with momentum",
            )
        return self

    def check(self, network: Network) -> None:
        if not isinstance(self.aggregator, Mean):
            problem = "asks all clients for every number, and here some hold only part of them"
            raise ConfigError("aggregator", self.aggregator.name, problem, "mean")
        super().check(network)

    def start(self, block: Block) -> None:
        super().start(block)
        clients = block.ids < block.clients
        block.effort = np.ones(len(block))
        block.effort[clients] = self.effort(block, block.ids[clients])

    # -- who holds what

    def outlines(self, block: Block) -> list[np.ndarray]:
        """The numbers of a row, int64, that clients of each different width hold."""
        if "scalefl.outlines" not in block.facts:
            trainer = block.trainer
            block.facts["scalefl.outlines"] = [
                held_numbers(trainer.module, trainer.layout, width)
                for width in sorted(set(self.widths))
            ]
        return block.facts["scalefl.outlines"]

    def parts(self, block: Block) -> int:
        return len(self.outlines(block))

    def part_of(self, block: Block, clients: np.ndarray) -> np.ndarray:
        """Which of :meth:`outlines` clients of the run have, int64 [k]."""
        different = np.unique(self.widths)
        kinds = np.searchsorted(different, self.widths)
        places = [place(block.streams.seed, int(i), "scalefl level") for i in clients]
        levels = np.searchsorted(np.cumsum(self.shares), places, side="right")
        return kinds[levels.clip(max=len(kinds) - 1)]

    def effort(self, block: Block, clients: np.ndarray) -> np.ndarray:
        """The share of the parameters that clients train, [k]."""
        trainable = block.trainer.layout.trainable
        shares = [np.count_nonzero(held < trainable) / trainable for held in self.outlines(block)]
        return np.array(shares)[self.part_of(block, clients)]

    def numbers(self, block: Block, part: int) -> Tensor | None:
        sent, held = self.sent(block), self.outlines(block)[part]
        held = held[held < sent]
        return None if len(held) == sent else torch.from_numpy(held).to(block.rows.device)

    # -- what differs from FedAvg

    def terms(self, block: Block, row: int, chosen: np.ndarray, wanted: int) -> Terms:
        terms = super().terms(block, row, chosen, wanted)
        model, aside = block.rows[row : row + 1, : self.sent(block)], self.aside(block)
        told = sum(rows.shape[1] for rows in self.told(block).values())
        parts = [self.numbers(block, k) for k in range(len(self.outlines(block)))]
        models = [model if held is None else model[:, held] for held in parts]
        down = np.array([post_bytes(self.download, part, told) for part in models])
        up = np.array([post_bytes(self.codec, part, aside) for part in models])
        kind = self.part_of(block, chosen)
        effort = self.effort(block, chosen)
        return replace(terms, down_bytes=down[kind], up_bytes=up[kind], effort=effort)

    def correction(self, work: Work) -> Correction | None:
        """No gradient where a client holds nothing.

        There is none in theory, but infinite activations of a model that diverges would make one.
        """
        held = self.outlines(work.crew)[int(self.part_of(work.crew, work.crew.ids[:1])[0])]
        if len(held) == work.crew.trainer.layout.size:
            return None
        absent = torch.ones(work.parameters, dtype=torch.bool)
        absent[held[held < work.parameters]] = False
        absent = absent.to(work.crew.rows.device)

        def mask(who: np.ndarray, rows: Tensor, grads: Tensor) -> None:
            grads.masked_fill_(absent, 0)

        return mask
