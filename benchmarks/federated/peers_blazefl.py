"""The same in BlazeFL: its pool of threads, one torch thread each, no evaluation.

As fast as its interfaces allow: images are resident tensors, and a thread keeps its model.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from blazefl.core import ThreadPoolClientTrainer, deserialize_model, serialize_model
from peers_common import Meter, Work
from torch import Tensor, nn


@dataclass
class Update:
    """What a user sends."""

    cid: int
    model: Tensor


class Users(ThreadPoolClientTrainer[Update, Tensor]):
    """One epoch of every user that is asked."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.inputs, self.targets = work.examples()
        self.num_parallels, self.device, self.device_count = work.threads, "cpu", 0
        self.cache: list[Update] = []
        self.stop_event = threading.Event()
        self.local = threading.local()

    def worker(self, cid: int, device: str, payload: Tensor, stop_event: threading.Event) -> Update:
        if not hasattr(self.local, "module"):
            self.local.module = self.work.module(self.inputs.shape[2:])
        module: nn.Module = self.local.module
        deserialize_model(module, payload)
        optimizer = torch.optim.SGD(module.parameters(), lr=self.work.rate)
        x, y = self.inputs[cid], self.targets[cid]
        for index in torch.randperm(len(y)).split(self.work.batch):
            optimizer.zero_grad()
            F.cross_entropy(module(x[index]), y[index]).backward()
            optimizer.step()
        return Update(cid, serialize_model(module))

    def uplink_package(self) -> list[Update]:
        found, self.cache = self.cache, []
        return found


def measure(work: Work) -> dict[str, float]:
    """Seconds a round."""
    users = Users(work)
    module = work.module(users.inputs.shape[2:])
    meter = Meter(work)
    for _ in range(work.all_rounds):
        chosen = sorted(torch.randperm(work.users)[: work.sampled].tolist())
        users.local_process(serialize_model(module), chosen)
        total = torch.zeros_like(serialize_model(module))
        for update in users.uplink_package():
            total.add_(update.model, alpha=1 / work.sampled)
        deserialize_model(module, total)
        meter()
    return meter.result()
