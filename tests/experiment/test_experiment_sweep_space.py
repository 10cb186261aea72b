"""What a sweep runs: values as people write them, combinations, draws, names, what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.errors import ConfigError
from hansa.base.yamltext import dump_yaml, load_yaml
from hansa.experiment.sweep.planned import folder_name, planned, refusal
from hansa.experiment.sweep.space import changes_of
from hansa.experiment.sweep.sweep_file import SweepFile, with_options
from hansa.experiment.sweep.sweeping import as_sweep
from hansa.experiment.sweep.values import Range, Values, range_of, read_values, values_of

SCALARS = st.one_of(
    st.integers(-100, 100),
    st.floats(-100, 100, allow_nan=False).filter(lambda v: v == v and "e" not in repr(v)),
    st.sampled_from(["dpsgd", "choco", "a b", "x=y"]),
    st.lists(st.integers(0, 9), max_size=3),
    st.just({"name": "choco", "gamma": 0.5}),
)


def swept(base: Any, **options: Any) -> SweepFile:
    return SweepFile.parse(with_options(as_sweep(base), **options))


def text(value: Any) -> str:
    return dump_yaml(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip()


@given(st.lists(SCALARS, min_size=2, max_size=4))
def test_commas_and_a_list_are_the_same_values(values: list[Any]) -> None:
    by_commas = read_values("key", ",".join(map(text, values)))
    assert by_commas == values == read_values("key", text(values))


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ("0.01", (0.01,)),
        ("1e-3,1e-2", (0.001, 0.01)),
        ("'a,b',c", ("a,b", "c")),
        ("[[64, 32]]", ([64, 32],)),
        ("[64, 32],[128]", ([64, 32], [128])),
        ("{name: choco, gamma: 0.5},dpsgd", ({"name": "choco", "gamma": 0.5}, "dpsgd")),
    ],
)
def test_values_as_they_are_written(written: str, values: tuple[Any, ...]) -> None:
    assert values_of("key", read_values("key", written)).values == values


@pytest.mark.parametrize("written", ["1,,2", "1,", "[]", "1,1", "[1, 1]", "[1"])
def test_values_that_are_none(written: str) -> None:
    with pytest.raises(ConfigError, match="key"):
        values_of("key", read_values("key", written))


def test_one_and_true_are_two_values() -> None:
    assert values_of("key", [1, True, 1.0]).values == (1, True, 1.0)


@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(1, 3), st.integers(0, 4),
    st.integers(-5, 5),
)  # fmt: skip
def test_a_sweep_is_the_grid_by_the_zip_by_the_draws(
    sizes: list[int], rows: int, samples: int, seed: int
) -> None:
    grid = {f"g{k}": Values(tuple(range(size))) for k, size in enumerate(sizes)}
    together = {f"z.{k}": Values(tuple(range(k, k + rows))) for k in range(2)}
    random = {"r": Range(0.0, 1.0)} if samples else {}
    every = changes_of(grid, together, random, samples or None, seed)
    crossed = set(itertools.product(*map(range, sizes)))
    assert {tuple(one[f"g{k}"] for k in range(len(sizes))) for one in every} == crossed
    assert all(one["z.1"] == one["z.0"] + 1 for one in every)
    assert len(every) == len(crossed) * rows * max(samples, 1)
    names = [folder_name(one) for one in every]
    assert len(set(names)) == len(names)


@given(st.integers(1, 8), st.integers(0, 8), st.integers(-5, 5))
def test_draws_depend_on_seed_and_name_alone(few: int, more: int, seed: int) -> None:
    lr, steps = range_of("lr", "log(0.001..0.1)"), range_of("steps", "1..8")
    alone = changes_of({}, {}, {"lr": lr}, few, seed)
    beside = changes_of({}, {}, {"steps": steps, "lr": lr}, few + more, seed)
    drawn = [one["lr"] for one in beside]
    assert [one["lr"] for one in alone] == drawn[: len(alone)]
    assert all(0.001 <= value <= 0.1 for value in drawn)
    assert {one["steps"] for one in beside} <= set(range(1, 9))
    other = [one["lr"] for one in changes_of({}, {}, {"lr": lr}, few, seed + 1)]
    assert other != drawn[:few]


@pytest.mark.parametrize("written", ["3..1", "log(0..1)", "log(1..2", "1..2)", "a..b"])
def test_ranges_that_are_none(written: str) -> None:
    with pytest.raises(ConfigError, match="lr"):
        range_of("lr", written)


def test_a_file_is_equal_in_power_to_the_options(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("rounds: 3\nnodes: 4\nseed: 7\n")
    (tmp_path / "sweep.yaml").write_text(
        "verb: sweep\nrun: base.yaml\nseeds: 2\nsamples: 3\nseed: 5\n"
        "grid: {algorithm: [dpsgd, choco]}\n"
        "zip: {nodes: [4, 8], topology.degree: [2, 4]}\n"
        "random: {train.optimizer.lr: log(0.001..0.1)}\n"
    )
    options = swept(
        str(tmp_path / "base.yaml"),
        sets=["algorithm=dpsgd,choco"],
        zips=["nodes=4,8", "topology.degree=[2, 4]"],
        randoms=["train.optimizer.lr=log(0.001..0.1)"],
        samples=3,
        seeds=2,
        seed=5,
    )
    file = SweepFile.parse(as_sweep(str(tmp_path / "sweep.yaml")))
    ours, theirs = planned(options), planned(file)
    assert [run.name for run in ours.runs] == [run.name for run in theirs.runs]
    assert [run.settings() for run in ours.runs] == [run.settings() for run in theirs.runs]
    assert len(ours.runs) == 2 * 2 * 3 * 2
    assert ours.seeds == (7, 8)  # from the run's own on
    assert SweepFile.parse(file.dump()) == file


def test_what_is_kept_of_a_sweep_has_its_paths_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/run.yaml").write_text("data: {name: image_folder, path: photos}\n")
    (tmp_path / "there/sweep.yaml").write_text(
        "verb: sweep\nrun: run.yaml\ngrid: {data.path: [photos, others], rounds: [2]}\n"
    )
    for file, paths in (("run.yaml", ["photos"]), ("sweep.yaml", ["photos", "others"])):
        monkeypatch.chdir(tmp_path)
        kept = dump_yaml(swept(f"there/{file}").dump())
        monkeypatch.chdir(tmp_path / "there")
        plan = planned(SweepFile.parse(load_yaml(kept)))
        found = [one.chosen.dump()["data"]["path"] for one in plan.settings]
        assert found == [str(tmp_path / "there" / path) for path in paths]


def test_every_run_is_what_its_settings_say_and_no_two_share_a_folder() -> None:
    plan = planned(swept("dpsgd", sets=["algorithm=dpsgd,choco", "rounds=2,3"], seeds=[3, 9]))
    assert len({run.name for run in plan.runs}) == 8
    for run in plan.runs:
        settings = run.settings()
        assert settings["seed"] == run.seed
        assert settings["rounds"] == run.setting.changes["rounds"]
        assert settings["algorithm"]["name"] == run.setting.changes["algorithm"]
    assert [run.seed for run in plan.runs[:4]] == [3] * 4  # every setting is seen early


def test_a_part_is_chosen_before_its_own_settings() -> None:
    plan = planned(swept("dpsgd", sets=["algorithm.gamma=0.1,0.5", "algorithm=choco"]))
    assert [one.chosen.dump()["algorithm"]["gamma"] for one in plan.settings] == [0.1, 0.5]


def test_what_cannot_work_is_listed_with_its_setting() -> None:
    plan = planned(swept("dpsgd", sets=["algorithm=dpsgd,choco", "algorithm.gamma=0.1,0.5"]))
    assert [one.words for one in plan.refused] == [
        "algorithm=dpsgd, algorithm.gamma=0.1",
        "algorithm=dpsgd, algorithm.gamma=0.5",
    ]
    told = str(refusal(plan.refused, 4))
    assert "2 of 4 cannot work" in told
    assert "algorithm.gamma = 0.5: there is no such setting" in told
    assert "--skip-refused" in told


def test_a_value_that_never_works_is_told_as_in_any_run() -> None:
    plan = planned(swept("dpsgd", sets=["train.batch_size=-1"], seeds=3))
    error = refusal(plan.refused, 1)
    assert (error.field, error.value) == ("train.batch_size", -1)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"sets": ["model.hidden=[64, 32]"]}, r"one: \[\[64, 32\]\]; several: \[\[64\], \[32\]\]"),
        ({"sets": ["evaluate.metrics=accuracy,f1"]}, r"several: \[\[accuracy\], \[f1\]\]"),
        ({"sets": ["rounds"]}, "key=values"),
        ({"sets": ["seed=1,2"]}, "seeds: 5"),
        ({"zips": ["rounds=1,2", "nodes=4,8,9"]}, "rounds has 2, nodes has 3"),
        ({"randoms": ["rounds=1..5"]}, "samples"),
        ({"samples": 3}, "nothing is random"),
        (
            {"sets": [f"{k}={','.join(map(str, range(1, 1001)))}" for k in ("rounds", "nodes")]},
            "1,000,000",
        ),
        ({"reach": ["accuracy"]}, "no figure to reach"),
        ({"seeds": 0}, "seeds"),
        ({"seeds": [3, 3]}, "twice"),
        ({"seeds": [3, 2**70]}, "seed"),
    ],
)
def test_what_is_no_sweep(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        planned(swept("dpsgd", **options))


@pytest.mark.parametrize("home", ["grid", "zip", "random"])
def test_values_that_are_no_mapping(home: str) -> None:
    for value in ([1, 2], 5, "rounds"):
        with pytest.raises(ConfigError, match=f"{home} = .*no mapping"):
            swept({"verb": "sweep", "run": {}, home: value})


def test_a_value_may_stand_in_several_rows_of_a_zip() -> None:
    plan = planned(swept("dpsgd", zips=["nodes=8,8,16", "topology=ring,complete,ring"]))
    assert len({run.name for run in plan.runs}) == 3


def test_what_comes_to_the_same_is_run_once() -> None:
    for values in ("train.optimizer.lr=1,1.0,2", "until.bytes=20MB,20000000,1"):
        assert len(planned(swept("dpsgd", sets=[values])).runs) == 2
    assert len(changes_of({"key": Values((1, True))}, {}, {}, None, 1)) == 2


def test_more_samples_leave_the_names_of_those_before() -> None:
    for written in ("train.optimizer.lr=0.1..0.2", "rounds=[2, 3]"):
        one, more = (
            {run.name for run in planned(swept("dpsgd", randoms=[written], samples=k)).runs}
            for k in (1, 9)
        )
        assert one < more


def test_texts_that_are_cut_elsewhere_have_other_names() -> None:
    names = {folder_name({"a": a, "b": b}) for a, b in (("x-y", "z"), ("x", "y-z"))}
    assert len(names) == 2


def test_a_file_that_leaves_no_run_is_not_swept() -> None:
    with pytest.raises(ConfigError, match="leaves no run"):
        planned(swept({"verb": "serve", "members": []}))
