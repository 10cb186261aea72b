"""Words weighed by how few texts have them: needs nothing but the tasks' own texts."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.route.encoders.encoder import Encoder, FittedEncoder


class WordWeights(FittedEncoder):
    """Words and their weights, in a fixed order.

    Args:
        weights: word -> log((1 + n) / (1 + n with it)) + 1, n texts.
        pairs: also count pairs of neighbouring words.
    """

    def __init__(self, weights: Mapping[str, float], pairs: bool) -> None:
        self.weights, self.pairs = dict(weights), pairs
        self.places = {word: place for place, word in enumerate(self.weights)}

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        vectors = np.zeros((len(texts), len(self.places)), np.float32)
        for row, text in enumerate(texts):
            for word, count in Counter(terms(text, self.pairs)).items():
                if word in self.places:
                    vectors[row, self.places[word]] = count * self.weights[word]
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(lengths > 0, lengths, 1)

    def grown(self, texts: Sequence[str]) -> WordWeights:
        new = weighed(texts, self.pairs)
        return WordWeights({**new, **self.weights}, self.pairs).ordered(self.weights)

    def ordered(self, first: Mapping[str, float]) -> WordWeights:
        """The same with these words before all others, as they stand in ``first``."""
        order = [*first, *(word for word in self.weights if word not in first)]
        return WordWeights({word: self.weights[word] for word in order}, self.pairs)

    def state(self) -> dict[str, Any]:
        return {"weights": self.weights, "pairs": self.pairs}


@register("tfidf")
class TfIdf(Encoder):
    """Words weighed by how few texts of the tasks have them; no model, no download.

    It sees words, not meaning: texts of one task have to share some.
    """

    learns: ClassVar[bool] = True

    pairs: bool = Field(False, description="count pairs of neighbouring words, too")

    def fitted(self, texts: Sequence[str]) -> WordWeights:
        return WordWeights(weighed(texts, self.pairs), self.pairs)

    def restored(self, state: Mapping[str, Any]) -> WordWeights:
        return WordWeights(state["weights"], state["pairs"])


def terms(text: str, pairs: bool) -> list[str]:
    """A text's lower-case words, and pairs of neighbours."""
    words = re.findall(r"\w+", text.lower())
    return [*words, *map(" ".join, pairwise(words))] if pairs else words


def weighed(texts: Sequence[str], pairs: bool) -> dict[str, float]:
    """Every word of the texts, sorted, with its weight."""
    having = Counter(word for text in texts for word in set(terms(text, pairs)))
    count = len(texts)
    return {word: math.log((1 + count) / (1 + having[word])) + 1 for word in sorted(having)}
