"""Data: where examples come from, how they are prepared, and how the nodes share them out.

A :class:`DataSource` (``sources``) loads a :class:`Dataset`; its :class:`Partition` deals the
training examples to the nodes, and :class:`Cohorts` deal nodes to cohorts (``dealing``). Importing
this package registers every built-in of these kinds.
"""

from typing import TYPE_CHECKING

from hansa.base.lazy import front

if TYPE_CHECKING:
    from hansa.data.dataset import Dataset, Planted, Split
    from hansa.data.dealing.cohort_file import CohortFile, read_cohorts, write_cohorts
    from hansa.data.dealing.cohorts import (
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
    from hansa.data.dealing.given_cohorts import GivenCohorts
    from hansa.data.dealing.holdback import hold_back, hold_back_each
    from hansa.data.dealing.listed_cohorts import ListedCohorts
    from hansa.data.dealing.owners import Function, Natural
    from hansa.data.dealing.partition import Iid, Partition, Pile, label_histogram
    from hansa.data.dealing.shards import RandomCutShards, Shards
    from hansa.data.dealing.skew import Dirichlet, Quantity
    from hansa.data.dealing.users import Users
    from hansa.data.markers import Backdoor, Canaries, Marker, marker_power, plant
    from hansa.data.ratings import Ratings
    from hansa.data.raw import Arrays, RawSplits
    from hansa.data.source import DataSource
    from hansa.data.sources.cifar import Cifar10, Cifar100
    from hansa.data.sources.digits import Digits
    from hansa.data.sources.digits_views import DigitsViews
    from hansa.data.sources.femnist import Femnist
    from hansa.data.sources.heart import Heart
    from hansa.data.sources.hub import Hub
    from hansa.data.sources.image_folder import ImageFolder
    from hansa.data.sources.labelled_sentences import Sentences
    from hansa.data.sources.local import File
    from hansa.data.sources.mnist import FashionMnist, Mnist
    from hansa.data.sources.movielens import Movielens
    from hansa.data.sources.ratings_file import RatingsFile
    from hansa.data.sources.ratings_source import RatingsSource
    from hansa.data.sources.shakespeare import Shakespeare
    from hansa.data.sources.synthetic_ratings import SyntheticRatings
    from hansa.data.sources.synthetic_sentences import SyntheticSentences
    from hansa.data.sources.text_file import TextFile
    from hansa.data.sources.torchset import Torch


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
    "DigitsViews",
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
    "ListedCohorts",
    "Marker",
    "Mnist",
    "Movielens",
    "Natural",
    "Partition",
    "Pile",
    "Planted",
    "Quantity",
    "RandomCutShards",
    "Ratings",
    "RatingsFile",
    "RatingsSource",
    "RawSplits",
    "Sentences",
    "Shakespeare",
    "Shards",
    "Split",
    "SyntheticRatings",
    "SyntheticSentences",
    "TextFile",
    "Torch",
    "UniformCohorts",
    "Users",
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

__getattr__ = front(__name__)
