"""FU-MP: prune the channels that are a class's own (Wang et al., WWW 2022).

Clients send, for each convolution, the mean over their images of each class of the channels' pooled
activations; the server averages them to A [U, C]. With TF the share of a channel in its class's
activations and IDF = log((1 + U) / (1 + number of classes in which it is above that class's mean)),
the channels with the highest TF * IDF are a class's own. They are set to 0 and stay there while the
remaining clients tune the rest. How many the paper prunes was not at hand. Here it is one more of
each convolution until the class's cross-entropy, as its holders see it, is that of guessing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import nn, torch
from hansa.forget.case import Case
from hansa.forget.classifier import Classifier
from hansa.forget.federation import Asking, Federation
from hansa.forget.method import Forgetting
from hansa.forget.orders import Answer, Form, order
from hansa.forget.party import Party
from hansa.forget.portions import Portion
from hansa.forget.recovery import Recovery
from hansa.forget.request import Level, Request

if TYPE_CHECKING:
    from torch import Tensor


@register("fu_mp", paper="Wang et al.", year=2022, url="https://arxiv.org/abs/2110.11794")
class Pruning(Forgetting):
    """Zero the channels that tell a class apart, then tune the rest; needs wide layers."""

    levels: ClassVar[tuple[Level, ...]] = ("class",)
    ratio: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of each convolution's channels that are pruned a class; none: as many "
        "as it takes until the class's cross-entropy is log K, judged on the original examples",
    )
    recovery: Recovery = Field(
        Recovery(rounds=10, steps=5, lr=0.1, rechecks=0),
        description="tuning on the real examples that remain",
    )

    def check(self, case: Case) -> None:
        super().check(case)
        if not any(isinstance(part, nn.Conv2d) for part in case.job.module.modules()):
            problem = "prunes channels of convolutions, and this model has none"
            raise ConfigError("method", "fu_mp", problem, "--method quickdrop")

    def caveats(self, case: Case) -> list[str]:
        widths = [
            part.out_channels for part in case.job.module.modules() if isinstance(part, nn.Conv2d)
        ]
        each = min(widths) / case.plan.classes
        return [
            "fu_mp needs wide layers, with channels that are a class's own, or what remains "
            f"suffers: here the narrowest of {len(widths)} has {min(widths)} channels, {each:.1f} "
            f"for each of {case.plan.classes} classes"
        ]

    def forget(self, federation: Federation) -> Asking[tuple[Tensor, dict[str, Any]]]:
        row = federation.row.clone()
        with federation.ledger.phase("pruning"):
            activations = yield from class_activations(federation, row)
            mask = torch.ones(federation.network.size, device=row.device)
            pruned: dict[str, list[int]] = {name: [] for name in activations}
            for label in federation.request.classes:
                yield from self._prune(federation, row, mask, label, activations, pruned)
        story: dict[str, Any] = {"pruned": pruned, "model_after_ascent": row}
        staying = yield from federation.real(forget=False)
        with federation.ledger.phase("recovery"):
            yield from federation.ask("close", [one.client for one in staying], channels=pruned)
        row, story["recovery"] = yield from self.recovery.run(federation, row, staying, term=CLOSED)
        return row, story

    def _prune(
        self,
        federation: Federation,
        row: Tensor,
        mask: Tensor,
        label: int,
        activations: dict[str, Tensor],
        pruned: dict[str, list[int]],
    ) -> Asking[None]:
        """Close a class's channels in ``row`` and ``mask``, the most telling ones first."""
        portion = Portion(True, Request.of(classes=[label]), federation.past)
        own = yield from federation.held(portion)
        order, limit = {}, {}
        for name, table in activations.items():
            ranks = tf_idf(table)[label].argsort(descending=True).tolist()
            order[name] = [channel for channel in ranks if channel not in pruned[name]]
            limit[name] = len(order[name]) - 1  # a convolution keeps one channel in any case
            if self.ratio is not None:
                share = max(1, math.floor(self.ratio * len(ranks)))
                limit[name] = min(limit[name], share)
        for k in range(max(limit.values())):
            for name, channels in order.items():
                if k < limit[name]:
                    pruned[name].append(channels[k])
                    close_channel_(mask, federation.network, name, channels[k])
            row[: len(mask)] *= mask
            if self.ratio is None and own:
                loss = yield from federation.loss(row, own)
                if loss >= federation.chance:
                    return


CLOSED = "closed"
"""The term that keeps channels closed, as clients know it."""


@order("close")
def _close(party: Party, channels: dict[str, list[int]]) -> Answer:
    """From now on leave these channels of each convolution at 0."""
    mask = torch.ones(party.network.size, device=party.block.trainer.device)
    for name, closed in channels.items():
        for channel in closed:
            close_channel_(mask, party.network, name, channel)

    def keep(grad: Tensor, _: Tensor) -> None:
        grad.mul_(mask)

    party.terms[CLOSED] = keep
    return {}


def class_activations(federation: Federation, row: Tensor) -> Asking[dict[str, Tensor]]:
    """Mean activation [U, C] of each convolution's channels by class, averaged over clients."""
    sums: dict[str, Tensor] = {}
    counts = torch.zeros(federation.classes, 1)
    for side in (True, False):
        held = yield from federation.real(side)
        for answer in (yield from federation.each("activations", held, row=row)):
            counts += torch.from_numpy(answer["counts"])
            for name, total in answer["sums"].items():
                sums[name] = sums.get(name, 0) + federation.tensor(total)
    return {name: total / counts.clamp(min=1).to(total) for name, total in sums.items()}


@order("activations", counts=Form(("C", 1), mass=True))
def _activations(party: Party, portion: dict[str, Any], row: np.ndarray) -> Answer:
    """Activations [U, C] of each convolution's channels, added up by class over one batch."""
    network, holding = party.network, party.holding(Portion.parse(portion))
    assert holding is not None  # the server asks those who hold some
    seen: dict[str, Tensor] = {}

    def watch(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            seen[name] = output.relu().mean((2, 3))

        return hook

    handles = [
        part.register_forward_hook(watch(name))
        for name, part in network.module.named_modules()
        if isinstance(part, nn.Conv2d)
    ]
    try:
        x, y, _ = holding.draw(party.random())
        party.checks += len(y)
        network.logits(party.to_device(row), x)
    finally:
        for handle in handles:
            handle.remove()
    one_hot = torch.nn.functional.one_hot(y, party.plan.classes).float().T
    sums = {name: (one_hot @ activation).cpu().numpy() for name, activation in seen.items()}
    return {"sums": sums, "counts": one_hot.sum(1, keepdim=True)}


def tf_idf(table: Tensor) -> Tensor:
    """Scores [U, C] of activations [U, C]: how much a channel is a class's own."""
    tf = table / table.sum(1, keepdim=True).clamp(min=1e-12)
    often = (table >= table.mean(1, keepdim=True)).sum(0)
    return tf * torch.log((1 + len(table)) / (1 + often.to(table)))


def close_channel_(mask: Tensor, network: Classifier, name: str, channel: int) -> None:
    """Set to 0 a convolution's channel, and the scale and shift of a normalization behind it."""
    parts = list(network.module.named_modules())
    at = next(k for k, (other, _) in enumerate(parts) if other == name)
    names = [name]
    if at + 1 < len(parts) and isinstance(parts[at + 1][1], nn.GroupNorm | nn.BatchNorm2d):
        names.append(parts[at + 1][0])
    for entry in network.layout.entries:
        owner, _, _ = entry.name.rpartition(".")
        if owner in names and entry.trainable:
            view = mask[entry.offset : entry.offset + entry.size].view(entry.shape)
            view[channel] = 0.0
