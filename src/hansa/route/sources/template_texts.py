"""A world of made texts: domains with words of their own, tasks with templates of their own.

A task's text is its template's words, words of its domain's lexicon, of which each leans to one of
the domain's two answers, and noise words, in a random order. The answer is the one that more
lexicon words lean to. Tasks of one domain share answers and most of the lexicon, so that an adapter
of one helps another; they share nothing with other domains.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hansa.base.streams import Streams
from hansa.route.answering import Query
from hansa.route.sets import Example

SIDES = 2
"""Answers of a domain."""


@dataclass(frozen=True)
class TextWorld:
    """What words there are.

    Attributes:
        domains: how many have tasks.
        tasks: of each domain.
        lexicon: words of a domain, half for each answer.
        used: of these, how many a task uses.
        template: words that stand in every text of a task and in no other's.
        noise: words that stand anywhere.
        seed: chooses which lexicon words a task uses, and all texts.
    """

    domains: int = 4
    tasks: int = 3
    lexicon: int = 36
    used: int = 24
    template: int = 4
    noise: int = 40
    leaning: int = 7
    noisy: int = 4
    seed: int = 1

    def names(self) -> list[tuple[str, str]]:
        """(task, domain) of every task."""
        return [(f"d{d}t{t}", f"d{d}") for d in range(self.domains) for t in range(self.tasks)]

    def words(self) -> list[str]:
        """Every word, those of a domain without tasks included: foreign texts are made of them."""
        every: list[str] = ["answer"]
        for domain in range(self.domains + 1):
            every += [self.answer(domain, side) for side in range(SIDES)]
            every += [w for side in range(SIDES) for w in self._lexicon(domain, side)]
            for task in range(self.tasks):
                every += self._template(domain, task)
        return every + [f"noise{k}" for k in range(self.noise)]

    def answer(self, domain: int, side: int) -> str:
        """What is right of a domain's text that leans to a side."""
        return f"label{domain}{'ab'[side]}"

    def answers(self) -> list[str]:
        """All answers of domains with tasks."""
        return [self.answer(d, side) for d in range(self.domains) for side in range(SIDES)]

    def examples(self, task: int, purpose: str, count: int) -> tuple[Example, ...]:
        """Examples of a task, none twice; each purpose has its own."""
        domain, number = divmod(task, self.tasks)
        return self._drawn(domain, number, f"{purpose} {task}", count)

    def foreign(self, count: int) -> tuple[str, ...]:
        """Texts of a domain that has no task."""
        drawn = self._drawn(self.domains, 0, "foreign", count)
        return tuple(example.query.text for example in drawn)

    def _drawn(self, domain: int, number: int, purpose: str, count: int) -> tuple[Example, ...]:
        rng = Streams(self.seed).numpy(f"texts {purpose}")
        return tuple(one for _, one in zip(range(count), self._texts(domain, number, rng),
                                           strict=False))  # fmt: skip

    def _texts(self, domain: int, number: int, rng: np.random.Generator) -> Iterator[Example]:
        own = Streams(self.seed).numpy(f"lexicon {domain} {number}")
        sides = [
            own.permutation(self._lexicon(domain, side))[: self.used // SIDES]
            for side in range(SIDES)
        ]
        candidates = tuple(self.answer(domain, side) for side in range(SIDES))
        while True:
            side = int(rng.integers(SIDES))
            major = self.leaning // 2 + 2 + int(rng.integers(2))
            words = [
                *self._template(domain, number),
                *rng.choice(sides[side], major),
                *rng.choice(sides[1 - side], self.leaning - major),
                *(f"noise{k}" for k in rng.integers(self.noise, size=self.noisy)),
            ]
            text = " ".join([*rng.permutation(words), "answer"])
            yield Example(Query(text, candidates), candidates[side])

    def _lexicon(self, domain: int, side: int) -> list[str]:
        return [f"word{domain}{'ab'[side]}{k}" for k in range(self.lexicon // SIDES)]

    def _template(self, domain: int, number: int) -> list[str]:
        return [f"form{domain}{number}{k}" for k in range(self.template)]
