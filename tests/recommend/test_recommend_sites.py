"""Sites with ratings that nobody else has: they come to what one simulation of all does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from hansa.base.errors import ConfigError
from hansa.data.own_ratings import ordered
from hansa.engine.exchange.wire import pack_control, unpack_control
from hansa.engine.runtimes.host import Host
from hansa.experiment import prepare, run
from hansa.experiment.sites.agreement import agreement
from hansa.recommend.recommend_file import RecommendFile
from hansa.report import RunFolder

from ..engine.apart import in_order, play_apart
from ..experiment.sites import NAMES, models_of, sites
from ..experiment.test_experiment_sites import parties, site_file


def written(folder: Path, users: str = "abc") -> RecommendFile:
    """Three tables of ratings, four users each, that of all, and the run file."""
    rng = np.random.default_rng(4)
    frames = []
    for k, first in enumerate(users):
        rows = [
            {"user": f"{first}{u}", "item": f"film {i}", "rating": float(rng.integers(1, 11)) / 2,
             "timestamp": int(rng.integers(10**9))}
            for u in range(4)
            for i in sorted(rng.permutation(25 - 5 * k)[:12].tolist())
        ]  # fmt: skip
        frames.append(pl.DataFrame(rows))
        frames[-1].write_csv(folder / f"{k}.csv")
    pl.concat(frames).write_csv(folder / "all.csv")
    settings: dict[str, Any] = {
        "verb": "recommend",
        "nodes": 3,
        "rounds": 6,
        "data": {
            "name": "ratings",
            "path": str(folder / "all.csv"),
            "scale": [0.5, 5],
            "split": "user_time",
        },
        "model": {"name": "matrix_factorization", "factors": 3},
        "topology": "complete",
        "algorithm": {
            "name": "rex",
            "share": "both",
            "ratings": 15,
            "steps": 20,
            "withdraw": [{"user": "b2", "at": 2}],
            "withdrawals": 2,
        },
        "evaluate": {"every": 3, "dense_start": False},
        "baselines": ["user_mean", "isolated", "central_mf"],
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))
    return RecommendFile.parse(settings)


def made(folder: Path, chosen: RecommendFile) -> list[Any]:
    nodes = [[0], [1], [2]]
    own = [site_file(folder, k, nodes, data={"path": str(folder / f"{k}.csv")}) for k in range(3)]
    return parties(chosen, own)


def test_own_ratings_train_the_models_of_all_in_one_table(tmp_path: Path) -> None:
    """To the bit; withdrawals that one site begins and signs among them, and test ratings."""
    chosen = written(tmp_path)
    three = made(tmp_path, chosen)
    assert three[0].needs == ("keys", "names")
    tells = [unpack_control(pack_control("roster", **one.tells())) for one in three]
    for one in tells:
        del one["kind"]
    jobs = [one.joins(tells) for one in three]
    blocks, _ = play_apart(jobs, [np.array([k]) for k in range(3)])
    job = prepare(chosen)
    whole = job.block(np.arange(3))
    Host(job, whole, job.exchange(), lambda report: None, lambda block, done: None).run()
    assert torch.equal(in_order(blocks).rows, whole.rows)
    for k, one in enumerate(jobs):
        mine, theirs = one.dataset.train, job.dataset.train
        assert torch.equal(mine.inputs[one.held[k]], theirs.inputs[job.held[k]])
        assert one.roster.owned.tolist() == job.roster.owned.tolist()
        assert len(mine) == len(job.parts[k]) + len(job.held[k])  # and nothing of others


@pytest.mark.parametrize("begun", [1, 2])
def test_what_one_site_withdraws_others_need_not_know(tmp_path: Path, begun: int) -> None:
    """Also where it takes up all the room, tombstones go between all in the same rounds."""
    chosen = written(tmp_path)
    site = site_file(tmp_path, 0, [[0], [1], [2]], data={"path": str(tmp_path / "0.csv")})
    three, said = [], []
    for k in range(3):
        mine = [{"user": f"b{u}", "at": 2} for u in range(begun)] * (k == 1)
        method = {**chosen.algorithm.dump(), "withdraw": mine}
        own = RecommendFile.parse({**chosen.dump(), "algorithm": method})
        three.append(made(tmp_path, own)[k])
        said.append(agreement(own, site, None))
    assert said[0] == said[1]
    tells = [one.tells() for one in three]
    jobs = [one.joins(tells) for one in three]
    blocks, _ = play_apart(jobs, [np.array([k]) for k in range(3)], deadline=60.0)
    users = [jobs[0].dataset.group_names.index(f"b{u}") for u in range(begun)]
    for k, block in enumerate(blocks):
        assert not np.isin(block.store.table(k)["inputs"][:, 0], users).any()


def test_sites_without_room_withdraw_the_same(tmp_path: Path) -> None:
    chosen = written(tmp_path)
    site = site_file(tmp_path, 0, [[0], [1], [2]], data={"path": str(tmp_path / "0.csv")})
    files = [
        RecommendFile.parse(
            {**chosen.dump(), "algorithm": {"name": "rex", "withdraw": [{"user": u, "at": 2}]}}
        )
        for u in ("b1", "b2")
    ]
    one, two = (agreement(file, site, None) for file in files)
    assert {name for name in one if one[name] != two[name]} == {"algorithm.withdraw"}


def test_a_user_is_at_one_site(tmp_path: Path) -> None:
    three = made(tmp_path, written(tmp_path, users="abb"))
    tells = [one.tells() for one in three]
    with pytest.raises(ConfigError, match="user 'b0' has ratings at s1 and at s2"):
        three[0].joins(tells)


@pytest.mark.parametrize(
    ("data", "own", "problem"),
    [
        ({"scale": None}, {"path": "0.csv"}, "do not see how far"),
        ({"users": 3}, {"path": "0.csv"}, "needs the ratings of all"),
        ({}, {"test_path": "0.csv"}, "of its own users"),
    ],
    ids=str,
)
def test_what_sites_cannot_do_with_ratings(
    tmp_path: Path, data: dict[str, Any], own: dict[str, Any], problem: str
) -> None:
    chosen = written(tmp_path)
    chosen = RecommendFile.parse({**chosen.dump(), "data": {**chosen.data.dump(), **data}})
    where = {name: str(tmp_path / path) for name, path in own.items()}
    with pytest.raises(ConfigError, match=problem):
        parties(chosen, [site_file(tmp_path, k, [[0], [1], [2]], data=where) for k in range(3)])


def test_whole_numbers_are_ordered_by_size() -> None:
    assert ordered(["10", "9", "-1"]) == ["-1", "9", "10"]
    assert ordered(["10", "9", "a"]) == ["10", "9", "a"]


@pytest.mark.slow
def test_three_sites_with_ratings_of_their_own(tmp_path: Path) -> None:
    """As commands over sockets: models of a simulation, baselines and duplicates of their own."""
    chosen = written(tmp_path)
    whole = run(chosen, tmp_path / "whole", report=False)

    def each(k: int) -> dict[str, Any]:
        return {"data": {"path": f"{k}.csv"}, "tells": ["names", "keys"]}

    with sites(tmp_path, yaml.safe_load((tmp_path / "run.yaml").read_text()), [[0], [1], [2]],
               each) as three:  # fmt: skip
        three.start()
        three.finish()
        folders = [three.out(k) for k in range(3)]
    assert torch.equal(models_of(folders, chosen), models_of([whole.path], chosen))
    errors = whole.metrics().filter((pl.col("name") == "rmse") & (pl.col("round") == 6))
    for k, folder in enumerate(folders):
        here = RunFolder.open(folder)
        table = here.read_json("baselines.json")
        assert table.keys() == {"user_mean", "isolated"}
        assert here.summary["duplicates"] > 0
        assert here.summary["holders_mean"] is None
        mine = here.metrics().filter((pl.col("name") == "rmse") & (pl.col("round") == 6))
        theirs = errors.filter(pl.col("node") == k)["value"]
        assert mine.filter(pl.col("node") == k)["value"].to_list() == theirs.to_list()
    assert len(NAMES) > 2
