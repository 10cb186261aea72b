"""Any data set of the Hugging Face hub, or a local folder in one of its layouts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError, DataError
from hansa.base.paths import NameOrPath
from hansa.data.columns import assemble
from hansa.data.fetch import refuse_offline
from hansa.data.images import decode, encoded, usual_mode
from hansa.data.raw import RawSplits
from hansa.data.source import DataSource


@register("hub")
class Hub(DataSource):
    """A data set by its Hugging Face name, or a local folder; images or columns of numbers.

    Labels may be classes, text (numbered in sorted order) or floats (a regression). Needs the
    ``datasets`` library: ``pip install hansa[hub]``.
    """

    dataset: NameOrPath = Field(..., description="name on the hub (owner/name), or a local folder")
    config: str | None = Field(None, description="the data set's configuration, if it has several")
    train_split: str = Field("train", description="name of the split to train on")
    test_split: str | None = Field(
        "test", description="name of the split to test on; none = hold out test_fraction"
    )
    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="held out as the test set where test_split is none"
    )
    inputs: tuple[str, ...] = Field(
        (), description="input columns: one of images, or some of numbers; empty = all others"
    )
    label: str = Field("label", description="column of labels")
    group: str | None = Field(None, description="column of natural owners, if there is one")

    def read(self) -> RawSplits:
        splits = self._splits()
        features = splits[0].features
        inputs = self.inputs or tuple(c for c in features if c not in (self.label, self.group))
        named = [("inputs", column) for column in inputs] + [("label", self.label)]
        named += [("group", self.group)] if self.group else []
        for field, column in named:
            for split in splits:
                if column not in split.features:
                    known = ", ".join(split.features)
                    raise ConfigError(field, column, "is not a column", f"one of {known}")
        pictures = [name for name in inputs if type(features[name]).__name__ == "Image"]
        if pictures and len(inputs) > 1:
            raise ConfigError(
                "inputs", inputs, "mixes images with other columns", f"name {pictures[0]!r} alone"
            )
        columns = {
            name: np.concatenate([_values(split, name) for split in splits])
            for _, name in named
            if name not in pictures
        }
        return assemble(
            self._images(splits, pictures[0]) if pictures else {c: columns[c] for c in inputs},
            columns[self.label],
            columns[self.group] if self.group else None,
            where=self.dataset,
            first_test_row=len(splits[0]) if self.test_split else None,
            test_fraction=self.test_fraction,
            class_names=tuple(getattr(features[self.label], "names", None) or ()),
        )

    def _splits(self) -> list[Any]:
        """The training split, and the test split if there is one, as arrow-backed data sets."""
        try:
            import datasets
        except ImportError:
            raise DataError(
                "the data source 'hub' needs the datasets library\n  fix: pip install hansa[hub]"
            ) from None
        place = Path(self.dataset)
        if not place.is_dir():
            refuse_offline(self.dataset, "hub", "name a local folder in `dataset`")
        saved = (place / "dataset_dict.json").is_file()
        try:
            if saved:
                found: Any = datasets.load_from_disk(str(place))
            else:
                found = datasets.load_dataset(self.dataset, self.config)
        except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            raise DataError(f"{self.dataset} cannot be loaded: {error}") from error
        splits = []
        for field, name in (("train_split", self.train_split), ("test_split", self.test_split)):
            if name is None:
                continue
            if name not in found:
                raise ConfigError(
                    field, name, f"is not a split of {self.dataset}", f"one of {', '.join(found)}"
                )
            splits.append(found[name])
        return splits

    def _images(self, splits: Sequence[Any], name: str) -> np.ndarray:
        import datasets

        blobs: list[bytes] = []
        for split in splits:
            raw = split.cast_column(name, datasets.Image(decode=False))
            blobs += encoded(_arrow(raw, name), f"{self.dataset}: {name}")
        where = f"{self.dataset}: {name}"
        return decode(blobs, usual_mode(blobs[0], where) if blobs else "RGB", where)


def _arrow(split: Any, name: str) -> Any:
    return split.select_columns([name]).with_format("arrow")[:].column(0)


def _values(split: Any, name: str) -> np.ndarray:
    return _arrow(split, name).to_numpy()
