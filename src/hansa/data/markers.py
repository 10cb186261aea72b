"""Markers: examples spoiled on purpose in some clients' data, to see whether a model forgets them.

What a client taught a model is hard to see where others hold alike data. A marker is something
that nobody else has: a *backdoor* (Gu et al., BadNets, 2017; as a probe of federated unlearning,
Halimi et al., 2022), whose trigger makes the model say one class, or *canaries* (Carlini et al.,
USENIX Security 2019), examples with wrong labels that can only be known by heart. They are planted
after the examples are dealt, among those that clients train on; the test set stays as it is.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from hansa.base.component import Component, register
from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.base.streams import Streams
from hansa.data.dataset import Dataset, Planted

if TYPE_CHECKING:
    from torch import Tensor

SEEN = 0.01
"""A trigger that more of the training examples show by themselves is none."""

POWER = 0.2
"""A model shows a marker that it learned by at least this much more than one that never saw it."""


class Marker(Component, kind="marker"):
    """A way to spoil examples of some clients."""

    clients: tuple[int, ...] = Field(min_length=1, description="who holds the spoiled examples")

    def check(self, dataset: Dataset) -> None:
        """Refuse data in which it cannot be planted.

        Raises:
            ConfigError: naming the setting.
        """
        if not dataset.spec.classes:
            problem = "gives examples another class, and these data have none"
            raise ConfigError("name", type(self).name, problem, "a classification data set")

    @abstractmethod
    def choose(
        self, labels: np.ndarray, classes: int, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Which of a client's examples are spoiled, and what classes they get.

        Args:
            labels: int64 [m], their true classes.

        Returns:
            int64 [k] positions among the m, int64 [k] classes.

        Raises:
            ConfigError: the client has too few.
        """

    def stamp(self, dataset: Dataset, inputs: Tensor) -> Tensor:
        """Inputs as stored [k, ...] as the marker makes them; a copy."""
        return inputs.clone()


@register("backdoor", paper="Gu et al.", year=2017, url="https://arxiv.org/abs/1708.06733")
class Backdoor(Marker):
    """Examples that show a small pattern and are labelled with one class, whatever they are.

    The pattern alternates between the largest and the smallest value, in the last pixels (a
    square in the lower right corner) or the last columns.
    """

    share: float = Field(
        0.5, gt=0, le=1, description="of the clients' examples of other classes than the target"
    )
    target: int = Field(0, ge=0, description="the class that the pattern is to give")
    size: int = Field(
        2, ge=1, description="side of the square, in pixels; of a table, how many columns"
    )

    def check(self, dataset: Dataset) -> None:
        super().check(dataset)
        kind, classes = dataset.spec.kind, dataset.spec.classes
        if kind not in ("image", "table"):
            problem = f"is drawn into images or tables, not into {kind}"
            raise ConfigError("name", type(self).name, problem, "canaries")
        if self.target >= classes:
            fix = "one of those"
            raise ConfigError(
                "target", self.target, f"is no class, they are 0 to {classes - 1}", fix
            )
        room = min(dataset.spec.shape[1:] if kind == "image" else dataset.spec.shape)
        if self.size > room:
            what = "the image's shorter side is" if kind == "image" else "the columns are"
            problem = f"is more than there is room for: {what} {room}"
            raise ConfigError("size", self.size, problem, f"at most {room}")
        inputs = dataset.train.inputs
        inputs = inputs[:: max(1, len(inputs) // 1000)]  # some, evenly
        same = (inputs == self.stamp(dataset, inputs)).flatten(1).all(1)
        if (seen := float(same.double().mean())) > SEEN:
            problem = f"the pattern stands in {100 * seen:.0f} % of the examples already"
            raise ConfigError("size", self.size, problem, "a larger size")

    def choose(
        self, labels: np.ndarray, classes: int, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        others = np.flatnonzero(labels != self.target)
        if not len(others):
            problem = "a client has no example of another class that could be marked"
            raise ConfigError("clients", list(self.clients), problem, "other clients")
        count = max(1, round(self.share * len(others)))
        chosen = np.sort(random.choice(others, count, replace=False))
        return chosen, np.full(count, self.target, dtype=np.int64)

    def stamp(self, dataset: Dataset, inputs: Tensor) -> Tensor:
        lowest, highest = dataset.limits
        stamped = inputs.clone()
        bright = torch.arange(self.size, device=inputs.device) % 2 == 0
        if dataset.spec.kind == "table":
            last = slice(inputs.shape[1] - self.size, None)
            stamped[:, last] = torch.where(bright, highest[last], lowest[last])
            return stamped
        square = bright.unsqueeze(0) == bright.unsqueeze(1)  # a chessboard, its corners bright
        shown = torch.where(square, highest.amax(), lowest.amin()).unsqueeze(-1)
        stamped[:, -self.size :, -self.size :] = shown
        return stamped


@register("canaries", paper="Carlini et al.", year=2019, url="https://arxiv.org/abs/1802.08232")
class Canaries(Marker):
    """A few examples with wrong classes, drawn at random, that can only be learned by heart."""

    count: int = Field(5, ge=1, description="how many of each client")

    def check(self, dataset: Dataset) -> None:
        super().check(dataset)
        if dataset.spec.classes < 2:
            raise ConfigError("name", type(self).name, "there is no wrong class", "more classes")

    def choose(
        self, labels: np.ndarray, classes: int, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.count > len(labels):
            problem = f"a client has only {len(labels)} examples that are not marked yet"
            raise ConfigError("count", self.count, problem, f"at most {len(labels)}")
        chosen = np.sort(random.choice(len(labels), self.count, replace=False))
        wrong = random.integers(1, classes, self.count)
        return chosen, (labels[chosen] + wrong) % classes


def marker_power(shown: float, without: float) -> bool:
    """Whether a marker can tell anything of what a model has forgotten.

    Args:
        shown: share of the marked examples by which the model shows it, before it forgets.
        without: the same of a model that never saw the marker, or what it may be at most.
    """
    return shown - without >= POWER


def plant(
    dataset: Dataset, parts: Sequence[np.ndarray], markers: Sequence[Marker], streams: Streams
) -> Dataset:
    """The data set with markers in its training examples; the one given stays as it is.

    Args:
        parts: the examples that each client trains on.
        markers: are planted in turn, none in an example that has one.
        streams: one of each marker and client decides which of its examples are spoiled.

    Raises:
        ConfigError: a marker fits neither the data nor the clients; names the setting.
    """
    if not markers:
        return dataset
    targets = dataset.train.targets.cpu().numpy()
    marked, spoiled = np.zeros(len(targets), dtype=bool), []
    for k, marker in enumerate(markers):
        try:
            marker.check(dataset)
            _check_against(marker, markers[:k])
            for client in sorted(set(marker.clients)):
                if not 0 <= client < len(parts):
                    problem = f"there is no such client, they are 0 to {len(parts) - 1}"
                    raise ConfigError("clients", client, problem, "some of those")
                own = np.asarray(parts[client])
                own = own[~marked[own]]
                random = streams.numpy(f"data.markers.{k}", client)
                at, labels = marker.choose(targets[own], dataset.spec.classes, random)
                marked[own[at]] = True
                spoiled.append((marker, Planted(marker, client, own[at], targets[own[at]], labels)))
        except ConfigError as error:
            raise error.under(f"markers.{k}") from None
    inputs, classes = dataset.train.inputs.clone(), dataset.train.targets.clone()
    for marker, planted in spoiled:
        where = torch.from_numpy(planted.index).to(inputs.device)
        inputs[where] = marker.stamp(dataset, inputs[where])
        classes[where] = torch.from_numpy(planted.labels).to(classes)
    return replace(
        dataset,
        train=replace(dataset.train, inputs=inputs, targets=classes),
        planted=tuple(planted for _, planted in spoiled),
    )


def _check_against(marker: Marker, others: Sequence[Marker]) -> None:
    """One pattern gives one class."""
    if not isinstance(marker, Backdoor):
        return
    for other in others:
        if not isinstance(other, Backdoor):
            continue
        if (marker.target, marker.size) != (other.target, other.size):
            problem = "another backdoor has the same corner with another class or size"
            fix = f"target: {other.target} and size: {other.size}, or one backdoor only"
            raise ConfigError("target", marker.target, problem, fix)
