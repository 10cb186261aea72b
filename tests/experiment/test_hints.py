"""A slip is answered with the setting that was meant, and what is proposed is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

import hansa
from hansa.base.component import catalogue
from hansa.base.errors import ConfigError
from hansa.combine.ensemble.ensemble_file import EnsembleFile
from hansa.experiment import prepare
from hansa.experiment.runfile import RunFile
from hansa.experiment.settings_file import override

SLIPS = {
    "lr=0.1": "train.optimizer.lr=0.1",
    "train.lr=0.1": "train.optimizer.lr=0.1",
    "learning_rate=0.1": "train.optimizer.lr=0.1",
    "train.optimizer.learning_rate=0.1": "train.optimizer.lr=0.1",
    "momentum=0.9": "train.optimizer.momentum=0.9",
    "batch_size=8": "train.batch_size=8",
    "epochs=3": "train.local_epochs=3",
    "partition=dirichlet": "data.partition=dirichlet",
    "partition.alpha=0.3": "data.partition.name=dirichlet data.partition.alpha=0.3",
    "data.alpha=0.3": "data.partition.name=dirichlet data.partition.alpha=0.3",
    "hidden=64": "model.hidden=[64]",
    "model.hidden=64": "model.hidden=[64]",
    "model.hiden=64": "model.hidden=[64]",
    "hidden=[64, 32]": "model.hidden=[64, 32]",
    "degree=3": "topology.degree=3",
    "workers=2": "runtime.name=processes runtime.workers=2",
    "dataset=digits": "data=digits",
    "num_clients=8": "nodes=8",
    "clients=8": "nodes=8",
    "optimizer.lr=0.1": "train.optimizer.lr=0.1",
    "data.partition.alpha=0.3": "data.partition.name=dirichlet data.partition.alpha=0.3",
    "runtime.workers=2": "runtime.name=processes runtime.workers=2",
    "algorithm.mu=0.1": "algorithm.name=fedprox algorithm.mu=0.1",
    "topology=ring topology.degree=3": "topology.name=regular topology.degree=3",
    "fraction=0.25": "algorithm.name=fedavg algorithm.sampled=4",
    "algorithm.upload=qsgd": "algorithm.codec=qsgd",
    "eval_every=5": "evaluate.every=5",
    "algorithm={fedavg: {sampled: 2}}": "algorithm=fedavg",
    "topology={ring: {}}": "topology=ring",
}
FEDERATED = {
    "lr=0.1": "train.optimizer.lr=0.1",
    "fraction=0.25": "algorithm.sampled=4",
    "algorithm.fraction=0.25": "algorithm.sampled=4",
    "sampled=3": "algorithm.sampled=3",
    "codec=sparse": "algorithm.codec=sparse",
    "server.lr=0.5": "algorithm.server.lr=0.5",
}


@pytest.mark.parametrize(
    ("algorithm", "slip", "meant"),
    [("dpsgd", *pair) for pair in SLIPS.items()] + [("fedadam", *p) for p in FEDERATED.items()],
)
def test_a_slip_is_answered_with_what_was_meant(algorithm: str, slip: str, meant: str) -> None:
    with pytest.raises(ConfigError) as told:
        RunFile.of(algorithm, tuple(_words(slip)))
    assert f"did you mean {meant}" in told.value.fix
    RunFile.of(algorithm, tuple(_words(meant)))


def _words(text: str) -> list[str]:
    """Split at the blanks between settings, not at those within a list."""
    return [text] if "[" in text or "{" in text else text.split()


def test_a_name_with_points_as_a_key_is_shown_as_it_must_be() -> None:
    for settings, words in (
        ({"train.batch_size": 4}, "train: {batch_size: 4}"),
        ({"train": {"optimizer.lr": 0.1}}, "train: {optimizer: {lr: 0.1}}"),
    ):
        with pytest.raises(ConfigError) as told:
            RunFile.of(settings)
        assert f"did you mean {words}?" in told.value.fix


@pytest.mark.parametrize("slip", ["gpu=true", "budget=3", "server_lr=1"])
def test_what_would_not_be_taken_is_not_proposed(slip: str) -> None:
    with pytest.raises(ConfigError, match="no such setting") as told:
        RunFile.of("dpsgd", (slip,))
    assert slip.partition("=")[1] + slip.partition("=")[2] not in told.value.fix


def test_a_slip_in_a_group_is_answered_with_the_groups_own_settings() -> None:
    with pytest.raises(ConfigError, match="no such setting") as told:
        RunFile.of("dpsgd", ("network.dely=0.1",))
    assert told.value.fix.startswith("did you mean network.delay=0.1? settings: delay, jitter, ")
    assert "topology" not in told.value.fix


def test_what_is_like_nothing_gets_no_hint() -> None:
    with pytest.raises(ConfigError, match="no such setting") as told:
        RunFile.of("dpsgd", ("zzz=1",))
    assert "did you mean" not in told.value.fix


@pytest.mark.parametrize("name", sorted(catalogue("algorithm")))
def test_every_algorithm_runs_by_its_name(tmp_path: Path, name: str) -> None:
    own = {"mlp": "model.hidden=[8]", "matrix_factorization": "data=synthetic_ratings"}
    slim = own[RunFile.of(name).model.name]
    run = RunFile.of(name, ("rounds=2", "train.strategy=looped", slim))
    assert run.algorithm.name == name
    folder = hansa.run(run, tmp_path / "run", report=False)
    assert folder.summary is not None
    assert folder.summary["status"] == "finished"


def test_a_run_is_a_name_a_path_or_settings(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("algorithm: fedbuff\nnodes: 20\nrounds: 1\n")
    by_path = RunFile.of(tmp_path / "run.yaml")
    assert by_path == RunFile.of(str(tmp_path / "run.yaml"))
    assert by_path == RunFile.of({"algorithm": "fedbuff", "nodes": 20, "rounds": 1})
    assert by_path.algorithm != RunFile.of("fedbuff").algorithm  # a file says all of it itself
    assert RunFile.of(None) == RunFile.of("dpsgd")
    with pytest.raises(ConfigError, match=r"algorithm.name = 'dpsgdd'"):
        RunFile.of("dpsgdd")
    with pytest.raises(ConfigError, match="there is no such file"):
        RunFile.of("none.yaml")


def test_a_codec_that_does_not_fit_is_named_as_it_was_set() -> None:
    for field in ("codec", "download"):
        run = RunFile.of("fedavg", (f"algorithm.{field}=sparse",))
        with pytest.raises(ConfigError, match=rf"^algorithm\.{field} = "):
            prepare(run)


def test_files_and_classes_of_ones_own_are_answered_with_the_part_that_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for settings, meant in (
        ({"data": "patients.csv"}, "data={name: file, path: patients.csv}"),
        ({"data": "photos"}, "data={name: image_folder, path: photos}"),
        ({"model": "pathlib:Path"}, "model={name: module, path: pathlib:Path}"),
        ({"model": object()}, "model={name: module, path: file.py:Class}"),
    ):
        with pytest.raises(ConfigError) as told:
            RunFile.of(settings)
        assert f"did you mean {meant}?" in told.value.fix


@pytest.mark.parametrize(
    ("slip", "words"),
    [
        ("lr=0.1", "did you mean local.optimizer.lr=0.1?"),
        ("batch_size=8", "did you mean local.batch_size=8?"),
        ("nodes=4", "did you mean clients=4?"),
        ("rounds=3", "hansa learn FILE"),
        ("fraction=0.1", "settings: "),
        ("zzz=1", "settings: "),
    ],
)
def test_slips_in_an_ensembles_settings_are_not_taken_for_anothers(slip: str, words: str) -> None:
    with pytest.raises(ConfigError) as told:
        EnsembleFile.parse(override({}, (slip,)))
    assert words in told.value.fix


def test_a_setting_that_has_another_name_now_says_which() -> None:
    with pytest.raises(ConfigError, match="fix: now rules"):
        EnsembleFile.parse({"verb": "combine", "aggregators": ["average"]})


@pytest.mark.parametrize(
    ("slip", "meant"),
    {
        "data.target=y": "data.label=y",
        "target=y": "data.label=y",
        "data.features=[a, b]": "data.inputs=[a, b]",
        "data.columns=[a]": "data.inputs=[a]",
        "data.drop=[a]": "data.exclude=[a]",
        "data.site_column=a": "data.group=a",
        "data.test_size=0.3": "data.test_fraction=0.3",
        "data.csv=x.csv": "data.path=x.csv",
    }.items(),
)
def test_a_column_under_another_name_is_answered_with_ours(slip: str, meant: str) -> None:
    table = {"data": {"name": "file", "path": "mine.csv"}}
    with pytest.raises(ConfigError) as told:
        RunFile.parse(override(table, (slip,)))
    assert f"did you mean {meant}?" in told.value.fix
    RunFile.parse(override(table, (meant,)))
    with pytest.raises(ConfigError, match=r"data.name=file data.label=y"):
        RunFile.of("dpsgd", ("data.target=y",))
