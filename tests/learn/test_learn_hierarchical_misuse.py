"""What cannot be a hierarchy is refused with its name, and what an edge is away from is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.errors import ConfigError, DataError, RunError
from hansa.engine import Job
from hansa.experiment import RunFile, prepare
from hansa.experiment import run as play
from hansa.learn.federated.stand_ins import columns, packed, taken_over, unpacked
from hansa.report.page import page_of

N = 8


def hierarchical(edges: Any = 2, **more: Any) -> dict[str, Any]:
    return {"algorithm": {"name": "hierarchical", "edges": edges, **more}}


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        (hierarchical([[0, 1, 2, 3], [3, 4, 5, 6, 7]]), "algorithm.edges.lists.1", "in 0 too"),
        (hierarchical([[0, 1, 1], [2, 3, 4, 5, 6, 7]]), "algorithm.edges.lists.0", "listed twice"),
        (hierarchical([[0, 1, 2], [4, 5, 6, 7]]), "algorithm.edges.lists", "client 3"),
        (hierarchical([[*range(8)], []]), "algorithm.edges.lists.1", "has no client"),
        (hierarchical([[*range(8), 8]]), "algorithm.edges.lists.0", "no client of the run"),
        (hierarchical([]), "algorithm.edges.lists", "lists nobody"),
        (hierarchical(9), "algorithm.edges.cohorts", "8 clients"),
        (
            hierarchical({"name": "given", "members": [0, 0, 0, 0, -1, 1, 1, 1]}),
            "algorithm.edges",
            "client 4 is under no edge",
        ),
        (
            hierarchical({"name": "given", "members": [0, 0, 0, 0, 2, 2, 2, 2]}),
            "algorithm.edges",
            "edge 1 has no client",
        ),
        (hierarchical(3, min_updates=3), "algorithm.min_updates", "has 2 clients"),
        (hierarchical(2, cloud={"min_edges": 3}), "algorithm.cloud.min_edges", "there are 2"),
        (
            hierarchical(2, cloud={"aggregator": {"name": "krum", "f": 1}}),
            "algorithm.cloud.aggregator",
            "there are 2",
        ),
        (hierarchical(2) | {"faults": {"absent": {8: [[1, 2]]}}}, "faults.absent.8", "nobody"),
        (
            hierarchical(2) | {"faults": {"crash": [{"nodes": [8], "round": 1}]}},
            "faults.crash",
            "nobody",
        ),
        (hierarchical(2) | {"faults": {"absent": {11: [[1, 2]]}}}, "faults.absent.11", "no node"),
        (hierarchical(2) | {"faults": {"slow": {9: 2.0}}}, "faults.slow", "no node"),
        (
            {"algorithm": "fedavg", "faults": {"absent": {8: [[1, 2]]}}},
            "faults.absent.8",
            "no node",
        ),
    ],
)
def test_what_is_refused(
    small: Callable[..., dict[str, Any]], changes: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        prepare(RunFile.parse(small(changes)))
    assert caught.value.field == field
    assert caught.value.fix


def test_a_file_of_edges(small: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "edges.txt"
    path.write_text("0,0-1-2-3\n1,4-5-6-7\n")
    job = prepare(RunFile.parse(small(hierarchical(str(path)))))
    assert job.servers == 3
    path.write_text("0,0-1-2-3\n1,3-4-5-6-7\n")
    with pytest.raises(DataError, match="client 3 is listed twice"):
        prepare(RunFile.parse(small(hierarchical(str(path)))))
    with pytest.raises(ConfigError, match="no such file"):
        prepare(RunFile.parse(small(hierarchical(str(tmp_path / "other.txt")))))


def test_a_cloud_that_nobody_reaches_ends_the_run(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    lost = [[1, 9, 8, "edge update"], [1, 10, 8, "edge update"]]
    faults = {"faults": {"lost": lost}}
    with pytest.raises(RunError, match=r"updates of 0 edges .*cloud.min_edges is 1"):
        host(make_job(hierarchical(2, edge_rounds=2) | faults))
    cloud = {"on_failed_round": "skip"}
    _, reports = host(make_job(hierarchical(2, edge_rounds=2, cloud=cloud) | faults))
    events = [[e["kind"] for e in report["events"]] for report in reports]
    assert "round_failed" in events[1]
    assert all("round_failed" not in kinds for k, kinds in enumerate(events) if k != 1)


def test_an_edge_whose_clients_are_all_away_keeps_its_model(
    make_job: Callable[..., Job], host: Callable[..., Any]
) -> None:
    """It has nothing to send, and the cloud leaves it out."""
    edges = [[0, 1], [2, 3, 4, 5, 6, 7]]
    faults = {"faults": {"absent": {0: [[0, 2]], 1: [[0, 2]]}}}
    _, reports = host(make_job(hierarchical(edges, edge_rounds=2) | faults))
    failed = [[e for e in r["events"] if e["kind"] == "round_failed"] for r in reports]
    assert [[e["server"] for e in events] for events in failed] == [[9], [9], [], [], []]
    with pytest.raises(RunError, match="All are away in this round"):
        host(make_job(hierarchical(edges, on_failed_round="stop") | faults))


@given(there=st.lists(st.booleans(), min_size=1, max_size=70), data=st.data())
def test_whose_clients_are_taken_over(there: list[bool], data: st.DataObject) -> None:
    """Everyone has an edge that is there, if one is; who has one keeps it; loads are even."""
    present, edges = np.array(there), len(there)
    assert unpacked(packed(present), edges).tolist() == there
    assert columns(edges) == packed(np.ones(edges, dtype=bool))
    home = np.array(data.draw(st.lists(st.integers(0, edges - 1), min_size=1, max_size=99)))
    has = taken_over(home, present)
    if not present.any():
        assert (has == -1).all()
        return
    assert present[has].all()
    assert (has[present[home]] == home[present[home]]).all()
    for edge in np.flatnonzero(~present).tolist():
        orphans = np.bincount(has[home == edge], minlength=edges)[present]
        assert orphans.max() - orphans.min() <= 1


def test_the_page_shows_levels_and_edges(
    small: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    changes = hierarchical(3, edge_rounds=2, orphans="rehome") | {
        "faults": {"absent": {10: [[1, 3]]}}
    }
    folder = play(RunFile.parse(small(changes)), tmp_path / "run")
    text = (folder.path / "report.html").read_text()
    assert "8 clients, 3 edge servers" in text
    assert "Bytes by level" in text
    assert "fewer rounds than others: 2" in text
    assert "between edges and cloud" in text
    summary = folder.summary
    assert summary is not None
    assert sum(summary["bytes_by_level"].values()) == summary["bytes_sent"]
    assert summary["faults"]["absent_rounds"] == 2
    assert page_of(folder).name == "hierarchical"
