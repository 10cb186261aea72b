"""A network asked about examples that somebody brings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.lazy import torch, without_gradients
from hansa.data.brought import Brought, read
from hansa.data.brought_words import LACKING
from hansa.data.signature import Signature
from hansa.report.predictions import Predictions, of_amounts, of_classes

if TYPE_CHECKING:
    from torch import Tensor

_BATCH = 256


def predictions(
    network: Callable[[Tensor], Tensor], signature: Signature, data: Any
) -> Predictions:
    """What a network says of examples.

    Args:
        network: model inputs [m, *shape] -> scores [m, C], or amounts [m, 1].
        data: what :func:`hansa.data.brought.read` reads.

    Raises:
        ConfigError, DataError: they are not what the network takes.
    """
    return told(read(data, signature), signature, scores_of(network, signature))


def told(
    brought: Brought, signature: Signature, scores: Callable[[Brought], Tensor]
) -> Predictions:
    """Scores of examples in words: classes with probabilities, or amounts."""
    values = scores(brought)
    if signature.spec.task == "regression":
        amounts = values.reshape(len(values), -1)[:, 0].double().numpy()
        if signature.spec.scale:  # there is no rating beyond the highest
            amounts = np.clip(amounts, signature.spec.scale[0], signature.spec.scale[1])
        return of_amounts(brought.names, amounts, brought.labels)
    return of_classes(
        brought.names, shares_of(values).numpy(), signature.named_classes, brought.labels
    )


def shares_of(scores: Tensor) -> Tensor:
    """Scores [m, C] as probabilities, float64 [m, K]; of a single score, both classes' chances."""
    if scores.shape[-1] == 1:
        scores = torch.cat([torch.zeros_like(scores), scores], -1)
    return torch.softmax(scores.double(), -1)


def scores_of(
    network: Callable[[Tensor], Tensor], signature: Signature
) -> Callable[[Brought], Tensor]:
    """Asks a network some examples at a time; short rows of characters at their own length."""

    @without_gradients
    def scores(brought: Brought) -> Tensor:
        if not ((lacking := (brought.stored == LACKING)).any() and _of_characters(signature)):
            parts = brought.stored.split(_BATCH)
            return torch.cat([network(signature.prepared(some)) for some in parts])
        lengths = (~lacking).sum(1)
        answers: dict[int, Tensor] = {}
        for length in lengths.unique().tolist():
            at = torch.nonzero(lengths == length).flatten()
            some = brought.stored[at][:, -length:]
            rows = torch.cat([network(signature.prepared(one)) for one in some.split(_BATCH)])
            answers |= dict(zip(at.tolist(), rows, strict=True))
        return torch.stack([answers[k] for k in range(len(brought.stored))])

    return scores


def _of_characters(signature: Signature) -> bool:
    return signature.spec.kind == "tokens" and "characters" in signature.reading
