"""Models that clients trained alone, kept with all that they must be told of an input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.bundle import bundle_file, read_bundle, write_bundle
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch, without_gradients
from hansa.base.spec import DataSpec
from hansa.base.streams import Streams
from hansa.data import Dataset, DataSource, Split
from hansa.data.signature import Signature
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
        told: facts of the signature, where there is more than the rest says.
    """

    spec: DataSpec
    forms: Sequence[Model]
    rows: Sequence[Tensor]
    class_names: tuple[str, ...] = ()
    scale: Tensor | None = None
    shift: Tensor | None = None
    features: Sequence[Any] = ()
    starts: Sequence[int] = ()
    told: Mapping[str, Any] | None = None

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        forms: Sequence[Model],
        rows: Sequence[Tensor],
        starts: Sequence[int] = (),
        source: DataSource | None = None,
    ) -> ClientModels:
        """Models for such data, which a source has read."""
        return cls(
            dataset.spec,
            forms,
            rows,
            dataset.class_names,
            dataset.scale,
            dataset.shift,
            dataset.features,
            starts,
            Signature.of(dataset, source).facts(),
        )

    @property
    def signature(self) -> Signature:
        """The form of their inputs, and how files are read for them."""
        if self.told is not None:
            return Signature.of_facts(self.told, MODELS)
        return Signature(
            self.spec, self.class_names, tuple(self.features), scale=self.scale, shift=self.shift
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
        x = self.signature.prepared(stored)
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
            "signature": None if self.told is None else dict(self.told),
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
            facts.get("signature"),
        )
