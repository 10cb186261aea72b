"""What a member may be made of: a run of ``hansa learn``, what ``hansa export`` wrote of one, or a
client of a run of ``hansa infer robust``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.base.errors import ConfigError
from hansa.base.spec import DataSpec
from hansa.data.signature import Signature
from hansa.experiment.export import open_export
from hansa.experiment.trained import open_trained, settings_of
from hansa.infer.robust.client_models import ClientModels
from hansa.infer.serving.member_model import MemberModel
from hansa.report import RunFolder

if TYPE_CHECKING:
    from torch import Tensor, nn


def from_run(path: Path, name: str, node: int | None, average: bool = False) -> MemberModel:
    """The model that a run of ``hansa learn`` came to.

    Args:
        node: whose, where there are several.
        average: the average of all.

    Raises:
        CheckpointError: the folder or its checkpoint is damaged.
        ConfigError: it is no such run, or it is not clear which of its models.
    """
    folder = RunFolder.open(path)
    run = open_trained(folder, settings_of(folder, "source", "a run, or an ensemble"), "source")
    data = run.job.dataset
    _has_classes(data.spec, path)
    network = run.module(node, average)
    signature = Signature.of(data, run.settings.data)
    return _member(name, data.spec, network, data.scale, data.shift, data.class_names, signature)


def from_robust_run(path: Path, name: str, client: int | None, trust: bool) -> MemberModel:
    """One of the clients that a run of ``hansa infer robust`` trained.

    Raises:
        CheckpointError: the models are damaged.
        ConfigError: the run has none, it has no such client, or code would have to be trusted.
    """
    folders = sorted((path / "clients").glob("*/"), key=lambda folder: folder.name)
    models = next((m for m in (ClientModels.load(f, trust) for f in folders) if m), None)
    if models is None:
        fix = "a run whose clients were trained"
        raise ConfigError("source", str(path), "has no models of its own", fix)
    if client is None or not 0 <= client < len(models.rows):
        problem = f"the run has {len(models.rows)} clients"
        raise ConfigError("client", client, problem, f"a number from 0 to {len(models.rows) - 1}")
    network = models.modules()[client]
    return _member(
        name, models.spec, network, models.scale, models.shift, models.class_names,
        models.signature,
    )  # fmt: skip


def from_export(path: Path, name: str) -> MemberModel:
    """The model in a file of ``hansa export``, with its facts beside it.

    Raises:
        CheckpointError: a file is missing or damaged.
        ConfigError: the model is built by code of others, or its inputs are not told.
    """
    exported = open_export(path)
    spec = exported.spec
    _has_classes(spec, path)
    return _member(
        name, spec, exported.network, exported.scale, exported.shift, exported.class_names,
        exported.signature,
    )  # fmt: skip


def prepared(stored: Tensor, spec: DataSpec, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    """Stored values [b, ...], images channels last, as model inputs [b, *spec.shape]."""
    if spec.kind in ("tokens", "pairs"):
        return stored.long()
    x = stored.float()
    if scale is not None and shift is not None:
        x = x * scale.cpu() + shift.cpu()
    return x.permute(0, 3, 1, 2) if spec.kind == "image" else x


def _member(
    name: str,
    spec: DataSpec,
    network: nn.Module,
    scale: Any,
    shift: Any,
    class_names: tuple[str, ...],
    signature: Signature | None = None,
) -> MemberModel:
    network.eval()
    scorer: Callable[[Tensor], Tensor] = lambda x: network(prepared(x, spec, scale, shift))  # noqa: E731
    return MemberModel(name, spec, scorer, class_names, signature=signature)


def _has_classes(spec: DataSpec, path: Path) -> None:
    if not spec.classes:
        raise ConfigError("source", str(path), "has no classes: it is a regression", "classes")
