"""``hansa infer compile`` and ``hansa infer private plan`` as commands, on what hansa has saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hansa import export, open_run
from hansa.cli import main
from hansa.infer.private.compiling import planner
from hansa.infer.private.compiling.costs import Costs
from hansa.infer.private.compiling.program_file import read_program
from hansa.infer.private.compiling.sources import open_source
from hansa.infer.private.integer_net import evaluate, read_rows

SOME = Costs(1e-4, 5e-5, 1e-5, 2e-4, 4e-9, 5e-5, 2e-5, 1e-4, 9e-6)
OWN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.conv, self.out = nn.Conv2d(1, width, 3), nn.Linear(36 * width, 4)

    def forward(self, x):
        return self.out(torch.relu(self.conv(x)).flatten(1))

def normed():
    return nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))

number = 3
"""


@pytest.fixture(autouse=True)
def _no_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "costs_of", lambda _: SOME)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "digits"
    arguments = "learn fedavg --quiet --no-report --set rounds=12 --set data.name=digits"
    arguments += " --set model.name=mlp --set train.local_steps=20"
    assert main([*arguments.split(), "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def own(tmp_path: Path) -> Path:
    file = tmp_path / "own_nets.py"
    file.write_text(OWN)
    return file


def said(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, Any]:
    capsys.readouterr()
    status = main([*map(str, words), "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_a_run_is_compiled_and_as_good_as_before(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, told = said(capsys, "infer", "compile", run, "--out", tmp_path / "net")
    assert status == 0, told
    facts = told["facts"]
    assert facts["accuracy_plain"] > 0.8
    assert facts["accuracy"] >= facts["accuracy_plain"] - 0.005
    assert told["certificate"]["failure_log2"] <= -40
    assert told["plan"]["up"] > 0
    program = read_program(told["file"])
    assert program.facts["scheme"]["mode"] == "shuffle"  # type: ignore[index]
    assert len(program.classes) == 10
    source = open_source(str(run))
    assert source.tests is not None
    rows, labels = source.tests
    right = (evaluate(program, read_rows(program, rows)).argmax(1) == labels).mean()
    assert right == pytest.approx(facts["accuracy"], abs=1e-6)


def test_compile_says_what_became_of_each_layer(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["infer", "private", "compile", str(run), "--out", str(tmp_path / "net")]) == 0
    text = capsys.readouterr().out
    for words in ("Linear", "server", "client", "Accumulators", "flooding", "bytes up", "300 MB/s"):
        assert words in text


def test_an_export_is_compiled_on_rows_that_are_given(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(open_run(run), tmp_path / "model.safetensors")
    tests = open_source(str(run)).tests
    assert tests is not None
    np.savez(tmp_path / "rows.npz", rows=tests[0], labels=tests[1])
    words = ["infer", "compile", tmp_path / "model.safetensors", "--rows", tmp_path / "rows.npz"]
    status, told = said(
        capsys, *words, "--out", tmp_path / "net", "--weights", 6, "--activations", 5
    )
    assert status == 0, told
    assert told["facts"]["accuracy"] >= told["facts"]["accuracy_plain"] - 0.02
    status, told = said(capsys, *words, "--out", tmp_path / "net")
    assert (status, told["error"]["field"]) == (2, "out")


def test_made_up_rows_are_warned_of(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["infer", "compile", f"{own}:Net", "--shape", "1,8,8", "--out", tmp_path / "net"]
    capsys.readouterr()
    assert main([*map(str, words)]) == 0
    assert "made-up rows" in capsys.readouterr().err
    assert read_program(tmp_path / "net").facts["calibration"] == "made up"


def test_sums_that_no_ring_takes_are_held_and_it_is_said(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["infer", "compile", f"{own}:Net", "--shape", "1,8,8", "--out", tmp_path / "net"]
    words += ["--weights", 11, "--activations", 11]
    assert main([*map(str, words)]) == 0
    assert "sums to 22 bits" in capsys.readouterr().out
    program = read_program(tmp_path / "net")
    assert program.accumulator_bits <= 22
    assert program.facts["held_to"] == 22


def test_a_state_and_arguments_fill_a_network(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network: nn.Module = open_source(f"{own}:Net", arguments={"width": 3}).network
    save_file(network.state_dict(), tmp_path / "state.safetensors")
    rows = np.random.default_rng(0).normal(size=(32, 1, 8, 8)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    status, told = said(
        capsys, "infer", "compile", f"{own}:Net", "--arguments", '{"width": 3}', "--state",
        tmp_path / "state.safetensors", "--rows", tmp_path / "rows.npy", "--out", tmp_path / "net",
        "--weights", 9, "--activations", 8,
    )  # fmt: skip
    assert status == 0, told
    program = read_program(told["file"])
    with torch.no_grad():
        wanted = network(torch.from_numpy(rows)).numpy()
    made = evaluate(program, read_rows(program, rows)) * program.logits.scale
    assert np.abs(made - wanted).max() < 0.05 * np.abs(wanted).max()


@pytest.mark.parametrize(
    ("words", "field", "fix"),
    [
        (["{own}:normed"], "network.1", "BatchNorm"),
        (["{own}:number"], "source", "class or a function"),
        (["{own}:Net"], "source", "--shape"),
        (["{own}:Net", "--arguments", "[1]"], "arguments", "width"),
        (["{own}:Net", "--arguments", '{"depth": 1}'], "source", "arguments"),
        (["{own}:Net", "--shape", "1,x"], "shape", "1,28,28"),
        (["{own}:Net", "--shape", "1,8,8", "--mode", "magic"], "mode", "shares"),
        (["{own}:Net", "--shape", "1,8,8", "--packing", "magic"], "packing", "batch"),
        (["{own}:Net", "--shape", "1,8,8", "--hides", "magic"], "hides", "element"),
        (["{own}:Net", "--shape", "1,8,8", "--hides", "element"], "scheme.hides", "rows"),
        (["{own}:Net", "--shape", "1,8,8", "--profile", "n1024"], "profile", "n4096"),
        (["{own}:Net", "--shape", "1,8,8", "--mode", "budget"], "mode", "shares"),
        (["{own}:Net", "--shape", "1,8,8", "--weights", "1"], "weights", "2 to 12"),
        (["{own}:Net", "--shape", "1,8,8", "--accumulator", "8"], "network.conv", "a2q"),
        (["nothing.here"], "source", "hansa learn"),
    ],
)
def test_what_cannot_be_compiled_is_refused_by_name(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], field: str,
    fix: str,
) -> None:  # fmt: skip
    given = [word.replace("{own}", str(own)) for word in words]
    status, told = said(capsys, "infer", "compile", *given, "--out", tmp_path / "net")
    assert status == 2, told
    assert told["error"]["field"] == field
    assert fix in told["error"].get("fix", "")
    assert not list(tmp_path.glob("net*"))


def test_a_plan_is_printed_and_written(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["infer", "compile", f"{own}:Net", "--shape", "1,8,8", "--out", tmp_path / "net"]
    assert main([*map(str, words)]) == 0
    status, told = said(
        capsys, "infer", "private", "plan", tmp_path / "net", "--queries", 500, "--bandwidth", 1.25,
        "--latency", 40, "--out", tmp_path / "many",
    )  # fmt: skip
    assert status == 0, told
    assert told["plan"]["scheme"]["packing"] == "batch"
    assert told["plan"]["rows"] == 500
    assert read_program(tmp_path / "many").facts["scheme"] == told["plan"]["scheme"]
    assert main(["infer", "private", "plan", str(tmp_path / "net")]) == 0
    assert "not n2048" in capsys.readouterr().out
    status, told = said(capsys, "infer", "private", "plan", tmp_path / "none")
    assert status == 2
    assert "missing" in told["error"]["message"]


def test_a_distilled_ensemble_is_compiled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ensemble.yaml"
    file.write_text(
        "verb: combine\nseed: 1\nclients: 3\nrules: [average]\n"
        "models: [{name: mlp, hidden: [16]}]\n"
        "data: {name: digits, partition: iid, public: 0.3}\n"
        "local: {epochs: 6, batch_size: 32, optimizer: {name: sgd, lr: 0.1}}\n"
        "baselines: {methods: [distilled], distillation: {epochs: 6}}\n"
    )
    run = tmp_path / "run"
    words = ["combine", "ensemble", file, "--out", run, "--quiet", "--no-report"]
    assert main([*map(str, words)]) == 0
    student = run / "baselines" / "distilled" / "model.safetensors"
    source = open_source(str(student))
    assert source.shape == (1, 8, 8)
    status, told = said(capsys, "infer", "compile", student, "--out", tmp_path / "net")
    assert status == 0, told
    program = read_program(told["file"])
    assert len(program.rounds) == 2
    assert program.facts["prepare"]


def test_a_task_of_a_merged_cut_is_compiled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, merged, cut = tmp_path / "alone", tmp_path / "merged", tmp_path / "cut.safetensors"
    words = "learn isolated --quiet --no-report --set rounds=4 --set nodes=3 --set data.name=digits"
    words += " --set data.partition=iid --set model.name=mlp --set train.local_steps=20"
    assert main([*words.split(), "--out", str(run)]) == 0
    file = tmp_path / "merge.yaml"
    file.write_text(
        f"verb: merge\ntasks: {{name: sites, run: {run}}}\nsizes: [1.0]\nalgorithms: [ties]\n"
    )
    words_ = ["combine", "merge", file, "--out", merged, "--quiet", "--no-report"]
    assert main([*map(str, words_)]) == 0
    assert main(["combine", "cut", str(merged), "--size", "1", "--out", str(cut)]) == 0
    status, told = said(
        capsys, "infer", "compile", run, "--node", 0, "--state", cut, "--task", "site_0", "--out",
        tmp_path / "net",
    )  # fmt: skip
    assert status == 0, told
    facts = told["facts"]
    assert facts["accuracy_plain"] > 0.6
    assert facts["accuracy"] >= facts["accuracy_plain"] - 0.01
    status, told = said(
        capsys, "infer", "compile", run, "--node", 0, "--state", run / "summary.json", "--out",
        tmp_path / "other",
    )  # fmt: skip
    assert (status, told["error"]["field"]) == (2, "state")
