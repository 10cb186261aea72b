"""How queries and answers are written: rows in JSON, and the Open Inference Protocol (V2)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hansa.audit.black_box import NO, REFUSED, YES, Value, word

_MOST = 300  # characters of an answer that an error quotes
_INTEGERS = ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "BOOL")


class Unreadable(ValueError):
    """An answer that is not of the form agreed on."""


@dataclass(frozen=True)
class Rows:
    """``{"rows": [{...}, ...]}``, answered by ``{"answers": [...]}``; null is a refusal.

    Attributes:
        positive: the decision that counts as yes; None: decisions are 0 and 1.
        key: where the answers stand.
        field: of an answer that is a mapping, where its decision stands.
    """

    positive: Value | None
    key: str = "answers"
    field: str = ""

    def written(self, records: Sequence[Mapping[str, Any]], call: str) -> dict[str, Any]:
        """The body of a call."""
        return {"id": call, "rows": list(records)}

    def read(self, body: bytes, count: int) -> np.ndarray:
        """Answers int8 [count].

        Raises:
            Unreadable: says what is wrong.
        """
        answers = _mapping(body).get(self.key)
        if not isinstance(answers, list) or len(answers) != count:
            raise Unreadable(f"{self.key!r} is no list of {count} answers: {_quoted(body)}")
        if self.field:
            answers = [one.get(self.field) if isinstance(one, dict) else one for one in answers]
        return np.array([_coded(one, self.positive) for one in answers], dtype=np.int8)


@dataclass(frozen=True)
class V2:
    """The Open Inference Protocol: a tensor [k, 1] a feature in, one tensor of decisions out.

    Words are BYTES, whole numbers INT64, others FP64. Of an output [k, C] the largest column is
    the decision. An empty word and a number that is none are refusals.

    Attributes:
        positive: the decision that counts as yes; None: numbers are compared with ``threshold``.
        output: name of the tensor; empty: the first.
        threshold: a number that is at least this is a yes.
        merged: name of one input FP32 [k, F] of all features, which are numbers then; empty: none.
    """

    positive: Value | None
    output: str = ""
    threshold: float = 0.5
    merged: str = ""

    def written(self, records: Sequence[Mapping[str, Any]], call: str) -> dict[str, Any]:
        """The body of a call.

        Raises:
            ValueError: a feature is no number, and one input of numbers is asked for.
        """
        names = [name for name in records[0] if name != "id"]
        if self.merged:
            data = [float(record[name]) for record in records for name in names]
            shape = [len(records), len(names)]
            inputs = [{"name": self.merged, "shape": shape, "datatype": "FP32", "data": data}]
        else:
            inputs = [_tensor(name, [record[name] for record in records]) for name in names]
        return {"id": call, "inputs": inputs}

    def read(self, body: bytes, count: int) -> np.ndarray:
        """Answers int8 [count].

        Raises:
            Unreadable: says what is wrong.
        """
        outputs = _mapping(body).get("outputs")
        if not isinstance(outputs, list) or not all(isinstance(one, dict) for one in outputs):
            raise Unreadable(f"there are no outputs: {_quoted(body)}")
        wanted = [one for one in outputs if one.get("name") == self.output or not self.output]
        if not wanted:
            raise Unreadable(f"there is no output {self.output!r}: {_quoted(body)}")
        tensor = wanted[0]
        shape, data = tensor.get("shape"), tensor.get("data")
        whole = isinstance(shape, list) and shape[:1] == [count] and isinstance(data, list)
        if not whole or len(_flat(data)) != int(np.prod(shape)):
            raise Unreadable(f"the output is not of {count} rows: {_quoted(body)}")
        flat, width = _flat(data), int(np.prod(shape[1:]))
        if width > 1:
            try:
                scores = np.array(flat, dtype=np.float64).reshape(count, width)
            except (TypeError, ValueError):
                raise Unreadable(f"scores are no numbers: {_quoted(body)}") from None
            if self.positive is None:
                raise Unreadable(f"it scores {width} classes, and no setting says which is yes")
            top = scores.argmax(axis=1).tolist()
            finite: list[bool] = [bool(np.isfinite(row).all()) for row in scores]
            flat = [best if whole else None for best, whole in zip(top, finite, strict=True)]
        elif self.positive is None:
            return np.array([self._above(one) for one in flat], dtype=np.int8)
        coded = [REFUSED if one == "" else _coded(one, self.positive) for one in flat]
        return np.array(coded, dtype=np.int8)

    def _above(self, score: Any) -> int:
        if score is None or score == "" or (isinstance(score, float) and score != score):
            return REFUSED
        if not isinstance(score, int | float):
            raise Unreadable(f"{score!r} is no number to compare with the threshold")
        return YES if score >= self.threshold else NO


Form = Rows | V2


def _tensor(name: str, values: list[Any]) -> dict[str, Any]:
    kinds = {type(one) for one in values if one is not None}
    if kinds <= {bool}:
        kind = "BOOL"
    elif kinds <= {int, bool}:
        kind = "INT64"
    elif kinds <= {int, float, bool}:
        kind = "FP64"
    else:
        kind = "BYTES"
    gap: Any = "" if kind == "BYTES" else None
    if kind in _INTEGERS and None in values:
        kind = "FP64"  # which has a number for what is missing; JSON writes it as null
    data = [gap if one is None else (str(one) if kind == "BYTES" else one) for one in values]
    return {"name": name, "shape": [len(values), 1], "datatype": kind, "data": data}


def _mapping(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except ValueError as error:
        raise Unreadable(f"it is no JSON ({error}): {_quoted(body)}") from None
    if not isinstance(said, dict):
        raise Unreadable(f"it is no object: {_quoted(body)}")
    return said


def _coded(decision: Any, positive: Value | None) -> int:
    if isinstance(decision, dict | list):
        raise Unreadable(f"{decision!r} is no decision; set field to where it stands")
    said = word(decision)
    if said is None:
        return REFUSED
    if positive is not None:
        return YES if said == word(positive) else NO
    if said not in ("0", "1", "true", "false"):
        raise Unreadable(f"{decision!r} is neither 0 nor 1, and positive is not set")
    return YES if said in ("1", "true") else NO


def _flat(data: list[Any]) -> list[Any]:
    flat: list[Any] = []
    for one in data:
        flat += _flat(one) if isinstance(one, list) else [one]
    return flat


def _quoted(body: bytes) -> str:
    text = body[:_MOST].decode("utf-8", "replace")
    return text + ("…" if len(body) > _MOST else "")
