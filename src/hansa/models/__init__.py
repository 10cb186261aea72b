"""What is trained: models built for a data set, and their state as one flat row."""

from typing import TYPE_CHECKING

from hansa.base.lazy import front

if TYPE_CHECKING:
    from hansa.models.convnet import ConvNet
    from hansa.models.convolutional import CelebaCNN, CpflGNLeNet, FemnistCNN, GNLeNet, PflCNN
    from hansa.models.custom import Module
    from hansa.models.dense import MLP, Logistic
    from hansa.models.layout import ParameterLayout, frozen_digest, frozen_tensors, shared_copy
    from hansa.models.low_rank import LowRank
    from hansa.models.model import Model, initial_model
    from hansa.models.pretrained import Transformers
    from hansa.models.recommendation import MatrixFactorization, NeuralRecommender, Recommender
    from hansa.models.resnet import ResNet8, ResNet8BN, ResNet20
    from hansa.models.sequence import LSTM
    from hansa.models.vision_transformer import ViT


__all__ = [
    "LSTM",
    "MLP",
    "CelebaCNN",
    "ConvNet",
    "CpflGNLeNet",
    "FemnistCNN",
    "GNLeNet",
    "Logistic",
    "LowRank",
    "MatrixFactorization",
    "Model",
    "Module",
    "NeuralRecommender",
    "ParameterLayout",
    "PflCNN",
    "Recommender",
    "ResNet8",
    "ResNet8BN",
    "ResNet20",
    "Transformers",
    "ViT",
    "frozen_digest",
    "frozen_tensors",
    "initial_model",
    "shared_copy",
]

__getattr__ = front(__name__)
