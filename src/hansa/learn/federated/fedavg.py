"""FedAvg and its server-side kin: the average of the clients' models, or a step along it."""

from __future__ import annotations

from pydantic import Field

from hansa.base.component import register
from hansa.learn.federated.federated import Federated
from hansa.learn.federated.server_optimizers import (
    Momentum,
    ServerAdagrad,
    ServerAdam,
    ServerOptimizer,
    ServerYogi,
)


@register("fedavg")
class FedAvg(Federated):
    """Local steps from the server's model, then the average (McMahan et al., 2017)."""


@register("fedavgm")
class FedAvgM(Federated):
    """FedAvg with momentum at the server (Hsu et al., 2019)."""

    server: ServerOptimizer = Field(Momentum(), description="the server's step")


@register("fedadam")
class FedAdam(Federated):
    """FedAvg with Adam at the server (Reddi et al., 2021)."""

    server: ServerOptimizer = Field(ServerAdam(), description="the server's step")


@register("fedyogi")
class FedYogi(Federated):
    """FedAvg with Yogi at the server (Reddi et al., 2021)."""

    server: ServerOptimizer = Field(ServerYogi(), description="the server's step")


@register("fedadagrad")
class FedAdagrad(Federated):
    """FedAvg with Adagrad at the server (Reddi et al., 2021)."""

    server: ServerOptimizer = Field(ServerAdagrad(), description="the server's step")
