"""Answers of clients in a file: arrays of logits or probabilities, and the labels."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from hansa.base.bundle import read_bundle, write_bundle
from hansa.base.component import register
from hansa.base.errors import ConfigError, DataError
from hansa.base.lazy import safetensors, safetensors_torch, torch
from hansa.experiment.clients import Answers, Clients

if TYPE_CHECKING:
    from torch import Tensor

ENDINGS = (".npz", ".safetensors")
_OFF = 1e-3
"""By how much the probabilities of a row may miss 1."""


@register("scores")
class CachedScores(Clients):
    """Answers that were kept: ``test`` [m, n, K] and ``test_labels`` [m]; the same of ``server``.

    n clients, K classes. Labels are numbers from 0, or texts where the file holds ``class_names``.
    """

    path: Path = Field(..., description="a .npz or .safetensors file of such arrays")
    holds: Literal["probabilities", "logits"] = Field(
        "probabilities", description="logits are made probabilities by a softmax"
    )

    def count(self) -> int | None:
        """As the file's test answers say, if it holds such."""
        if self.path.suffix.lower() not in ENDINGS or not self.path.is_file():
            return None  # which is told as soon as it is checked
        shape = np.shape(read_arrays(self.path).get("test", ()))
        return shape[1] if len(shape) == 3 else None

    def check(self) -> None:
        """There is such a file."""
        if self.path.suffix.lower() not in ENDINGS:
            problem, fix = "is of no known kind", " or ".join(ENDINGS)
            raise ConfigError("clients.path", str(self.path), problem, fix)
        if not self.path.is_file():
            raise ConfigError("clients.path", str(self.path), "there is no such file", "its path")

    def answers(self, seed: int, path: Path, say: Callable[[str], None]) -> Answers:
        """The arrays, checked."""
        self.check()
        arrays = read_arrays(self.path)
        names = tuple(str(name) for name in np.asarray(arrays.get("class_names", ())).tolist())
        if "test" not in arrays or "test_labels" not in arrays:
            held = ", ".join(arrays) or "nothing"
            fix = "arrays test [m, clients, classes] and test_labels [m]"
            raise ConfigError("clients.path", str(self.path), f"holds {held}", fix)
        test, labels = self._split(arrays, "test", names)
        server, server_labels = None, None
        if "server" in arrays:
            server, server_labels = self._split(arrays, "server", names)
            if server.shape[1:] != test.shape[1:]:
                problem = (
                    f"server has {_form(server)}, test has {_form(test)}: both are answers of the "
                    "same clients about the same classes"
                )
                raise ConfigError("clients.path", str(self.path), problem, "arrays that agree")
        return Answers(test, labels, server, server_labels, names)

    def _split(
        self, arrays: dict[str, Any], name: str, names: tuple[str, ...]
    ) -> tuple[Tensor, Tensor]:
        rows = probabilities_of(arrays[name], f"{self.path}: {name}", self.holds == "logits")
        classes = rows.shape[2]
        if names and len(names) != classes:
            problem = f"names {len(names)} classes, and {name} tells of {classes}"
            raise ConfigError("clients.path", str(self.path), problem, "a name a class")
        if f"{name}_labels" not in arrays:
            fix = f"an array {name}_labels [{len(rows)}]"
            raise ConfigError("clients.path", str(self.path), f"{name} has no labels", fix)
        labels = labels_of(arrays[f"{name}_labels"], names, classes, f"{self.path}: {name}_labels")
        if labels.shape != rows.shape[:1]:
            problem = f"{name} has {len(rows)} examples and {len(labels)} labels"
            raise DataError(f"{self.path}: {problem}")
        return rows, labels


def _form(rows: Tensor) -> str:
    return f"{rows.shape[1]} clients and {rows.shape[2]} classes"


def read_arrays(path: Path) -> dict[str, Any]:
    """Arrays of a file by name, of texts too where it is an .npz.

    Raises:
        DataError: it cannot be read.
    """
    try:
        if path.suffix.lower() == ".safetensors":
            tensors = safetensors_torch.load(path.read_bytes())
            return {name: tensor.numpy() for name, tensor in tensors.items()}
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except (
        ValueError,
        OSError,
        EOFError,
        zipfile.BadZipFile,
        safetensors.SafetensorError,
    ) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def probabilities_of(array: Any, where: str, logits: bool = False) -> Tensor:
    """An array [m, n, K] as probabilities, float32.

    Raises:
        DataError: they are none; names the first row that is not.
    """
    values = np.asarray(array)
    if values.ndim != 3 or min(values.shape) < 1 or values.shape[2] < 2:
        shape = list(values.shape)
        raise DataError(f"{where}: has the shape {shape}, not [examples, clients, classes]")
    if values.dtype.kind not in "fiub":
        raise DataError(f"{where}: holds {values.dtype}, and numbers are needed")
    rows = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))
    _refuse(~torch.isfinite(rows).all(2), where, "holds a number that is not finite")
    if logits:
        return torch.softmax(rows, -1).float()
    fix = "; holds: logits, if that is what they are"
    _refuse((rows < 0).any(2), where, f"is below 0{fix}")
    _refuse((rows.sum(2) - 1).abs() > _OFF, where, f"does not sum to 1{fix}")
    return (rows / rows.sum(2, keepdim=True)).float()


def _refuse(wrong: Tensor, where: str, problem: str) -> None:
    if bool(wrong.any()):
        example, client = wrong.nonzero()[0].tolist()
        count = int(wrong.sum())
        more = f" ({count} such rows)" if count > 1 else ""
        raise DataError(f"{where}: client {client}'s row of example {example} {problem}{more}")


def labels_of(array: Any, names: tuple[str, ...], classes: int, where: str) -> Tensor:
    """Labels as int64 [m].

    Raises:
        DataError: one is no class.
    """
    values = np.asarray(array).reshape(-1)
    if values.dtype.kind in "US":
        place = {name: k for k, name in enumerate(names)}
        unknown = sorted({str(value) for value in values} - set(place))
        if unknown:
            listed = ", ".join(names) or "none: class_names is missing"
            raise DataError(f"{where}: {unknown[0]!r} is no class; known: {listed}")
        return torch.tensor([place[str(value)] for value in values])
    if values.dtype.kind not in "iub" and not (values == np.round(values)).all():
        raise DataError(f"{where}: holds {values.dtype}, and classes are needed")
    labels = torch.from_numpy(values.astype(np.int64))
    wrong = (labels < 0) | (labels >= classes)
    if bool(wrong.any()):
        example = int(wrong.nonzero()[0])
        problem = f"{int(labels[example])} of example {example} is no class from 0 to {classes - 1}"
        raise DataError(f"{where}: {problem}")
    return labels


def keep_answers(path: Path, answers: Answers) -> None:
    """Write answers as a bundle, which is also a file of arrays that can be read again."""
    tensors = {"test": answers.test, "test_labels": answers.test_labels}
    if answers.server is not None and answers.server_labels is not None:
        tensors |= {"server": answers.server, "server_labels": answers.server_labels}
    facts = {"class_names": list(answers.class_names), "notes": list(answers.notes)}
    write_bundle(path, facts, tensors)


def kept_answers(path: Path) -> Answers:
    """What :func:`keep_answers` wrote.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    facts, tensors = read_bundle(path, "begin a new run")
    return Answers(
        tensors["test"],
        tensors["test_labels"],
        tensors.get("server"),
        tensors.get("server_labels"),
        tuple(facts["class_names"]),
        tuple(facts["notes"]),
    )
