"""Models that clients trained alone, kept with all that they must be told of an input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.bundle import bundle_file, read_bundle, write_bundle
from hansa.base.errors import ConfigError, DataError
from hansa.base.lazy import torch, without_gradients
from hansa.base.spec import DataSpec
from hansa.base.streams import Streams
from hansa.data import Dataset, Split, tablefile
from hansa.data.features import encode
from hansa.ensemble import logits_of
from hansa.ensemble.inputs import Examples
from hansa.models import Model, ParameterLayout, initial_model, shared_copy

if TYPE_CHECKING:
    from torch import Tensor, nn

MODELS = "models"
_BATCH = 512


@dataclass(frozen=True)
class ClientModels:
    """One network a client.

    Attributes:
        forms: of each client's network.
        rows: [D] of each, its numbers in a row.
        scale, shift: from stored values to model inputs, as in a data set.
        features: of a table, how its columns were read.
        starts: the seed that each network's first, and so its frozen, numbers were drawn from;
            none: of no matter.
    """

    spec: DataSpec
    forms: Sequence[Model]
    rows: Sequence[Tensor]
    class_names: tuple[str, ...] = ()
    scale: Tensor | None = None
    shift: Tensor | None = None
    features: Sequence[Any] = ()
    starts: Sequence[int] = ()

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        forms: Sequence[Model],
        rows: Sequence[Tensor],
        starts: Sequence[int] = (),
    ) -> ClientModels:
        """Models for such data."""
        return cls(
            dataset.spec,
            forms,
            rows,
            dataset.class_names,
            dataset.scale,
            dataset.shift,
            dataset.features,
            starts,
        )

    def modules(self) -> list[nn.Module]:
        """The networks, to evaluate."""
        blank: dict[tuple[int, int], nn.Module] = {}
        modules = []
        starts = self.starts or (0,) * len(self.rows)
        for form, row, start in zip(self.forms, self.rows, starts, strict=True):
            if (id(form), start) not in blank:
                blank[id(form), start] = initial_model(form, self.spec, Streams(start))
            module = shared_copy(blank[id(form), start])
            ParameterLayout.of(module).load_(module, row)
            modules.append(module.eval())
        return modules

    def logits(self, dataset: Dataset, split: Split, index: np.ndarray | None = None) -> Tensor:
        """Of some (or all) examples of a split: [n, m, C]."""
        at = torch.arange(len(split)) if index is None else torch.from_numpy(index)
        inputs = Examples(len(at), lambda some: dataset.gather(split, at[some])[0])
        return logits_of(self.modules(), inputs)

    @without_gradients
    def of_stored(self, stored: Tensor) -> Tensor:
        """Of values as they are stored, images channels last: [n, m, C]."""
        x = stored.long() if self.spec.kind in ("tokens", "pairs") else stored.float()
        if self.scale is not None and self.shift is not None:
            x = x * self.scale + self.shift
        x = x.permute(0, 3, 1, 2) if self.spec.kind == "image" else x
        return logits_of(self.modules(), x, _BATCH)

    def save(self, path: Path) -> None:
        """Write them into a folder."""
        spec = self.spec
        facts = {
            "spec": [spec.kind, list(spec.shape), spec.outputs, spec.task, list(spec.vocabulary)],
            "text": [spec.padding, list(spec.labels)],
            "forms": [form.dump() | {"name": type(form).name} for form in self.forms],
            "class_names": list(self.class_names),
            "features": [dict(feature) for feature in self.features],
            "starts": list(self.starts),
        }
        tensors = {f"client_{k:03d}": row for k, row in enumerate(self.rows)}
        if self.scale is not None and self.shift is not None:
            tensors |= {"scale": self.scale, "shift": self.shift}
        write_bundle(path / MODELS, facts, tensors)

    @classmethod
    def load(cls, path: Path, trust: bool = False) -> ClientModels | None:
        """Those in a folder; None where there are none.

        Args:
            trust: also build networks that are named by import path, which runs code.

        Raises:
            CheckpointError: they are damaged.
            ConfigError: code would have to be trusted.
        """
        if not bundle_file(path / MODELS).exists():
            return None
        facts, tensors = read_bundle(path / MODELS)
        kind, shape, outputs, task, vocabulary = facts["spec"]
        padding, labels = facts.get("text", (None, ()))
        spec = DataSpec(
            kind, tuple(shape), outputs, task, tuple(vocabulary),
            padding=padding, labels=tuple(labels),
        )  # fmt: skip
        for form in facts["forms"]:
            if (":" in form["name"] or form["name"] == "module") and not trust:
                problem = "is a network by import path, and loading it runs its code"
                raise ConfigError("trust", form["name"], problem, "--trust, if you trust it")
        resolved: dict[str, Model] = {}
        forms = [resolved.setdefault(repr(form), Model.resolve(form)) for form in facts["forms"]]
        rows = [tensors[f"client_{k:03d}"] for k in range(len(forms))]
        return cls(
            spec,
            forms,
            rows,
            tuple(facts["class_names"]),
            tensors.get("scale"),
            tensors.get("shift"),
            facts["features"],
            facts.get("starts", ()),
        )

    def read(self, path: Path) -> Tensor:
        """Stored values [m, ...] of a table, or of an array in a .npy or .npz file.

        Raises:
            ConfigError, DataError: they are not what the models take.
        """
        suffix = path.suffix.lower()
        shape = tuple(self.spec.shape)
        stored = (*shape[1:], shape[0]) if self.spec.kind == "image" else shape
        if suffix in (*tablefile.TEXT, *tablefile.BINARY):
            frame = tablefile.cleaned(tablefile.read_frame(path), tablefile.MISSING)
            frame, _ = tablefile.without_index(frame, (), str(path))
            array = encode(tablefile.arrays(frame), self.features, str(path))
        elif suffix in (".npy", ".npz"):
            array = _array(path)
        else:
            fix = ", ".join((*tablefile.TEXT, *tablefile.BINARY, ".npy", ".npz"))
            raise ConfigError("input", str(path), "is of no known kind", fix)
        if self.spec.kind == "image" and shape[0] == 1 and array.shape[1:] == stored[:2]:
            array = array[..., None]
        if array.shape[1:] != stored or not len(array):
            held, wanted = list(array.shape[1:]), list(stored)
            raise DataError(f"{path}: examples are {held}, the models take {wanted}")
        if array.dtype.kind not in "fiub" or not np.isfinite(array.astype(np.float64)).all():
            raise DataError(f"{path}: holds values that are missing or no finite numbers")
        form = np.int64 if self.spec.kind in ("tokens", "pairs") else np.float32
        return torch.from_numpy(np.ascontiguousarray(array, dtype=form))


def _array(path: Path) -> np.ndarray:
    """The one array of a file."""
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content as archive:
            names = archive.files
            if len(names) != 1:
                held = ", ".join(names) or "nothing"
                raise ConfigError("input", str(path), f"holds {held}", "one array of examples")
            return archive[names[0]]
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
