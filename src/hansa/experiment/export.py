"""A trained model as plain files, for those who do not have hansa."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.base.bundle import write_tensors
from hansa.base.errors import ConfigError
from hansa.base.files import write_json
from hansa.experiment.trained import TrainedRun, open_trained, settings_of
from hansa.report import RunFolder

if TYPE_CHECKING:
    from torch import nn

ENDING = ".safetensors"


def open_run(path: str | Path) -> TrainedRun:
    """A run of ``hansa learn`` that came to its end, with its models and its data.

    Raises:
        CheckpointError: the folder or its checkpoint is damaged.
        ConfigError: it is no such run, has not finished, or its data are others now.
    """
    folder = RunFolder.open(path)
    return open_trained(folder, settings_of(folder))


def export(
    run: TrainedRun, out: str | Path, node: int | None = None, average: bool = False
) -> Path:
    """Write a run's model: its numbers by name to ``out``, what else there is to know beside it.

    Args:
        run: the run, from :func:`open_run`.
        out: a new file ``NAME.safetensors``; the facts go to ``NAME.json``.
        node: whose model, where there are several.
        average: the average of all models.

    Returns:
        The file with the facts.

    Raises:
        ConfigError: there are several models and none is named, or a file is there already.
        DiskError: the disk is full or fails.
    """
    path = Path(out).expanduser()
    if path.suffix != ENDING:
        raise ConfigError(
            "out", str(path), "is no file of tensors", f"a name such as model{ENDING}"
        )
    for file in (path, path.with_suffix(".json")):
        if file.exists():
            raise ConfigError("out", str(path), f"{file} is there already", "another name")
    module = run.module(node, average)
    digest = write_tensors(path, module.state_dict())
    card = path.with_suffix(".json")
    write_json(card, {**facts(run, module, node, average), "sha256": digest})
    return card


def facts(run: TrainedRun, module: nn.Module, node: int | None, average: bool) -> dict[str, Any]:
    """What somebody needs to know who uses the model, in plain data."""
    data, spec = run.job.dataset, run.job.dataset.spec
    card: dict[str, Any] = {
        "run": run.folder.path.resolve().name,
        "round": run.done,
        "node": "average" if average else node,
        "model": run.settings.model.dump(),
        "parameters": sum(p.numel() for p in module.parameters()),
        "task": spec.task,
        "input": {"kind": spec.kind, "shape": list(spec.shape)},
        "outputs": spec.outputs,
        "classes": list(data.class_names),
        "columns": list(data.features),
    }
    if data.scale is not None and data.shift is not None:  # the model gets x * scale + shift
        card |= {"scale": data.scale.tolist(), "shift": data.shift.tolist()}
    return card
