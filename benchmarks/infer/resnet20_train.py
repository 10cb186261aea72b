"""Train the ResNet-20 that private inference is measured with, on CIFAR-10, on one processor.

The network of He et al. (2016, section 4.2) with batch normalization and 1 x 1 convolutions where
the shape changes. One cycle of the learning rate, mirrored and shifted images, bfloat16 where the
processor has it. What comes out is a file of numbers without code (safetensors); ``compile`` makes
the integers of it.

    python benchmarks/infer/resnet20_train.py --out resnet20.safetensors --epochs 12
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Two 3 x 3 convolutions, and a shortcut."""

    def __init__(self, width: int, next_width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, next_width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(next_width)
        self.conv2 = nn.Conv2d(next_width, next_width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(next_width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or width != next_width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(width, next_width, 1, stride, bias=False), nn.BatchNorm2d(next_width)
            )
        self.relu = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        within = self.relu(self.norm1(self.conv1(images)))
        return self.relu(self.norm2(self.conv2(within)) + self.shortcut(images))


class ResNet20(nn.Module):
    """Images [n, 3, 32, 32] to logits [n, classes]; 272,474 parameters at ten classes."""

    def __init__(self, classes: int = 10, blocks: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        stages, width = [], 16
        for next_width in (16, 32, 64):
            for _ in range(blocks):
                stages.append(Block(width, next_width, 1 if width == next_width else 2))
                width = next_width
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flat = nn.Flatten()
        self.out = nn.Linear(64, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.out(self.flat(self.pool(self.stages(self.relu(self.norm(self.conv(images)))))))


MEAN = torch.tensor([0.4914, 0.4822, 0.4465]).view(1, 3, 1, 1)
DEVIATION = torch.tensor([0.247, 0.243, 0.261]).view(1, 3, 1, 1)


def normalised(pixels: Tensor) -> Tensor:
    """What the network reads, from pixels uint8 [n, 3, 32, 32]."""
    return (pixels.float() / 255 - MEAN) / DEVIATION


def shifted(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Each batch mirrored for half of its images, and each image moved by up to four pixels."""
    n = len(pixels)
    mirror = torch.rand(n, generator=generator) < 0.5
    pixels = torch.where(mirror.view(n, 1, 1, 1), pixels.flip(3), pixels)
    padded = functional.pad(pixels, (4, 4, 4, 4))
    rows = torch.randint(0, 9, (n, 1), generator=generator) + torch.arange(32)
    columns = torch.randint(0, 9, (n, 1), generator=generator) + torch.arange(32)
    at = torch.arange(n).view(n, 1, 1)
    moved = padded.permute(0, 2, 3, 1)[at, rows.unsqueeze(2), columns.unsqueeze(1)]
    return moved.permute(0, 3, 1, 2)


@torch.no_grad()
def accuracy(network: nn.Module, pixels: Tensor, labels: Tensor) -> float:
    network.eval()
    right = 0
    for start in range(0, len(pixels), 500):
        scores = network(normalised(pixels[start : start + 500]))
        right += int((scores.argmax(1) == labels[start : start + 500]).sum())
    return right / len(pixels)


def images() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """CIFAR-10: pixels uint8 and labels, of training and of test."""
    import io
    import os

    import pyarrow.parquet as parquet
    from PIL import Image

    folder = Path(os.environ["HANSA_DATA"]) / "cifar10"
    out: list[Tensor] = []
    for part in ("train", "test"):
        table = parquet.read_table(next(folder.glob(f"{part}-*.parquet"))).to_pydict()
        coded = [one["bytes"] for one in table["img"]]
        pixels = np.stack([np.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for one in coded])
        out += [torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()]
        out += [torch.tensor(table["label"])]
    return out[0], out[1], out[2], out[3]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=0.4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    generator = torch.Generator().manual_seed(given.seed)
    pixels, labels, test_pixels, test_labels = images()
    network = ResNet20().to(memory_format=torch.channels_last)
    steps = given.epochs * (len(pixels) // given.batch)
    optimizer = torch.optim.SGD(
        network.parameters(), given.rate, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, given.rate, total_steps=steps, pct_start=0.25, div_factor=10
    )
    for epoch in range(given.epochs):
        began, total = time.process_time(), 0.0
        network.train()
        order = torch.randperm(len(pixels), generator=generator)
        for start in range(0, len(pixels) - given.batch + 1, given.batch):
            chosen = order[start : start + given.batch]
            batch = normalised(shifted(pixels[chosen], generator))
            with torch.autocast("cpu", dtype=torch.bfloat16):
                scores = network(batch.contiguous(memory_format=torch.channels_last))
                loss = functional.cross_entropy(scores.float(), labels[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            cycle.step()
            total += float(loss)
        share = accuracy(network, test_pixels[:2000], test_labels[:2000])
        spent = time.process_time() - began
        print(
            f"epoch {epoch + 1}: loss {total / (len(pixels) // given.batch):.3f}, "
            f"first 2,000 test images {share:.4f}, {spent:.0f} CPU-s",
            flush=True,
        )
        save_file({k: v.contiguous() for k, v in network.state_dict().items()}, given.out)
    print(f"test accuracy {accuracy(network, test_pixels, test_labels):.4f}")


if __name__ == "__main__":
    main()
