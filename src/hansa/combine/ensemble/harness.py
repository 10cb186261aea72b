"""What baselines work with: the same data, network and members for all of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import torch
from hansa.base.losses import predicted
from hansa.base.streams import Streams
from hansa.combine.ensemble.aggregate import Fit
from hansa.combine.ensemble.ensemble_settings import EnsembleSettings
from hansa.combine.ensemble.figures import Figures
from hansa.combine.ensemble.finished import slug
from hansa.combine.ensemble.members import Member
from hansa.combine.ensemble.proxies import Division, Scores
from hansa.combine.ensemble.scoring import examples
from hansa.combine.ensemble.teachers import Kept, input_form
from hansa.data import Dataset, Split
from hansa.engine import Algorithm, TrainSettings
from hansa.ensemble import Examples, InputForm, Teacher, logits_of, state_bytes
from hansa.experiment.played import HERE, Place, Played, job_of, play
from hansa.metrics import MetricSet
from hansa.models import initial_model

if TYPE_CHECKING:
    from torch import Tensor, nn


class Harness:
    """What baselines work with: a division of a data set, and an ensemble that stands on it.

    Args:
        kept: the ensemble's rule, for the student that it teaches.
        path: below it each run of the engine has a folder.
        place: where the clients of those runs live.

    Attributes:
        whole: all examples of each client.
        module: the first of the ensemble's networks at its initial weights; ``size``, its bytes.
    """

    def __init__(
        self,
        settings: EnsembleSettings,
        dataset: Dataset,
        division: Division,
        members: Sequence[Member],
        scores: Scores,
        kept: Fit,
        path: Path,
        place: Place = HERE,
    ) -> None:
        self.settings, self.dataset, self.division = settings, dataset, division
        self.members, self.scores, self.kept = members, scores, kept
        self.path, self.place = path, place
        pairs = zip(division.train, division.proxy, strict=True)
        self.whole = [np.union1d(train, proxy) for train, proxy in pairs]
        self.streams = Streams(Streams(settings.seed).integer("baselines"))
        self.module = initial_model(settings.models[0], dataset.spec, self.streams)
        self.size = state_bytes(self.module)

    def play(
        self,
        name: str,
        chosen: Algorithm,
        parts: Sequence[np.ndarray],
        rounds: int,
        epochs: int,
        lr: float | None = None,
        start: nn.Module | None = None,
        held: Sequence[np.ndarray] = (),
    ) -> Played:
        """A federated run of the harness's network, in a folder of that name.

        Args:
            lr: of the clients, instead of their optimizer's.
            start: the network, where it is another than :attr:`module`.
            held: examples of each client on which models are validated.
        """
        optimizer, metrics = self.settings.baselines.optimizer, self.settings.metrics
        if lr is not None:
            optimizer = optimizer.model_copy(update={"lr": lr})
        train = TrainSettings(
            local_epochs=epochs,
            batch_size=self.settings.local.batch_size,
            drop_last=False,
            augment=self.settings.local.augment,
            optimizer=optimizer,
            strategy=self.settings.local.strategy,
            precision=self.settings.local.precision,
        )
        job = job_of(
            dataset=self.dataset.to(torch.device(self.settings.device)),
            parts=parts,
            module=copy.deepcopy(start or self.module),
            algorithm=chosen,
            train=train,
            rounds=rounds,
            seed=self.streams.seed,
            every=self.settings.baselines.every,
            device=self.settings.device,
            form=None if held else self.settings.models[0],
            held=held,
            metrics=metrics,
            plugins=self.place.plugins,
        )
        return play(
            self.path / slug(name),
            job,
            config={"baseline": name},
            place=self.place,
            figures=MetricSet(metrics, self.dataset.spec).names if metrics else (),
        )

    def each(self, played: Played) -> float:
        """Counted bytes of one client: every message has a client at one end."""
        return played.bytes_sent / len(self.whole)

    def examples(self, split: Split) -> Examples:
        """A split of the data set as inputs of models."""
        return examples(self.dataset, split)

    def ensemble(self) -> Teacher:
        """The members with the rule that was kept, as a teacher."""
        return Kept([member.scorer for member in self.members], self.kept)

    def input_form(self) -> InputForm:
        """What models take: all that a server without data has to know."""
        return input_form(self.dataset)

    def upload(self) -> float:
        """Bytes of one upload, the mean over members."""
        return sum(member.upload for member in self.members) / len(self.members)

    def accuracy(self, module: nn.Module) -> float:
        """Of a network on the test set."""
        answers = self._answers(module)
        return float((predicted(answers) == self.scores.test_targets).double().mean())

    def figures(self, module: nn.Module) -> dict[str, float | None]:
        """What the ensemble's metrics say of a network on the test set; nothing without any."""
        if not self.settings.metrics:
            return {}
        figures = Figures(self.settings, self.dataset.spec)
        return dict(figures.of(self._answers(module), self.scores.test_targets)["figures"])

    def _answers(self, module: nn.Module) -> Tensor:
        return logits_of([module], self.examples(self.dataset.test))[0]
