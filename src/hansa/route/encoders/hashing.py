"""Words hashed to places: nothing is fitted, so nothing has to be shared."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.route.encoders.encoder import Encoder, FittedEncoder
from hansa.route.encoders.tfidf import terms


class HashedWords(FittedEncoder):
    """Counts of words at places that their hash names, with a sign (Weinberger et al. 2009)."""

    def __init__(self, size: int, pairs: bool) -> None:
        self.size, self.pairs = size, pairs

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        vectors = np.zeros((len(texts), self.size), np.float32)
        for row, text in enumerate(texts):
            for word, count in Counter(terms(text, self.pairs)).items():
                place, sign = _place(word)
                # The square root keeps one word that is everywhere from being all of the text.
                vectors[row, place % self.size] += sign * count**0.5
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(lengths > 0, lengths, 1)


@register("hashing", paper="Weinberger et al.", year=2009, url="https://arxiv.org/abs/0902.2206")
class Hashing(Encoder):
    """Words hashed to a fixed number of places; fitted on nothing, so peers need no common words.

    Common words weigh as much as rare ones: ``tfidf`` is better where texts may be pooled.
    """

    size: int = Field(1024, ge=8, le=2**20, description="places, the length of a vector")
    pairs: bool = Field(False, description="count pairs of neighbouring words, too")

    def fitted(self, texts: Sequence[str]) -> HashedWords:
        return HashedWords(self.size, self.pairs)


@lru_cache(maxsize=1 << 16)
def _place(word: str) -> tuple[int, int]:
    digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
    number = int.from_bytes(digest, "little")
    return number >> 1, 1 if number & 1 else -1
