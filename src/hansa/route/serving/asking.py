"""A pool that is asked once, without a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hansa.base.errors import ConfigError
from hansa.route.answering import Query
from hansa.route.composition_error import composition_errors
from hansa.route.generating import GeneratingModel
from hansa.route.serving.served_pool import Chosen, ServedPool, Wish
from hansa.serving.requests_in import Refused


def ask(
    pool: ServedPool,
    texts: Sequence[str],
    model: str = "auto",
    adapters: tuple[tuple[str, float], ...] = (),
    candidates: tuple[str, ...] = (),
    explain: bool = False,
) -> list[dict[str, Any]]:
    """Answers in one batch, in plain data: ``text``, ``answer``, ``routing``.

    Args:
        explain: say in ``composition`` how far cheap ways to mix would be from each mixture.

    Raises:
        ConfigError: nobody can answer, the base needs candidates and there are none, or a text has
            no token.
    """
    generates = isinstance(pool.model, GeneratingModel)
    if candidates and generates:
        problem = "are for an encoder, and the base generates its answers"
        raise ConfigError("candidates", list(candidates), problem, "leave them out")
    if not candidates and not generates:
        fix = "--candidate TEXT, for each answer that it may give"
        raise ConfigError("candidates", [], "are none, and the base is an encoder", fix)
    chosen: list[Chosen] = []
    for one in pool.choose([Wish(model, text, adapters, candidates) for text in texts]):
        if isinstance(one, Refused):
            raise ConfigError("model", model, one.text)
        chosen.append(one)
    queries = [Query(text, candidates) for text in texts]
    answers = pool.model.answers(queries, [one.mixture for one in chosen])
    said = [
        {"text": text, "answer": answer, "routing": one.routing}
        for text, answer, one in zip(texts, answers, chosen, strict=True)
    ]
    if explain:
        for entry, one in zip(said, chosen, strict=True):
            errors = composition_errors(pool.model.slab, one.mixture)
            entry["composition"] = {error.method: error.relative for error in errors}
    return said
