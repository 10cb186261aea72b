"""Validation answers of a pool's adapters, each alone, scored and kept in a ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from hansa.route.answer_scores import ANSWER_SCORES, YES_OR_NO
from hansa.route.answering import AnsweringModel, Mixture, Query
from hansa.route.score_ledger import ScoreLedger
from hansa.route.score_matrix import ScoreMatrix, matrix_of
from hansa.route.sets import Example, RoutedTask


def answered(
    model: AnsweringModel, queries: Sequence[Query], mixtures: Sequence[Mixture], batch: int
) -> list[str]:
    """Answers in batches; queries of like length stand together, so that little is padded."""
    order = sorted(range(len(queries)), key=lambda k: len(queries[k].text))
    said = [""] * len(queries)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        answers = model.answers([queries[k] for k in rows], [mixtures[k] for k in rows])
        for k, answer in zip(rows, answers, strict=True):
            said[k] = answer
    return said


def scored(metric: str, answers: Sequence[str], examples: Sequence[Example]) -> np.ndarray:
    """float32 [n] between 0 and 1."""
    score = ANSWER_SCORES[metric]
    return np.array(
        [score(a, e.answer, e.query.candidates) for a, e in zip(answers, examples, strict=True)],
        dtype=np.float32,
    )


class PoolScorer:
    """Measures cells of the score matrix, each once.

    Args:
        model: with every adapter of the pool in its slab, under its name.
        tasks: whose validation examples are asked.
        adapters: names, the pool's order.
        digests: of each adapter what its scores belong to.
        ledger: what was measured before.
        batch: rows at once.
        say: hears how many answers were taken.

    Attributes:
        evaluated: answers that were taken, by this object.
    """

    def __init__(
        self,
        model: AnsweringModel,
        tasks: Sequence[RoutedTask],
        adapters: Sequence[str],
        digests: Mapping[str, str],
        ledger: ScoreLedger,
        batch: int = 64,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.model, self.tasks, self.adapters = model, tuple(tasks), tuple(adapters)
        self.ledger, self.batch, self.say = ledger, batch, say
        self.evaluated = 0
        self._digests = [digests[name] for name in self.adapters]
        self._keys = [task.digest() for task in self.tasks]
        self._rows = [
            np.stack([ledger.row(key, adapter, len(task.validation)) for adapter in self._digests])
            for key, task in zip(self._keys, self.tasks, strict=True)
        ]

    @property
    def sizes(self) -> list[int]:
        """Validation examples of each task."""
        return [len(task.validation) for task in self.tasks]

    @property
    def pool(self) -> int:
        """How many adapters there are."""
        return len(self.adapters)

    def scores(self, task: int) -> np.ndarray:
        """float32 [A, n_t], NaN where nothing was measured."""
        return self._rows[task]

    def fill(self, task: int, adapters: Sequence[int], examples: Sequence[int]) -> None:
        """Measure what is not there of these adapters on these examples."""
        rows, places = self._rows[task], list(examples)
        missing = {a: [e for e in places if np.isnan(rows[a, e])] for a in adapters}
        cells = [(a, e) for a, some in missing.items() for e in some]
        size = max(1, self.batch)
        for start in range(0, len(cells), size):  # a kill costs the answers of one batch
            self._measure(task, cells[start : start + size])

    def _measure(self, task: int, cells: Sequence[tuple[int, int]]) -> None:
        validation = self.tasks[task].validation
        examples = [validation[e] for _, e in cells]
        slab = self.model.slab
        alone = [Mixture((slab.index(self.adapters[a]),), (1.0,)) for a, _ in cells]
        queries = [example.query for example in examples]
        answers = answered(self.model, queries, alone, self.batch)
        scores = scored(self.tasks[task].metric, answers, examples)
        self.evaluated += len(cells)
        for adapter in dict.fromkeys(a for a, _ in cells):
            mine = [k for k, (a, _) in enumerate(cells) if a == adapter]
            places = [cells[k][1] for k in mine]
            self._rows[task][adapter, places] = scores[mine]
            self.ledger.put(self._keys[task], self._digests[adapter], places, scores[mine])
        self.say(f"{self.tasks[task].name}: {self.evaluated} validation answers")

    def matrix(self) -> ScoreMatrix:
        """The scores so far."""
        own = [task.own for task in self.tasks]
        binary = [task.metric in YES_OR_NO for task in self.tasks]
        names = [task.name for task in self.tasks]
        return matrix_of(names, self.adapters, [rows.copy() for rows in self._rows], own, binary)
