"""What cannot work is refused before anything starts, by name and with the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.base.errors import CheckpointError, ConfigError, OwnCodeError
from hansa.experiment import RunFile, override, plan, prepare, resume, run

# The strategy is set, since the one that is measured to be faster may differ from run to run.
SMALL = (
    "nodes=4", "rounds=2", "evaluate.every=1", "topology=ring", "model=logistic",
    "train.strategy=looped",
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        (["topology.degree=16"], "topology.degree", "at most 15"),
        (["topology.degree=3", "nodes=5"], "topology.degree", "both are odd"),
        (["topology=torus", "nodes=7"], "topology", ""),
        (["topology=ring", "nodes=1"], "topology", "1 node"),
        (["nodes=2000", "topology=ring"], "nodes", "1438"),
        (["data.partition={name: shards, shards_per_node: 200}"],
         "data.partition.shards_per_node", "at most 89"),
        (["train.batch_size=90"], "train.batch_size", "at most 89"),
        (["model=lstm"], "model", "tokens"),
        (["runtime={name: processes, workers: 17}"], "runtime.workers", "16 nodes"),
        (["algorithm={name: el_local, fanout: 16}"], "algorithm.fanout", "15"),
        (["algorithm={name: el_oracle, degree: 16}"], "algorithm.degree", "15"),
        (["device=cuda:99"], "device", "CUDA"),
        (["device=toaster"], "device", "not a torch device"),
        (["data.validation=0.0001"], "data.validation", "empty"),
        (["data.train_samples=5000"], "data.train_samples", "only 1438"),
        (["faults=0.1"], "faults", "a mapping with some of loss, lost,"),
        (["faults.loss=1.5"], "faults.loss", "faults.loss is: chance that a message"),
        (["faults.lost=[[0,1]]"], "faults.lost.0", "is not [round, sender, receiver]"),
        (["faults.lost=[7]"], "faults.lost.0", "is not [round, sender, receiver]"),
        (["faults.lost=[[-1,1,2]]"], "faults.lost.0", "a round from 0, two of"),
        (["faults.lost=[[0,1,2]]", "algorithm=adpsgd"], "faults.lost", "adpsgd has no rounds"),
        (["network.rate=0"], "network.rate", "bytes a second"),
        (["network.nodes={16: {delay: 1}}"], "network.nodes.16", "is no node of the run"),
        (["network.jitter=0.1"], "network.jitter", "before they leave"),
        (["network.trace=nowhere.csv"], "network.trace", "No such file"),
        (["network.nodes={3: {delay: 1}}", "runtime=processes"], "network.nodes.3",
         "a node a worker (runtime.workers: 16)"),
    ],
)  # fmt: skip
def test_impossible_settings(changes: list[str], field: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare(RunFile.parse(override({}, tuple(changes))))
    assert caught.value.field == field
    assert words in str(caught.value)


@pytest.mark.parametrize("said", ['"sizes"', '["sizes"]', 'frozenset({"size"})'])
def test_what_clients_must_tell_has_to_be_something_that_they_can(
    said: str, tmp_path: Path
) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "from typing import Any, ClassVar\nfrom hansa.learn import DPSGD\n"
        f"class Own(DPSGD):\n    'Own.'\n    must_tell: ClassVar[Any] = {said}\n"
    )
    with pytest.raises(
        OwnCodeError, match=r"(?s)own\.py:Own.* its must_tell is .*'sizes', 'labels'"
    ):
        prepare(RunFile.parse(override({}, (f"algorithm={file}:Own",))))


def test_who_asks_for_what_cannot_be_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "from hansa import Algorithm\nclass Own(Algorithm):\n    'Own.'\n"
        "    def outgoing(self, block, t):\n        return block.sizes\n"
    )
    settings = RunFile.parse(override({}, (*SMALL, f"algorithm={file}:Own")))
    with pytest.raises(OwnCodeError, match=r"own\.py, line 5, in outgoing: NotTold: .* must_tell"):
        run(settings, tmp_path / "run", report=False)


@pytest.mark.parametrize(
    ("name", "said"),
    [("kinds", "'model'"), ("kinds", "['model']"), ("hears", "('other',)"), ("hears", "'model'")],
)
def test_kinds_of_messages_are_declared_as_such(name: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "from typing import Any, ClassVar\nfrom hansa import Asynchronous\n"
        "class Own(Asynchronous):\n    'Own.'\n    kinds: ClassVar[Any] = ('model',)\n"
        f"    {name}: ClassVar[Any] = {said}\n"
    )
    with pytest.raises(OwnCodeError, match=rf"own\.py:Own.* its {name} is "):
        prepare(RunFile.parse(override({}, (f"algorithm={file}:Own",))))


def test_a_graph_of_ones_own_that_fails_is_the_topologys_fault(tmp_path: Path) -> None:
    file = tmp_path / "rings.py"
    file.write_text(
        'from hansa.topology import Ring\nclass Mine(Ring):\n    "A ring."\n'
        "    def graph(self, nodes, round, streams):\n        return 1 / 0\n"
    )
    with pytest.raises(ConfigError, match=r"rings\.py, line 5, in graph") as caught:
        prepare(RunFile.parse(override({}, (f"topology={file}:Mine", "nodes=4"))))
    assert caught.value.field == "topology"


def test_the_plan_is_what_the_run_does(tmp_path: Path) -> None:
    chosen = RunFile.parse(override({}, SMALL))
    facts = plan(chosen, prepare(chosen))
    assert facts["model_parameters"] == 650
    assert facts["neighbours"] == {"min": 2, "max": 2}
    folder = run(chosen, tmp_path / "run", report=False)
    metrics = folder.metrics()
    steps = metrics.filter(metrics["name"] == "steps")
    assert steps["value"].max() == facts["steps_per_node"]


def test_python_and_plain_settings_give_the_same_run(tmp_path: Path) -> None:
    settings = override({}, SMALL)
    told: list[tuple[int, float]] = []
    first = run(settings, tmp_path / "a", lambda t, f: told.append((t, f["bytes_sent"])))
    second = run(RunFile.parse(settings), tmp_path / "b", report=False)
    assert first.summary
    assert second.summary
    assert first.summary["final"] == second.summary["final"]
    assert [t for t, _ in told] == [0, 1, 2]
    assert told[-1][1] == first.summary["bytes_sent"] > 0
    assert (tmp_path / "a" / "report.html").exists()
    assert not (tmp_path / "b" / "report.html").exists()


def test_resume_changes_only_what_may_change(tmp_path: Path) -> None:
    settings = override({}, (*SMALL, "checkpoint.every=1"))
    run(settings, tmp_path / "run", report=False)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"seed": 2}, "seed"),
        ({"rounds": 1}, "rounds"),
    ]
    for changes, field in refused:
        with pytest.raises(ConfigError) as caught:
            resume(tmp_path / "run", changes)
        assert caught.value.field == field
    longer = resume(tmp_path / "run", {"rounds": 4}, report=False)
    straight = run({**settings, "rounds": 4}, tmp_path / "straight", report=False)
    assert longer.summary
    assert straight.summary
    for name, value in straight.summary["final"].items():
        assert np.isclose(longer.summary["final"][name], value, rtol=1e-6), name
    assert longer.summary["bytes_sent"] == straight.summary["bytes_sent"]


def test_a_folder_in_use_and_one_that_is_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(ConfigError) as caught:
            run(override({}, SMALL), path)
        assert caught.value.field == "out"
    with pytest.raises(CheckpointError):
        resume(tmp_path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dpsgd", "nothing"),
        ("fedavg", "how many examples it has"),
        ("quickdrop", "how many examples it has and how many of each class"),
    ],
)
def test_a_plan_says_what_clients_must_tell(name: str, said: str) -> None:
    model = {"name": "mlp", "hidden": [8]}
    chosen = RunFile.parse({"nodes": 8, "data": "digits", "model": model, "algorithm": name})
    assert plan(chosen, prepare(chosen))["clients_tell"] == said
