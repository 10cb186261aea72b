"""Every key stands once, in YAML as in a person's mind."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.yamltext import RepeatedKey, dump_yaml, load_yaml

KEYS = st.text("abcxyz", min_size=1, max_size=3)
TREES = st.recursive(
    st.integers() | st.text("ab ", max_size=3) | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@given(TREES, st.booleans())
def test_what_has_no_repeats_reads_as_ever(tree: object, flow: bool) -> None:
    text = yaml.safe_dump(tree, default_flow_style=flow)
    assert load_yaml(text) == yaml.safe_load(text) == tree


@given(st.lists(KEYS, min_size=1, max_size=4), KEYS, KEYS, st.booleans())
def test_a_repeat_is_named_at_any_depth(
    path: list[str], key: str, other: str, in_list: bool
) -> None:
    lines = [f"{'  ' * k}{name}:" for k, name in enumerate(path)]
    indent = "  " * len(path)
    first, rest = (f"{indent}- ", f"{indent}  ") if in_list else (indent, indent)
    lines += [f"{first}{key}: 1", f"{rest}{key}{other}: 3", f"{rest}{key}: 2"]
    dotted = ".".join([*path, *(["0"] if in_list else []), key])
    with pytest.raises(RepeatedKey) as caught:
        load_yaml("\n".join(lines))
    assert f"line {len(lines)}: {dotted!r}" in str(caught.value)
    assert f"first in line {len(lines) - 2}" in str(caught.value)


@pytest.mark.parametrize(
    "text", ["{a: 1, a: 2}", "a: 1\n'a': 2", "1: x\n0x1: y", "a: {b: 1, b: 1}"]
)
def test_other_spellings_of_one_key(text: str) -> None:
    with pytest.raises(RepeatedKey):
        load_yaml(text)


def test_merges_replace_and_aliases_may_stand_often() -> None:
    text = "base: &b {lr: 1, steps: 2}\none: {<<: *b, lr: 3}\ntwo: *b\n'1': x\n1: y"
    assert load_yaml(text)["one"] == {"lr": 3, "steps": 2}
    assert load_yaml("") is None
    for around in ("a: &x [*x]", "train: &a {optimizer: *a}"):
        with pytest.raises(yaml.YAMLError, match="alias of what is around it"):
            load_yaml(around)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("1e-3", 1e-3), ("1E3", 1e3), ("1.5e3", 1500.0), ("-2e+1", -20.0), (".5", 0.5), ("1.", 1.0),
        ("1_000", 1000), ("0x10", 16), ("0", 0), ("-7", -7), ("-.inf", float("-inf")),
        ("010", "010"), ("1:30", "1:30"), ("1e", "1e"), ("e3", "e3"), (".", "."), ("-", "-"),
        ("1.2.3", "1.2.3"),
    ],
)  # fmt: skip
def test_numbers_are_read_as_people_write_them(text: str, meant: object) -> None:
    found = load_yaml(text if text != "-" else "'-'")
    assert found == meant
    assert type(found) is type(meant)


@given(st.one_of(st.floats(allow_nan=False), st.integers(), st.from_regex(r"[-0-9eE.:_x]{1,6}")))
def test_what_is_written_is_read(value: object) -> None:
    found = load_yaml(dump_yaml([value]))
    assert found == [value]
    assert type(found[0]) is type(value)


def test_text_that_knows_its_file_is_text() -> None:
    from pathlib import Path

    from hansa.base.paths import written

    assert load_yaml(dump_yaml(written({"a": ["b: c", "1e-3"]}, Path("/")))) == {
        "a": ["b: c", "1e-3"]
    }
