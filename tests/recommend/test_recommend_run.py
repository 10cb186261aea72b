"""Runs of the recommend verb, from the command line, beside what is simple."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.base.errors import ConfigError
from hansa.experiment import prepare, run
from hansa.recommend.baseline_settings import BASELINES
from hansa.recommend.evaluation.baselines import Known, bias, measure_baselines, user_mean
from hansa.recommend.recommend_file import RecommendFile

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL: dict[str, Any] = {
    "verb": "recommend",
    "seed": 2,
    "nodes": 6,
    "rounds": 4,
    "data": {"name": "synthetic_ratings", "people": 12, "items": 30, "per_user": 10},
    "model": {"name": "matrix_factorization", "factors": 3, "start": 3.5},
    "topology": "ring",
    "algorithm": {"name": "rex", "steps": 20, "ratings": 10},
    "evaluate": {"every": 2},
    "central": {"epochs": 3},
}


def small(**more: Any) -> RecommendFile:
    return RecommendFile.parse({**SMALL, **more})


def measured(run: RecommendFile) -> dict[str, dict[str, Any]]:
    return measure_baselines(prepare(run), run.baselines, run.central)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(json.dumps(SMALL))
    return path


# -- who has which test ratings


def test_test_ratings_go_to_their_owners_and_nowhere_else() -> None:
    job = prepare(small())
    data = job.dataset
    assert len(data.test) == 0
    users = data.train.inputs[:, 0].numpy()
    every = np.concatenate([*job.parts, *job.held])
    assert sorted(every) == list(range(len(data.train)))
    for node in range(6):
        assert set(users[job.held[node]]) <= {2 * node, 2 * node + 1}
        assert set(users[job.parts[node]]) == {2 * node, 2 * node + 1}
    alone = job.party(np.array([2, 3]))  # as a worker has it
    assert len(alone.dataset.train) == sum(len(job.parts[n]) + len(job.held[n]) for n in (2, 3))
    assert len(job.plan.dataset.train) == len(job.plan.dataset.test) == 0


def test_cold_users_are_tested_where_they_live() -> None:
    job = prepare(small(nodes=3, data={**SMALL["data"], "split": "global_time"}))
    users = job.dataset.train.inputs[:, 0].numpy()
    trained = np.unique(users[np.concatenate(job.parts)])
    tested = [np.unique(users[job.held[node]]) for node in range(3)]
    assert len(np.setdiff1d(np.concatenate(tested), trained))
    for node in range(3):
        assert (tested[node] // 4 == node).all()
    assert any("are cold" in note for note in job.dataset.notes)


def test_users_that_no_node_has_are_said() -> None:
    job = prepare(
        small(nodes=3, data={**SMALL["data"], "partition": {"name": "natural", "choose": "first"}})
    )
    assert any("users that no node has" in note for note in job.dataset.notes)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"data": "digits"}, "data.partition"),
        ({"data": {"name": "synthetic_ratings", "partition": "iid"}}, "data.partition"),
        ({"data": {"name": "synthetic_ratings", "validation": 0.1}}, "data.validation"),
        ({"evaluate": {"local_validation": 0.1}}, "evaluate.local_validation"),
        ({"evaluate": {"own": {"relevant_from": 7}}}, "evaluate.own.relevant_from"),
        ({"nodes": 13}, "nodes"),
        ({"baselines": ["magic"]}, "baselines"),
    ],
)
def test_settings_that_cannot_work_are_named(more: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare(small(**more))
    assert caught.value.field.startswith(field)


def test_a_file_of_another_verb_is_sent_to_its_command(hansa, file: Path) -> None:
    said = hansa(f"learn {file}")
    assert said.status == 2
    assert "hansa recommend FILE" in said.err


# -- baselines


def test_baselines_have_known_answers() -> None:
    pairs = np.array([(u, i) for u in range(3) for i in range(4) if (u, i) != (2, 3)])
    own, theirs = np.array([-1.0, 0, 1]), np.array([0.5, -0.5, 1, -1])
    stars = 3 + own[pairs[:, 0]] + theirs[pairs[:, 1]]
    known = Known(np.tile(pairs, (400, 1)), np.tile(stars, 400), 4, 5)
    rate = bias(known).rate(np.array([(2, 3), (0, 0), (3, 4)]))
    assert rate[:2] == pytest.approx([3 + 1 - 1, 3 - 1 + 0.5], abs=0.05)
    mean = stars.mean()
    assert rate[2] == pytest.approx(mean)  # nobody and nothing that is known
    fitted = user_mean(known)
    assert fitted.rate(np.array([(1, 0), (3, 0)])) == pytest.approx([3.0, mean])
    assert fitted.guesses is not None
    assert fitted.guesses.tolist() == [False, False, False, True]


def test_every_baseline_is_measured_on_the_same_ratings_and_damping_does_its_work() -> None:
    run = small()
    table = measured(run)
    assert tuple(table) == BASELINES
    counts = {row["test_ratings"] for row in table.values() if "test_ratings" in row}
    assert len(counts) == 1
    assert table["bias"]["rmse_pooled"] < table["global_mean"]["rmse_pooled"]
    assert "rmse" not in table["popularity"]
    assert table["popularity"]["ndcg@10"] > 0
    assert "ndcg@10" not in table["global_mean"]
    assert table["isolated"]["rmse"] != table["central_mf"]["rmse"]


def test_isolated_nodes_with_a_server_do_the_run_files_local_work() -> None:
    run = small(algorithm="fedavg", baselines=["isolated"])
    assert measured(run)["isolated"]["rmse"] > 0


# -- the command


def test_a_run_says_what_the_contract_names_and_goes_on(hansa, file: Path) -> None:
    said = hansa(f"recommend {file} --out run --json --no-report")
    assert said.status == 0, said.err
    summary = said.object
    final = summary["final"]
    assert {"rmse", "rmse_pooled", "mae", "ndcg@10", "hr@10", "coverage@10"} <= final.keys()
    assert {"global_mean", "user_mean", "bias", "central_mf", "isolated"} <= summary[
        "baselines"
    ].keys()
    assert summary["bytes_sent"] > 0
    assert 0 <= summary["duplicates"] < 1
    assert 1 < summary["holders_mean"] <= 6
    assert summary["verb"] == "recommend"
    more = hansa("recommend --resume run --set rounds=6 --json --no-report").object
    whole = hansa(f"recommend {file} --set rounds=6 --out whole --json --no-report").object
    assert more["final"] == whole["final"]
    assert more["duplicates"] == whole["duplicates"]
    again = hansa("recommend --replay whole --json --no-report")
    assert again.status == 0, again.err
    assert again.object["equal"] is True


@pytest.mark.slow
def test_workers_measure_what_a_simulation_does(hansa, file: Path) -> None:
    one = hansa(f"recommend {file} --json --no-report").object
    two = hansa(
        f"recommend {file} --json --no-report --set runtime=processes --set runtime.workers=2"
    ).object
    for one_or_two in (one, two):  # its last bit depends on how nodes are split
        del one_or_two["final"]["consensus_distance"]
    assert two["final"] == one["final"]
    assert two["baselines"] == one["baselines"]


@pytest.mark.parametrize("algorithm", ["dpsgd", "fedavg"])
def test_other_algorithms_are_judged_alike(hansa, file: Path, algorithm: str) -> None:
    said = hansa(f"recommend {file} --set algorithm={algorithm} --json --no-report")
    assert said.status == 0, said.err
    assert said.object["final"]["rmse"] > 0
    assert said.object["final"]["test_users"] == 12
    assert said.object["duplicates"] is None


def test_recommendations_have_titles_stars_and_reasons(hansa, file: Path) -> None:
    hansa(f"recommend {file} --out run --no-report")
    said = hansa("recommend for run --user 7 --top 3 --json")
    assert said.status == 0, said.err
    facts = said.object
    assert facts["node"] == 3
    assert [one["rank"] for one in facts["items"]] == [1, 2, 3]
    for one in facts["items"]:
        assert one["title"] == f"Item {one['item']}"
        assert 0.5 <= one["stars"] <= 5
        added = sum(one["shares"].values())
        assert one["stars"] == pytest.approx(min(max(added, 0.5), 5), abs=1e-3)
        rated = {reason["item"] for reason in one["because"]}
        assert one["item"] not in rated
    stars = [one["stars"] for one in facts["items"]]
    assert stars == sorted(stars, reverse=True)
    other = hansa("recommend for run --user 7 --top 3 --node 0 --json").object
    assert other["node"] == 0
    assert other["items"] != facts["items"]
    text = hansa("recommend for run --user 7 --top 3").out
    assert "Item" in text


def test_unknown_users_and_other_folders_are_named(hansa, file: Path) -> None:
    hansa(f"recommend {file} --out run --no-report")
    said = hansa("recommend for run --user nobody --json")
    assert said.status == 2
    assert said.object["error"]["field"] == "user"
    said = hansa("recommend for run --user 7 --node 6 --json")
    assert said.object["error"]["field"] == "node"
    hansa(
        "learn digits_isolated --out other".replace("digits_isolated", "isolated")
        + " --set rounds=1 --no-report"
    )
    said = hansa("recommend for other --user 7")
    assert "hansa recommend" in said.err


def test_check_shows_the_plan(hansa, file: Path) -> None:
    said = hansa(f"check {file} --json")
    assert said.status == 0, said.err
    assert said.object["held_back_examples"] > 0


def test_the_example_needs_no_data(hansa) -> None:
    said = hansa(f"recommend {EXAMPLES / 'synthetic_rex.yaml'} --set rounds=3 --json --no-report")
    assert said.status == 0, said.err


# -- real data


@pytest.mark.data
def test_published_figures_of_what_is_simple() -> None:
    """Spec bands: random 70/30 per user of latest-small."""
    run = RecommendFile.load(EXAMPLES / "movielens_rex.yaml")
    run = run.model_copy(update={"baselines": ("global_mean", "user_mean", "bias", "central_mf")})
    table = measured(run)
    rmse = {name: row["rmse_pooled"] for name, row in table.items()}
    assert rmse["global_mean"] == pytest.approx(1.040, abs=0.01)
    assert rmse["user_mean"] == pytest.approx(0.941, abs=0.01)
    assert rmse["bias"] == pytest.approx(0.8685, abs=0.01)
    assert rmse["central_mf"] <= 0.875


@pytest.mark.data
@pytest.mark.parametrize(
    ("split", "bias", "own"), [("user_time", 0.897, 0.967), ("global_time", 1.019, 1.059)]
)
def test_published_figures_of_splits_by_time(split: str, bias: float, own: float) -> None:
    run = RecommendFile.of(
        {
            "nodes": 50,
            "data": {"name": "movielens", "split": split},
            "baselines": ["bias", "user_mean"],
        }
    )
    table = measured(run)
    assert table["bias"]["rmse_pooled"] == pytest.approx(bias, abs=0.005)
    assert table["user_mean"]["rmse_pooled"] == pytest.approx(own, abs=0.005)


@pytest.mark.data
def test_the_most_popular_in_full_and_sampled_rankings() -> None:
    run = RecommendFile.of(
        {
            "nodes": 610,
            "data": {"name": "movielens", "split": "leave_last"},
            "baselines": ["popularity"],
            "evaluate": {"own": {"sampled": 99}},
        }
    )
    row = measured(run)["popularity"]
    assert row["hr@10"] == pytest.approx(0.041, abs=0.003)
    assert row["ndcg@10"] == pytest.approx(0.019, abs=0.002)
    assert row["hr@10_sampled99"] == pytest.approx(0.595, abs=0.02)
    assert row["ndcg@10_sampled99"] == pytest.approx(0.361, abs=0.02)


def test_until_knows_that_lists_are_better_high_and_refuses_what_it_does_not_know(
    tmp_path: Path,
) -> None:
    more: dict[str, Any] = {"rounds": 2, "evaluate": {"every": 1}}
    goal = {"metric": "ndcg@10", "reaches": 2.0}
    folder = run(small(**more, until=goal), tmp_path / "run", report=False)
    assert (folder.summary or {})["rounds"] == 2
    for name in ("ndgc@10", "test_ratings"):
        with pytest.raises(ConfigError, match="whether more or less is better"):
            prepare(small(**more, until={**goal, "metric": name}))


def test_lists_are_of_the_model_that_is_asked(hansa, file: Path) -> None:
    """The average was not heard: every user had the list of their own node."""
    hansa(f"recommend {file} --out run --no-report")
    Path("users.csv").write_text("user\n7\n7.0\n8\n")
    said = {
        words: hansa(f"predict run users.csv --top 2 {words} --json").object["predictions"]
        for words in ("", "--average", "--node 0")
    }
    for rows in said.values():
        assert [row["user"] for row in rows] == ["7", "7", "8", "8"]
    assert said["--average"] != said[""] != said["--node 0"] != said["--average"]
    assert (
        said[""][0]["item"]
        == (hansa("recommend for run --user 7 --top 1 --json").object["items"][0]["item"])
    )
    for text, words in (("nobody", "'nobody', a user of whom"), (",", "has no user")):
        Path("users.csv").write_text(f"user,of\n7,1\n{text}\n")
        said_of = hansa("predict run users.csv")
        assert said_of.status != 0
        assert words in said_of.err
