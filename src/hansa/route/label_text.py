"""Answers of a sentence encoder with adapters mixed in: the nearest of a query's candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch, without_gradients
from hansa.models.label_text import Labels, SentenceEncoder
from hansa.route.answering import AnsweringModel, Mixture, Query
from hansa.route.row_mixing import mixing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hansa.route.slab import AdapterSlab


class LabelTextModel(AnsweringModel):
    """Label-text scoring: argmax over the candidates of cos(f(x), f0(candidate)).

    f is the encoder with the row's own mixture, f0 the encoder without adapters; both mean-pooled
    (see ``models/label_text.py``). Vectors of candidates are kept: f0 never changes.

    Args:
        module: an encoder whose output has a ``last_hidden_state``.
        tokenizer: its own, a fast one.
        slab: the adapters.
        max_tokens: texts are cut here.
    """

    def __init__(
        self, module: nn.Module, tokenizer: Any, slab: AdapterSlab, max_tokens: int = 128
    ) -> None:
        self.module, self.slab = module.eval(), slab
        self.encoder = SentenceEncoder(module, tokenizer, max_tokens)
        self.labels = Labels(self.encoder)

    @without_gradients
    def embeddings(self, texts: Sequence[str], mixtures: Sequence[Mixture]) -> Tensor:
        """Unit vectors [n, h], each text under its own mixture, in one batch."""
        mixtures = self.checked(len(texts), mixtures)
        if not texts:
            return torch.empty(0, 0)
        with mixing(self.module, self.slab, mixtures):
            return self.encoder.pooled(self.encoder.tokens(texts))

    def answers(self, queries: Sequence[Query], mixtures: Sequence[Mixture]) -> list[str]:
        """The candidate nearest to each query; the first of those that are equally near.

        Raises:
            ConfigError: as :meth:`AnsweringModel.answers`; a query without candidates too.
        """
        for k, query in enumerate(queries):
            if not query.candidates:
                problem = "has no candidates to choose from"
                fix = "a query with candidates, or a model that generates"
                raise ConfigError(f"queries.{k}", query.text[:60], problem, fix)
        vectors = self.embeddings([query.text for query in queries], mixtures)
        if not queries:
            return []
        self.labels.vectors(list(dict.fromkeys(c for q in queries for c in q.candidates)))
        chosen = []
        for query, vector in zip(queries, vectors, strict=True):
            scores = self.labels.vectors(query.candidates) @ vector
            chosen.append(query.candidates[int(scores.argmax())])
        return chosen
