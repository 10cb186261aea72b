"""Learning algorithms, one file each: peer to peer (``gossip``), with servers (``federated``), and
sums of which nobody sees the terms (``secure``).
"""

from typing import TYPE_CHECKING

from hansa.base.lazy import front

if TYPE_CHECKING:
    from hansa.learn.federated.cpfl import CPFL
    from hansa.learn.federated.fedavg import FedAdagrad, FedAdam, FedAvg, FedAvgM, FedYogi
    from hansa.learn.federated.fedbuff import FedBuff
    from hansa.learn.federated.federated import Federated
    from hansa.learn.federated.fednova import FedNova
    from hansa.learn.federated.fedprox import FedProx
    from hansa.learn.federated.hierarchical import Hierarchical
    from hansa.learn.federated.quickdrop import QuickDrop
    from hansa.learn.federated.scaffold import Scaffold
    from hansa.learn.federated.scalefl import ScaleFL
    from hansa.learn.gossip.adpsgd import ADPSGD
    from hansa.learn.gossip.budgets import Greedy, SkipTrainConstrained
    from hansa.learn.gossip.centralized import Centralized
    from hansa.learn.gossip.choco import Choco
    from hansa.learn.gossip.dpsgd import DPSGD
    from hansa.learn.gossip.el_local import ELLocal
    from hansa.learn.gossip.el_oracle import ELOracle
    from hansa.learn.gossip.isolated import Isolated
    from hansa.learn.gossip.jwins import JWINS
    from hansa.learn.gossip.local_sgd import LocalSGD
    from hansa.learn.gossip.random_sampling import RandomSampling
    from hansa.learn.gossip.skiptrain import SkipTrain
    from hansa.learn.gossip.topk import TopK
    from hansa.learn.secure.secure_aggregation import SecureDPSGD

__getattr__ = front(__name__)

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
    "Hierarchical",
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
