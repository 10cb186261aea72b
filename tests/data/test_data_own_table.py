"""Parties' own tables, put together by what they tell: the same as one table of all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.base.errors import ConfigError, DataError, WireError
from hansa.base.streams import Streams
from hansa.data.own_table import OwnTable
from hansa.data.sources.local import File
from hansa.engine.exchange.wire import pack_control, unpack_control

STREAMS = Streams(1)
SITES = ("a", "b", "c")


def frames(seed: int, gaps: bool = False, rows: tuple[int, ...] = (40, 25, 60)) -> list[Any]:
    rng = np.random.default_rng(seed)
    tables = []
    for k, n in enumerate(rows):
        words = np.array(["x", "y", "z", "w"])[rng.integers(0, 2 + k, n)]
        columns: dict[str, Any] = {
            "age": rng.normal(50 + 10 * k, 5, n).round(1),
            "dose": rng.normal(0, 1000 * 10.0**k, n),
            "kind": words,
            "same": np.full(n, 3.25),
            "label": rng.integers(0, 3 if k else 2, n),
        }
        frame = pl.DataFrame(columns).with_columns(site=pl.lit(SITES[k]))
        if gaps:
            frame = frame.with_columns(
                pl.when(pl.Series(rng.random(n) < 0.2))
                .then(None)
                .otherwise(pl.col("age"))
                .alias("age"),
                pl.when(pl.Series(rng.random(n) < 0.2))
                .then(None)
                .otherwise(pl.col("kind"))
                .alias("kind"),
            )
        tables.append(frame)
    return tables


def written(folder: Path, tables: list[Any]) -> None:
    for name, table in zip(SITES, tables, strict=True):
        table.write_csv(folder / f"{name}.csv")
    pl.concat(tables).write_csv(folder / "all.csv")
    pl.concat([table.tail(6) for table in tables]).write_csv(folder / "test.csv")


def source(folder: Path, name: str, **more: Any) -> File:
    own: dict[str, Any] = {"exclude": ["site"]} if name != "all" else {"group": "site"}
    return File(
        path=folder / f"{name}.csv", test_path=folder / "test.csv", task="classification",
        categories="one_hot", **own, **more,
    )  # fmt: skip


def parties(folder: Path, **more: Any) -> list[OwnTable]:
    return [OwnTable(source(folder, name, **more), STREAMS) for name in SITES]


def over_the_wire(party: OwnTable) -> dict[str, Any]:
    return unpack_control(pack_control("roster", **party.tells()))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), gaps=st.booleans())
def test_own_tables_become_parts_of_one(
    tmp_path_factory: pytest.TempPathFactory, seed: int, gaps: bool
) -> None:
    folder = tmp_path_factory.mktemp("tables")
    written(folder, frames(seed, gaps))
    more = {"missing": "impute"} if gaps else {}
    pooled = source(folder, "all", **more).load(STREAMS)
    own = parties(folder, **more)
    tells = [over_the_wire(party) for party in own]
    at = 0
    for party in own:
        data, forms = party.dataset(tells, SITES)
        n = len(data.train)
        assert all({*form.classes} <= {*data.class_names} for form in forms)
        assert data.class_names == pooled.class_names
        assert data.features == pooled.features
        assert data.spec == pooled.spec
        torch.testing.assert_close(
            data.train.inputs, pooled.train.inputs[at : at + n], rtol=0, atol=0
        )
        assert torch.equal(data.train.targets, pooled.train.targets[at : at + n])
        assert torch.equal(data.scale, pooled.scale)
        assert torch.equal(data.shift, pooled.shift)
        if gaps:
            np.testing.assert_allclose(data.fill, pooled.fill, rtol=1e-12)
        at += n
    assert at == len(pooled.train)


def test_what_is_declared_is_not_told_and_holds_everywhere(tmp_path: Path) -> None:
    written(tmp_path, frames(1))
    declared = {
        "classes": [0, 1, 2],
        "words": {"kind": ["w", "x", "y", "z"]},
        "means": {"age": 50, "dose": 0, "same": 3.25},
        "deviations": {"age": 10, "dose": 1e4, "same": 1},
    }
    own = parties(tmp_path, declared=declared)
    assert all(party.needs == () and party.tells() == {} for party in own)
    pooled = source(tmp_path, "all", declared=declared).load(STREAMS)
    for party in own:
        data, _ = party.dataset([{}, {}, {}], SITES)
        assert torch.equal(data.scale, pooled.scale)
        assert data.features == pooled.features
    assert pooled.scale.tolist() == pytest.approx([0.1, 1e-4, 1, 1, 1, 1, 1])


def test_limits_are_told_only_where_somebody_asks(tmp_path: Path) -> None:
    written(tmp_path, frames(2))
    (own,) = (OwnTable(source(tmp_path, "a"), STREAMS, limits=True),)
    assert own.needs == ("names", "moments", "limits")
    data, _ = own.dataset([own.tells()], ["a"])
    low, high = data.limits
    assert torch.equal(low, data.train.inputs.amin(0))
    assert torch.equal(high, data.train.inputs.amax(0))
    untold, _ = parties(tmp_path)[0].dataset([own.tells()], ["a"])
    assert torch.isnan(untold.limits[0]).all()


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (pl.DataFrame({"age": [1.0], "label": [0]}), "others than at a: dose, kind, same"),
        (None, "labels are classes at a and amounts at b"),
    ],
)
def test_tables_that_are_no_parts_of_one(tmp_path: Path, other: Any, text: str) -> None:
    from hansa.data.table_form import TableForm, joined

    written(tmp_path, frames(3))
    form = OwnTable(source(tmp_path, "a"), STREAMS).form
    if other is None:
        theirs = TableForm(form.features, ())
    else:
        theirs = TableForm(form.features[:1], form.classes)
    with pytest.raises(ConfigError, match=text):
        joined([form, theirs], ["a", "b"])


@pytest.mark.parametrize(
    "change",
    [
        {"names": None},
        {"names": {"classes": ["0"], "words": [[]]}},
        {"names": {"classes": ["0", "0"], "words": [[], [], ["x"], []]}},
        {"names": {"classes": ["0" * 300], "words": [[], [], ["x"], []]}},
        {"moments": {"rows": np.ones(3, dtype=np.int64)}},
        {"moments": None},
    ],
)
def test_what_is_malformed_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    written(tmp_path, frames(4))
    own = parties(tmp_path)
    tells = [over_the_wire(party) for party in own]
    with pytest.raises(WireError, match="what b tells"):
        own[0].dataset([tells[0], {**tells[1], **change}, tells[2]], SITES)


def test_a_word_or_class_that_was_not_declared(tmp_path: Path) -> None:
    written(tmp_path, frames(5))
    with pytest.raises(DataError, match="'2' is not among those declared"):
        OwnTable(source(tmp_path, "c", declared={"classes": [0, 1]}), STREAMS)
    with pytest.raises(ConfigError, match=r"declared.words.*no input column 'age' holds words"):
        OwnTable(source(tmp_path, "c", declared={"words": {"age": ["x"]}}), STREAMS)


def test_own_data_know_no_examples_of_all(tmp_path: Path) -> None:
    written(tmp_path, frames(6))
    with pytest.raises(ConfigError, match=r"public = 0.1: needs the examples of all"):
        OwnTable(source(tmp_path, "a", public=0.1), STREAMS)
