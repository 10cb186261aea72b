"""What a member's response is worth: rows of probabilities, each checked, or what is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hansa.infer.serving.http_reader import Response
from hansa.infer.serving.v2_tensors import flattened

Gives = Literal["probabilities", "logits", "scores"]
USUAL = ("probabilities", "predict_proba")
"""Names under which an output is looked for where none is given."""
SUM_WITHIN = 1e-3
REFUSALS = (400, 413, 415, 422)
"""Statuses that blame the request: they say nothing of the member's health."""


class BadReply(Exception):
    """A response that holds no rows."""


@dataclass(frozen=True)
class Reply:
    """What a member said.

    Attributes:
        rows: float64 [b, K], or scores [b, C].
        valid: bool [b], which rows are distributions, or finite scores.
    """

    rows: np.ndarray
    valid: np.ndarray


def read_reply(
    response: Response, batch: int, width: int, output: str | None, gives: Gives
) -> Reply:
    """The rows in a response of status 200.

    Args:
        output: the output's name; None: the usual ones, or the only one.
        gives: what the output is; of logits a softmax is taken, scores are any finite numbers.
        width: K, or C of scores.

    Raises:
        BadReply: there are none of this form.
    """
    try:
        said = json.loads(response.body)
    except (ValueError, RecursionError):
        raise BadReply("the body is no JSON") from None
    entries = said.get("outputs") if isinstance(said, Mapping) else None
    if not isinstance(entries, list) or not all(isinstance(e, Mapping) for e in entries):
        raise BadReply("there are no outputs")
    entry = _chosen(entries, output)
    if entry.get("shape") not in ([batch, width], *([[width]] if batch == 1 else [])):
        raise BadReply(f"shape {entry.get('shape')!r} is not [{batch}, {width}]"[:200])
    flat, nested = flattened(entry.get("data"))
    if nested is None or len(flat) != batch * width or not set(map(type, flat)) <= {int, float}:
        raise BadReply(f"data are not {batch} times {width} numbers")
    try:
        numbers = list(map(float, flat))
    except OverflowError:
        raise BadReply("a number is too large") from None
    rows = [numbers[start : start + width] for start in range(0, len(numbers), width)]
    # Python's own sums: of so few numbers NumPy's take ten times as long, a member a request.
    if gives == "probabilities":
        sums = [sum(row) for row in rows]  # where a number is not finite no comparison holds
        valid = [
            min(row) >= 0 and abs(total - 1) <= SUM_WITHIN
            for row, total in zip(rows, sums, strict=True)
        ]
        # To the last bit, so that no liar has more than 1 to give: certificates count on it.
        rows = [
            [number / total for number in row] if good else row
            for row, total, good in zip(rows, sums, valid, strict=True)
        ]
        return Reply(np.array(rows), np.array(valid))
    finite = np.asarray(np.isfinite(rows).all(1))
    scores = np.where(finite[:, None], rows, 0)
    if gives == "logits":
        scores = np.exp(scores - scores.max(1, keepdims=True))
        scores /= scores.sum(1, keepdims=True)
    return Reply(scores, finite)


def _chosen(entries: list[Any], output: str | None) -> Mapping[str, Any]:
    names = {entry.get("name"): entry for entry in entries}
    for name in (output,) if output else USUAL:
        if name in names:
            entry: Mapping[str, Any] = names[name]
            return entry
    if output is None and len(entries) == 1:
        only: Mapping[str, Any] = entries[0]
        return only
    raise BadReply(f"there is no output {output or USUAL[0]!r}")


def refusal_of(response: Response) -> str:
    """The error that a member tells, in one line."""
    try:
        said = json.loads(response.body)
        text = said["error"] if isinstance(said, Mapping) else ""
    except (ValueError, KeyError, RecursionError):
        text = ""
    return " ".join(str(text).split())[:200] or f"status {response.status}"
