"""Faults by rounds: partitions, crashes, slow nodes and pauses, the same wherever nodes live."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import hansa
from hansa.base.errors import ConfigError
from hansa.engine import Block, Job
from hansa.engine.exchange.mishaps import Crash, Partition
from hansa.engine.exchange.recorded import Rewind
from hansa.experiment import RunFile, prepare
from hansa.experiment.remarks import of_faults

MakeJob = Callable[..., Job]
CLOCK = {"name": "modelled", "sample_seconds": 0.01, "spread": 0.5}
HALVES = {"groups": [[0, 1, 2, 3], [4, 5, 6, 7]], "rounds": [1, 3]}
EVERYTHING = {
    "loss": 0.1,
    "partition": [HALVES],
    "crash": [{"nodes": [2, 5], "round": 2, "away": 1, "loses": 1}],
    "slow": {"1": 4.0},
    "pause": [{"node": 6, "round": 1, "seconds": 3.0}],
    "absent": {"7": [[0, 1]]},
}


@given(
    st.lists(st.integers(0, 3), min_size=2, max_size=12),
    st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=20),
)
def test_a_partition_takes_what_goes_between_its_groups(
    label: list[int], pairs: list[tuple[int, int]]
) -> None:
    """Group 0 is not named: who is in no group is in one more."""
    n = len(label)
    groups = [[i for i in range(n) if label[i] == g] for g in (1, 2, 3)]
    partition = Partition(groups=tuple(tuple(g) for g in groups if g) or ((0,),))
    kept = [(a % n, b % n) for a, b in pairs]
    senders, receivers = (np.array([p[k] for p in kept], dtype=np.int64) for k in (0, 1))
    label = label if any(groups) else [1] + [0] * (n - 1)
    expected = [label[a] != label[b] for a, b in kept]
    assert partition.apart(senders, receivers).tolist() == expected


def test_a_partition_heals(make_job: MakeJob, host: Callable[..., Any]) -> None:
    """While it lasts the halves are two runs of their own; each is what it would be alone."""
    job = make_job({"faults": {"partition": [{**HALVES, "rounds": [0, 3]}]}, "rounds": 3})
    whole, reports = host(job)
    edges = job.network.graph(0)
    across = (edges.indices < 4) != (edges.receivers < 4)
    events = [e for report in reports for e in report["events"] if e["kind"] == "missing"]
    assert len(events) == 3
    assert len(events[0]["senders"]) == int(across.sum())
    other = make_job({"faults": {"partition": [{**HALVES, "rounds": [0, 3]}]}, "rounds": 3})
    other.dataset.train.inputs[np.concatenate(other.parts[4:])] = 0  # of the second half
    changed, _ = host(other)
    assert torch.equal(changed.rows[:4], whole.rows[:4])
    assert not torch.equal(changed.rows[4:], whole.rows[4:])
    healed = host(make_job({"faults": {"partition": [HALVES]}, "rounds": 5}))[0]
    apart = host(make_job({"faults": {"partition": [{**HALVES, "rounds": [1, None]}]}}))[0]
    assert _spread(healed.rows) < _spread(apart.rows)


def _spread(rows: torch.Tensor) -> float:
    return float((rows[:4].mean(0) - rows[4:].mean(0)).norm())


@pytest.mark.parametrize("name", ["dpsgd", "jwins", "fedavg"])
def test_all_of_them_do_not_depend_on_where_nodes_live(
    make_job: MakeJob, host: Callable[..., Any], host_apart: Callable[..., Any], name: str
) -> None:
    faults: dict[str, Any] = dict(EVERYTHING)
    if name == "fedavg":
        faults["partition"] = [{"groups": [[0, 1, 2, 3]], "rounds": [1, 3]}]
        faults["pause"] = [{"node": 8, "round": 1, "seconds": 3.0}]
    changes = {"algorithm": name, "clock": CLOCK, "rounds": 4, "faults": faults}
    whole, _ = host(make_job(changes))
    rows, state, _ = host_apart(lambda: make_job(changes), 3)
    assert torch.equal(rows, whole.rows)
    for key, values in whole.state.items():
        assert torch.equal(values, state[key]), key


@pytest.mark.parametrize(("loses", "back"), [(0, 3), (2, 1), (None, 0)])
def test_who_crashed_comes_back_as_after_an_older_round(
    make_job: MakeJob, loses: int | None, back: int
) -> None:
    from hansa.engine.runtimes.host import Host

    crash = {"nodes": [3], "round": 3, "away": 2, "loses": loses}
    job = make_job({"rounds": 6, "faults": {"crash": [crash]}, "topology": "ring"})
    plain = make_job({"rounds": 6, "topology": "ring", "faults": {"absent": {"3": [[3, 5]]}}})
    seen: dict[str, list[torch.Tensor]] = {}
    for name, one in (("crash", job), ("away", plain)):
        block = one.block(np.arange(8))
        rows = seen.setdefault(name, [torch.cat([block.rows, block.state["steps"][:, None]], 1)])
        real = one.algorithm.round

        def round(block: Block, t: int, rows: Any = rows, real: Any = real) -> Any:
            rows.append(torch.cat([block.rows, block.state["steps"][:, None]], 1))
            return real(block, t)

        object.__setattr__(one.algorithm, "round", round)
        Host(one, block, one.exchange(), lambda report: None, lambda block, done: None).run()
    # seen[name][t + 1] is how round t begins, with what was counted so far behind.
    crashed, away = seen["crash"], seen["away"]
    assert torch.equal(crashed[4], away[4])
    assert torch.equal(crashed[6][3, :-1], crashed[back + 1][3, :-1])
    others = [i for i in range(8) if i != 3]
    assert torch.equal(crashed[6][others], away[6][others])
    assert crashed[6][3, -1] == 3 * 2  # its steps were taken, whatever became of them


def test_a_resumed_run_knows_what_a_crash_leaves(
    tmp_path: Path, small: Callable[..., dict[str, Any]]
) -> None:
    crash = [{"nodes": [1, 6], "round": 3, "away": 1, "loses": 2}]
    settings = small({"rounds": 6, "checkpoint": {"every": 2}, "faults": {"crash": crash}})
    hansa.run(settings, tmp_path / "whole", report=False)
    hansa.run({**settings, "rounds": 2}, tmp_path / "parts", report=False)
    processes = {"name": "processes", "workers": 2}
    hansa.resume(tmp_path / "parts", {"rounds": 6, "runtime": processes}, report=False)
    blocks = [hansa.open_run(tmp_path / name).trained().block for name in ("whole", "parts")]
    assert torch.equal(blocks[0].rows, blocks[1].rows)


def test_slow_nodes_and_pauses_cost_modelled_time_alone(
    make_job: MakeJob, host: Callable[..., Any]
) -> None:
    changes = {"clock": CLOCK, "rounds": 2, "topology": "ring"}
    plain = host(make_job(changes))[0]
    faults = {"slow": {"1": 4.0}, "pause": [{"node": 6, "round": 1, "seconds": 100.0}]}
    slowed = host(make_job({**changes, "faults": faults}))[0]
    assert torch.equal(plain.rows, slowed.rows)
    one, two = plain.state["compute_time"].numpy(), slowed.state["compute_time"].numpy()
    np.testing.assert_allclose(two / one, [1, 4, 1, 1, 1, 1, 1, 1])
    later = (slowed.state["modelled_time"] - plain.state["modelled_time"]).numpy()
    # Round 1 is over for 6, which stood still, and for its neighbours, who waited for it.
    assert set(np.flatnonzero(later > 90)) == {5, 6, 7}


@pytest.mark.parametrize(
    ("faults", "more", "field", "words"),
    [
        ({"partition": [{"groups": [[0, 9]]}]}, {}, "faults.partition.0.groups", "is no node"),
        ({"partition": [{"groups": [[0], [1, 0]]}]}, {}, "faults.partition.0.groups", "two groups"),
        ({"partition": [{"groups": [[*range(8)]]}]}, {}, "faults.partition.0.groups", "nobody"),
        ({"partition": [{**HALVES, "rounds": [3, 3]}]}, {}, "faults.partition.0.rounds", "no rou"),
        ({"partition": [{**HALVES, "rounds": [10, 5]}]}, {}, "faults.partition.0.rounds", "no rou"),
        ({"partition": [HALVES], "on_missing": "wait"}, {}, "faults.partition", "sent again"),
        ({"partition": [HALVES]}, {"algorithm": "choco"}, "faults.partition", "choco waits"),
        ({"partition": [HALVES]}, {"algorithm": "adpsgd"}, "faults.partition", "no rounds"),
        ({"crash": [{"nodes": [8], "round": 2}]}, {}, "faults.crash.0.nodes", "cannot|can crash"),
        ({"crash": [{"nodes": [1], "round": 0}]}, {}, "faults.crash.0.loses", "more than the 0"),
        (
            {"crash": [{"nodes": [1], "round": 2}], "absent": {"1": [[1, 4]]}},
            {}, "faults.crash.1", "not overlap",
        ),
        ({"crash": [{"nodes": [1], "round": 2}]}, {"algorithm": "adpsgd"}, "faults.crash", "none"),
        ({"slow": {"9": 2.0}}, {}, "faults.slow", "no node"),
        ({"slow": {"1": 2.0}}, {"clock": "wall"}, "faults.slow", "no devices"),
        (
            {"pause": [{"node": 1, "round": 0, "seconds": 1}]},
            {"clock": "wall"}, "faults.pause", "has none",
        ),
        (
            {"pause": [{"node": 1, "round": 0, "seconds": 1}]},
            {"algorithm": "fedavg"}, "faults.pause", "its server's",
        ),
    ],
)  # fmt: skip
def test_what_cannot_go_wrong_is_refused_by_name(
    small: Callable[..., dict[str, Any]],
    faults: dict[str, Any],
    more: dict[str, Any],
    field: str,
    words: str,
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        prepare(RunFile.parse(small({"faults": faults, **more})))
    assert caught.value.field == field


def test_what_goes_wrong_on_purpose_is_remarked(small: Callable[..., dict[str, Any]]) -> None:
    run = RunFile.parse(small({"faults": EVERYTHING}))
    lines = "\n".join(of_faults(run.faults, 2))
    for words in ("falls into groups of 4, 4 nodes", "rounds 1 to 2", "crash and lose work: nodes "
                  "2, 5", "slow in modelled time: node 1", "stand still", "never: 1"):  # fmt: skip
        assert words in lines
    assert Crash(nodes=(1,), round=4, away=2).rewind == Rewind((1,), 3, 6, False)
