"""Names cut to their place are still told apart."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from hansa.report.several.short_names import short_names

names = st.lists(st.text("ab_", min_size=1, max_size=40), min_size=1, max_size=6, unique=True)


@given(names, st.integers(8, 30))
@example([f"a_rather_long_name_of_an_algorithm_{k}" for k in "ab"], 20)
@example(["a" * 20 + "x" + "b" * 30, "a" * 20 + "y" + "b" * 30], 12)
def test_no_two_are_alike_and_only_long_ones_are_cut(given_names, most):
    found = short_names(given_names, most)
    assert len(set(found)) == len(found) == len(given_names)
    for name, short in zip(given_names, found, strict=True):
        assert short == name or ("…" in short and len(short) <= most)
    if all(len(name) <= most for name in given_names):
        assert found == given_names


def test_where_names_are_cut():
    found = short_names([f"a_rather_long_name_of_{k}" for k in ("dpsgd", "jwins")], 20)
    assert found == ["a_rathe…ame_of_dpsgd", "a_rathe…ame_of_jwins"]
    assert short_names(["x" * 10 + "y" * 10, "z"], 9) == ["xxx…yyyyy", "z"]
    differ_within = ["a" * 30 + k + "b" * 30 for k in "xy"]
    assert short_names(differ_within, 70) == differ_within
    assert short_names(["rate 0.1, " + "c" * 30 + k for k in ", d"], 12)[0].startswith("rate")
