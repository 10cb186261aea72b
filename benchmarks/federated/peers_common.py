"""What every contender of ``speed_federated.py`` gets: the work, the networks and the meter.

It needs numpy and torch alone, so that contenders can live in environments without hansa.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

MARK = "HANSA_SPEED_FEDERATED"
"""Environment variable that names a contender; whatever it starts inherits it."""


@dataclass(frozen=True)
class Work:
    """Federated averaging on users with equally many examples.

    Attributes:
        network: cnn or linear.
        folder: where ``inputs.npy`` float32 [N, C, H, W] and ``targets.npy`` int64 [N] are.
        rounds: measured rounds, after those of the warm-up.
        threads: users that may train at a time.
        runtime: where hansa keeps its users.
    """

    network: str
    folder: str
    users: int
    sampled: int
    batch: int
    rate: float
    rounds: int
    warmup: int = 2
    threads: int = 1
    runtime: str = "simulate"

    @property
    def all_rounds(self) -> int:
        """Rounds with those of the warm-up."""
        return self.warmup + self.rounds

    def examples(self) -> tuple[Tensor, Tensor]:
        """Inputs [users, e, C, H, W] and targets [users, e], mapped and shared by processes."""
        arrays = [
            np.load(Path(self.folder) / f"{n}.npy", mmap_mode="c") for n in ("inputs", "targets")
        ]
        inputs, targets = map(torch.from_numpy, arrays)
        each = len(targets) // self.users
        return (
            inputs[: self.users * each].unflatten(0, (self.users, each)),
            targets[: self.users * each].unflatten(0, (self.users, each)),
        )

    def module(self, shape: torch.Size) -> nn.Module:
        """The network for images [C, H, W] in ten classes, in training mode."""
        torch.manual_seed(1)
        channels, height, width = shape
        if self.network == "linear":
            return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, 10))
        left = ((height - 4) // 2) * ((width - 4) // 2)
        return nn.Sequential(
            nn.Conv2d(channels, 32, 3),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(0.25),
            nn.Flatten(),
            nn.Linear(64 * left, 128),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(128, 10),
        )


class Meter:
    """CPU and wall time between the end of the warm-up and the last round.

    Call it after every round.
    """

    def __init__(self, work: Work) -> None:
        self.work = work
        self.done = 0
        self.began = self.ended = (0.0, 0.0)

    def __call__(self) -> None:
        self.done += 1
        if self.done == self.work.warmup:
            self.began = cpu_seconds(), time.perf_counter()
        if self.done == self.work.all_rounds:
            self.ended = cpu_seconds(), time.perf_counter()

    def result(self) -> dict[str, float]:
        """Seconds a round."""
        if self.done < self.work.all_rounds:
            raise RuntimeError(f"only {self.done} of {self.work.all_rounds} rounds took place")
        cpu, wall = (b - a for a, b in zip(self.began, self.ended, strict=True))
        return {"cpu": cpu / self.work.rounds, "wall": wall / self.work.rounds}


def cpu_seconds() -> float:
    """User and system time of this process and of all that it or its children started."""
    times = os.times()
    total = time.process_time() + times.children_user + times.children_system
    mark = os.environ.get(MARK)
    if mark is None or not Path("/proc/self/stat").exists():
        return total
    # By the mark and not by parentage: a process whose parent ended has another one.
    wanted, tick = f"{MARK}={mark}".encode(), os.sysconf("SC_CLK_TCK")
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            if wanted not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended, or it is somebody else's
            continue
        total += sum(map(int, fields[11:15])) / tick  # own and reaped children's, user and system
    return total
