"""Real sentences as a world of routing, on made files of the same form and a tiny encoder."""

import json
from pathlib import Path

import pytest
import yaml

from hansa.base.errors import ConfigError, DataError
from hansa.cli import main
from hansa.data.sources.sentences import normal_form
from hansa.route.sources.sentences import Sentences
from hansa.weights.lora_folder import LoraFolder

from ..models.tiny_encoders import write_encoder


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CR in one heap, TREC in two files of which the second repeats some of the first."""
    folder = tmp_path / "data" / "sentences"
    folder.mkdir(parents=True)
    heap = [f"{k % 2} w{k % 40} {('bad', 'good')[k % 2]} w{k // 40} ." for k in range(60)]
    (folder / "custrev.all").write_text("\n".join(heap) + "\n")
    asked = [f"{k % 6} What w{k % 40} w{k // 3} ?" for k in range(80)]
    (folder / "TREC.train.all").write_text("\n".join(asked[:64]) + "\n")
    (folder / "TREC.test.all").write_text("\n".join([*asked[64:], *asked[:8]]) + "\n")
    monkeypatch.setenv("HANSA_DATA", str(tmp_path / "data"))
    return folder


def small(encoder: Path, **changed: object) -> Sentences:
    settings = {"tasks": ["cr", "trec"], "epochs": 1, "rank": 2, "validation": 6, "test": 10}
    return Sentences.model_validate({**settings, "encoder": encoder, **changed})


def test_a_world_is_made_of_files_and_gone_on_with(data: Path, tmp_path: Path) -> None:
    source = small(write_encoder(tmp_path / "encoder"))
    source.check()
    said: list[str] = []
    world = source.build(3, tmp_path / "place", said.append)
    assert [(t.name, t.domain, t.own) for t in world.tasks] == [
        ("cr", "sentiment", "cr"),
        ("trec", "trec", "trec"),
    ]
    assert [len(task.validation) for task in world.tasks] == [5, 5]  # a tenth of what is left
    tested = {normal_form(e.query.text) for task in world.tasks for e in task.test}
    for task in world.tasks:
        assert len(task.test) == 10
        assert not {normal_form(text) for text in task.texts()} & tested
        for example in task.validation + task.test:
            assert example.answer in example.query.candidates
    assert said[0] == world.notes[0]
    assert "trec 8" in said[0]
    assert any("adapter trec: step" in text for text in said)
    # There is no Shakespeare here: no foreign texts, and it is said.
    assert world.foreign == ()
    assert "input.txt" in world.notes[1]
    one, two = (LoraFolder.open(world.pool / name) for name in ("cr", "trec"))
    assert one.rank == 2
    # What is there stays; what is missing becomes what it was.
    digest = two.sha256()
    for file in two.path.iterdir():
        file.unlink()
    two.path.rmdir()
    assert source.build(3, tmp_path / "place", said.append) == world
    assert LoraFolder.open(two.path).sha256() == digest


def test_lines_of_shakespeare_are_no_task_s(data: Path, tmp_path: Path) -> None:
    play = data.parent / "shakespeare"
    play.mkdir()
    lines = [f"what w{k} is there to say" for k in range(30)]
    (play / "input.txt").write_text("NAME:\n" + "\n".join(lines) + "\n")
    world = small(write_encoder(tmp_path / "encoder"), foreign=7).build(
        0, tmp_path / "place", lambda text: None
    )
    assert len(world.foreign) == 7
    assert set(world.foreign) <= set(lines)


def test_what_is_missing_is_named_before_anything_is_trained(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="no task"):
        small(tmp_path, tasks=["sst3"])
    with pytest.raises(ValueError, match="one twice"):
        small(tmp_path, tasks=["cr", "cr"])
    with pytest.raises(ConfigError, match="is no folder"):
        small(tmp_path / "nowhere").check()
    with pytest.raises(ConfigError, match=r"config\.json"):
        small(data).check()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"hansa\[transformers\]"):
        small(data).check()
    monkeypatch.undo()
    encoder = write_encoder(tmp_path / "encoder")
    monkeypatch.setenv("HANSA_DATA", str(tmp_path / "data"))
    with pytest.raises(DataError, match=r"subj\.all"):
        small(encoder, tasks=["subj"]).build(0, tmp_path / "place", lambda text: None)
    assert not (tmp_path / "place").exists()


def test_the_command_runs_on_sentences(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = small(write_encoder(tmp_path / "encoder"), foreign=0).dump()
    file = tmp_path / "route.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "verb": "route",
                "tasks": settings | {"encoder": str(settings["encoder"])},
                "encoder": "hashing",
                "association": "exhaustive",
                "methods": ["lorauter", "base"],
                "regimes": ["id"],
                "noise": None,
                "fit_queries": 2,
            }
        )
    )
    assert main(["route", "run", str(file), "--out", str(tmp_path / "run"), "--json"]) == 0
    table = json.loads(capsys.readouterr().out)["final"]["table"]
    assert {row["method"] for row in table} >= {"lorauter", "base", "oracle"}
    assert all(row["score"] is None or row["score"] >= 0 for row in table)
