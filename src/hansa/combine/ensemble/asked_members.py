"""The members of an ensemble as clients that answer, such as to ``hansa infer robust``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import Lazy, torch
from hansa.base.streams import Streams
from hansa.combine.ensemble.ensemble_file import EnsembleFile
from hansa.combine.ensemble.proxies import divide
from hansa.ensemble import Examples, logits_of
from hansa.experiment.clients import Answers, Clients
from hansa.experiment.inputs import check_inputs
from hansa.report import RunFolder

if TYPE_CHECKING:
    from torch import Tensor

    from hansa.combine.ensemble.store import Loaded

store = Lazy("hansa.combine.ensemble.store")  # it needs torch
CARD = "ensemble.json"


@register("ensemble")
class EnsembleClients(Clients):
    """The members of a run of ``hansa combine ensemble``; its proxies are the server's examples."""

    path: Path = Field(..., description="the run's folder")
    trust: bool = Field(
        False, description="run code that the ensemble names by import path, to build members"
    )

    def check(self) -> None:
        """It is such a folder, and its members have not trained on the proxies."""
        self._opened()

    def _opened(self) -> tuple[RunFolder, EnsembleFile]:
        fix = "the folder of a finished run of hansa combine ensemble"
        if not (self.path / "ensemble" / CARD).is_file():
            raise ConfigError("clients.path", str(self.path), "holds no ensemble", fix)
        folder = RunFolder.open(self.path)
        if folder.config.get("verb") != "combine":
            raise ConfigError("clients.path", str(self.path), "is another verb's run", fix)
        chosen = EnsembleFile.parse(folder.config)
        if chosen.proxies == "reused":
            problem = "trained its members on the proxies, so they say too little of new examples"
            raise ConfigError("clients.path", str(self.path), problem, "proxies: held_back there")
        return folder, chosen

    def answers(self, seed: int, path: Path, say: Callable[[str], None]) -> Answers:
        """What members say of the proxies and of the test set; ``seed`` makes no difference."""
        folder, chosen = self._opened()
        streams = Streams(chosen.seed)
        dataset = chosen.data.load(streams)
        division = divide(chosen, dataset, streams)
        check_inputs(folder, chosen, dataset, [*division.train, *division.proxy])
        ensemble = store.load(self.path / "ensemble", self.trust)
        index = torch.from_numpy(np.sort(np.concatenate(division.proxy)))
        say(f"{len(ensemble.members)} members are asked")
        return Answers(
            _shares(ensemble, dataset.test.inputs),
            dataset.test.targets,
            _shares(ensemble, dataset.train.inputs[index]),
            dataset.train.targets[index],
            dataset.class_names,
            dataset.notes,
        )


def _shares(ensemble: Loaded, stored: Tensor) -> Tensor:
    """Each member's probabilities of stored values [m, ...]: [m, M, K]."""
    inputs = Examples(len(stored), lambda some: ensemble.prepared(stored[some]))
    logits = logits_of(ensemble.members, inputs)
    if ensemble.spec.outputs == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], -1)
    return torch.softmax(logits.float(), -1).transpose(0, 1).contiguous()
