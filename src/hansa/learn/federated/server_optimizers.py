"""What a server does with the average update of a round: one step on its model.

The average update Delta = sum_i p_i (x_i - x) is taken as a negative gradient, as in Reddi et al.
(2021, "Adaptive federated optimization", algorithm 2). Nothing is corrected for bias, and tau
stands outside of the root. Buffers of the model (BatchNorm's statistics) are no parameters: the
average of the clients' replaces them whatever the rule.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from pydantic import Field

from hansa.base.component import Component, register
from hansa.base.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


class ServerOptimizer(Component, kind="server"):
    """Turns the average update of a round into the server's step."""

    lr: float = Field(1.0, gt=0, description="server learning rate")

    @property
    def slots(self) -> dict[str, float]:
        """Names of the state that the rule keeps, each [P], and the value it starts from."""
        return {}

    @abstractmethod
    def step_(self, row: Tensor, update: Tensor, slots: dict[str, Tensor]) -> None:
        """Move the parameters ``row`` [P] in place by the average ``update`` [P]."""


@register("average")
class Average(ServerOptimizer):
    """x <- x + lr Delta: with lr 1 the average of the clients' models."""

    def step_(self, row: Tensor, update: Tensor, slots: dict[str, Tensor]) -> None:
        row.add_(update, alpha=self.lr)


@register("momentum", paper="Hsu et al.", year=2019, url="https://arxiv.org/abs/1909.06335")
class Momentum(ServerOptimizer):
    """v <- beta v + Delta; x <- x + lr v (FedAvgM; Hsu et al., 2019)."""

    beta: float = Field(0.9, ge=0, lt=1, description="share of the last step that goes on")

    @property
    def slots(self) -> dict[str, float]:
        return {"velocity": 0.0}

    def step_(self, row: Tensor, update: Tensor, slots: dict[str, Tensor]) -> None:
        row.add_(slots["velocity"].mul_(self.beta).add_(update), alpha=self.lr)


class Adaptive(ServerOptimizer):
    """m <- beta1 m + (1 - beta1) Delta; x <- x + lr m / (sqrt(v) + tau)."""

    lr: float = Field(0.01, gt=0, description="server learning rate")
    beta1: float = Field(0.9, ge=0, lt=1, description="decay of the mean update")
    tau: float = Field(1e-3, gt=0, description="added to the root: how adaptive the rule is")
    initial: float = Field(0.0, ge=0, description="what v starts from (Reddi et al.: tau^2)")

    @property
    def slots(self) -> dict[str, float]:
        return {"mean": 0.0, "square": self.initial}

    def step_(self, row: Tensor, update: Tensor, slots: dict[str, Tensor]) -> None:
        mean = slots["mean"].lerp_(update, 1 - self.beta1)
        self.gather_(slots["square"], update.square())
        row.addcdiv_(mean, slots["square"].sqrt().add_(self.tau), value=self.lr)

    @abstractmethod
    def gather_(self, square: Tensor, new: Tensor) -> None:
        """Take the squared update into v, in place."""


@register("adam", paper="Reddi et al.", year=2021, url="https://arxiv.org/abs/2003.00295")
class ServerAdam(Adaptive):
    """v <- beta2 v + (1 - beta2) Delta^2 (FedAdam)."""

    beta2: float = Field(0.99, ge=0, lt=1, description="decay of the mean squared update")

    def gather_(self, square: Tensor, new: Tensor) -> None:
        square.lerp_(new, 1 - self.beta2)


@register("yogi", paper="Reddi et al.", year=2021, url="https://arxiv.org/abs/2003.00295")
class ServerYogi(ServerAdam):
    """v <- v - (1 - beta2) Delta^2 sign(v - Delta^2) (FedYogi)."""

    def gather_(self, square: Tensor, new: Tensor) -> None:
        square.addcmul_(new, torch.sign(square - new), value=-(1 - self.beta2))


@register("adagrad", paper="Reddi et al.", year=2021, url="https://arxiv.org/abs/2003.00295")
class ServerAdagrad(Adaptive):
    """v <- v + Delta^2 (FedAdagrad; beta1 is 0 in the paper)."""

    beta1: float = Field(0.0, ge=0, lt=1, description="decay of the mean update")

    def gather_(self, square: Tensor, new: Tensor) -> None:
        square.add_(new)
