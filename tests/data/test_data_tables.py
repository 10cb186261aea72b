"""Tables as people have them: marks, spaces, gaps, words, counts of rows, doubtful labels."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hansa.base.errors import ConfigError, DataError
from hansa.data import Dataset, Natural

from .tables import ROWS, as_blob, equal, load, write


@pytest.fixture
def plain(tmp_path: Path) -> Dataset:
    return load(write(tmp_path / "plain.csv", ROWS))


@pytest.mark.parametrize("name", ["t.csv", "t.CSV", "t.txt", "t.tsv", "t.TSV", "t.data"])
@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_any_mark_and_name(name: str, mark: str, tmp_path: Path, plain: Dataset) -> None:
    if name.lower().endswith(".tsv") and mark != "\t":
        return
    assert equal(load(write(tmp_path / name, ROWS, mark=mark)), plain)


def test_what_surrounds_values_does_not_count(tmp_path: Path, plain: Dataset) -> None:
    path = tmp_path / "t.csv"
    spaced = [
        (f" {a}", f"{b} ", (f'"{c} "', f' "{c}"')[k % 3 == 0]) for k, (a, b, c) in enumerate(ROWS)
    ]
    write(path, spaced, names=' a ,"b", "label"')
    path.write_bytes(b"\xef\xbb\xbf\r\n" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert equal(load(path), plain)


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
@pytest.mark.parametrize("start", [0, 1, 500])
def test_a_count_of_rows_is_no_input(name: str, start: int, tmp_path: Path, plain: Dataset) -> None:
    order = np.random.default_rng(0).permutation(20) + start
    rows = [(order[k], *row) for k, row in enumerate(ROWS)]
    data = load(write(tmp_path / "t.csv", rows, names=f"{name},a,b,label"))
    assert equal(data, plain)
    assert "counts the rows" in data.notes[0]
    if name:
        assert load(tmp_path / "t.csv", inputs=(name, "a")).spec.shape == (2,)


def test_pandas_writes_it_twice(tmp_path: Path, plain: Dataset) -> None:
    rows = [(k, k, *row) for k, row in enumerate(ROWS)]
    assert equal(load(write(tmp_path / "t.csv", rows, names=",Unnamed: 0,a,b,label")), plain)
    trailing = [(*row, "") for row in ROWS]
    assert equal(load(write(tmp_path / "t.csv", trailing, names="a,b,label,")), plain)
    with pytest.raises(DataError, match="column 1 has no name"):
        load(write(tmp_path / "t.csv", [(0.5, *row) for row in ROWS], names=",a,b,label"))


@pytest.mark.parametrize(
    ("labels", "task", "found"),
    [
        ([0, 1, 2], None, "classification"),
        (["yes", "no"], None, "classification"),
        (["true", "False"], None, "classification"),
        ([0.5, 1.5, 2.0], None, "regression"),
        ([0, 1, 2], "regression", "regression"),
        (["0.0", "1.0"], "classification", "classification"),
        (["0.0", "1.0"], "regression", "regression"),
        (range(20, 60), "regression", "regression"),
        (["0.0", "1.0", "2.0"], None, "asked"),
        (range(20, 60), None, "asked"),  # ages
        ([0.5, 1.5], "classification", "asked"),
        (["yes", "no"], "regression", "asked"),
    ],
)
def test_the_task_is_told_or_asked(labels: Any, task: str, found: str, tmp_path: Path) -> None:
    rows = [(k / 4, -k, labels[k % len(labels)]) for k in range(60)]
    path = write(tmp_path / "t.csv", rows)
    if found == "asked":
        with pytest.raises(ConfigError) as caught:
            load(path, task=task)
        assert caught.value.field == "task"
        assert caught.value.fix
    else:
        data = load(path, task=task)
        assert data.spec.task == found
        if found == "classification":
            assert len(data.class_names) == len(labels)
            assert not any("." in name for name in data.class_names)


GAPS = [
    ("" if k % 5 == 0 else k / 4, "?" if k % 7 == 0 else -k, ["no", "yes"][k % 2])
    for k in range(20)
]


def test_missing_values_are_counted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="6 of 20 rows: 'a' 4, 'b' 3") as caught:
        load(write(tmp_path / "t.csv", GAPS))
    assert caught.value.field == "missing"
    assert "impute" in caught.value.fix


def test_rows_with_gaps_are_dropped(tmp_path: Path) -> None:
    data = load(write(tmp_path / "t.csv", GAPS), missing="drop")
    whole = load(
        write(tmp_path / "w.csv", [row for row in GAPS if "" not in row and "?" not in row])
    )
    assert equal(data, whole)
    assert "6 of 20 rows with missing values were left out" in data.notes[0]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_gaps_are_filled_from_training_rows_alone(tmp_path: Path, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.none() | st.integers(-9, 9), min_size=12, max_size=12))
    values[0] = values[0] or 1
    owners = [f"o{k % 2}" for k in range(12)]
    by_owner = data.draw(st.booleans())
    rows = [
        ("" if v is None else v, k, "ab"[k // 2 % 2], o)
        for k, (v, o) in enumerate(zip(values, owners, strict=True))
    ]
    path = write(tmp_path / "t.csv", rows, names="x,k,label,who")
    more = {"group": "who"} if by_owner else {"exclude": ("who",)}
    found = load(path, missing="impute", normalize="none", validation=0.25, **more)
    ids = found.train.inputs[:, 1].long().tolist()
    known = [float(values[i]) for i in ids if values[i] is not None]
    overall = np.mean(known) if known else 0.0
    for part in (found.train, found.validation, found.test):
        assert part is not None
        for x, k in part.inputs.tolist():
            value = values[int(k)]
            if value is None:
                own = [float(values[i]) for i in ids if values[i] is not None and i % 2 == k % 2]
                value = np.mean(own) if own and by_owner else overall
            assert x == pytest.approx(value, abs=1e-6)


def test_rows_without_a_label_are_not_invented(tmp_path: Path) -> None:
    rows = [(a, b, "" if k == 3 else c) for k, (a, b, c) in enumerate(GAPS)]
    data = load(write(tmp_path / "t.csv", rows), missing="impute")
    assert len(data.train) + len(data.test) == 19
    assert any("1 of 20 rows without label or group" in note for note in data.notes)


def test_words_become_columns_when_asked(tmp_path: Path) -> None:
    towns = ["Bern", " Lyon", "Graz", "Lyon "]
    rows = [(k, towns[k % 4], ["no", "yes"][k % 2]) for k in range(20)]
    path = write(tmp_path / "t.csv", rows, names="a,town,label")
    with pytest.raises(ConfigError, match="'town' holds text, 3 different words") as caught:
        load(path)
    assert caught.value.field == "categories"
    assert load(path, exclude=("town",)).spec.shape == (1,)
    x = load(path, categories="one_hot", normalize="none").train.inputs
    assert x.shape[1] == 4
    order = ["Bern", "Graz", "Lyon"]
    for row in x.tolist():
        assert order[int(np.argmax(row[1:]))] == towns[int(row[0]) % 4].strip()
        assert sum(row[1:]) == 1


def test_a_missing_word_becomes_the_shares(tmp_path: Path) -> None:
    rows = [(k, ["u", "v", "u", "NA"][k % 4], ["no", "yes"][k // 4 % 2]) for k in range(40)]
    path = write(tmp_path / "t.csv", rows, names="a,w,label")
    x = load(path, categories="one_hot", missing="impute", normalize="none").train.inputs
    known, gaps = x[x[:, 0] % 4 != 3, 1:], x[x[:, 0] % 4 == 3, 1:]
    assert torch.allclose(gaps, known.mean(0).expand_as(gaps))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["1,5", "2,25"], "with commas or marks such as"),
        (["1,234", "2,500.5"], "with commas or marks such as"),
        (["2024-01-05", "2023-12-31"], "dates or times such as"),
        (["5.1.2024", "31.12.2023"], "dates or times such as"),
        ([f"name {k}" for k in range(150)], "150 different words"),
        ([*map(str, range(30)), "unknown"], "1 words that are none .'unknown'."),
    ],
)
def test_numbers_dates_and_names_are_no_categories(
    values: list[str], words: str, tmp_path: Path
) -> None:
    rows = [(k, values[k % len(values)], k % 2) for k in range(310)]
    path = write(tmp_path / "t.csv", rows, names="a;w;label", mark=";")
    for way in ("refuse", "one_hot"):
        if way == "refuse" and len(values) == 150:
            continue
        with pytest.raises(DataError, match=words):
            load(path, categories=way)
    if "unknown" in values:
        shown = load(path, missing_values=("unknown",), missing="impute")
        assert shown.spec.shape == (2,)


@pytest.mark.parametrize(
    ("blob", "words"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"a,b,label\n", "no rows"),
        (b"a, a,label\n1,2,0\n", "two columns named 'a'"),
        (b"a,label\n7,1,0\n8,2,1\n", "name the first column too"),
        (b"a,label\n\xe9,1\n", "line 2"),
        ("a,label\n1,0\n".encode("utf-16"), "UTF-16"),
        (b"a,label\n1,0\n1,2,3\n", "line 3 has 3 values"),
        (b"a,label\n1,0\n,1\n", "missing in 1 of 2"),
        (b"a,label\n,0\n,1\n,0\n,1\n", "'a' has no value in any row"),
    ],
)
def test_broken_texts_are_explained(blob: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(blob)
    with pytest.raises((DataError, ConfigError), match=words):
        load(tmp_path / "t.csv")


def test_a_missing_line_of_names_is_guessed(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", ROWS[1:], names="0.5,0.25,1")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert "first line holds values" in caught.value.fix
    with pytest.raises(ConfigError, match="is not a column") as caught:
        load(write(tmp_path / "t.csv", ROWS, names="a,b,Label"))
    assert "did you mean 'Label'" in caught.value.fix


def test_a_constant_column_does_no_harm(tmp_path: Path) -> None:
    data = load(write(tmp_path / "t.csv", [(7, b, c) for _, b, c in ROWS]))
    x, _ = data.gather(data.train, torch.arange(len(data.train)))
    assert torch.isfinite(x).all()
    assert (x[:, 0] == 0).all()
    with pytest.raises(DataError, match="one class only"):
        load(write(tmp_path / "t.csv", [(a, b, "yes") for a, b, _ in ROWS]))


def test_parquet_is_read_alike(tmp_path: Path, plain: Dataset) -> None:
    frame = pl.DataFrame(
        {"a": [r[0] for r in ROWS], "b": [r[1] for r in ROWS], "label": [f" {r[2]}" for r in ROWS]}
    )
    frame.with_columns(pl.col("label").cast(pl.Categorical)).write_parquet(tmp_path / "t.PARQUET")
    assert equal(load(tmp_path / "t.PARQUET"), plain)
    dated = frame.with_columns(day=pl.date(2024, 1, 1))
    dated.write_parquet(tmp_path / "d.parquet")
    with pytest.raises(DataError, match="'day' holds dates"):
        load(tmp_path / "d.parquet")


def test_classes_that_differ_in_capitals_are_remarked(tmp_path: Path) -> None:
    rows = [(a, b, ("Yes", "yes", "no")[k % 3]) for k, (a, b, _) in enumerate(ROWS)]
    data = load(write(tmp_path / "t.csv", rows))
    assert any("differ in capitals" in note for note in data.notes)


def test_two_files_are_typed_together(tmp_path: Path, plain: Dataset) -> None:
    first, second = write(tmp_path / "a.csv", ROWS[:10]), write(tmp_path / "b.csv", ROWS[10:])
    data = load(first, test_path=second)
    assert (len(data.train), len(data.test)) == (10, 10)
    write(second, [("x", b, c) for _, b, c in ROWS])
    with pytest.raises(DataError, match="'a' holds numbers in one"):
        load(first, test_path=second)
    write(second, ROWS, names="a,c,label")
    with pytest.raises(ConfigError, match="has no column 'b'"):
        load(first, test_path=second)


def test_groups_follow_their_rows(tmp_path: Path) -> None:
    rows = [(*row, f" site {k % 3}") for k, row in enumerate(ROWS)]
    rows[4] = ("", *rows[4][1:])
    path = write(tmp_path / "t.csv", rows, names="a,b,label,who")
    data = load(path, group="who", missing="drop", partition=Natural())
    assert data.group_names == ("site 0", "site 1", "site 2")
    assert data.train.groups is not None
    for (_, b), owner in zip(data.train.inputs.tolist(), data.train.groups, strict=True):
        assert owner == -b % 3


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r"),
        lambda text: text.replace("\n", "\n\n") + "\n\n",
        lambda text: text.replace("\n", "\r\n \r\n"),
        lambda text: "sep=;\n" + text.replace(",", ";"),
        lambda text: '"sep=,"\n' + text,
    ],
    ids=["cr", "blank", "blank_crlf", "excel", "excel_quoted"],
)
def test_lines_are_read_as_a_person_does(change: Any, tmp_path: Path, plain: Dataset) -> None:
    path = write(tmp_path / "t.csv", ROWS)
    path.write_bytes(change(path.read_text()).encode())
    assert equal(load(path), plain)


def test_commas_in_a_tsv_and_blank_lines_in_quotes(tmp_path: Path, plain: Dataset) -> None:
    assert equal(load(write(tmp_path / "t.tsv", ROWS)), plain)
    rows = [(k, -k, '"a\n\nb"' if k % 2 else "c") for k in range(20)]
    assert load(write(tmp_path / "q.csv", rows)).class_names == ("a\n\nb", "c")


@pytest.mark.parametrize(
    ("blob", "words"),
    [
        ("a,b,label\n1,2,x\n".encode("utf-16-le"), "UTF-16"),
        (b"\x1f\x8b\x08rest", "compressed"),
        (b"PK\x03\x04rest", "compressed"),
        (b"a b label\n1 2 x\n", "between spaces"),
        (b"a,b,label\n1,2,x\n1,2,x,9\n", "line 3 has 4 values"),
        (b"a,b,label\n1,2,x,\n", "rows end with ','"),
    ],
)
def test_what_is_no_table_is_told_by_its_fault(blob: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        load(as_blob(blob, tmp_path / "t.csv"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["2020/01/02", "2020/03/04"], "dates or times such as '2020/01/02'"),
        (["Jan 1, 2020", "3 March 2021"], "dates or times"),
        (["10:30", "9:15 pm"], "dates or times"),
        (["5%", "12.5 %"], "sign or a unit"),
        (["$1.50", "€ 3"], "sign or a unit"),
        ([f"{k} kg" for k in range(30)], "sign or a unit"),
        (["10 948", "1 000 000"], "commas or marks"),
        (["1.234.567", "2.345.678"], "commas or marks"),
    ],
)
def test_numbers_and_dates_in_other_dress_are_no_words(
    values: list[str], words: str, tmp_path: Path
) -> None:
    rows = [(k, values[k % len(values)], k % 2) for k in range(60)]
    path = write(tmp_path / "t.csv", rows, names="a;w;label", mark=";")
    with pytest.raises(DataError, match=words):
        load(path, categories="one_hot")


@pytest.mark.parametrize("values", [["10+ years", "1 year"], ["May", "Mar"], ["w1", "w2"], ["3:x"]])
def test_words_with_numbers_in_them_stay_words(values: list[str], tmp_path: Path) -> None:
    rows = [(k, values[k % len(values)], k % 2) for k in range(60)]
    path = write(tmp_path / "t.csv", rows, names="a,w,label")
    assert load(path, categories="one_hot").spec.shape == (1 + len(values),)


def test_codes_with_leading_zeros_are_not_one_number(tmp_path: Path) -> None:
    rows = [(k / 4, -k, ("01", "1", "001")[k % 3]) for k in range(30)]
    assert load(write(tmp_path / "t.csv", rows)).class_names == ("001", "01", "1")
    rows = [(k / 4, f"{k % 12 + 1:02}", k % 2) for k in range(30)]  # months: one width, no code
    assert load(write(tmp_path / "m.csv", rows)).spec.shape == (2,)


def test_missing_numbers_are_known_by_value(tmp_path: Path) -> None:
    rows = [(k / 4 if k % 5 else (-999, "-999.0")[k % 2], k, k % 2) for k in range(30)]
    data = load(write(tmp_path / "t.csv", rows), missing="drop", missing_values=(-999,))
    assert len(data.train) + len(data.test) == 24


def test_whole_labels_stay_whole_where_some_are_missing(tmp_path: Path) -> None:
    for kind, labels in ((pl.Int64, [0, 1, None]), (pl.Boolean, [False, True, None])):
        frame = pl.DataFrame({"a": range(30), "label": pl.Series(labels * 10, dtype=kind)})
        frame.write_parquet(tmp_path / "t.parquet")
        data = load(tmp_path / "t.parquet", missing="drop")
        assert data.spec.task == "classification"
        assert len(data.class_names) == 2


def test_what_only_the_test_set_has_is_remarked(tmp_path: Path) -> None:
    train = write(tmp_path / "a.csv", [(k, "uv"[k % 2], "xy"[k % 2]) for k in range(20)])
    test = write(tmp_path / "b.csv", [(k, "uw"[k % 2], "xz"[k % 2]) for k in range(20)])
    notes = load(train, test_path=test, categories="one_hot").notes
    assert any("classes in the test set only" in note and note.endswith(": z") for note in notes)
    assert any("words of 'b' in the test set only" in note for note in notes)


def test_a_named_count_of_rows_is_remarked(tmp_path: Path) -> None:
    rows = [(k, -k * k, "xy"[k > 9]) for k in range(20)]
    notes = load(write(tmp_path / "t.csv", rows)).notes
    assert any("'a' counts the rows" in note for note in notes)


def test_label_and_inputs_are_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", [(k, k % 3, k % 2) for k in range(20)])
    for wrong in ({"inputs": ("a", "label")}, {"exclude": ("label",)}):
        with pytest.raises(ConfigError, match="is the label"):
            load(path, **wrong)
    with pytest.raises(ConfigError, match="among the inputs"):
        load(path, inputs=("a", "b"), exclude=("b",))


def test_a_first_line_of_whole_numbers_is_no_line_of_names(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", [(k, 40 + k, k % 2) for k in range(20)], names="7,42,1")
    with pytest.raises(ConfigError, match="first line holds values"):
        load(path)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([{"q": 1, "r": 2}] * 20, "records"),
        ([["a", "b"]] * 20, "lists of words"),
        ([datetime.time(3)] * 20, "dates or times"),
    ],
)
def test_columns_of_parts_are_refused_by_name(
    column: list[Any], words: str, tmp_path: Path
) -> None:
    frame = pl.DataFrame({"a": range(20), "v": column, "label": ["x", "y"] * 10})
    frame.write_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=words) as found:
        load(tmp_path / "t.parquet", categories="one_hot")
    assert "'v'" in str(found.value)


def test_lists_as_labels_are_refused(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": range(20), "label": [[0, 1], [1, 0]] * 10})
    frame.write_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="one a row is needed"):
        load(tmp_path / "t.parquet")
