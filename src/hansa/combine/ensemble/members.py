"""Phase 1: every client trains a model of its own, in any form, and uploads it once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.lazy import Lazy, torch
from hansa.base.streams import Streams
from hansa.combine.ensemble.attacked import forged_uploads
from hansa.combine.ensemble.ensemble_settings import EnsembleSettings, Predictor
from hansa.combine.ensemble.predictor_file import pack
from hansa.combine.ensemble.predictors import Constant, Fitted, fit_predictor
from hansa.data import Dataset
from hansa.ensemble import Alignment, Calibrated, Int8, ScoreKind, state_bytes
from hansa.experiment.played import HERE, Alone, Place, job_of, play
from hansa.models import Model, ParameterLayout, initial_model, shared_copy

if TYPE_CHECKING:
    from torch import Tensor, nn

networks = Lazy("hansa.ensemble.networks")  # they need torch

_CALIBRATION = 256  # training examples that say how large a layer's outputs are
_LABEL_BYTES = 8  # of a client that has seen one class only


@dataclass(frozen=True)
class Preparing:
    """From model inputs of this run to those of a model that was trained elsewhere.

    Attributes:
        factor, offset: one number, or one a channel or feature: ``x * factor + offset``.
        order: which features it takes, in which order; none: all as they come.
    """

    factor: Tensor | None = None
    offset: Tensor | None = None
    order: tuple[int, ...] | None = None

    def picking(self, order: Sequence[int]) -> Preparing:
        """The same, and then some features."""
        return replace(self, order=tuple(order))

    def __call__(self, x: Tensor) -> Tensor:
        """[m, ...] -> [m, ...]."""
        if self.factor is not None and self.offset is not None:
            shape = (-1, *[1] * (x.ndim - 2))
            x = x * self.factor.reshape(shape) + self.offset.reshape(shape)
        return x if self.order is None else x[:, list(self.order)]


@dataclass(frozen=True)
class Member:
    """One client's model.

    Attributes:
        client: its number.
        form: what it was built from.
        module: it, with the numbers that inference uses; a predictor's answers log-probabilities.
        upload: bytes of the model as trained; 0 where they are not known.
        packed: what travels to all clients where it is quantized.
        ranges: of the layers' outputs, where those are quantized too.
        stored: a fitted predictor's file, where it has one.
        preparing: of a model that was trained elsewhere, how its inputs come of this run's.
        kind: what its scores are, where that is known.
        alignment: what makes its scores comparable with those of members of another kind.
    """

    client: int
    form: Model | Predictor
    module: nn.Module
    upload: int
    packed: Int8 | None = None
    ranges: dict[str, tuple[float, float]] | None = None
    stored: bytes | None = None
    preparing: Preparing | None = None
    kind: ScoreKind | None = None
    alignment: Alignment | None = None

    @cached_property
    def asked(self) -> nn.Module:
        """The module on this run's model inputs."""
        return self.module if self.preparing is None else self._prepared(self.preparing)

    @cached_property
    def scorer(self) -> nn.Module:
        """The module whose scores are comparable with the other members'."""
        if self.alignment is None:
            return self.asked
        module: nn.Module = networks.Aligned(self.asked, self.alignment)
        return module

    def _prepared(self, preparing: Preparing) -> nn.Module:
        module: nn.Module = networks.PreparedInput(self.module, preparing)
        return module

    @property
    def download(self) -> int:
        """Bytes of the model as it is sent to all."""
        return self.upload if self.packed is None else self.packed.nbytes


def forms(settings: EnsembleSettings) -> list[Model | Predictor]:
    """The form of each client's model, left-out clients too; none where all are brought."""
    kinds: list[Model | Predictor] = [*settings.models, *settings.predictors]
    return [kinds[i % len(kinds)] for i in range(settings.clients)] if kinds else []


def train_members(
    settings: EnsembleSettings,
    dataset: Dataset,
    clients: Sequence[int],
    parts: Sequence[np.ndarray],
    path: Path,
    place: Place = HERE,
    done: Mapping[int, Member] | None = None,
    keep: Callable[[list[Member]], None] = lambda members: None,
    brought: Mapping[int, Member] | None = None,
) -> list[Member]:
    """A model of every client, trained on its part and quantized as asked.

    Args:
        place: where clients are trained.
        done: members by client that need not be trained again.
        keep: is given members as soon as they are trained.
        brought: members by client that were trained elsewhere.

    Raises:
        ConfigError: a model does not fit the data.
        RunError: training failed.
    """
    chosen = forms(settings)
    brought = brought or {}
    trained: dict[int, Member] = {**(done or {}), **brought}
    for group, form in enumerate([*settings.models, *settings.predictors]):
        who = [
            k
            for k, client in enumerate(clients)
            if chosen[client] is form and client not in brought
        ]
        if all(clients[k] in trained for k in who):
            continue
        some = [parts[k] for k in who]
        ids = [clients[k] for k in who]
        if isinstance(form, Predictor):
            for client, part in zip(ids, some, strict=True):
                if client not in trained:
                    trained[client] = _fitted(form, dataset, client, part, settings.seed)
                    keep([trained[client]])
            continue
        assert isinstance(form, Model)
        # Together, as they were begun: what a client's model becomes may not depend on a restart.
        into = path / f"group_{group}"
        modules = _trained(settings, dataset, form, ids, some, into, group, place)
        for client, part, module in zip(ids, some, modules, strict=True):
            trained[client] = _packed(settings, dataset, client, form, module, part)
        keep([trained[client] for client in ids])
    return [trained[client] for client in clients]


def _trained(
    settings: EnsembleSettings,
    dataset: Dataset,
    form: Model,
    ids: list[int],
    parts: list[np.ndarray],
    path: Path,
    group: int,
    place: Place,
) -> list[nn.Module]:
    streams = Streams(Streams(settings.seed).integer("phase 1", group))
    module = initial_model(form, dataset.spec, streams)
    job = job_of(
        dataset=dataset.to(torch.device(settings.device)),
        parts=parts,
        module=module,
        algorithm=Alone(model=form, same_init=settings.same_init),
        train=settings.local,
        rounds=settings.local.epochs,
        seed=streams.seed,
        every=settings.local.epochs,
        device=settings.device,
        form=form,
        plugins=place.plugins,
    )
    played = play(path, job, place=place)
    layout = ParameterLayout.of(module)
    modules = []
    for row in forged_uploads(settings, ids, played.rows, streams):
        own = shared_copy(module)
        layout.load_(own, row)
        modules.append(own.eval())
    return modules


def _fitted(form: Predictor, dataset: Dataset, client: int, part: np.ndarray, seed: int) -> Member:
    """A member that is fitted, with its file where it has one."""
    module = fit_predictor(form, dataset, part, Streams(seed).integer("predictor", client))
    if isinstance(module, Constant):
        return Member(client, form, module, _LABEL_BYTES)
    assert isinstance(module, Fitted)
    stored = pack(module.predictor)
    return Member(client, form, module, len(stored or b""), stored=stored)


def _packed(
    settings: EnsembleSettings,
    dataset: Dataset,
    client: int,
    form: Model,
    module: nn.Module,
    part: np.ndarray,
) -> Member:
    """A member with the numbers that travel: they are what inference uses."""
    member = packed(settings.quantize, client, form, module)
    if settings.quantize == "static":
        rng = Streams(settings.seed).numpy("calibration", client)
        some = rng.permutation(part)[:_CALIBRATION]  # the client's own training examples
        inputs, _ = dataset.gather(dataset.train, torch.from_numpy(np.sort(some)))
        calibrated = Calibrated(member.module)
        ranges = calibrated.ranges(member.module, inputs)
        calibrated.apply(ranges)
        member = replace(member, ranges=ranges)
    return replace(member, module=member.module.eval())


def packed(
    quantize: str,
    client: int,
    form: Model,
    module: nn.Module,
    preparing: Preparing | None = None,
    kind: ScoreKind | None = None,
) -> Member:
    """A member with its weights in 8 bits, unless they travel as trained."""
    upload, module, small = state_bytes(module), module.cpu(), None
    if quantize != "none":
        small = Int8.of(module.state_dict())
        module.load_state_dict(small.state())
    return Member(client, form, module, upload, small, preparing=preparing, kind=kind)
