"""Columns of a table as inputs of a served model: a tensor a column, read as in its training.

A model of a table takes one tensor of numbers. Who asks it knows columns: words, numbers, gaps. So
it also takes a tensor by the name of each column ([b] or [b, 1], BYTES for words) and makes of them
what its training made of its own table; an empty text and a null number are missing values.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hansa.base.errors import HansaError
from hansa.base.lazy import polars as pl
from hansa.data.brought import read
from hansa.data.signature import Signature
from hansa.infer.serving.v2_messages import InferRequest
from hansa.infer.serving.v2_tensors import NamedTensor, TensorForm
from hansa.serving.requests_in import Refused


def columns_of(signature: Signature) -> list[dict[str, Any]]:
    """What a model's metadata say of the columns that it takes, in plain data.

    ``words`` are those that training saw, None of numbers; empty where it was no table of columns.
    """
    return [{"name": f["name"], "words": f["words"]} for f in signature.features]


def encoded(request: InferRequest, signature: Signature, form: TensorForm) -> InferRequest:
    """A request with columns as one with the model's own input; one that has it is as it was.

    Args:
        form: of that input.

    Raises:
        Refused: a column is missing, or holds what training did not; names it.
    """
    names, given = {feature["name"] for feature in signature.features}, set(request.inputs)
    if given == {form.name} or not names & given or form.name in given - names:
        return request
    columns = {}
    for name, tensor in request.inputs.items():
        data, rows = tensor.data, len(tensor.data) if tensor.data.ndim else 0
        if data.size != rows:
            shape = list(data.shape)
            raise Refused(400, f"tensor {name!r}: shape is {shape}, and a column has [b] or [b, 1]")
        columns[name] = _column(data.reshape(rows))
    request.batch  # noqa: B018 - columns of one length, or a refusal
    try:
        brought = read(pl.DataFrame(columns), signature)
    except HansaError as error:
        raise Refused(400, " ".join(str(error).split())) from None
    stored = NamedTensor(form.name, form.datatype, brought.stored.numpy())
    return InferRequest({form.name: stored}, request.id, request.wanted, request.body)


def _column(data: np.ndarray) -> Any:
    if data.dtype == object:
        return pl.Series(data.tolist(), dtype=pl.String)
    return pl.Series(data).fill_nan(None) if data.dtype.kind == "f" else pl.Series(data)
