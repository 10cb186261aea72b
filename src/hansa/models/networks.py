"""Networks and parts of networks of their own classes; loaded when one is built."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from hansa.models.model import chain


class CharacterLSTM(nn.Module):
    """int64 [B, T] -> [B, outputs]."""

    def __init__(
        self, vocabulary: int, length: int, outputs: int, embedding: int, hidden: int, layers: int
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.lstm = nn.LSTM(embedding, hidden, layers, batch_first=True)
        self.out = nn.Linear(hidden * length, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the next character."""
        states, _ = self.lstm(self.embedding(x))
        return self.out(functional.relu(states).flatten(1))


class WideBlock(nn.Module):
    """Two 3 x 3 convolutions with batch normalization and a shortcut that is learned if need be."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = chain(
                conv=nn.Conv2d(channels, width, 1, stride, bias=False), norm=nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut: [B, C, H, W] -> [B, width, H', W'].

    Where the number of channels grows, the sides are halved.

    Args:
        norm: makes the normalization of so many channels.
    """

    def __init__(self, channels: int, width: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.grown = width - channels
        self.stride = 2 if self.grown else 1
        self.conv1 = nn.Conv2d(channels, width, 3, self.stride, padding=1, bias=False)
        self.norm1 = norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = norm(width)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        y = functional.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.grown:
            x = x[:, :, :: self.stride, :: self.stride]
            x = functional.pad(x, (0, 0, 0, 0, self.grown // 2, self.grown - self.grown // 2))
        return functional.relu(x + y)
