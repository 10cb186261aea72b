"""Clients that hansa trains, each alone on its part of a data set, before anybody asks them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.base.streams import Streams
from hansa.data import Dataset, DataSource, Digits
from hansa.data.dealing.holdback import hold_back_each
from hansa.engine import TrainSettings
from hansa.engine.training.optimizers import SGD
from hansa.engine.training.schedules import Cosine, Schedule
from hansa.experiment.clients import Answers, Clients
from hansa.infer.robust.client_models import ClientModels
from hansa.models import MLP, Model, initial_model

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["AloneSettings", "TrainedClients", "shares_of"]


class AloneSettings(TrainSettings):
    """How a client trains, one round an epoch."""

    epochs: int = Field(60, ge=1, description="passes over its own examples")
    local_epochs: int | None = Field(1, ge=1, description="passes a round; leave it at 1")
    drop_last: bool = Field(False, description="leave out the last, smaller batch of a pass")
    schedule: Schedule = Field(Cosine(), description="the learning rate's course over epochs")


@register("trained")
class TrainedClients(Clients):
    """Models that clients train alone; the server's examples are held back from all of them."""

    members: int = Field(17, ge=1, description="how many clients train a model each")
    data: DataSource = Field(Digits(), description="data set and its split over the clients")
    models: tuple[Model, ...] = Field(
        (MLP(),), min_length=1, description="client i takes the (i mod k)th of k"
    )
    local: AloneSettings = Field(
        AloneSettings(optimizer=SGD(lr=0.05)), description="how each trains"
    )
    server: float = Field(
        0.1, gt=0, lt=1, description="share of each client's examples that the server has instead"
    )
    device: str = Field("cpu", description="torch device that trains them")

    def count(self) -> int | None:
        """As the settings say."""
        return self.members

    def server_set(self, seed: int) -> tuple[Tensor, int, tuple[str, ...]] | None:
        """As the data are dealt."""
        dataset, _, held = self._dealt(Streams(seed))
        index = torch.from_numpy(np.concatenate(held))
        return dataset.train.targets[index], dataset.spec.classes, dataset.class_names

    def answers(self, seed: int, path: Path, say: Callable[[str], None]) -> Answers:
        """Train them, and ask them about the server's and all test examples."""
        streams = Streams(seed)
        dataset, parts, held = self._dealt(streams)
        say(f"{self.members} clients train alone")
        models = self._trained(dataset, parts, path, seed)
        models.save(path)
        index = np.sort(np.concatenate(held)) if held else np.empty(0, np.int64)
        rows = models.logits(dataset, dataset.train, index) if len(index) else None
        server_labels = dataset.train.targets[torch.from_numpy(index)]
        return Answers(
            shares_of(models.logits(dataset, dataset.test)),
            dataset.test.targets,
            None if rows is None else shares_of(rows),
            None if rows is None else server_labels,
            dataset.class_names,
            dataset.notes,
        )

    def _dealt(self, streams: Streams) -> tuple[Dataset, list[np.ndarray], list[np.ndarray]]:
        """(data, what each client trains on, what the server has of each)."""
        try:
            dataset = self.data.load(streams)
            parts = self.data.divide(dataset, self.members, streams)
        except ConfigError as error:
            if error.field == "nodes":
                fix = error.fix.replace("nodes", "members")
                raise ConfigError("clients.members", error.value, error.problem, fix) from None
            raise error.under("clients.data") from None
        if dataset.spec.task == "regression":
            problem = "has no classes, and rules answer with one"
            raise ConfigError("clients.data", self.data.name, problem, "data with classes")
        purpose = "server set"
        kept, held = hold_back_each(parts, streams, self.server, at_least=2, purpose=purpose)
        if empty := [k for k, part in enumerate(kept) if not len(part)]:
            problem = f"leaves {len(empty)} clients without data, client {empty[0]} first"
            fix = "fewer members, or a partition with a minimum size"
            raise ConfigError("clients.data.partition", None, problem, fix)
        return dataset, kept, held

    def _trained(
        self, dataset: Dataset, parts: Sequence[np.ndarray], path: Path, seed: int
    ) -> ClientModels:
        from hansa.experiment.played import Alone, job_of, play  # all that runs: not for settings

        rows: list[Tensor | None] = [None] * self.members
        starts = [0] * self.members
        forms = [self.models[k % len(self.models)] for k in range(self.members)]
        for group, form in enumerate(self.models):
            who = [k for k, own in enumerate(forms) if own is form]
            if not who:
                continue
            streams = Streams(Streams(seed).integer("clients", group))
            try:
                module = initial_model(form, dataset.spec, streams)
            except ConfigError as error:
                raise error.under("clients.models") from None
            job = job_of(
                dataset=dataset.to(torch.device(self.device)),
                parts=[parts[k] for k in who],
                module=module,
                algorithm=Alone(model=form),
                train=self.local,
                rounds=self.local.epochs,
                seed=streams.seed,
                every=self.local.epochs,
                device=self.device,
                form=form,
            )
            played = play(path / f"group_{group}", job, verb="infer")
            for k, row in zip(who, played.rows.cpu(), strict=True):
                rows[k], starts[k] = row, streams.seed
        given = [row for row in rows if row is not None]
        return ClientModels.of(dataset, forms, given, starts, self.data)


def shares_of(logits: Tensor) -> Tensor:
    """Logits [n, m, C] as probabilities [m, n, K]; of a single score, both classes' chances."""
    if logits.shape[-1] == 1:
        logits = torch.cat([torch.zeros_like(logits), logits], -1)
    return torch.softmax(logits.float(), -1).transpose(0, 1).contiguous()
