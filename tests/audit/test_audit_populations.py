"""Populations: the published truths, rules of one's own, and what cannot be a group."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.audit.grouping import by_rule, favourable, levels
from hansa.audit.population import Attribute, Population
from hansa.audit.population_source import PopulationSource
from hansa.base.errors import ConfigError

GERMAN = {
    "age": (0.810, 0.7284, 0.5789),
    "sex": (0.690, 0.7232, 0.6484),
    "marital": (0.452, 0.6593, 0.7336),
    "telephone": (0.404, 0.7203, 0.6862),
    "employment": (0.427, 0.7588, 0.6562),
}
COMPAS = {
    "sex": (0.1904, 0.3515, 0.4795),
    "african_american": (0.5144, 0.5231, 0.3830),
    "young": (0.2182, 0.5598, 0.4259),
    "misdemeanor": (0.3568, 0.3747, 0.4997),
    "priors": (0.6622, 0.5412, 0.2863),
}
LARGEST = {
    "german": (0.643, 0.427, 0.295, 0.200, 0.141),
    "compas": (0.682, 0.477, 0.338, 0.245, 0.179),
}
"""Share of the largest stratum, the mean over all choices of m = 1 to 5 of the attributes."""


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "rows", "overall", "truths"),
    [("german", 1000, 0.7, GERMAN), ("compas", 6172, 0.4551, COMPAS)],
)
def test_the_published_truths(
    name: str, rows: int, overall: float, truths: dict[str, tuple[float, float, float]]
) -> None:
    population = PopulationSource.resolve(name).read()
    assert population.rows == rows
    assert population.answers is not None
    assert population.answers.mean() == pytest.approx(overall, abs=5e-5)
    for attribute, (share, second, first) in truths.items():
        codes = population.attributes[attribute].codes
        assert (codes == 1).mean() == pytest.approx(share, abs=5e-5)
        assert population.answers[codes == 1].mean() == pytest.approx(second, abs=5e-5)
        assert population.answers[codes == 0].mean() == pytest.approx(first, abs=5e-5)


@pytest.mark.data
@pytest.mark.parametrize("name", ["german", "compas"])
def test_the_largest_stratum(name: str) -> None:
    from itertools import combinations

    population = PopulationSource.resolve(name).read()
    names = list(GERMAN if name == "german" else COMPAS)
    for agents, expected in enumerate(LARGEST[name], start=1):
        shares = [
            population.cells(chosen).sizes.max() / population.rows
            for chosen in combinations(names, agents)
        ]
        assert np.mean(shares) == pytest.approx(expected, abs=5.1e-4)


@pytest.mark.data
def test_many_attributes_have_few_occupied_cells() -> None:
    population = PopulationSource.resolve("acs").read()
    assert (population.rows, len(population.attributes)) == (47461, 22)
    cells = population.cells(list(population.attributes)[:20])
    assert len(cells) < 2**20 // 100
    assert cells.sizes.sum() == population.rows


@pytest.mark.data
def test_who_has_no_known_group_is_counted() -> None:
    population = PopulationSource.resolve("adult").read()
    assert population.attributes["origin"].unknown == 583
    assert len(population.attributes["race"].values) == 5


@given(
    codes=st.lists(
        st.tuples(st.integers(-1, 2), st.integers(-1, 1), st.integers(-1, 3)), min_size=1
    )
)
def test_cells_are_the_distinct_rows_in_order(codes: list[tuple[int, int, int]]) -> None:
    table = np.array(codes, np.int16)
    attributes = {
        name: Attribute(name, tuple("abcd")[:count], table[:, k])
        for k, (name, count) in enumerate((("x", 3), ("y", 2), ("z", 4)))
    }
    population = Population(attributes)
    cells = population.cells(("x", "y", "z"))
    unique, ids, counts = np.unique(table, axis=0, return_inverse=True, return_counts=True)
    assert (cells.codes == unique).all()
    assert (cells.ids == ids.ravel()).all()
    assert (cells.sizes == counts).all()
    pair = population.attribute(("x", "y"))
    known = (table[:, :2] >= 0).all(axis=1)
    assert ((pair.codes >= 0) == known).all()
    assert pair.sizes.all()


def test_rules_make_two_groups_and_leave_out_whom_they_do_not_know() -> None:
    age = by_rule("age", ["25", "26", None, "61"], "> 25")
    assert (age.values, age.codes.tolist()) == (("<= 25", "> 25"), [0, 1, -1, 1])
    sex = by_rule("sex", ["m", "f", None], "= f")
    assert (sex.values, sex.codes.tolist()) == (("not f", "f"), [0, 1, -1])
    race = levels("race", ["w", "b", None, "w"])
    assert (race.values, race.codes.tolist()) == (("w", "b"), [0, 1, -1, 0])
    assert levels("race", ["w", "b", "x"], ("b", "w")).codes.tolist() == [1, 0, -1]


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: by_rule("age", ["1"], "about 25"), "is no rule"),
        (lambda: by_rule("age", ["old"], "> 25"), "compares numbers"),
        (lambda: by_rule("sex", ["m"], "= f"), "holds for nobody"),
        (lambda: levels("age", [str(k) for k in range(60)]), "60 different values"),
        (lambda: levels("sex", ["m"], ("m", "f")), "is no value"),
        (lambda: favourable(["yes", "no"], None, "favourable"), "is not binary"),
        (lambda: favourable(["yes", "no"], "y", "favourable"), "is no value"),
        (lambda: favourable(["yes", None], "yes", "favourable"), "1 rows have no value"),
    ],
)
def test_what_is_no_group_is_refused_by_name(call, problem: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=problem):
        call()


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("id,age,sex,hired,fit\n1,20,f,yes,1\n2,30,m,no,0\n3,,m,yes,1\n4,50,?,no,1\n")
    settings = {
        "name": "table",
        "path": str(path),
        "attributes": {
            "age": "> 25",
            "sex": ["m", "f"],
            "senior": {"column": "age", "rule": ">= 50"},
        },
        "answer": "hired",
        "favourable": "yes",
        "label": "fit",
        "id": "id",
    }
    population = PopulationSource.resolve(settings).read()
    assert population.attributes["age"].codes.tolist() == [0, 1, -1, 1]
    assert population.attributes["sex"].codes.tolist() == [1, 0, 0, -1]
    assert population.attributes["senior"].codes.tolist() == [0, 0, -1, 1]
    assert population.answers is not None
    assert population.answers.tolist() == [1, 0, 1, 0]
    assert population.labels is not None
    assert population.labels.tolist() == [1, 0, 1, 1]
    assert population.ids is not None
    assert population.ids.tolist() == ["1", "2", "3", "4"]
    assert "1 rows of unknown age" in population.notes
    with pytest.raises(ConfigError, match="is no column"):
        PopulationSource.resolve(settings | {"answer": "fired"}).read()
    with pytest.raises(ConfigError, match="is not binary"):
        PopulationSource.resolve(settings | {"label": "id"}).read()
    with pytest.raises(ConfigError, match="there is no such file"):
        PopulationSource.resolve(settings | {"path": "nowhere.csv"}).read()


def test_a_made_population_has_the_shares_and_rates_it_was_given() -> None:
    settings = {
        "name": "made",
        "rows": 200_000,
        "attributes": {"sex": 0.3, "race": {"a": 0.5, "b": 0.3, "c": 0.2}},
        "rate": 0.4,
        "effects": {"sex": 0.1, "race": {"c": -0.2}},
        "accuracy": 0.9,
    }
    made = PopulationSource.resolve(settings).read()
    sex, race = made.attributes["sex"].codes, made.attributes["race"].codes
    assert made.answers is not None
    assert made.labels is not None
    assert (sex == 1).mean() == pytest.approx(0.3, abs=0.005)
    assert (race == 2).mean() == pytest.approx(0.2, abs=0.005)
    assert made.answers[(sex == 1) & (race == 2)].mean() == pytest.approx(0.3, abs=0.01)
    assert (made.answers == made.labels).mean() == pytest.approx(0.9, abs=0.005)
    again = PopulationSource.resolve(settings).read()
    assert again.answers is not None
    assert (made.answers == again.answers).all()
    tied = PopulationSource.resolve(settings | {"dependence": 0.8}).read()
    codes = [tied.attributes[name].codes for name in ("sex", "race")]
    assert np.corrcoef(codes)[0, 1] > 0.4
    with pytest.raises(ConfigError, match="which one adds it"):
        PopulationSource.resolve(settings | {"effects": {"race": 0.1}}).read()
