"""The base of all data sources: a subclass reads, this class does everything that follows.

A new source is a class with one method::

    @register("mine")
    class Mine(DataSource):
        def read(self) -> RawSplits: ...
"""

from __future__ import annotations

import math
import sys
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field

from hansa.base.component import Component
from hansa.base.errors import ConfigError
from hansa.base.files import sha256
from hansa.base.lazy import torch
from hansa.base.paths import short
from hansa.base.spec import DataSpec
from hansa.data import decoded
from hansa.data.dataset import Dataset, Split
from hansa.data.dealing.partition import Iid, Partition
from hansa.data.gaps import Means
from hansa.data.markers import Marker
from hansa.data.pixels import ranged, settled, unknown
from hansa.data.raw import Arrays, RawSplits, check, pool

if TYPE_CHECKING:
    from torch import Tensor

    from hansa.base.streams import Streams
    from hansa.data.dealing.deal import Deal
    from hansa.data.moments import Figures


class Parted(NamedTuple):
    """Examples as they are stored, by what they are for."""

    train: Split
    validation: Split | None
    test: Split
    public: Split | None

    def filled(self, means: Means) -> Parted:
        """The same with every gap filled."""
        return Parted(*(None if part is None else means.fill(part) for part in self))  # type: ignore[arg-type]


class DataSource(Component, kind="data"):
    """Where the examples come from, how they are prepared and how the nodes share them out."""

    partition: Partition = Field(
        default_factory=Iid, description="how the training examples are dealt to the nodes"
    )
    validation: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="fraction of the training examples (or of the test examples, see "
        "validation_from) held out before partitioning to choose between models; 0 = none",
    )
    validation_from: Literal["train", "test"] = Field(
        "train",
        description="which set the validation examples leave; test with validation = 0 takes "
        "half of the test set, as SkipTrain does",
    )
    train_samples: int | None = Field(
        None, ge=1, description="use only so many training examples, drawn at random; none = all"
    )
    test_samples: int | None = Field(
        None, ge=1, description="use only so many test examples, drawn at random; none = all"
    )
    public: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="fraction of the training examples (without those for validation) that no "
        "node gets: a public set whose labels nobody sees; 0 = none",
    )
    normalize: Literal["standardize", "half", "unit", "none"] | None = Field(
        None,
        description="standardize: mean 0, deviation 1 per channel over the training examples; "
        "half: (x - 0.5) / 0.5 with x in 0..1; unit: x in 0..1; none: as stored. Not set: half "
        "for images, standardize for tables",
    )
    peak: float | None = Field(
        None,
        gt=0,
        description="value of a full pixel, such as 255, 1, 16 or 4095; not set: as the source "
        "states or, if they leave no doubt, the values tell",
    )
    downscale: int = Field(
        1, ge=1, description="side of the square blocks whose mean becomes one pixel; 1 = off"
    )
    markers: tuple[Marker, ...] = Field(
        (), description="examples spoiled on purpose, to see later whether a model forgets them"
    )

    @abstractmethod
    def read(self) -> RawSplits:
        """The examples as stored; the one method of a subclass.

        Raises:
            DataError: the data are missing, damaged or not of the expected form.
        """

    def understood(self, raw: RawSplits) -> RawSplits:
        """What was read, as the settings say that it is to be understood."""
        return raw

    def tokenized_by(self, tokenizer: str) -> Self:
        """The same, its texts read with a tokenizer unless another is set; no texts: as it is."""
        return self

    def interface(self) -> dict[str, Any]:
        """What else must be known to read files of others for a model of these data, plain data.

        ``downscale`` of images; a subclass adds ``label``, ``missing_values`` or ``text`` (names
        of columns, words), ``resize``, ``tokenizer`` and the like.
        """
        return {"downscale": self.downscale}

    def glance(self) -> None:
        """Refuse settings by what can be seen of the data at once, such as a table's first line.

        Raises:
            ConfigError: a setting that cannot work.
        """

    def files(self) -> Sequence[Path]:
        """The files on which :meth:`read` depends; decoded arrays are kept on disk if given."""
        return ()

    @property
    def imputes(self) -> bool:
        """Whether missing values of a table are filled."""
        return False

    def load(self, streams: Streams) -> Dataset:
        """The data set, ready for training.

        Splits that are used whole are mapped from the disk and shared by all processes; a
        held-out or shortened split is a copy of its own.

        Args:
            streams: the run's random streams; they decide what is held out or left out.

        Raises:
            DataError: the data are missing, damaged or not of the expected form.
            ConfigError: a setting does not fit the data.
        """
        raw = self._raw()
        return self.prepared(raw, self.parted(raw, streams))

    def parted(self, raw: RawSplits, streams: Streams) -> Parted:
        """Examples as they are stored, with what is held out and left out by the settings.

        Raises:
            ConfigError: a setting does not fit the data.
        """
        train = _shortened(_split(raw.train), self.train_samples, "train_samples", streams)
        test = _shortened(_split(raw.test), self.test_samples, "test_samples", streams)
        validation = None
        if self.validation_from == "test":
            test, validation = self._hold_out("validation", test, self.validation or 0.5, streams)
        elif self.validation:
            train, validation = self._hold_out("validation", train, self.validation, streams)
        public = None
        if self.public:
            train, public = self._hold_out("public", train, self.public, streams)
        return Parted(train, validation, test, public)

    def _amounts(self, train: Split) -> tuple[float, ...]:
        """(mean, spread) of amounts that are learned in standard units; (): as they are."""
        return ()

    def prepared(self, raw: RawSplits, parts: Parted, figures: Figures | None = None) -> Dataset:
        """The data set of examples that are parted.

        Args:
            figures: of the examples of all parties, where these are one party's own; None: these
                are all.
        """
        fill = None
        if raw.gaps or self.imputes:
            means = Means.of(parts.train, None if figures is None else figures.means)
            fill = means.overall if figures is None else figures.means
        if raw.gaps:
            parts = parts.filled(means)
        train, validation, test, public = parts
        scale, shift = self._affine(raw, train, figures)
        shape = tuple(train.inputs.shape[1:])
        spec = DataSpec(
            kind=raw.kind,
            shape=(shape[2], shape[0], shape[1]) if raw.kind == "image" else shape,
            outputs=raw.outputs,
            task=raw.task,
            vocabulary=raw.vocabulary,
            scale=raw.scale,
            padding=raw.padding,
            labels=raw.class_names if raw.padding is not None else (),
            amounts=self._amounts(train) if raw.regression else (),
        )
        return Dataset(
            name=short(type(self).name) or type(self).__name__,
            spec=spec,
            train=train,
            validation=validation,
            test=test,
            scale=scale,
            shift=shift,
            class_names=raw.class_names,
            group_names=raw.group_names,
            item_names=raw.item_names,
            public=None if public is None else public.unlabelled(),
            notes=raw.notes,
            features=raw.features,
            fill=fill,
            known_limits=None if figures is None else _limits(figures),
        )

    def divide(self, data: Dataset, nodes: int, streams: Streams) -> Deal:
        """Sorted int64 indices into ``data.train`` for each node, by this source's partition.

        Raises:
            ConfigError: the partition cannot serve so many nodes; names the setting.
        """
        train = data.train
        rng = streams.numpy("data.partition")
        owners = len(data.group_names)
        try:
            return self.partition.split(train.targets.numpy(), train.groups, nodes, rng, owners)
        except ConfigError as error:
            raise error if error.field == "nodes" else error.under("partition") from None

    def _raw(self) -> RawSplits:
        name = short(type(self).name) or type(self).__name__

        def build() -> RawSplits:
            raw = self.understood(self.read())
            check(raw, name)
            return pool(settled(raw, name), self.downscale)

        files = self.files()
        if not files:
            return ranged(build(), self.peak)
        cls = type(self)
        own = {k: v for k, v in self.dump().items() if k not in DataSource.model_fields}
        own |= {"downscale": self.downscale, "class": f"{cls.__module__}.{cls.__qualname__}"}
        # A changed reader must not be served what the old one made.
        code = getattr(sys.modules.get(cls.__module__), "__file__", None)
        own["code"] = sha256(Path(code)) if code and Path(code).is_file() else ""
        kept = decoded.through_cache(cls.__name__.lower(), decoded.key(own, files), build)
        return ranged(kept, self.peak)

    def _hold_out(
        self, field: str, split: Split, fraction: float, streams: Streams
    ) -> tuple[Split, Split]:
        """(what remains, what is held out): disjoint, together the whole split."""
        held = round(fraction * len(split))
        if not 0 < held < len(split):
            kind = self.validation_from if field == "validation" else "train"
            raise ConfigError(
                field,
                fraction,
                f"of {len(split)} {kind} examples leaves one side empty",
                "choose another fraction, or more samples",
            )
        order = streams.numpy(f"data.{field}").permutation(len(split))
        return split.take(np.sort(order[held:])), split.take(np.sort(order[:held]))

    def declared_scaling(self, raw: RawSplits) -> tuple[np.ndarray, np.ndarray] | None:
        """(mean, standard deviation) [F], float64, where the settings say them beforehand."""
        return None

    def _affine(
        self, raw: RawSplits, train: Split, figures: Figures | None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Scale and shift from stored values to model input."""
        if raw.kind in ("tokens", "pairs"):
            if self.normalize not in (None, "none"):
                raise ConfigError(
                    "normalize", self.normalize, f"{raw.kind} are ids, not numbers", "leave it out"
                )
            return None, None
        way = self.normalize or ("half" if raw.kind == "image" else "standardize")
        if way == "standardize":
            known = self.declared_scaling(raw)
            if known is None and figures is not None:
                known = figures.mean, figures.deviation
            if known is None:
                mean, deviation = moments(train.inputs)
            else:
                mean, deviation = _single(*map(torch.from_numpy, known))
            return 1 / deviation, -mean / deviation
        if way == "none":
            return None, None
        if raw.kind == "table":
            raise ConfigError(
                "normalize", way, "needs images, whose range is known", "standardize or none"
            )
        if raw.peak is None:
            raise unknown(raw)
        scale = 1 / (raw.peak - raw.floor)
        shift = -raw.floor * scale  # black to 0, full to 1
        if way == "half":
            scale, shift = 2 * scale, 2 * shift - 1
        return torch.tensor(scale, dtype=torch.float32), torch.tensor(shift, dtype=torch.float32)


def moments(inputs: Tensor, chunk: int = 1024) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation [C] over all but the last dimension; 1 where it is constant."""
    channels = inputs.shape[-1]
    total = torch.zeros(channels, dtype=torch.float64)
    for block in inputs.split(chunk):
        total += block.reshape(-1, channels).double().sum(0)
    count = math.prod(inputs.shape[:-1])
    mean = total / count
    spread = torch.zeros_like(mean)
    for block in inputs.split(chunk):  # a second pass: no cancellation where the mean is large
        spread += (block.reshape(-1, channels).double() - mean).square_().sum(0)
    return _single(mean, (spread / count).sqrt())


def _single(mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation [C], float64, in single precision; 1 where a column is constant."""
    # Relative to the mean: rounding leaves a constant column with a tiny spread.
    constant = deviation <= 1e-7 * mean.abs().clamp(min=1e-30)
    return mean.float(), torch.where(constant, 1.0, deviation).float()


def _limits(figures: Figures) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(figures.lowest).float(), torch.from_numpy(figures.highest).float()


def _split(part: Arrays) -> Split:
    groups = None if part.groups is None else np.asarray(part.groups, np.int64)
    return Split(_tensor(part.inputs), _tensor(part.targets), groups)


def _tensor(array: np.ndarray) -> Tensor:
    # A view of another library's read-only buffer is copied: torch has no read-only tensors.
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def _shortened(split: Split, samples: int | None, field: str, streams: Streams) -> Split:
    if samples is None or samples == len(split):
        return split
    if samples > len(split):
        raise ConfigError(field, samples, f"there are only {len(split)}", "ask for fewer")
    order = streams.numpy(f"data.{field}").permutation(len(split))
    return split.take(np.sort(order[:samples]))
