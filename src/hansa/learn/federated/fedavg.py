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


@register("fedavg", paper="McMahan et al.", year=2017, url="https://arxiv.org/abs/1602.05629")
class FedAvg(Federated):
    """Local steps from the server's model, then the average (McMahan et al., 2017)."""


@register("fedavgm", paper="Hsu et al.", year=2019, url="https://arxiv.org/abs/1909.06335")
class FedAvgM(Federated):
    """FedAvg with momentum at the server (Hsu et al., 2019)."""

    server: ServerOptimizer = Field(Momentum(), description="the server's step")


@register("fedadam", paper="Reddi et al.", year=2021, url="https://arxiv.org/abs/2003.00295")
class FedAdam(Federated):
    """FedAvg with Adam at the server (Reddi et al., 2021)."""

    server: ServerOptimizer = Field(ServerAdam(), description="the server's step")


@register("fedyogi", paper="Reddi et al.", year=2021, url="https://arxiv.org/abs/2003.00295")
class FedYogi(Federated):
    """FedAvg with Yogi at the server (Reddi et al., 2021)."""

    server: ServerOptimizer = Field(ServerYogi(), description="the server's step")


@register("fedadagrad", paper="Reddi et al.", year=2021, url="https://arxiv.org/abs/2003.00295")
class FedAdagrad(Federated):
    """FedAvg with Adagrad at the server (Reddi et al., 2021)."""

    server: ServerOptimizer = Field(ServerAdagrad(), description="the server's step")
