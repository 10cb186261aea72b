"""Learning algorithms, one file each: peer to peer, and the bounds to compare them with."""

from hansa.learn.adpsgd import ADPSGD
from hansa.learn.budgets import Greedy, SkipTrainConstrained
from hansa.learn.centralized import Centralized
from hansa.learn.choco import Choco
from hansa.learn.dpsgd import DPSGD
from hansa.learn.el_local import ELLocal
from hansa.learn.el_oracle import ELOracle
from hansa.learn.isolated import Isolated
from hansa.learn.jwins import JWINS
from hansa.learn.local_sgd import LocalSGD
from hansa.learn.random_sampling import RandomSampling
from hansa.learn.secure_aggregation import SecureDPSGD
from hansa.learn.skiptrain import SkipTrain
from hansa.learn.topk import TopK

__all__ = [
    "ADPSGD",
    "DPSGD",
    "JWINS",
    "Centralized",
    "Choco",
    "ELLocal",
    "ELOracle",
    "Greedy",
    "Isolated",
    "LocalSGD",
    "RandomSampling",
    "SecureDPSGD",
    "SkipTrain",
    "SkipTrainConstrained",
    "TopK",
]
