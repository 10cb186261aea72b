"""Where a network comes from: an import path, or what hansa has saved."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.bundle import bundle_file
from hansa.base.errors import ConfigError, DataError, HansaError
from hansa.base.lazy import nn, safetensors, safetensors_torch, torch
from hansa.base.modules import load_object
from hansa.base.own_code import place_of, said
from hansa.base.spec import DataSpec
from hansa.experiment.export import open_export
from hansa.experiment.trained import open_trained, settings_of
from hansa.infer.robust.client_models import ClientModels
from hansa.report import RunFolder

if TYPE_CHECKING:
    from torch import Tensor

    from hansa.data import Dataset, Split

MOST_TESTED = 2000
"""Test examples that a program's accuracy is told for."""
_KINDS = "a run of hansa learn, a file of hansa export, or package.module:Class"


@dataclass(frozen=True, eq=False)
class Source:
    """A network with what is known of its inputs.

    Attributes:
        name: of the source, for people.
        rows: float32 [n, *shape] of examples as the network reads them, or None.
        tests: (rows, classes int64 [n]) that its accuracy is measured on, or None.
        shape: of one example, or None.
        prepare: a stored example times the first plus the second is what the network reads, a
            number each or one a channel; None where that is not known.
    """

    name: str
    network: nn.Module
    rows: np.ndarray | None = None
    tests: tuple[np.ndarray, np.ndarray] | None = None
    shape: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ()
    prepare: tuple[list[float], list[float]] | None = None


def open_source(
    source: str,
    *,
    node: int | None = None,
    average: bool = False,
    arguments: Mapping[str, Any] | None = None,
    state: Mapping[str, Tensor] | None = None,
    trust: bool = False,
) -> Source:
    """The network that a text names.

    Args:
        source: a run's folder, a file of ``hansa export``, or an import path of a module or of
            what makes one.
        node: whose model, where there are several.
        average: the average of all nodes' models.
        arguments: of what makes the network, by name.
        state: the network's tensors by name, in place of its own.
        trust: also build networks of a run that are named by import path, which runs their code.

    Raises:
        CheckpointError: what was saved is damaged.
        ConfigError: it names no network, or it is not clear which one.
    """
    path = Path(source).expanduser()
    saved = path.is_dir() or path.is_file()
    if saved and arguments:
        problem = "are of a class at an import path, and this is what hansa has saved"
        raise ConfigError("arguments", dict(arguments), problem, "leave them out")
    if not path.is_dir() and (node is not None or average):
        field, value = ("node", node) if node is not None else ("average", average)
        raise ConfigError(
            field, value, "chooses a model of a run, and this is none", "leave it out"
        )
    if path.is_dir():
        opened = _of_run(path, node, average, trust)
    elif path.suffix == ".safetensors" and path.with_suffix(".json").exists():
        opened = _of_export(path)
    elif path.is_file():
        fix = "hansa export writes a model and its facts; or an import path and its tensors (state)"
        raise ConfigError("source", source, "does not say what network it is of", fix)
    elif ":" in source:
        opened = _of_code(source, dict(arguments or {}))
    else:
        raise ConfigError("source", source, "is no file, no folder and no import path", _KINDS)
    if state is not None:
        _fill(opened.network, state)
    opened.network.eval()
    return opened


def with_rows(source: Source, file: Path | None) -> Source:
    """The source with examples of a file: .npy, or .npz with ``rows`` and perhaps ``labels``.

    Raises:
        ConfigError, DataError: they are not what the network reads.
    """
    if file is None:
        return source
    rows, labels = _read_rows(file)
    if source.shape is not None and rows.shape[1:] != source.shape:
        problem = f"holds examples {list(rows.shape[1:])}, the network reads {list(source.shape)}"
        raise ConfigError("rows", str(file), problem, "rows as the network reads them")
    tests = source.tests if labels is None else (rows[:MOST_TESTED], labels[:MOST_TESTED])
    return replace(source, rows=rows, tests=tests, shape=rows.shape[1:])


def read_state(file: Path) -> dict[str, Tensor]:
    """Tensors by name of a safetensors file.

    Raises:
        ConfigError: it is none.
    """
    try:
        return safetensors_torch.load_file(str(file))
    except (OSError, safetensors.SafetensorError) as error:
        raise ConfigError(
            "state", str(file), f"cannot be read ({error})", "a file NAME.safetensors"
        ) from error


def made_up(shape: tuple[int, ...], count: int = 128) -> np.ndarray:
    """Rows of normal numbers, where no example is at hand."""
    return np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float32)


def input_shape(network: nn.Module) -> tuple[int, ...] | None:
    """The shape of an example, where the first layer is linear; None where it cannot be told."""
    first = next((m for m in network.modules() if not list(m.children())), None)
    if isinstance(first, nn.Linear):
        return (first.in_features,)
    return None


def _of_run(path: Path, node: int | None, average: bool, trust: bool) -> Source:
    folder = RunFolder.open(path)
    if (folder.summary or {}).get("verb") == "robust":
        return _of_client(path, node, trust)
    run = open_trained(folder, settings_of(folder, "source", _KINDS), "source")
    data = run.job.dataset
    _readable(data.spec, path)
    network = run.module(node, average)
    name = f"{run.settings.model.dump()['name']} of {folder.path.resolve().name}"
    return _of_data(name, network, data)


def _of_client(path: Path, node: int | None, trust: bool) -> Source:
    """A client of a run of ``hansa infer robust``, which keeps no examples."""
    for folder in sorted((path / "clients").glob("*/")):
        models = (
            ClientModels.load(folder, trust) if bundle_file(folder / "models").exists() else None
        )
        if models is None:
            continue
        if node is None or not 0 <= node < len(models.rows):
            problem = f"the run has a model of each of {len(models.rows)} clients"
            raise ConfigError("node", node, problem, f"a number from 0 to {len(models.rows) - 1}")
        _readable(models.spec, path)
        return Source(
            f"client {node} of {path.resolve().name}", models.modules()[node],
            shape=tuple(models.spec.shape), classes=models.class_names,
            prepare=prepare_of(models.scale, models.shift),
        )  # fmt: skip
    raise ConfigError("source", str(path), "has no models of its own", "a run that trained clients")


def _of_export(path: Path) -> Source:
    exported = open_export(path)
    _readable(exported.spec, path)
    return Source(
        path.stem, exported.network, shape=tuple(exported.spec.shape),
        classes=exported.class_names, prepare=prepare_of(exported.scale, exported.shift),
    )  # fmt: skip


def _of_data(name: str, network: nn.Module, data: Dataset) -> Source:
    rows, _ = _examples(data, data.train, 512)
    tests = None
    if data.spec.task == "classification" and len(data.test):
        tests = _examples(data, data.test, MOST_TESTED)
    shape = tuple(data.spec.shape)
    prepare = prepare_of(data.scale, data.shift)
    return Source(name, network, rows, tests, shape, data.class_names, prepare)


def _examples(data: Dataset, split: Split, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Examples spread over a split, as the network reads them."""
    count = len(split)
    at = torch.linspace(0, count - 1, min(count, most)).long()
    x, y = data.gather(split, at)
    return np.ascontiguousarray(x.cpu().numpy(), np.float32), y.cpu().numpy()


def prepare_of(
    scale: Tensor | None, shift: Tensor | None
) -> tuple[list[float], list[float]] | None:
    """How stored examples become what a network reads, as a source holds it."""
    if scale is None or shift is None:
        return None
    return [float(x) for x in scale.reshape(-1)], [float(x) for x in shift.reshape(-1)]


def prepare_fact(prepare: tuple[list[float], list[float]] | None) -> dict[str, object]:
    """The same as a fact of a program."""
    return {} if prepare is None else {"prepare": {"scale": prepare[0], "shift": prepare[1]}}


def _readable(spec: DataSpec, path: Path) -> None:
    if spec.kind in ("tokens", "pairs"):
        problem = f"reads {spec.kind}, which are looked up and not multiplied"
        raise ConfigError("source", str(path), problem, "a network of images or tables")


def _of_code(source: str, arguments: dict[str, Any]) -> Source:
    try:
        maker = load_object(source)
    except ConfigError as error:
        raise ConfigError("source", source, error.problem, error.fix) from None
    if isinstance(maker, nn.Module):
        return Source(source, maker, shape=input_shape(maker))
    if not callable(maker):
        made = type(maker).__name__
        raise ConfigError("source", source, f"is a {made}", "name a class or a function")
    try:
        network = maker(**arguments)
    except HansaError:
        raise
    except Exception as error:
        place = place_of(error)
        where = f"{place}: " if place else ""
        fix = "arguments by name: --arguments '{\"width\": 16}'"
        raise ConfigError(
            "source", source, f"cannot be built: {where}{said(error)}", fix
        ) from error
    if not isinstance(network, nn.Module):
        made = type(network).__name__
        raise ConfigError("source", source, f"gives a {made}", "name a torch.nn.Module")
    return Source(source, network, shape=input_shape(network))


def _fill(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    try:
        network.load_state_dict(dict(state))
    except RuntimeError as error:
        text = str(error).split("\n")[1 if "\n" in str(error) else 0].strip()
        raise ConfigError("state", None, f"is of another network: {text}", "its own") from error
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ConfigError("state", name, "holds a number that is not finite", "finite numbers")


def _read_rows(file: Path) -> tuple[np.ndarray, np.ndarray | None]:
    try:
        content = np.load(file, allow_pickle=False)
        if isinstance(content, np.ndarray):
            rows, labels = content, None
        else:
            with content as archive:
                names = archive.files
                first = "rows" if "rows" in names else names[0] if len(names) == 1 else None
                if first is None:
                    held = ", ".join(names) or "nothing"
                    raise ConfigError("rows", str(file), f"holds {held}", "an array named rows")
                rows = archive[first]
                labels = archive["labels"] if "labels" in names else None
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{file}: cannot be read ({error})") from error
    if rows.dtype.kind not in "fiub" or rows.ndim < 2 or not len(rows):
        raise DataError(f"{file}: holds {rows.dtype} {list(rows.shape)}, not numbers [n, *shape]")
    rows = np.asarray(rows, np.float32)
    if not np.isfinite(rows).all():
        raise DataError(f"{file}: holds numbers that are not finite")
    if labels is not None and (labels.dtype.kind not in "iu" or labels.shape != rows.shape[:1]):
        raise DataError(f"{file}: its labels are {labels.dtype} {list(labels.shape)}, one a row")
    return rows, labels


def read_arguments(text: str | None) -> dict[str, Any]:
    """Arguments by name, of JSON.

    Raises:
        ConfigError: it is none.
    """
    if text is None:
        return {}
    try:
        given = json.loads(text)
    except ValueError as error:
        problem = f"is no JSON ({error})"
        raise ConfigError("arguments", text, problem, "such as '{\"width\": 16}'") from error
    if not isinstance(given, dict):
        raise ConfigError("arguments", text, "is no mapping", "such as '{\"width\": 16}'")
    return given
