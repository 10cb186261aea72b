"""What a model takes and gives, in plain data: enough to use it without the data it was trained on.

::

    {"task": "classification", "input": {"kind": "table", "shape": [4]}, "outputs": 3,
     "classes": ["ill", "unclear", "well"], "columns": [...], "scale": [...], "shift": [...],
     "fill": [...], "reading": {"label": "outcome", ...}}

It stands in a run's folder, and in what is exported of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.errors import CheckpointError
from hansa.base.lazy import torch
from hansa.base.spec import DataSpec
from hansa.data.dataset import Dataset
from hansa.data.features import Feature

if TYPE_CHECKING:
    from torch import Tensor

    from hansa.data.source import DataSource

SIGNATURE = "signature.json"
"""Its file in a run's folder."""
_PEAKS = (1.0, 16.0, 255.0, 65535.0)


@dataclass(frozen=True)
class Signature:
    """The form of a model's inputs and answers, and how files are to be read for it.

    Attributes:
        class_names: one a class; empty where they have no names, and of a regression.
        features: of a table, how each column was read.
        fill: what stands for a missing value of each of a table's numbers [F]; None: nothing does.
        scale, shift: the model reads ``stored * scale + shift``; None: as stored.
        floor, peak: of images, the stored values of a black and of a full pixel; a peak of 0 is
            not known.
        user_names, item_names: of pairs, whose places are their ids.
        reading: what the source did to its files (:meth:`hansa.data.DataSource.interface`).
    """

    spec: DataSpec
    class_names: tuple[str, ...] = ()
    features: tuple[Feature, ...] = ()
    fill: np.ndarray | None = None
    scale: Tensor | None = None
    shift: Tensor | None = None
    floor: float = 0.0
    peak: float = 0.0
    user_names: tuple[str, ...] = ()
    item_names: tuple[str, ...] = ()
    reading: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, data: Dataset, source: DataSource | None = None) -> Signature:
        """That of models trained on a data set, which a source has read."""
        pairs = data.spec.kind == "pairs"
        floor, peak = pixel_range(data)
        return cls(
            data.spec,
            data.class_names,
            tuple(data.features),
            data.fill,
            None if data.scale is None else data.scale.cpu(),
            None if data.shift is None else data.shift.cpu(),
            floor,
            peak,
            data.group_names if pairs else (),
            data.item_names if pairs else (),
            {} if source is None else source.interface(),
        )

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Of one example as it is stored: of an image [H, W, C]."""
        shape = tuple(self.spec.shape)
        return (*shape[1:], shape[0]) if self.spec.kind == "image" else shape

    @property
    def named_classes(self) -> list[str]:
        """A name for each class: its own, the character that it stands for, or its number."""
        if self.class_names:
            return list(self.class_names)
        if (known := self.reading.get("characters")) and len(known) + 1 == self.spec.classes:
            return ["other", *known]
        return [str(k) for k in range(self.spec.classes)]

    def prepared(self, stored: Tensor) -> Tensor:
        """Stored values [m, ...], images channels last, as model inputs [m, *spec.shape]."""
        if self.spec.kind in ("tokens", "pairs"):
            return stored.long()
        x = stored.float()
        if self.scale is not None and self.shift is not None:
            x = x * self.scale + self.shift
        return x.permute(0, 3, 1, 2) if self.spec.kind == "image" else x

    def facts(self) -> dict[str, Any]:
        """Plain data, of which :meth:`of_facts` makes the same again."""
        spec = self.spec
        facts: dict[str, Any] = {
            "task": spec.task,
            "input": {"kind": spec.kind, "shape": list(spec.shape)},
            "outputs": spec.outputs,
            "classes": list(self.class_names),
            "columns": [dict(feature) for feature in self.features],
        }
        if spec.vocabulary:
            facts["vocabulary"] = list(spec.vocabulary)
        if spec.kind == "pairs":  # ids are places in these lists
            facts |= {"users": list(self.user_names), "items": list(self.item_names)}
            facts["rating_scale"] = list(spec.scale)
        if spec.padding is not None:
            facts |= {"padding": spec.padding, "labels": list(spec.labels)}
        if spec.amounts:
            facts["amounts"] = list(spec.amounts)
        if spec.kind == "image":
            facts |= {"floor": self.floor, "peak": self.peak}
        if self.scale is not None and self.shift is not None:  # the model gets x * scale + shift
            facts |= {"scale": self.scale.tolist(), "shift": self.shift.tolist()}
        if self.fill is not None:
            facts["fill"] = [float(value) for value in self.fill]
        return facts | {"reading": dict(self.reading)}

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any], where: str) -> Signature:
        """What :meth:`facts` told.

        Raises:
            CheckpointError: they are none; names ``where``.
        """
        try:
            spec = DataSpec(
                facts["input"]["kind"],
                tuple(int(n) for n in facts["input"]["shape"]),
                int(facts["outputs"]),
                facts["task"],
                tuple(int(n) for n in facts.get("vocabulary", ())),
                tuple(float(x) for x in facts.get("rating_scale", ())),
                facts.get("padding"),
                tuple(facts.get("labels", ())),
                tuple(float(x) for x in facts.get("amounts", ())),
            )
            scale, shift = (
                torch.tensor(facts[key]) if key in facts else None for key in ("scale", "shift")
            )
            fill = facts.get("fill")
            return cls(
                spec,
                tuple(facts.get("classes", ())),
                tuple(
                    Feature(name=f["name"], words=f["words"], width=int(f["width"]))
                    for f in facts.get("columns", ())
                ),
                None if fill is None else np.asarray(fill, dtype=np.float32),
                scale,
                shift,
                float(facts.get("floor", 0.0)),
                float(facts.get("peak", 0.0)),
                tuple(facts.get("users", ())),
                tuple(facts.get("items", ())),
                dict(facts.get("reading", {})),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"{where}: is no signature of a model ({error!r})") from error


def pixel_range(data: Dataset) -> tuple[float, float]:
    """(black, full): the stored values of a black pixel and of one at full intensity."""
    if data.spec.kind != "image" or not len(data.train):
        return 0.0, 0.0
    stored = data.train.inputs
    largest, least = float(stored.max()), float(stored.min())
    peak = next((peak for peak in _PEAKS if largest <= peak), largest)
    return (-1.0 if least < 0 else 0.0), peak
