"""Networks that rules, mixtures and generators are made of; loaded when one is built."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hansa.ensemble.aggregators import Aggregator
from hansa.ensemble.alignment import Alignment
from hansa.ensemble.inputs import InputForm
from hansa.ensemble.panel import Panel


class Fixed(nn.Module):
    """Weights that stay: rows [m, M * C] -> [m, C]."""

    weights: Tensor

    def __init__(self, panel: Panel, weights: Tensor) -> None:
        super().__init__()
        self.panel = panel
        self.register_buffer("weights", weights)

    def forward(self, rows: Tensor) -> Tensor:
        """Combine."""
        return (self.panel.scores(rows) * self.weights).sum(-2)


class Aggregated(nn.Module):
    """What an aggregator makes of the members' scores of each example."""

    weights: Tensor

    def __init__(self, panel: Panel, aggregator: Aggregator) -> None:
        super().__init__()
        self.panel, self.aggregator = panel, aggregator
        self.register_buffer("weights", torch.full((panel.members,), 1 / panel.members))

    def forward(self, rows: Tensor) -> Tensor:
        """Combine, all examples at once."""
        scores, weights = self.panel.scores(rows), self.weights.double().cpu().numpy()
        sets = scores.reshape(-1, *scores.shape[-2:])
        return self.aggregator.many(sets, weights).view(*scores.shape[:-2], scores.shape[-1])


class Weights(nn.Module):
    """Weights [M, C] or [M, 1] that are trained, and a shared bias where asked."""

    def __init__(self, panel: Panel, columns: int, bias: bool) -> None:
        super().__init__()
        self.panel = panel
        self.weights = nn.Parameter(torch.full((panel.members, columns), 1 / panel.members))
        self.bias = nn.Parameter(torch.zeros(1)) if bias else None

    def forward(self, rows: Tensor) -> Tensor:
        """Combine."""
        weighted = (self.panel.scores(rows) * self.weights).sum(-2)
        return weighted if self.bias is None else weighted + self.bias


class Corrected(nn.Module):
    """A weighted sum plus a network over all scores."""

    def __init__(self, panel: Panel, start: Tensor, network: nn.Module) -> None:
        super().__init__()
        self.panel, self.network = panel, network
        self.weights = nn.Parameter(start)

    def forward(self, rows: Tensor) -> Tensor:
        """Combine."""
        plain = (self.panel.scores(rows) * self.weights).sum(-2)
        return plain + self.network(rows[..., : self.panel.width])


class SetNetwork(nn.Module):
    """Encoder of each member's scores, one row of all of them, decoder (Zaheer et al., 2017).

    Args:
        encoder: [..., C] -> [..., d].
        decoder: [..., d] -> [..., C].
        panel: takes the members' scores out of flat rows; without one the network is given them.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, panel: Panel | None = None) -> None:
        super().__init__()
        self.panel, self.encoder, self.decoder = panel, encoder, decoder

    def forward(self, rows: Tensor) -> Tensor:
        """Combine, by the mean, whatever the order: [..., n, C] -> [..., C]."""
        scores = rows if self.panel is None else self.panel.scores(rows)
        return self.decoder(self.encoder(scores).mean(-2))


def two_layers(first: int, hidden: int, last: int) -> nn.Sequential:
    """Linear, ReLU, linear."""
    return nn.Sequential(nn.Linear(first, hidden), nn.ReLU(), nn.Linear(hidden, last))


class Votes(nn.Module):
    """Sums of log P_j[r, c], the chance that member j says c where r is true."""

    competency: Tensor

    def __init__(self, panel: Panel, competency: Tensor) -> None:
        super().__init__()
        self.panel = panel
        self.register_buffer("competency", competency)

    def forward(self, rows: Tensor) -> Tensor:
        """Log of each class's chance, up to a constant: [m, C]."""
        scores = self.panel.scores(rows)
        said = (scores[..., 0] > 0).long() if self.panel.binary else scores.argmax(-1)
        table = self.competency.transpose(1, 2)  # [M, said, true]
        chances = table[torch.arange(self.panel.members, device=said.device), said].sum(-2)
        return chances[..., 1:] - chances[..., :1] if self.panel.binary else chances


class Gated(nn.Module):
    """Experts weighed by a softmax over a gate's scores of the input."""

    def __init__(self, panel: Panel, gate: nn.Module) -> None:
        super().__init__()
        self.panel, self.gate = panel, gate

    def forward(self, rows: Tensor) -> Tensor:
        """Combine."""
        weights = torch.softmax(self.gate(self.panel.inputs(rows)), -1)
        return (self.panel.scores(rows) * weights.unsqueeze(-1)).sum(-2)


class Pixels(nn.Module):
    """Numbers 0..1 [b, C, H, W] to the range of each channel."""

    low: Tensor
    span: Tensor

    def __init__(self, form: InputForm) -> None:
        super().__init__()
        assert form.low is not None  # images have limits
        self.register_buffer("low", form.low.view(-1, 1, 1))
        self.register_buffer("span", form.span)

    def forward(self, x: Tensor) -> Tensor:
        """The images as a model takes them."""
        return self.low + self.span * x


class TwoScores(nn.Module):
    """A model of one score as one of two: 0 and the score have the same probabilities."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """[b, ...] -> [b, 2]."""
        z = self.inner(x)
        return torch.cat([torch.zeros_like(z), z], -1)


class Aligned(nn.Module):
    """A member whose scores are comparable with the others'."""

    def __init__(self, member: nn.Module, alignment: Alignment) -> None:
        super().__init__()
        self.member, self.alignment = member, alignment

    def forward(self, x: Tensor) -> Tensor:
        """[m, ...] -> [m, C]."""
        return self.alignment(self.member(x))


class PreparedInput(nn.Module):
    """A member that takes other inputs than the run's."""

    def __init__(self, member: nn.Module, preparing: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.member, self.preparing = member, preparing

    def forward(self, x: Tensor) -> Tensor:
        """[m, ...] -> [m, C]."""
        return self.member(self.preparing(x))
