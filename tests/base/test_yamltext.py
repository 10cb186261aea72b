"""Every key stands once, in YAML as in a person's mind."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.yamltext import RepeatedKey, load_yaml

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
    assert load_yaml("a: &x [*x]")["a"]
