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
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import nn, torch
from hansa.forget.federation import Federation
from hansa.forget.method import Forgetting
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

    def check(self, federation: Federation) -> None:
        super().check(federation)
        if not any(isinstance(part, nn.Conv2d) for part in federation.job.module.modules()):
            problem = "prunes channels of convolutions, and this model has none"
            raise ConfigError("method", "fu_mp", problem, "--method quickdrop")

    def caveats(self, federation: Federation) -> list[str]:
        widths = [
            part.out_channels
            for part in federation.job.module.modules()
            if isinstance(part, nn.Conv2d)
        ]
        each = min(widths) / federation.classes
        return [
            "fu_mp needs wide layers, with channels that are a class's own, or what remains "
            f"suffers: here the narrowest of {len(widths)} has {min(widths)} channels, {each:.1f} "
            f"for each of {federation.classes} classes"
        ]

    def forget(self, federation: Federation) -> tuple[Tensor, dict[str, Any]]:
        row = federation.row.clone()
        with federation.ledger.phase("pruning"):
            activations = class_activations(federation, row)
            mask = torch.ones(federation.network.size, device=row.device)
            pruned: dict[str, list[int]] = {name: [] for name in activations}
            for label in federation.request.classes:
                self._prune(federation, row, mask, label, activations, pruned)
        story: dict[str, Any] = {"pruned": pruned, "model_after_ascent": row}

        def keep(grad: Tensor, _: Tensor) -> None:
            grad.mul_(mask)

        staying = federation.real(forget=False)
        row, story["recovery"] = self.recovery.run(federation, row, staying, hook=keep)
        return row, story

    def _prune(
        self,
        federation: Federation,
        row: Tensor,
        mask: Tensor,
        label: int,
        activations: dict[str, Tensor],
        pruned: dict[str, list[int]],
    ) -> None:
        """Close a class's channels in ``row`` and ``mask``, the most telling ones first."""
        own = replace(federation, request=Request.of(classes=[label])).real(forget=True)
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
                    close_channel_(mask, federation, name, channels[k])
            row[: len(mask)] *= mask
            if self.ratio is None and own and federation.loss(row, own) >= federation.chance:
                return


def class_activations(federation: Federation, row: Tensor) -> dict[str, Tensor]:
    """Mean activation [U, C] of each convolution's channels by class, averaged over clients."""
    network = federation.network
    network.layout.bind_tensors(network.layout.tensors(network.module), row)
    sums: dict[str, Tensor] = {}
    counts = torch.zeros(federation.classes, 1)
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
        for side in (True, False):
            for holding in federation.real(side):
                x, y, _ = holding.draw(federation.random(holding.client))
                federation.ledger.now.sample_checks += len(y)
                network.logits(row, x)
                one_hot = torch.nn.functional.one_hot(y, federation.classes).float().T
                counts += one_hot.sum(1, keepdim=True).cpu()
                for name, activation in seen.items():
                    sums[name] = sums.get(name, 0) + one_hot @ activation
    finally:
        for handle in handles:
            handle.remove()
    return {name: total / counts.clamp(min=1).to(total) for name, total in sums.items()}


def tf_idf(table: Tensor) -> Tensor:
    """Scores [U, C] of activations [U, C]: how much a channel is a class's own."""
    tf = table / table.sum(1, keepdim=True).clamp(min=1e-12)
    often = (table >= table.mean(1, keepdim=True)).sum(0)
    return tf * torch.log((1 + len(table)) / (1 + often.to(table)))


def close_channel_(mask: Tensor, federation: Federation, name: str, channel: int) -> None:
    """Set to 0 a convolution's channel, and the scale and shift of a normalization behind it."""
    parts = list(federation.job.module.named_modules())
    at = next(k for k, (other, _) in enumerate(parts) if other == name)
    names = [name]
    if at + 1 < len(parts) and isinstance(parts[at + 1][1], nn.GroupNorm | nn.BatchNorm2d):
        names.append(parts[at + 1][0])
    for entry in federation.network.layout.entries:
        owner, _, _ = entry.name.rpartition(".")
        if owner in names and entry.trainable:
            view = mask[entry.offset : entry.offset + entry.size].view(entry.shape)
            view[channel] = 0.0
