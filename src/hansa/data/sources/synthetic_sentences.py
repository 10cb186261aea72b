"""Sentences made up of made-up words, so that text can be learned without any file."""

from __future__ import annotations

import itertools

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.data.sources.text_source import Texts, TextSource

_SYLLABLES = tuple(c + v for c, v in itertools.product("bdfgklmnprstvz", "aeiou"))
_LENGTHS = (5, 13)  # words of a sentence


@register("synthetic_sentences")
class SyntheticSentences(TextSource):
    """People who talk about a few topics, each in an accent of filler words; no download.

    A sentence has 5 to 12 words. Each is one of its topic's own words with the chance ``clarity``,
    else one of the fillers, of which every person prefers some. A sentence without a word of its
    topic can only be guessed. Owners are the people.
    """

    people: int = Field(16, ge=1, description="how many people talk")
    per_person: int = Field(100, ge=2, description="sentences of each")
    topics: int = Field(4, ge=2, le=64, description="what they talk about; the classes")
    words: int = Field(30, ge=1, description="words of a topic's own")
    fillers: int = Field(200, ge=1, description="words that say nothing")
    clarity: float = Field(0.3, ge=0, le=1, description="chance of a word to be its topic's own")
    accent: float = Field(
        0.1, gt=0, description="Dirichlet concentration of fillers by person; low: all differ"
    )
    seed: int = Field(0, ge=0, description="of what is made; apart from the run's seed")

    def texts(self) -> Texts:
        rng = Streams(self.seed).numpy("synthetic sentences")
        needed = self.topics * (self.words + 1) + self.fillers
        if needed > len(_SYLLABLES) ** 3 // 2:
            problem = f"with {needed} words in all there are too few syllables"
            raise ConfigError("words", self.words, problem, "fewer words, fillers or topics")
        words = np.array(_words(needed, rng))
        names, own = words[: self.topics], words[self.topics : self.topics * (self.words + 1)]
        own, fillers = own.reshape(self.topics, self.words), words[-self.fillers :]
        said, targets = [], []
        for _ in range(self.people):
            liked = rng.dirichlet(np.full(self.fillers, self.accent))
            for _ in range(self.per_person):
                topic = int(rng.integers(self.topics))
                length = int(rng.integers(*_LENGTHS))
                sentence = rng.choice(fillers, length, p=liked)
                clear = rng.random(length) < self.clarity
                sentence[clear] = rng.choice(own[topic], int(clear.sum()))
                said.append(" ".join(sentence))
                targets.append(topic)
        order = np.argsort(names, kind="stable")  # classes are numbered in sorted order
        people = np.repeat(np.arange(self.people), self.per_person)
        return Texts(
            said,
            np.argsort(order)[np.array(targets)],
            tuple(str(name) for name in names[order]),
            people,
            tuple(f"person {k + 1}" for k in range(self.people)),
        )


def _words(count: int, rng: np.random.Generator) -> list[str]:
    """So many different words of two or three syllables."""
    made: dict[str, None] = {}
    while len(made) < count:
        made["".join(rng.choice(_SYLLABLES, int(rng.integers(2, 4))))] = None
    return list(made)
