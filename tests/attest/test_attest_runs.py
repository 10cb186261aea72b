"""Attested runs end to end by the command: the same models, and the mark on all that is left."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hansa.base.errors import ConfigError
from hansa.engine import Simulate
from hansa.experiment.run import run
from hansa.experiment.runfile import RunFile
from hansa.forget.page import RequestPage, Served
from hansa.report import RunFolder
from hansa.report.comparison import write_comparison
from hansa.report.live.shown import shown
from hansa.report.live.watched import Watched
from hansa.report.writing import write_pictures, write_report

from .attested_runs import hansa, run_file


@pytest.fixture(scope="module")
def attested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run's folder."""
    folder = tmp_path_factory.mktemp("attested")
    out = folder / "out"
    done = hansa("learn", str(run_file(folder)), "--out", str(out))
    assert done.returncode == 0, done.stderr
    (folder / "stderr").write_text(done.stderr)
    (folder / "stdout").write_text(done.stdout)
    return out


def test_models_are_those_of_a_run_without_evidence(attested: Path, tmp_path: Path) -> None:
    settings = RunFile.load(attested.parent / "run.yaml")
    plain = settings.model_copy(update={"runtime": Simulate()})
    one, two = RunFolder.open(attested), run(plain, tmp_path / "plain", report=False)
    for name in ("final", "bytes_sent"):
        assert one.summary[name] == two.summary[name]
    assert one.summary["overhead_bytes"] > two.summary["overhead_bytes"] == 0
    assert "tee" not in two.summary
    (overhead,) = [event for event in one.events() if event["kind"] == "overhead"]
    assert overhead["vouch"] > 1000


def test_every_artefact_of_a_simulated_run_says_so(attested: Path) -> None:
    folder = RunFolder.open(attested)
    write_report(folder)
    write_pictures(folder)
    assert folder.summary["tee"] == folder.environment["tee"] == "simulated"
    assert folder.summary["is_hardware"] is folder.environment["is_hardware"] is False
    for line in (attested / "events.jsonl").read_text().splitlines():
        assert json.loads(line)["tee"] == "simulated"
    files = list((attested / "metrics").glob("*.parquet"))
    assert files
    for file in files:
        assert pq.read_schema(file).metadata[b"hansa.tee"] == b"simulated"
    manifests = list((attested / "checkpoints").glob("*/manifest.json"))
    assert manifests
    for file in manifests:
        assert json.loads(file.read_text())["tee"] == "simulated"
    page = (attested / "report.html").read_text()
    assert "(tee: simulated) · hansa</title>" in page
    assert "(tee: simulated)<span" in page.partition("<h1>")[2]
    assert page.count("(tee: simulated)") > 3  # charts too
    pictures = list((attested / "pictures").glob("*.png"))
    assert pictures
    assert all("tee_simulated" in file.stem for file in pictures)
    for file in (attested / "logs").glob("worker-*.log"):
        assert file.read_text().startswith("[tee: simulated]")
    said = (attested.parent / "stderr").read_text()
    assert said.startswith("warning: tee: simulated")
    lines = [line for line in said.splitlines() if line.startswith("[")]
    assert lines
    assert all(line.startswith("[tee: simulated] ") for line in lines)
    compared = write_comparison([attested], attested.parent / "compared.html").read_text()
    assert "(tee: simulated)" in compared.partition("<h1>")[2]
    model = attested.parent / "model.safetensors"
    hansa("export", str(attested), "--node", "0", "--out", str(model))
    assert json.loads(model.with_suffix(".json").read_text())["tee"] == "simulated"
    watched = Watched(attested)
    watched.update()
    assert shown([watched])["runs"][0]["name"].endswith("(tee: simulated)")
    untold = {"config.yaml", "topology.json", "partition.json", "remarks.json", ".lock"}
    untold.add("signature.json")  # the form of its inputs
    for file in attested.rglob("*"):  # whatever else there is may not be taken for the run's result
        if file.is_file() and file.suffix in (".json", ".jsonl", ".html"):
            assert file.name in untold or "simulated" in file.read_text(), file


def checked(path: Path) -> None:
    """Read a run file, and have its runtime say whether it can work."""
    settings = RunFile.load(path)
    settings.runtime.check(settings.nodes)


@pytest.mark.parametrize(
    ("runtime", "says"),
    [
        ({"name": "simulate", "channel": "attested"}, "nothing travels in simulate"),
        ({"name": "ray", "channel": "secret"}, "runtime.channel"),
        ({"name": "processes", "channel": "attested"}, "runtime.channel.policy"),
    ],
)
def test_a_channel_that_does_not_fit_its_runtime_is_refused(
    tmp_path: Path, runtime: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        checked(run_file(tmp_path, runtime=runtime))
    assert says in f"runtime.{refused.value}"


def test_nothing_is_simulated_by_settings_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HANSA_SIMULATED_TEE", raising=False)
    with pytest.raises(ConfigError, match="HANSA_SIMULATED_TEE is not 1"):
        run(run_file(tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_receipt_of_what_was_forgotten_says_so() -> None:
    receipt = {"kind": "forget", "what": "class 3", "method": {"name": "quickdrop"}}
    marks = {"tee": "simulated", "is_hardware": False}
    said = [RequestPage().headline(Served(receipt | more, None)) for more in ({}, marks)]
    assert said == ["Forget class 3, quickdrop", "Forget class 3, quickdrop (tee: simulated)"]
