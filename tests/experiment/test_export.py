"""A trained model as plain files, and as a module."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import hansa
from hansa.base.errors import CheckpointError, ConfigError
from hansa.experiment import outlook
from hansa.experiment.asked import predicted
from hansa.experiment.trained import TrainedRun
from hansa.report.measured import Measured
from hansa.report.run_page import RunPage
from hansa.report.which import Which

TINY: dict[str, Any] = {
    "nodes": 3,
    "rounds": 2,
    "topology": "ring",
    "model": {"name": "mlp", "hidden": [8]},
    "train": {"local_steps": 2, "strategy": "looped"},
}


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A run of three peers."""
    path = tmp_path_factory.mktemp("peers") / "run"
    hansa.run(TINY, path, report=False)
    return hansa.open_run(path).trained()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """A run of three clients and a server."""
    path = tmp_path_factory.mktemp("served") / "run"
    hansa.run({**TINY, "algorithm": "fedavg"}, path, report=False)
    return hansa.open_run(path).trained()


def accuracy(run: TrainedRun, net: torch.nn.Module) -> float:
    """On the test set, as anybody would compute it."""
    data = run.job.dataset
    x, y = data.gather(data.test, torch.arange(len(data.test)))
    return float((net(x).argmax(1) == y).float().mean())


def test_modules_score_what_the_run_measured(peers: TrainedRun, served: TrainedRun) -> None:
    final = (peers.folder.summary or {})["final"]
    each = [accuracy(peers, peers.module(node)) for node in range(3)]
    assert sum(each) / 3 == pytest.approx(final["accuracy"], rel=1e-6)
    average = accuracy(peers, peers.module(average=True))
    assert average == pytest.approx(final["accuracy_average_model"], rel=1e-6)
    final = (served.folder.summary or {})["final"]
    assert accuracy(served, served.module()) == pytest.approx(final["accuracy"], rel=1e-6)


def test_files_hold_the_module_and_what_goes_in(served: TrainedRun, tmp_path: Path) -> None:
    facts = json.loads(hansa.export(served, tmp_path / "new" / "m.safetensors").read_text())
    net = served.module()
    found = load_file(tmp_path / "new" / "m.safetensors")
    assert found.keys() == net.state_dict().keys()
    for name, value in net.state_dict().items():
        assert torch.equal(found[name], value)
    data = served.job.dataset
    assert facts["input"] == {"kind": "image", "shape": [1, 8, 8]}
    assert facts["classes"] == list(data.class_names)
    assert (facts["outputs"], facts["round"], facts["node"]) == (10, 2, None)
    assert facts["parameters"] == sum(p.numel() for p in net.parameters())
    stored = data.test.inputs[:4].float().reshape(4, *facts["input"]["shape"])
    x, _ = data.gather(data.test, torch.arange(4))
    torch.testing.assert_close(stored * facts["scale"] + facts["shift"], x)


def test_what_cannot_be_exported(peers: TrainedRun, tmp_path: Path) -> None:
    out = tmp_path / "m.safetensors"
    refused: list[tuple[dict[str, Any], str, str]] = [
        ({}, "node", "or their average"),
        ({"node": 3}, "node", "from 0 to 2"),
        ({"node": 1, "average": True}, "node", "one of the two"),
        ({"node": 1, "out": tmp_path / "m.pt"}, "out", "model.safetensors"),
    ]
    for chosen, field, words in refused:
        with pytest.raises(ConfigError, match=words) as caught:
            hansa.export(peers, **{"out": out, **chosen})
        assert caught.value.field == field
        assert not list(tmp_path.iterdir())
    hansa.export(peers, out, node=1)
    with pytest.raises(ConfigError, match="is there already"):
        hansa.export(peers, out, node=2)


@pytest.mark.parametrize(
    "entry",
    ["{not json", "[]", "7", "{}", '{"onnx": {"outputs": []}}'],
)
def test_a_graph_of_others_with_a_strange_entry_is_refused(tmp_path: Path, entry: str) -> None:
    onnx = pytest.importorskip("onnx")
    ends = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [None, 2]) for n in "io"]
    node = onnx.helper.make_node("Identity", ["i"], ["o"])
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    model.ir_version = 9
    note = model.metadata_props.add()
    note.key, note.value = "hansa", entry
    onnx.save(model, tmp_path / "theirs.onnx")
    with pytest.raises(CheckpointError, match=r"theirs.onnx: is no"):
        predicted(tmp_path / "theirs.onnx", np.zeros((1, 2)), Which())


def test_a_sample_of_the_parties_is_called_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlook, "_CLIENTS_SHOWN", 2)
    folder = hansa.run({**TINY, "algorithm": "fedavg"}, tmp_path / "run", report=False)
    said = RunPage().sizes(Measured(folder))
    assert said.startswith("2 of the 3 clients were looked at: each holds 4")
    hansa.open_run(folder.path).export(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "each of 2 parties that were looked at has 4" in card
