"""The network of a private run: trained here, or what a run of ``hansa learn`` came to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch, without_gradients
from hansa.base.streams import Streams
from hansa.data import Dataset, Split
from hansa.experiment.played import Alone, job_of, play
from hansa.experiment.trained import open_trained, settings_of
from hansa.infer.private.private_file import PrivateFile
from hansa.models import ParameterLayout, initial_model
from hansa.report import RunFolder

if TYPE_CHECKING:
    from torch import nn

_CALIBRATING = 512
"""Training examples that say how large activations are."""


@dataclass(frozen=True)
class DemoNetwork:
    """A network with its data.

    Attributes:
        module: in float, to evaluate.
    """

    module: nn.Module
    dataset: Dataset

    def rows(self, split: Split, count: int) -> tuple[np.ndarray, np.ndarray]:
        """(float32 [n, *shape], int64 [n]): the first examples as the network reads them."""
        index = torch.arange(min(count, len(split)))
        inputs, targets = self.dataset.gather(split, index)
        return inputs.contiguous().numpy(), targets.numpy()

    @property
    def calibrating(self) -> np.ndarray:
        """Rows [n, *shape] of training examples."""
        return self.rows(self.dataset.train, _CALIBRATING)[0]

    @without_gradients
    def classes(self, rows: np.ndarray) -> np.ndarray:
        """int64 [n]: what the network says in the clear and in float."""
        return self.module(torch.from_numpy(rows)).argmax(-1).numpy()


def untrained(chosen: PrivateFile) -> DemoNetwork:
    """The network that a file names, before any training; that of a run as it is.

    Raises:
        CheckpointError, ConfigError, DataError: there is none.
    """
    if chosen.run is not None:
        folder = RunFolder.open(chosen.run)
        trained = open_trained(folder, settings_of(folder))
        dataset = trained.job.dataset
        _classifies(dataset, "run", str(chosen.run))
        return DemoNetwork(trained.module(chosen.node, chosen.average), dataset)
    streams = Streams(chosen.seed)
    try:
        dataset = chosen.data.load(streams)
    except ConfigError as error:
        raise error.under("data") from None
    _classifies(dataset, "data", type(chosen.data).name)
    try:
        module = initial_model(chosen.model, dataset.spec, streams)
    except ConfigError as error:
        raise error.under("model") from None
    return DemoNetwork(module.eval(), dataset)


def trained_here(
    network: DemoNetwork, chosen: PrivateFile, place: Path, say: Callable[[str], None]
) -> DemoNetwork:
    """A network after the training that its file tells of; that of a run as it is.

    Args:
        place: a folder for the training, there or not; an interrupted one goes on.
        say: is told what begins.

    Raises:
        RunError: training failed.
    """
    if chosen.run is not None:
        return network
    module, dataset = network.module, network.dataset
    say("training the network")
    job = job_of(
        dataset=dataset,
        parts=[np.arange(len(dataset.train))],
        module=module,
        algorithm=Alone(model=chosen.model),
        train=chosen.train,
        rounds=chosen.train.epochs,
        seed=chosen.seed,
        every=chosen.train.epochs,
        form=chosen.model,
    )
    played = play(place, job, verb="private")
    ParameterLayout.of(module).load_(module, played.rows[0].cpu())
    return DemoNetwork(module.eval(), dataset)


def _classifies(dataset: Dataset, field: str, value: str) -> None:
    spec = dataset.spec
    if spec.task != "classification" or spec.kind not in ("image", "table"):
        problem = "is not about classes of images or tables"
        raise ConfigError(field, value, problem, "data of images or tables with classes")
