"""A served model of a table takes its columns, and reads them as its training read its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.streams import Streams
from hansa.data import DataSource
from hansa.data.brought import read
from hansa.data.signature import Signature
from hansa.infer.serving.member_model import MemberModel
from hansa.serving.requests_in import Refused

WORDS = ["Ärztin", "Lehrer", "no, idea", "01", "1"]
ROW = st.tuples(
    st.sampled_from([*WORDS, None]),
    st.none() | st.integers(-9, 99),
    st.none() | st.floats(-5, 5, width=32),
)


@pytest.fixture(scope="module")
def signature(tmp_path_factory: pytest.TempPathFactory) -> Signature:
    rows = [f'"{WORDS[k % 5]}";{k % 17};{k / 7 if k % 3 else ""};{["ja", "nein"][k % 2]}'
            for k in range(60)]  # fmt: skip
    path = tmp_path_factory.mktemp("table") / "mine.csv"
    path.write_text("\n".join(["Beruf: was;Alter;Größe (cm);y", *rows]) + "\n")
    source = DataSource.resolve({
        "name": "file", "path": str(path), "label": "y", "missing": "impute",
        "categories": "one_hot",
    })  # fmt: skip
    return Signature.of(source.load(Streams(1)), source)


def model(signature: Signature) -> MemberModel:
    return MemberModel(
        "member", signature.spec, lambda x: torch.zeros(len(x), 2), ("ja", "nein"),
        signature=signature,
    )  # fmt: skip


def tensor(name: str, datatype: str, data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [len(data), 1], "data": data}


def body(rows: list[Any]) -> bytes:
    words, ages, sizes = (list(column) for column in zip(*rows, strict=True))
    return json.dumps({"inputs": [
        tensor("Größe (cm)", "FP64", sizes),
        tensor("Beruf: was", "BYTES", ["" if word is None else word for word in words]),
        tensor("Alter", "FP64", ages),
    ]}).encode()  # fmt: skip


@given(rows=st.lists(ROW, min_size=1, max_size=6))
@settings(max_examples=20, deadline=None)
def test_a_request_of_columns_is_what_a_file_of_them_is(
    signature: Signature, tmp_path_factory: pytest.TempPathFactory, rows: list[Any]
) -> None:
    served = model(signature).read(body(rows)).inputs["input"].data
    path = tmp_path_factory.mktemp("asked") / "asked.csv"
    cells = [
        f'"{"" if w is None else w}";{"" if a is None else a};{"" if s is None else repr(s)}'
        for w, a, s in rows
    ]
    path.write_text("\n".join(["Beruf: was;Alter;Größe (cm)", *cells]) + "\n")
    np.testing.assert_array_equal(served, read(path, signature).stored.numpy())
    assert np.isfinite(served).all()


def test_its_metadata_name_the_columns_and_numbers_still_go(signature: Signature) -> None:
    served = model(signature)
    said = {one["name"]: one["words"] for one in served.metadata()["columns"]}
    assert said == {"Beruf: was": sorted(WORDS), "Alter": None, "Größe (cm)": None}
    whole = [tensor("input", "FP32", [0.5] * 7) | {"shape": [1, 7]}]
    asked = served.read(json.dumps({"inputs": whole}).encode())
    assert asked.inputs["input"].data.tolist() == [[0.5] * 7]


def test_what_training_did_not_see_is_named(signature: Signature) -> None:
    good = json.loads(body([("Lehrer", 3, 1.5)]))["inputs"]
    for inputs, said in (
        (good[:2], "Alter"),
        ([*good[:2], tensor("Alter", "BYTES", ["old"])], "'Alter' holds text"),
        ([good[0], tensor("Beruf: was", "BYTES", ["Pilot"]), good[2]], "'Pilot', which training"),
        ([*good[:2], tensor("Alter", "FP64", [1, 2])], "differ in the number of examples"),
        ([*good[:2], {**good[2], "shape": [1, 2], "data": [1, 2]}], "a column has [b] or [b, 1]"),
        ([tensor("other", "FP64", [1])], "'other' is no input"),
    ):
        with pytest.raises(Refused) as refused:
            model(signature).read(json.dumps({"inputs": inputs}).encode())
        assert (refused.value.status, said in refused.value.text) == (400, True), refused.value.text


def test_a_column_may_be_called_as_the_model_s_own_input(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    rows = [f"{k / 8},{k % 5},{'ab'[k % 2]}" for k in range(40)]
    path.write_text("\n".join(["input,age,y", *rows]) + "\n")
    source = DataSource.resolve({"name": "file", "path": str(path), "label": "y"})
    served = model(Signature.of(source.load(Streams(1)), source))
    columns = [tensor("age", "INT64", [3, 4]), tensor("input", "FP64", [0.5, 1.5])]
    asked = served.read(json.dumps({"inputs": columns}).encode())
    np.testing.assert_array_equal(asked.inputs["input"].data, [[0.5, 3], [1.5, 4]])
    own = {"name": "input", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 3]}
    asked = served.read(json.dumps({"inputs": [own]}).encode())
    np.testing.assert_array_equal(asked.inputs["input"].data, [[0.5, 3]])
