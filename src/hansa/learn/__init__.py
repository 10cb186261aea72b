"""Learning algorithms, one file each.

Peer to peer, with the bounds to compare them with; and federated, whose methods are a few lines
each on ``federated.py``.
"""

from typing import TYPE_CHECKING

from hansa.base.lazy import on_demand

if TYPE_CHECKING:
    from hansa.learn.adpsgd import ADPSGD
    from hansa.learn.budgets import Greedy, SkipTrainConstrained
    from hansa.learn.centralized import Centralized
    from hansa.learn.choco import Choco
    from hansa.learn.cpfl import CPFL
    from hansa.learn.dpsgd import DPSGD
    from hansa.learn.el_local import ELLocal
    from hansa.learn.el_oracle import ELOracle
    from hansa.learn.fedavg import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedYogi
    from hansa.learn.fedbuff import FedBuff
    from hansa.learn.federated import Federated
    from hansa.learn.fednova import FedNova
    from hansa.learn.fedprox import FedProx
    from hansa.learn.isolated import Isolated
    from hansa.learn.jwins import JWINS
    from hansa.learn.local_sgd import LocalSGD
    from hansa.learn.quickdrop import QuickDrop
    from hansa.learn.random_sampling import RandomSampling
    from hansa.learn.scaffold import Scaffold
    from hansa.learn.scalefl import ScaleFL
    from hansa.learn.secure_aggregation import SecureDPSGD
    from hansa.learn.skiptrain import SkipTrain
    from hansa.learn.topk import TopK

__getattr__ = on_demand(__name__)

__all__ = [
    "ADPSGD",
    "CPFL",
    "DPSGD",
    "JWINS",
    "Centralized",
    "Choco",
    "ELLocal",
    "ELOracle",
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedAvgM",
    "FedBuff",
    "FedNova",
    "FedProx",
    "FedYogi",
    "Federated",
    "Greedy",
    "Isolated",
    "LocalSGD",
    "QuickDrop",
    "RandomSampling",
    "Scaffold",
    "ScaleFL",
    "SecureDPSGD",
    "SkipTrain",
    "SkipTrainConstrained",
    "TopK",
]
