"""What an experiment on routing asks: answers of mixtures, of adapters alone, and by domain."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from hansa.base.streams import Streams
from hansa.route.answering import Mixture
from hansa.route.label_text import LabelTextModel
from hansa.route.score_matrix import ScoreMatrix, matrix_of
from hansa.route.sets import Example
from hansa.route.slab import AdapterSlab
from hansa.route.sources.sentences import SENTIMENT


@dataclass
class World:
    """A pool of adapters, tasks, and everything that is asked of them.

    Attributes:
        validation, test: of each task its examples.
        own: of each task its adapter's index.
    """

    model: LabelTextModel
    names: list[str]
    validation: list[tuple[Example, ...]]
    test: list[tuple[Example, ...]]
    own: list[int]
    _vectors: dict[str, np.ndarray] = field(default_factory=dict)
    _alone: dict[tuple[int, int, int], float] = field(default_factory=dict)

    def answers(self, asked: Sequence[tuple[Example, Mixture]], batch: int = 64) -> np.ndarray:
        """Whether each is right, float32; batched by length, however they come."""
        order = sorted(range(len(asked)), key=lambda k: len(asked[k][0].query.text))
        right = np.zeros(len(asked), np.float32)
        for start in range(0, len(order), batch):
            places = order[start : start + batch]
            said = self.model.answers(
                [asked[k][0].query for k in places], [asked[k][1] for k in places]
            )
            right[places] = [a == asked[k][0].answer for a, k in zip(said, places, strict=True)]
        return right

    def alone(self, task: int, cells: Sequence[tuple[int, int]]) -> np.ndarray:
        """Whether (adapter, validation example) are right; what was asked before is remembered."""
        new = [c for c in cells if (task, *c) not in self._alone]
        asked = [(self.validation[task][e], Mixture((a,), (1.0,))) for a, e in new]
        for cell, right in zip(new, self.answers(asked), strict=True):
            self._alone[task, *cell] = float(right)
        return np.array([self._alone[task, *c] for c in cells], np.float32)

    def vectors(self, examples: Sequence[Example], labelled: bool = False) -> np.ndarray:
        """Of the queries, by the base itself: the router's encoder.

        Args:
            labelled: with the candidates that a query carries, as instructions come with theirs.
        """
        texts = [
            f"{e.query.text} {', '.join(e.query.candidates)}" if labelled else e.query.text
            for e in examples
        ]
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        for text, vector in zip(new, self.model.encoder.embed(new), strict=True):
            self._vectors[text] = vector.numpy()
        return np.stack([self._vectors[text] for text in texts])

    def domain(self, task: int) -> str:
        name = self.names[task]
        return "sentiment" if name in SENTIMENT else name


class Scores:
    """What association asks: adapters alone on validation examples; ``answered``: how many."""

    def __init__(self, world: World, pool: int) -> None:
        self.world, self.pool, self.answered = world, pool, 0
        self.sizes = [len(examples) for examples in world.validation]
        self.cells = [np.full((pool, n), np.nan, np.float32) for n in self.sizes]

    def fill(self, task: int, adapters: Sequence[int], examples: Sequence[int]) -> None:
        rows = self.cells[task]
        wanted = [(a, e) for e in examples for a in adapters if np.isnan(rows[a, e])]
        self.answered += len(wanted)
        for (a, e), right in zip(wanted, self.world.alone(task, wanted), strict=True):
            rows[a, e] = right

    def scores(self, task: int) -> np.ndarray:
        return self.cells[task]

    def matrix(self) -> ScoreMatrix:
        names = self.world.names
        adapters = [self.world.model.slab.name(k) for k in range(self.pool)]
        return matrix_of(names, adapters, self.cells, names, [True] * len(names))


def in_domains(world: World, each: dict[int, float]) -> float:
    """Percent, the mean over domains of the mean over their tasks."""
    domains: dict[str, list[float]] = {}
    for task, score in each.items():
        domains.setdefault(world.domain(task), []).append(score)
    return 100 * statistics.mean(statistics.mean(scores) for scores in domains.values())


def by_mixture(world: World, mixture: Callable[[int], Mixture | list[Mixture]]) -> float:
    """The score where a task's queries have a mixture, or each its own."""
    asked, tasks = [], []
    for task, examples in enumerate(world.test):
        of = mixture(task)
        rows = of if isinstance(of, list) else [of] * len(examples)
        asked += zip(examples, rows, strict=True)
        tasks += [task] * len(examples)
    right = world.answers(asked)
    at = np.array(tasks)
    return in_domains(world, {t: float(right[at == t].mean()) for t in range(len(world.test))})


def noisy(slab: AdapterSlab, own: Sequence[int], noise: int, seed: int) -> None:
    """Weaken every second own adapter to a fifth, and add adapters of noise as large as theirs."""
    for index in own[::2]:
        name = slab.name(index)
        weak = {layer: (a.clone(), 0.2 * b) for layer, (a, b) in slab.factors(name).items()}
        slab.replace(name, weak)
    like = [slab.factors(slab.name(index)) for index in own]
    sizes = {
        layer: [statistics.mean(float(f[layer][side].std()) for f in like) for side in (0, 1)]
        for layer in like[0]
    }
    slab.reserve({layer: noise * len(a) for layer, (a, _) in like[0].items()})
    draw = torch.Generator().manual_seed(Streams(seed).integer("noise"))
    for number in range(noise):
        slab.add(
            f"noise{number}",
            {
                layer: (
                    torch.randn(a.shape, generator=draw) * sizes[layer][0],
                    torch.randn(b.shape, generator=draw) * sizes[layer][1],
                )
                for layer, (a, b) in like[0].items()
            },
        )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"
