"""Which sizes of a merge are measured, and one of them: cut, judged, and kept as figures."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hansa.combine.merge.artefact import Artefact
from hansa.combine.merge.cut import Cut, cut, file_bytes
from hansa.combine.merge.dendrogram import Linkage
from hansa.combine.merge.measuring_sizes import Measuring
from hansa.combine.merge.merged_models import MergedModels
from hansa.combine.merge.opening import OpenModels
from hansa.combine.merge.orders import Order
from hansa.combine.merge.recounted_cut import recounted
from hansa.combine.merge.recounting import Recounting

if TYPE_CHECKING:
    from torch import Tensor

    from hansa.combine.merge.merge_tasks import Split

USUAL_SIZES = (1.0, 2.0, 3.0, 5.0)


@dataclass(frozen=True)
class Point:
    """A size that is asked of an algorithm: so many models, or so many bytes.

    Attributes:
        size: in models; of a budget, what it comes to.
        least: whether it stands for smaller sizes, which the algorithm does not reach.
    """

    algorithm: str
    size: float
    budget: int | None = None
    least: bool = False

    @property
    def name(self) -> str:
        """Of its files."""
        words = f"{self.size:g}x" if self.budget is None else f"{self.budget}B"
        return f"{self.algorithm}-{words}"


def points(
    artefact: Artefact,
    algorithm: str,
    sizes: Sequence[float] | None,
    budgets: Sequence[int],
    order: str,
    linkage: Linkage,
    seed: int,
) -> list[Point]:
    """The sizes of an algorithm: what was asked, or what stands for it.

    A size below the least is the least itself, one above the most is the most; each once.
    """
    by = cast(Order, "greedy" if order == "knapsack" else order)
    spectrum = artefact.spectrum(algorithm, by, linkage, seed)
    least, most = spectrum.least / artefact.unit, spectrum.bytes[0] / artefact.unit
    wanted = list(sizes or (() if budgets else (*USUAL_SIZES, float(len(artefact.members)))))
    wanted = [size for size in wanted if size <= len(artefact.members)]
    reached = {size for size in wanted if least <= size <= most}
    if above := [size for size in wanted if size > most]:
        reached.add(min(above))
    asked = [Point(algorithm, size) for size in sorted(reached)]
    smallest = [stages[-1] for stages in spectrum.stages]
    fits = [b for b in sorted(budgets) if b >= file_bytes(artefact, algorithm, smallest)]
    if any(size < least for size in wanted) or len(fits) < len(budgets):
        asked.insert(0, Point(algorithm, math.ceil(least * 1e6) / 1e6, least=True))
    return asked + [Point(algorithm, budget / artefact.unit, budget) for budget in fits]


@dataclass(frozen=True)
class SizePoints:
    """Cuts sizes of an artefact and has them judged.

    Attributes:
        order: of merges, or ``knapsack``.
        place: the folder of the files.
        keep: whether they stay.
        recounting: of batch normalization's statistics, where there is any.
    """

    artefact: Artefact
    opened: OpenModels
    measuring: Measuring
    order: str
    linkage: Any
    seed: int
    place: Path
    keep: bool
    recounting: Recounting | None = None

    def measured(self, point: Point, label: str, split: Split = "test") -> dict[str, Any]:
        """Figures of a point by the artefact's algorithm ``label``.

        Raises:
            ConfigError: it cannot be reached; names the least.
        """
        with self._cut(point, label) as done:
            figures = {
                "reached": done.size,
                "bytes": done.bytes,
                "payload": done.payload,
                "loss": done.loss,
                "ledger": vars(done.ledger),
            }
            if self.measuring.suite.judge is not None:
                models = MergedModels.open(done.path)

                def state(task: str) -> Mapping[str, Tensor]:
                    return self.opened.as_stored(task, models.state_dict(task))

                figures["by_task"] = self.measuring.by_task(state, split)
        return figures

    @contextlib.contextmanager
    def _cut(self, point: Point, label: str) -> Iterator[Cut]:
        file = self.place / f"{point.name.replace(' ', '-')}.safetensors"
        self.place.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)  # of before an interrupt
        size = {"size": point.size} if point.budget is None else {"budget": point.budget}
        try:
            done = cut(
                self.artefact, label, file, **size,
                order=self.order, linkage=self.linkage, seed=self.seed,
            )  # fmt: skip
            yield recounted(done, self.recounting, self.opened.base, point.budget)
        except BaseException:
            file.unlink(missing_ok=True)
            raise
        if not self.keep:
            file.unlink()
