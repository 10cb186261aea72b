"""Sites as parties: own tables come to the pooled simulation's models; files of sites checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from hansa.base.errors import ConfigError
from hansa.engine.exchange.wire import pack_control, unpack_control
from hansa.experiment import RunFile, prepare
from hansa.experiment.sites.agreement import agreement, owners
from hansa.experiment.sites.entry import Entry
from hansa.experiment.sites.parties import party_of
from hansa.experiment.sites.site_file import SiteFile, SitePeer
from hansa.experiment.sites.site_init import Known, write_site

from ..engine.apart import in_order, play_apart

KEYS = ["sha256:" + digit * 64 for digit in "abcd"]
SITES = ("a", "b", "c")


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    frames = []
    for k, rows in enumerate((60, 45, 80)):
        frame = pl.DataFrame(
            {
                "age": rng.normal(50 + 10 * k, 5, rows).round(1),
                "dose": rng.normal(0, 1000.0 * 10**k, rows),
                "sex": np.array(["f", "m", "x"])[rng.integers(0, 2 + (k == 2), rows)],
                "label": rng.integers(0, 2 + (k > 0), rows),
            }
        )
        frame.write_csv(tmp_path / f"{SITES[k]}.csv")
        frames.append(frame.with_columns(site=pl.lit(SITES[k])))
    pl.concat(frames).write_csv(tmp_path / "all.csv")
    pl.concat([frame.head(8) for frame in frames]).write_csv(tmp_path / "test.csv")
    return tmp_path


def run_file(folder: Path, **more: Any) -> RunFile:
    return RunFile.parse(
        {
            "nodes": 3,
            "rounds": 3,
            "data": {
                "name": "file",
                "path": str(folder / "all.csv"),
                "test_path": str(folder / "test.csv"),
                "categories": "one_hot",
                "task": "classification",
                "inputs": ["age", "dose", "sex"],
                "group": "site",
                "partition": {"name": "natural", "choose": "first"},
            },
            "model": {"name": "mlp", "hidden": [8]},
            "topology": {"name": "ring"},
            "train": {"batch_size": 8, "local_steps": 3, "strategy": "looped"},
            **more,
        }
    )


def site_file(folder: Path, k: int, nodes: list[list[int]], **more: Any) -> SiteFile:
    peers = [
        {"name": f"s{j}", "nodes": nodes[j], "key": KEYS[j], "address": f"127.0.0.1:{7000 + j}"}
        for j in range(len(nodes))
        if j != k
    ]
    return SiteFile.parse(
        {
            "name": f"s{k}",
            "run": str(folder / "run.yaml"),
            "key": str(folder / "key"),
            "nodes": nodes[k],
            "peers": peers,
            "listen": f"127.0.0.1:{7000 + k}",
            "own_streams": "seed",
            "out": str(folder / f"out-{k}"),
            **more,
        }
    )


def parties(run: RunFile, sites: list[SiteFile]) -> list[Any]:
    every = run.nodes + run.algorithm.servers(run.nodes)
    found = []
    for site in sites:
        _, owner, _ = owners(every, site)
        names = tuple(f"s{k}" for k in range(len(sites)))
        found.append(party_of(run, site, owner, names, None))
    return found


ALGORITHMS: dict[str, Any] = {
    "dpsgd": {"algorithm": "dpsgd"},
    "fedavg": {"algorithm": {"name": "fedavg", "sampled": 2}},
    "validated": {"algorithm": "dpsgd", "evaluate": {"local_validation": 0.2, "per_client": True}},
}


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_own_tables_train_the_models_of_the_pooled_table(tables: Path, name: str) -> None:
    run = run_file(tables, **ALGORITHMS[name])
    served = run.algorithm.servers(3)
    nodes = [[0], [1], [2]] + [[3]] * served
    own = [{"path": str(tables / f"{s}.csv"), "test_path": str(tables / "test.csv")} for s in SITES]
    own += [{"test_path": str(tables / "test.csv")}] * served
    shared = run.model_copy(update={"data": run.data.model_copy(update={"group": None})})
    sites = [site_file(tables, k, nodes, data=own[k]) for k in range(len(nodes))]
    made = parties(shared, sites)
    tells = [unpack_control(pack_control("roster", **one.tells())) for one in made]
    for one in tells:
        del one["kind"]
    groups = [np.array(ids) for ids in nodes]
    blocks, _ = play_apart([one.joins(tells) for one in made], groups)
    job = prepare(run)
    whole = job.block(np.arange(job.nodes))
    from hansa.engine.runtimes.host import Host

    Host(job, whole, job.exchange(), lambda report: None, lambda block, done: None).run()
    assert torch.equal(in_order(blocks).rows, in_order([whole]).rows)
    if name == "fedavg":
        assert made[0].needs == ("sizes", "names", "moments")
        assert made[3].needs == ("names",)


def test_a_share_is_that_part_of_the_run_files_data(tables: Path) -> None:
    run = run_file(tables)
    nodes = [[0, 2], [1]]
    sites = [site_file(tables, k, nodes, data="share") for k in range(2)]
    made = parties(run, sites)
    jobs = [one.joins([each.tells() for each in made]) for one in made]
    blocks, _ = play_apart(jobs, [np.array(ids) for ids in nodes])
    job = prepare(run)
    assert len(jobs[0].dataset.train) == len(job.parts[0]) + len(job.parts[2])
    assert {len(block.rows) for block in blocks} == {1, 2}


def test_what_has_to_be_the_same_is_compared_by_content(tables: Path, tmp_path: Path) -> None:
    graph = tmp_path / "far" / "graph.txt"
    graph.parent.mkdir()
    for folder in (tables, graph.parent):
        (folder / "graph.txt").write_text("0 1\n1 2\n2 0\n")
    nodes = [[0], [1], [2]]
    site = site_file(tables, 0, nodes, data="share")
    here = run_file(tables, topology={"name": "file", "path": str(tables / "graph.txt")})
    there = run_file(tables, topology={"name": "file", "path": str(graph)}, device="cpu")
    assert agreement(here, site, None) == agreement(there, site, None)
    graph.write_text("0 1\n1 2\n")
    changed = agreement(run_file(tables, topology={"name": "file", "path": str(graph)}), site, None)
    differ = [k for k, v in agreement(here, site, None).items() if changed[k] != v]
    assert differ == ["topology.path"]
    rate = agreement(run_file(tables, train={"optimizer": {"lr": 0.3}}), site, None)
    same = agreement(run_file(tables), site, None)
    assert [k for k in same if k.startswith("train") and same[k] != rate[k]]
    own = agreement(here, site_file(tables, 0, nodes, data={"path": "x.csv"}), [["age", 1]])
    assert own["data.each"] == "own"
    assert "data.path" not in own


def test_sites_are_numbered_by_their_lowest_node(tables: Path) -> None:
    site = site_file(tables, 1, [[0], [3, 1], [2]])
    assert owners(4, site) == (1, (0, 1, 2, 1), (0, 2))
    with pytest.raises(ConfigError, match="node 4 of 5 lives at no site; it is a server") as caught:
        owners(5, site, 4)
    assert "--node 4" in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        owners(5, site)
    assert "server" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"nodes = 3: the run has 3 nodes"):
        owners(3, site)


PEERS = [
    {"name": f"s{k}", "nodes": [k], "key": KEYS[k], "address": f"127.0.0.1:{7000 + k}"}
    for k in (1, 2)
]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"peers": []}, "peers: there is no other site"),
        ({"listn": "a:1"}, "listn = 'a:1': there is no such setting\n.*did you mean listen=a:1"),
        ({"listen": "127.0.0.1"}, "listen = '127.0.0.1': is not host:port"),
        ({"listen": "127.0.0.1:7001"}, "peers.0.address.*is the same as listen of this site"),
        ({"nodes": [0, 1]}, "peers.0.nodes: node 1 lives at two sites"),
        ({"name": "s1"}, "peers.0.name = 's1': is the same as name of this site"),
        ({"session": "../up"}, "session = '../up': is no word"),
        ({"tells": ["age"]}, "'age' is none of sizes, labels, keys, names, moments, limits"),
        ({"least": 4}, "least = 4: there are 3 sites"),
        (
            {"listen": None, "peers": [PEERS[0], {**PEERS[1], "address": None}]},
            "peers.1.address: s2 only dials, as this site does, and no relay passes on",
        ),
        ({"data": {"share": True, "path": "x.csv"}}, "data.share.*one of the two"),
        ({"data": {"pth": "x.csv"}}, "data.pth.*no such setting\n.*did you mean data.path=x.csv"),
        ({"patience": {"peer": 0}}, "patience.peer"),
    ],
)
def test_site_files_that_cannot_work(tables: Path, change: dict[str, Any], text: str) -> None:
    good = site_file(tables, 0, [[0], [1], [2]]).dump()
    path = tables / "site.yaml"
    path.write_text(yaml.safe_dump(good))
    assert SiteFile.load(path).name == "s0"
    path.write_text(yaml.safe_dump({**good, **change}))
    with pytest.raises(ConfigError, match=f"(?s){text}"):
        SiteFile.load(path)


def test_a_run_file_that_is_not_there_is_the_sites_setting_run(tables: Path) -> None:
    with pytest.raises(ConfigError, match=r"^run = .*none.yaml.*there is no such file"):
        Entry.of(site_file(tables, 0, [[0], [1], [2]], run=str(tables / "none.yaml")))


def test_two_sites_that_only_dial_are_written_with_a_relay(tables: Path) -> None:
    peers = [SitePeer(**{**peer, "address": None}) for peer in PEERS]
    first = SitePeer(name="s0", nodes=(0,), key=KEYS[0], address="127.0.0.1:7000")
    run = tables / "run.yaml"
    run.write_text("nodes: 3\n")
    known = Known("s0", run, tables / "s0.key", (0,), "a:7000", tuple(peers), None, None)
    served = write_site(known, tables / "served.yaml")
    known = replace(known, name="s1", nodes=(1,), listen=None, peers=(first, peers[1]))
    dials = write_site(known, tables / "dials.yaml")
    assert served.relay
    assert not dials.relay
    assert [peer.relay for peer in dials.peers] == [True, False]


def test_two_peers_with_one_address_or_key(tables: Path) -> None:
    good = site_file(tables, 0, [[0], [1], [2]]).dump()
    for field in ("address", "key"):
        again = {
            **good,
            "peers": [{**peer, field: good["peers"][0][field]} for peer in good["peers"]],
        }
        with pytest.raises(ConfigError, match=rf"peers.1.{field}.*same as {field} of peers.0"):
            SiteFile.parse(again).check()


@pytest.mark.parametrize(
    ("run", "site", "text"),
    [
        ({}, {"data": {}}, "data.path: this site trains, and has no examples"),
        ({"data": "digits"}, {"data": {"path": "x.csv"}}, "these are digits"),
        ({}, {"data": {"path": "none.csv"}}, "data.path.*there is no such file"),
        (
            {"evaluate": {"per_client": True, "local_validation": 0.2}, "algorithm": "fedavg"},
            {"data": "share"},
            "evaluate.per_client = True: hands servers' models to all",
        ),
        (
            {"attack": {"name": "a_little_is_enough", "nodes": [0]}},
            {"data": "share"},
            "attack = 'a_little_is_enough': attackers agree among themselves",
        ),
    ],
)
def test_runs_that_sites_cannot_do(
    tables: Path, run: dict[str, Any], site: dict[str, Any], text: str
) -> None:
    nodes = [[0], [1], [2, 3] if run.get("algorithm") else [2]]
    with pytest.raises(ConfigError, match=text):
        parties(
            run_file(tables, **run), [site_file(tables, k, nodes, **site) for k in range(1)] * 3
        )
