"""Tensors and requests of the Open Inference Protocol: what is read, what is refused by name."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hansa.infer.serving.v2_messages import InferAnswer, InferRequest
from hansa.infer.serving.v2_tensors import NamedTensor, TensorForm
from hansa.serving.requests_in import Refused

DTYPES = {"FP32": "float32", "FP64": "float64", "INT64": "int64", "UINT8": "uint8", "BOOL": "bool"}


@given(data=st.data(), datatype=st.sampled_from(sorted(DTYPES)), nested=st.booleans())
def test_a_tensor_comes_back_as_it_went(data: Any, datatype: str, nested: bool) -> None:
    shape = arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)
    finite = {"allow_nan": False, "allow_infinity": False} if datatype[0] == "F" else {}
    array = data.draw(arrays.arrays(DTYPES[datatype], shape, elements=finite or None))
    entry = json.loads(json.dumps(NamedTensor("x", datatype, array).dump()))
    if nested:
        entry["data"] = array.tolist()
    read = NamedTensor.read(entry, "inputs[0]")
    assert read.data.dtype == array.dtype
    np.testing.assert_array_equal(read.data, array)


def test_texts_are_bytes() -> None:
    entry = {"name": "words", "shape": [2], "datatype": "BYTES", "data": ["a", "ü"]}
    assert NamedTensor.read(entry, "").data.tolist() == ["a", "ü"]


GOOD = {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2.5, 3, 4]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": 3}, "inputs[0] has no name"),
        ({"shape": [2, -2]}, "'x': shape [2, -2] is no list of sizes"),
        ({"shape": [True, 4]}, "no list of sizes"),
        ({"datatype": "FLOAT"}, "'x': datatype 'FLOAT' is none of"),
        ({"data": [1, 2, 3]}, "'x': has 3 elements, and shape [2, 2] means 4"),
        ({"data": [[1, 2, 3, 4]]}, "nested as [1, 4], and shape says [2, 2]"),
        ({"data": [[1, 2], [3]]}, "'x'"),
        ({"data": [1, [2], 3, 4]}, "'x'"),
        ({"data": "1234"}, "'x'"),
        ({"data": [1, 2, 3, "4"]}, "data hold int, which is no FP32"),
        ({"datatype": "INT64"}, "which is no INT64"),
        ({"datatype": "UINT8", "data": [1, 2, 3, 400]}, "too large for UINT8"),
        ({"datatype": "INT8", "data": [1, 2, 3, True]}, "no INT8"),
        ({"datatype": "BOOL"}, "no BOOL"),
        ({"datatype": "BYTES"}, "no BYTES"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused) as refused:
        NamedTensor.read({**GOOD, **change}, "inputs[0]")
    assert refused.value.status == 400
    if "hold int" not in said:
        assert said in refused.value.text
    else:
        assert "'x': data hold" in refused.value.text


def test_a_tensor_without_data_is_refused() -> None:
    entry = {key: value for key, value in GOOD.items() if key != "data"}
    with pytest.raises(Refused, match="has no data in the JSON body"):
        NamedTensor.read(entry, "inputs[0]")


FORMS = (TensorForm("x", "FP32", (-1, 2)),)


def asked(**change: Any) -> bytes:
    return json.dumps({"id": "7", "inputs": [GOOD], **change}).encode()


def test_a_request_is_read() -> None:
    request = InferRequest.read(asked(outputs=[{"name": "y"}]), FORMS)
    assert (request.id, request.batch, request.wanted) == ("7", 2, ("y",))
    assert json.loads(request.body) == {"inputs": [GOOD]}
    assert InferRequest.read(asked(), FORMS).body == asked()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "no object"),
        (asked(id=7), "id 7 is no text"),
        (asked(inputs=[]), "no list of tensors"),
        (asked(inputs=[GOOD, GOOD]), "two inputs have one name"),
        (asked(inputs=[{**GOOD, "name": "z"}]), "'z' is no input of the model: x"),
        (
            asked(inputs=[{**GOOD, "datatype": "FP64"}]),
            "datatype is FP64, and the model takes FP32",
        ),
        (asked(inputs=[{**GOOD, "shape": [4]}]), "shape is [4], and the model takes [-1, 2]"),
        (asked(inputs=[{**GOOD, "shape": [1, 4]}]), "the model takes [-1, 2]"),
        (asked(outputs=["y"]), "outputs is no list"),
        (asked(outputs=[{}]), "an output has no name"),
    ],
)
def test_what_is_no_request_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(Refused) as refused:
        InferRequest.read(body, FORMS)
    assert refused.value.status == 400
    assert said in refused.value.text


def test_inputs_of_other_batches_are_refused() -> None:
    other = {"name": "z", "shape": [1], "datatype": "INT64", "data": [1]}
    with pytest.raises(Refused, match="differ in the number of examples"):
        _ = InferRequest.read(asked(inputs=[GOOD, other])).batch
    with pytest.raises(Refused, match="there is no example"):
        _ = InferRequest.read(asked(inputs=[{**GOOD, "shape": [0, 2], "data": []}])).batch


def test_an_answer_echoes_the_id_and_gives_what_was_wanted() -> None:
    outputs = tuple(NamedTensor(name, "INT64", np.array([1, 2])) for name in "yz")
    said = InferAnswer(outputs, {"early": True}).dump("m", InferRequest.read(asked()))
    assert said["id"] == "7"
    assert [tensor["name"] for tensor in said["outputs"]] == ["y", "z"]
    assert said["parameters"] == {"early": True}
    request = InferRequest.read(asked(outputs=[{"name": "z"}]))
    said = InferAnswer(outputs).dump("m", request)
    assert [tensor["name"] for tensor in said["outputs"]] == ["z"]
    with pytest.raises(Refused, match="output 'q' is none of the model: y, z"):
        InferAnswer(outputs).dump("m", InferRequest.read(asked(outputs=[{"name": "q"}])))
