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
from hansa.data.images import decode, encoded, rows, usual_modes
from hansa.data.raw import RawSplits
from hansa.data.sources.table_source import TableSource, require


@register("hub")
class Hub(TableSource):
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

    def read(self) -> RawSplits:
        splits = self._splits()
        features = splits[0].features
        inputs = self.columns(list(features), self.dataset)
        named = [*inputs, self.label, *([self.group] if self.group else [])]
        for split in splits[1:]:
            for name in named:
                require("test_split", name, list(split.features), f"{self.dataset} there")
        pictures = [name for name in inputs if type(features[name]).__name__ == "Image"]
        if pictures and len(inputs) > 1:
            raise ConfigError(
                "inputs", inputs, "mixes images with other columns", f"name {pictures[0]!r} alone"
            )
        columns = {
            name: np.concatenate([_values(split, name) for split in splits])
            for name in named
            if name not in pictures
        }
        return assemble(
            self._images(splits, pictures[0]) if pictures else {c: columns[c] for c in inputs},
            columns[self.label],
            columns[self.group] if self.group else None,
            where=self.dataset,
            first_test_row=len(splits[0]) if self.test_split else None,
            reading=self.reading,
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
                loaded: Any = datasets.load_from_disk(str(place))
            else:
                loaded = datasets.load_dataset(self.dataset, self.config)
        except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
            raise DataError(f"{self.dataset} cannot be loaded: {error}") from error
        splits = []
        for field, name in (("train_split", self.train_split), ("test_split", self.test_split)):
            if name is None:
                continue
            if name not in loaded:
                raise ConfigError(
                    field, name, f"is not a split of {self.dataset}", f"one of {', '.join(loaded)}"
                )
            splits.append(loaded[name])
        return splits

    def _images(self, splits: Sequence[Any], name: str) -> np.ndarray:
        import datasets

        blobs: list[bytes] = []
        for split in splits:
            raw = split.cast_column(name, datasets.Image(decode=False))
            blobs += encoded(_arrow(raw, name), f"{self.dataset}: {name}")
        where = rows(len(blobs), f"{self.dataset}: {name}")
        modes = usual_modes(blobs, where)
        if "I;16" in modes and len(modes) > 1:
            raise DataError(f"{where[modes['I;16']]} has 16 bits and others 8; make them alike")
        return decode(blobs, "RGB" if "RGB" in modes else next(iter(modes)), where)


def _arrow(split: Any, name: str) -> Any:
    return split.select_columns([name]).with_format("arrow")[:].column(0)


def _values(split: Any, name: str) -> np.ndarray:
    return _arrow(split, name).to_numpy()
