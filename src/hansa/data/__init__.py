"""Data: where examples come from, how they are prepared, and how the nodes share them out.

A :class:`DataSource` loads a :class:`Dataset`; its :class:`Partition` deals the training
examples to the nodes, and :class:`Cohorts` deal nodes to cohorts. Importing this package
registers every built-in of these kinds.
"""

from hansa.data.cifar import Cifar10, Cifar100
from hansa.data.cohort_file import CohortFile, read_cohorts, write_cohorts
from hansa.data.cohorts import (
    Clients,
    Cohorts,
    CohortsByClass,
    CohortsByDevice,
    LabelBalancedCohorts,
    UniformCohorts,
    by_class,
    by_device,
    label_balanced,
    uniform_cohorts,
)
from hansa.data.dataset import Dataset, Split
from hansa.data.digits import Digits
from hansa.data.femnist import Femnist
from hansa.data.given_cohorts import GivenCohorts
from hansa.data.heart import Heart
from hansa.data.holdback import hold_back, hold_back_each
from hansa.data.hub import Hub
from hansa.data.image_folder import ImageFolder
from hansa.data.local import File
from hansa.data.markers import Backdoor, Canaries, Marker, Planted, marker_power, plant
from hansa.data.mnist import FashionMnist, Mnist
from hansa.data.movielens import Movielens
from hansa.data.owners import Function, Natural
from hansa.data.partition import Iid, Partition, Pile, label_histogram
from hansa.data.raw import Arrays, RawSplits
from hansa.data.shakespeare import Shakespeare
from hansa.data.shards import RandomCutShards, Shards
from hansa.data.skew import Dirichlet, Quantity
from hansa.data.source import DataSource
from hansa.data.torchset import Torch

__all__ = [
    "Arrays",
    "Backdoor",
    "Canaries",
    "Cifar10",
    "Cifar100",
    "Clients",
    "CohortFile",
    "Cohorts",
    "CohortsByClass",
    "CohortsByDevice",
    "DataSource",
    "Dataset",
    "Digits",
    "Dirichlet",
    "FashionMnist",
    "Femnist",
    "File",
    "Function",
    "GivenCohorts",
    "Heart",
    "Hub",
    "Iid",
    "ImageFolder",
    "LabelBalancedCohorts",
    "Marker",
    "Mnist",
    "Movielens",
    "Natural",
    "Partition",
    "Pile",
    "Planted",
    "Quantity",
    "RandomCutShards",
    "RawSplits",
    "Shakespeare",
    "Shards",
    "Split",
    "Torch",
    "UniformCohorts",
    "by_class",
    "by_device",
    "hold_back",
    "hold_back_each",
    "label_balanced",
    "label_histogram",
    "marker_power",
    "plant",
    "read_cohorts",
    "uniform_cohorts",
    "write_cohorts",
]
