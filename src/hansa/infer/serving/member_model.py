"""One member as a model: inputs as its data store them, probabilities of its classes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.lazy import torch
from hansa.base.spec import DataSpec
from hansa.ensemble.alignment import Alignment, ScoreKind
from hansa.infer.serving.raw_columns import columns_of, encoded
from hansa.infer.serving.v2_messages import InferAnswer, InferRequest, ServedModel, check
from hansa.infer.serving.v2_tensors import NamedTensor, TensorForm
from hansa.serving.requests_in import Refused

if TYPE_CHECKING:
    from torch import Tensor

    from hansa.data.signature import Signature

INPUT = "input"
MOST = 1024
Scorer = Callable[["Tensor"], "Tensor"]
"""Stored values [b, ...] -> scores [b, outputs]."""


def stored_form(spec: DataSpec) -> TensorForm:
    """The input of a model: stored values, images channels last."""
    shape = tuple(spec.shape)
    if spec.kind == "image":
        shape = (*shape[1:], shape[0])
    return TensorForm(INPUT, "INT64" if spec.kind in ("tokens", "pairs") else "FP32", (-1, *shape))


class MemberModel(ServedModel):
    """A model that was trained, one request at a time.

    Args:
        scorer: gives scores of stored values.
        class_names: K texts; none: numbers from 0.
        kind: what its scores are.
        alignment: makes them comparable with other members', for the output ``scores``.
        signature: how its training read a table, whose columns it takes then, too.
    """

    platform = "hansa_member"

    def __init__(
        self,
        name: str,
        spec: DataSpec,
        scorer: Scorer,
        class_names: Sequence[str] = (),
        kind: ScoreKind = "logits",
        alignment: Alignment | None = None,
        signature: Signature | None = None,
    ) -> None:
        self.signature = signature
        self.name, self.spec, self.scorer = name, spec, scorer
        self.kind, self.alignment = kind, alignment
        self.class_names = list(class_names) or [str(k) for k in range(spec.classes)]
        self.inputs = (stored_form(spec),)
        self.outputs = (
            TensorForm("probabilities", "FP64", (-1, spec.classes)),
            TensorForm("scores", "FP64", (-1, spec.outputs)),
            TensorForm("class", "BYTES", (-1,)),
        )
        self._lane = ThreadPoolExecutor(1, "member")

    def metadata(self) -> dict[str, Any]:
        said = super().metadata()
        if self.signature is not None and self.signature.features:
            said["columns"] = columns_of(self.signature)
        return said

    def read(self, body: bytes) -> InferRequest:
        asked = InferRequest.read(body)
        if self.signature is not None:
            asked = encoded(asked, self.signature, self.inputs[0])
        check(asked.inputs, self.inputs)
        return asked

    async def ready(self) -> bool:
        return True

    def warm(self) -> None:
        form = self.inputs[0]
        kind = np.int64 if form.datatype == "INT64" else np.float32
        self._scores(np.zeros((1, *form.shape[1:]), dtype=kind))

    async def close(self) -> None:
        self._lane.shutdown(wait=False, cancel_futures=True)

    async def infer(self, request: InferRequest, left_s: float | None) -> InferAnswer:
        if request.batch > MOST:
            raise Refused(413, f"{request.batch} examples are more than {MOST} a request")
        stored = request.inputs[INPUT].data
        if stored.dtype.kind == "f" and not np.isfinite(stored).all():
            raise Refused(400, f"tensor {INPUT!r}: a number is not finite")
        self._check_ids(stored)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(left_s):
                scores, shares = await loop.run_in_executor(self._lane, self._scores, stored)
        except TimeoutError:
            raise Refused(504, "the deadline passed before the model had answered") from None
        names = np.array([self.class_names[k] for k in shares.argmax(1)], dtype=object)
        columns = (shares, scores, names)
        return InferAnswer(
            tuple(
                NamedTensor(form.name, form.datatype, column)
                for form, column in zip(self.outputs, columns, strict=True)
            )
        )

    def _check_ids(self, stored: np.ndarray) -> None:
        if self.spec.kind not in ("tokens", "pairs"):
            return
        tops = np.array(self.spec.vocabulary)  # one for all tokens, or one a column of a pair
        if (stored < 0).any() or (stored >= tops).any():
            raise Refused(400, f"tensor {INPUT!r}: ids are from 0, below {tops.tolist()}")

    def _scores(self, stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            scores = self.scorer(torch.from_numpy(np.ascontiguousarray(stored))).double()
            shares = probabilities(scores, self.kind)
            scores = scores if self.alignment is None else self.alignment(scores)
        if not torch.isfinite(shares).all():
            raise Refused(500, "the model gave scores that are not finite")
        return scores.numpy(), shares.numpy()


def probabilities(scores: Tensor, kind: ScoreKind = "logits") -> Tensor:
    """Scores [b, outputs] as probabilities [b, classes]; one score is the second class's."""
    if kind == "probabilities":
        return torch.cat([1 - scores, scores], 1) if scores.shape[1] == 1 else scores
    if scores.shape[1] == 1:
        scores = torch.cat([torch.zeros_like(scores), scores], 1)
    return torch.softmax(scores, 1)
