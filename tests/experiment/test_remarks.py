"""What is allowed and seldom meant is said."""

from pathlib import Path
from typing import Any

import pytest

from hansa.base.errors import ConfigError
from hansa.experiment import RunFile, plan, prepare
from hansa.experiment import run as learn
from hansa.experiment.remarks import of_graph, unused
from hansa.report.writing import write_report
from hansa.topology import Graph

SMALL: dict[str, Any] = {
    "nodes": 6,
    "rounds": 1,
    "data": {"name": "digits", "train_samples": 200, "test_samples": 50},
    "train": {"local_steps": 1, "batch_size": 4},
    "model": {"name": "mlp", "hidden": [4]},
}


def said(**changes: Any) -> list[str]:
    chosen = RunFile.parse(SMALL | changes)
    found: list[str] = plan(chosen, prepare(chosen))["remarks"]
    return found


def graph(path: Path, text: str) -> dict[str, str]:
    path.write_text(text)
    return {"name": "file", "path": str(path)}


def test_nothing_is_said_of_what_is_usual() -> None:
    assert said() == []
    assert unused(RunFile()) == []
    resolved = RunFile.parse(RunFile.parse({"algorithm": "fedavg"}).dump())
    assert unused(resolved) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 1\n1 2\n2 3\n3 4\n", ["1 nodes have no neighbour and train alone: 5"]),
        ("0 1\n1 2\n3 4\n4 5\n", ["in 2 pieces"]),
        ("# none\n", ["nobody hears anybody"]),
        ("0 1\n0 1\n1 2\n2 3\n3 4\n4 5\n", ["1 edges are listed more than once"]),
        ("1 2\n2 3\n3 4\n4 5\n5 6\n", ["numbered from 1"]),
    ],
)
def test_odd_graphs_are_said(text: str, words: list[str], tmp_path: Path) -> None:
    found = said(topology=graph(tmp_path / "a.edges", text))
    assert len(found) == len(words)
    for remark, part in zip(found, words, strict=True):
        assert part in remark


def test_a_directed_path_is_weakly_one() -> None:
    assert "never reach" in of_graph(Graph.from_edges(3, [0, 1], [1, 2]))[0]
    assert of_graph(Graph.from_edges(3, [0, 1, 2], [1, 2, 0])) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"algorithm": "fedavg", "topology": "ring"}, "fedavg does not ask who hears whom"),
        ({"algorithm": "isolated", "topology": "ring"}, "isolated does not ask"),
        (
            {"algorithm": {"name": "skiptrain", "algorithm": "el_local"}, "topology": "ring"},
            "skiptrain does not ask",
        ),
        ({"train": {"local_steps": 3, "local_epochs": 1}}, "train.local_steps is not used"),
        ({"data": {"name": "digits", "public": 0.2}}, "dpsgd does not use"),
        ({"checkpoint": {"every": 0, "keep": 3}}, "checkpoint.keep is not used"),
    ],
)
def test_settings_that_nothing_looks_at(changes: dict[str, Any], words: str) -> None:
    assert any(words in remark for remark in unused(RunFile.parse(SMALL | changes)))
    again = RunFile.parse(RunFile.parse(SMALL | changes).dump())
    assert any(words in remark for remark in unused(again))


def test_on_the_page_and_in_the_folder(tmp_path: Path) -> None:
    settings = SMALL | {"topology": graph(tmp_path / "a.edges", "0 1\n1 2\n3 4\n4 5\n")}
    folder = learn(settings, tmp_path / "run", report=False)
    assert "in 2 pieces" in write_report(folder).read_text()


def test_weights_need_an_algorithm_that_weighs(tmp_path: Path) -> None:
    weighted = graph(tmp_path / "a.edges", "\n".join(f"{i} {(i + 1) % 6} 0.3" for i in range(6)))
    assert "mix the models" in said(topology=weighted)[0]
    with pytest.raises(ConfigError, match="adpsgd does not mix by weights") as caught:
        said(topology=weighted, algorithm="adpsgd", clock="modelled")
    assert caught.value.field == "topology.edge_weights"
    weighted["edge_weights"] = "ignore"
    said(topology=weighted, algorithm="adpsgd", clock="modelled")
