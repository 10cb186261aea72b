"""Who leads, in words: no more is said than the seeds bear out."""

from __future__ import annotations

import math
from statistics import mean, stdev

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from hansa.report.several.leading import AHEAD, BEHIND, FEW, SAME, fate, leading
from hansa.report.units import dimension

Figures = dict[str, dict[int, float]]


def said(figures: Figures, metric: str = "accuracy", sent: str = "") -> str:
    """The sentence on settings with these figures, by seed."""

    def cell(own: dict[int, float]) -> dict:
        fine = [value for value in own.values() if math.isfinite(value)]
        row = {"mean": mean(fine) if fine else None, "std": stdev(fine) if fine[1:] else None}
        return {**row, "unit": dimension(metric), "n": len(fine), "runs": len(own)}

    def gaps(first: str) -> dict[str, list[float]]:
        return {
            name: [
                d
                for seed in sorted(figures[first].keys() & own.keys())
                if math.isfinite(d := figures[first][seed] - own[seed])
            ]
            for name, own in figures.items()
            if name != first
        }

    return leading(metric, {name: cell(own) for name, own in figures.items()}, gaps, sent)


def seeds(*values: float) -> dict[int, float]:
    return dict(enumerate(values, 1))


figure = st.integers(0, 16).map(lambda k: k / 16) | st.just(math.nan)
some = st.dictionaries(
    st.sampled_from("abcd"),
    st.dictionaries(st.integers(1, 6), figure, min_size=1, max_size=6),
    max_size=4,
)


@settings(max_examples=80)
@given(some, st.sampled_from(["accuracy", "loss", "consensus_distance"]))
@example({"a": seeds(0.5, 0.5, 0.5), "b": seeds(0.5, 0.5, 0.5)}, "accuracy")
@example({"a": seeds(0.5), "b": seeds(0.25)}, "accuracy")
@example({"a": seeds(0.5, 1), "b": seeds(0.25, 0.5)}, "loss")
@example({"a": seeds(0.5, 0.625, 0.5), "b": seeds(0.25, 0.25, 0.1875)}, "accuracy")
def test_a_leader_is_ahead_of_all_others_by_an_independent_test(figures, metric):
    text = said(figures, metric)
    finite = {n: [v for v in own.values() if math.isfinite(v)] for n, own in figures.items()}
    finite = {n: own for n, own in finite.items() if own}
    if len(finite) < 2 or metric == "consensus_distance":
        assert text == ""
        return
    assert text.endswith(".")
    sign = 1 if metric == "accuracy" else -1
    best = max(sign * mean(own) for own in finite.values())
    tops = {n for n, own in finite.items() if math.isclose(sign * mean(own), best)}
    how = "highest" if sign > 0 else "lowest"
    claims = f"the {how} {metric}" in text
    if not claims:
        assert any(
            words in text for words in ("cannot be told apart", "the same", f"the {how} mean")
        )
    elif "chance" not in text and "no seed with it" not in text and "too few" not in text:
        # It leads without a reserve: then a t-test that is not ours has it so against each other.
        leaders = text.split(" ha")[0].replace(" and ", ", ").split(", ")
        assert set(leaders) <= tops
        for name in finite.keys() - set(leaders):
            both = figures[leaders[0]].keys() & figures[name].keys()
            ds = [figures[leaders[0]][k] - figures[name][k] for k in both]
            ds = [sign * d for d in ds if math.isfinite(d)]
            assert len(ds) >= 3
            if len(set(ds)) == 1:
                assert ds[0] > 0
                continue
            assert stats.ttest_1samp(ds, 0).confidence_interval(0.95).low > 0
    assert "nan" not in text


@given(st.lists(st.integers(-8, 8), max_size=6), st.integers(1, 5))
def test_a_fate_does_not_hang_on_the_order_or_the_scale(values, scale):
    """And turned about, who was ahead is behind."""
    word = fate(values)
    assert fate(sorted(values)) == fate([scale * v for v in values]) == word
    turned = {AHEAD: BEHIND, BEHIND: AHEAD}
    assert fate([-v for v in values]) == turned.get(word, word)
    assert (word == SAME) == (len(values) > 0 and not any(values))
    assert word in {SAME, FEW} or len(values) >= 3


@pytest.mark.parametrize(
    ("figures", "text"),
    [
        (
            {"fedavg": seeds(0.64, 0.66, 0.62, 0.63, 0.65), "el": seeds(*[0.64, 0.65] * 2, 0.62)},
            "By accuracy, fedavg 64.0 % and el 64.0 % cannot be told apart (n = 5).",
        ),
        (
            {"a": seeds(0.7, 0.72, 0.71), "b": seeds(0.6, 0.63, 0.61), "c": seeds(0.1, 0.2, 0.1)},
            "a has the highest accuracy, 71.0 ± 1.0 % (n = 3), +9.67 points [+8.23, +11.10] "
            "against b, the next.",
        ),
        (
            {"a": seeds(0.7, 0.72, 0.71), "b": seeds(0.7, 0.73, 0.69), "c": seeds(0.1, 0.2, 0.1)},
            "By accuracy, a 71.0 % and b 70.7 % cannot be told apart (n = 3); c 13.3 % is lower.",
        ),
        (
            {n: seeds(0.5 + k / 100, 0.6, 0.7 - k / 90) for k, n in enumerate("abcdefg")},
            "No setting leads by accuracy: b 60.0 %, c 59.9 %, d 59.9 %, e 59.9 % and 2 others "
            "cannot be told apart from a 60.0 % (n = 3).",
        ),
        (
            {"a": seeds(0.7), "b": seeds(0.6)},
            "a has the highest accuracy, 70.00 %; of one seed each: it takes three to tell that "
            "from chance.",
        ),
        (
            {"a": seeds(0.7, 0.72), "b": seeds(0.6, 0.73)},
            "a has the highest accuracy, 71.0 ± 1.4 % (n = 2); with b it has fewer than 3 seeds in "
            "common, too few to tell.",
        ),
        (
            {"a": seeds(0.7, 0.72, 0.73), "b": {7: 0.6, 8: 0.73, 9: 0.5}},
            "a has the highest accuracy, 71.7 ± 1.5 % (n = 3); b shares no seed with it.",
        ),
        (
            {"a": seeds(0.7, 0.7, 0.7), "b": seeds(0.7, 0.7, 0.7), "c": seeds(0.7, 0.7, 0.7)},
            "All have the same accuracy, 70.00 %.",
        ),
        (
            {"a": seeds(0.5, 0.6, 0.7), "b": seeds(0.5, 0.6, 0.7), "c": seeds(0.1, 0.2, 0.4)},
            "a and b have the highest accuracy, 60.0 ± 10.0 % (n = 3), +36.67 points [+22.32, "
            "+51.01] against c, the next.",
        ),
        (
            {"a": {**seeds(0.5, 0.6, 0.7), 9: 0.9}, "b": seeds(0.6, 0.7, 0.8)},
            "b has the highest accuracy, 70 ± 10 % (n = 3).",
        ),
        (
            {"a": {**seeds(0.5, 0.6, 0.7), 8: 0.99, 9: 0.99}, "b": seeds(0.61, 0.72, 0.8)},
            "a has the highest mean, 76 %, but over the seeds that they share b is ahead of it.",
        ),
        (
            {"a": seeds(0.7, math.nan, 0.71, 0.72), "b": seeds(0.1, 0.2, 0.12, 0.1)},
            "a has the highest accuracy, 71.0 ± 1.0 % (n = 3), +60.33 points [+56.54, +64.13] "
            "against b, the next; 1 of 4 runs of a have no such figure.",
        ),
        ({"a": seeds(math.nan), "b": seeds(0.5)}, ""),
        ({}, ""),
    ],
)
def test_sentences(figures, text):
    assert said(figures) == text


def test_lower_is_better_and_what_is_spent():
    figures = {"a": seeds(0.7, 0.72, 0.71), "b": seeds(0.6, 0.63, 0.61)}
    text = said(figures, "loss")
    assert text.startswith("b has the lowest loss, 0.613 ± 0.015 (n = 3), −0.097 [")
    assert text.endswith("against a, the next.")
    assert said({"a": seeds(0.7), "b": seeds(0.7)}, "loss") == "All have the same loss, 0.7."
    spent = {"a": seeds(2e6, 2e6), "b": seeds(1e6, 1e6), "c": seeds(1e6, 1e6)}
    assert said(spent, "total_bytes", "sent") == "b and c sent the least, 1.00 MB each."
    assert said({"b": spent["b"], "c": spent["c"]}, "total_bytes", "sent") == ""
    near = {"a": seeds(2e6, 2.1e6, 2.3e6), "b": seeds(2.1e6, 2.1e6, 2.1e6)}
    assert "By bytes sent, b 2.10 MB and a 2.13 MB cannot be" in said(near, "total_bytes", "sent")
