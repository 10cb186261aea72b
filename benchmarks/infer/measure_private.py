"""What the benchmarks of private inference share: digits, the two small networks, their training.

FEMNIST's digits (28 x 28) under $HANSA_DATA; the digits of scikit-learn, enlarged, where smoke
tests have no data.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hansa.infer.private.compiling.compiler import compile_network
from hansa.infer.private.compiling.quantize import Bits
from hansa.infer.private.program import Program


class Square(nn.Module):
    """x * x: the activation of networks that are evaluated under encryption alone."""

    def forward(self, numbers: Tensor) -> Tensor:
        return numbers * numbers


@dataclass(frozen=True)
class Digits:
    """Images float32 [n, 1, 28, 28], ink is 1 and paper 0, and labels."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


def digits(smoke: bool = False) -> Digits:
    """FEMNIST's, 5,000 of training and 997 of test; in smoke tests scikit-learn's, enlarged."""
    if smoke:
        from sklearn.datasets import load_digits

        small = load_digits()
        images = np.kron(small.images / 16, np.ones((1, 3, 3)))
        pixels = torch.from_numpy(np.pad(images, ((0, 0), (2, 2), (2, 2)))).float().unsqueeze(1)
        labels = torch.from_numpy(small.target).long()
        return Digits(pixels[:300], labels[:300], pixels[300:320], labels[300:320])
    from hansa.data import Femnist

    splits = Femnist().read()

    def read(pixels: np.ndarray) -> Tensor:
        return 1 - torch.from_numpy(np.array(pixels)).float().view(-1, 1, 28, 28) / 255

    def numbered(targets: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(targets)).long()

    train, test = splits.train, splits.test
    return Digits(
        read(train.inputs), numbered(train.targets), read(test.inputs), numbered(test.targets)
    )


def mlp(activation: Callable[[], nn.Module] = nn.ReLU, classes: int = 10) -> nn.Sequential:
    """784-128-128-10 with batch normalization."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 128),
        nn.BatchNorm1d(128),
        activation(),
        nn.Linear(128, 128),
        nn.BatchNorm1d(128),
        activation(),
        nn.Linear(128, classes),
    )


def lenet(
    activation: Callable[[], nn.Module] = nn.ReLU,
    pool: Callable[[int], nn.Module] = nn.MaxPool2d,
    classes: int = 10,
) -> nn.Sequential:
    """LeNet-5 (LeCun et al., 1998) with batch normalization: 6 and 16 channels, 120, 84."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.BatchNorm2d(6),
        activation(),
        pool(2),
        nn.Conv2d(6, 16, 5),
        nn.BatchNorm2d(16),
        activation(),
        pool(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.BatchNorm1d(120),
        activation(),
        nn.Linear(120, 84),
        nn.BatchNorm1d(84),
        activation(),
        nn.Linear(84, classes),
    )


def train(network: nn.Module, data: Digits, seed: int, epochs: int = 8, rate: float = 3e-3) -> None:
    """Adam over one cycle of the learning rate; leaves the network in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    steps = epochs * -(-len(data.train) // 64)
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=1e-3)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    network.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(data.train), generator=generator).split(64):
            loss = nn.functional.cross_entropy(
                network(data.train[chosen]), data.train_labels[chosen]
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            cycle.step()
    network.eval()


def trained(make: Callable[[], nn.Sequential], data: Digits, seed: int, epochs: int = 8):
    """(network, its accuracy on the test images, CPU seconds of training), of one seed."""
    torch.manual_seed(seed)
    network = make()
    began = time.process_time()
    train(network, data, seed, epochs)
    spent = time.process_time() - began
    with torch.no_grad():
        scores = network(data.test)
    return network, float((scores.argmax(1) == data.test_labels).float().mean()), spent


def compiled(network: nn.Module, rows: Tensor, weights: int = 8, activations: int = 7) -> Program:
    """A network in integers of these widths, its scales chosen on rows."""
    return compile_network(network, rows.numpy(), Bits(weights, activations)).program
