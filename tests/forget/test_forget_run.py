"""Forgetting in a run folder: whole or not at all, once, and with a receipt."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hansa.base.errors import CheckpointError, ConfigError
from hansa.engine.runtimes.checkpoint import shelved
from hansa.experiment import resume, run
from hansa.experiment.trained import present_checkpoint
from hansa.forget import GradientAscent, Recovery, Request
from hansa.forget import requests as requests_
from hansa.forget.classifier import Classifier
from hansa.forget.erase import withheld_shelf
from hansa.forget.requests import fingerprint
from hansa.forget.run import forget, relearn
from hansa.forget.trained import open_trained

THREE, ONE = Request.of(classes=[3]), Request.of(clients=[1])
QUICK = GradientAscent(recovery=Recovery(rounds=1, steps=1))


def traces(folder: Path, request: Request) -> int:
    """How many numbers of the images that a request covers are anywhere in a folder."""
    layout, found = open_trained(folder).layout, 0
    assert layout is not None
    for path in folder.rglob("*.safetensors"):
        held = load_file(path)
        shelves = [n.removesuffix(".ids") for n in held if n.startswith("shelf.client.")]
        for name in (n for n in shelves if not n.endswith(".rows")):
            clients = held[f"{name}.ids"].tolist()
            for client, row in zip(clients, held[f"{name}.rows"], strict=True):
                for k, label in enumerate(layout.labels(client).tolist()):
                    if request.covers_cell(client, label):
                        found += int((layout.images(row, client)[k] != 0).sum())
    return found


def test_a_request_leaves_a_receipt_and_no_images(folder: Path) -> None:
    before = open_trained(folder)
    assert traces(folder, THREE) > 0
    receipt = forget(folder, THREE, oracle=True, controls=True)
    after = open_trained(folder)
    assert receipt["model_before"] == fingerprint(before.row)
    assert receipt["model_after"] == fingerprint(after.row)
    assert receipt["model_before"] != receipt["model_after"]
    assert receipt["deleted"]["synthetic_images"] == int(before.layout.counts[:, 3].sum())
    assert receipt["figures"]["after"]["forget"] < 0.1
    assert receipt["figures"]["oracle"]["forget"] == 0
    assert set(receipt["controls"]) == {"random_real", "noise"}
    assert "forget_gap" in receipt["distance_to_oracle"]
    assert (
        receipt["cost"]["total"]["sample_gradients"]
        < 0.2 * (receipt["oracle_cost"]["total"]["sample_gradients"])
    )
    assert receipt["purged"]
    assert traces(folder, THREE) == 0
    assert not list((folder / "checkpoints").glob("*"))
    assert (folder / "requests/001/images.png").read_bytes().startswith(b"\x89PNG")
    strict = json.loads((folder / "requests/001/receipt.json").read_text())
    assert strict["request"] == {"classes": [3]}


def test_the_same_request_is_served_once(folder: Path) -> None:
    first = forget(folder, THREE)
    again = forget(folder, THREE)
    assert again["repeated"]
    assert again["model_after"] == first["model_after"]
    assert len(list((folder / "requests").glob("0*"))) == 1
    with pytest.raises(ConfigError, match="already forgotten"):
        forget(folder, Request.of(classes=[3, 4]))


def test_requests_follow_each_other(folder: Path, images_of) -> None:
    for request in (THREE, ONE, Request.of(classes=[5])):
        forget(folder, request)
    trained = open_trained(folder)
    assert trained.requests.past == Request.of(classes=[3, 5], clients=[1])
    assert traces(folder, trained.requests.past) == 0
    assert 1 not in images_of(folder)
    data = trained.job.dataset
    inputs, _ = data.gather(data.test, torch.arange(len(data.test)))
    scores = Classifier(trained.job.module).logits(trained.row, inputs)
    hits = scores.argmax(1).numpy() == trained.job.dataset.test.targets.numpy()
    labels = trained.job.dataset.test.targets.numpy()
    assert hits[np.isin(labels, [3, 5])].mean() < 0.3


def test_an_interrupt_leaves_the_run_as_it_was(folder: Path, monkeypatch) -> None:
    before = fingerprint(open_trained(folder).row)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            forget(folder, THREE)
    trained = open_trained(folder)
    assert fingerprint(trained.row) == before
    assert not trained.requests.past
    assert not list((folder / "requests").glob("[0-9]*"))
    assert forget(folder, THREE)["model_before"] == before


def test_an_interrupted_clean_up_is_done_later(folder: Path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(requests_.Requests, "purge", lambda self: None)
        forget(folder, THREE)
    assert list((folder / "checkpoints").glob("round-*"))
    assert json.loads((folder / "requests/001/receipt.json").read_text())["purged"] is None
    open_trained(folder)
    assert not list((folder / "checkpoints").glob("round-*"))
    assert json.loads((folder / "requests/001/receipt.json").read_text())["purged"]


def test_relearning_needs_images_that_were_kept(folder: Path) -> None:
    with pytest.raises(ConfigError, match="not among what this run has forgotten"):
        relearn(folder, THREE)
    forget(folder, THREE, allow_relearn=True)
    assert traces(folder, THREE) > 0
    forget(folder, ONE)
    assert traces(folder, ONE) == 0
    with pytest.raises(ConfigError, match="were destroyed"):
        relearn(folder, ONE)
    receipt = relearn(folder, THREE)
    figures = receipt["figures"]
    assert figures["after"]["forget"] > figures["before"]["forget"] + 0.3
    trained = open_trained(folder)
    assert trained.requests.past == ONE
    assert not len(shelved(present_checkpoint(folder), withheld_shelf(1)))
    assert traces(folder, ONE) == 0  # also where the client had images of the class
    assert forget(folder, THREE)["number"] == 4


def test_what_was_kept_for_relearning_loses_what_is_forgotten_later(folder: Path) -> None:
    forget(folder, THREE, allow_relearn=True)
    holder = next(c for c in shelved(present_checkpoint(folder), withheld_shelf(1)) if c != 1)
    forget(folder, Request.of(clients=[holder]))
    assert traces(folder, Request.of(clients=[holder])) == 0


def test_training_does_not_go_on_with_what_was_forgotten(folder: Path) -> None:
    forget(folder, THREE, QUICK)
    with pytest.raises(ConfigError, match="made to forget"):
        resume(folder, {"rounds": 20})


def test_runs_that_cannot_forget_say_why(folder: Path, tmp_path: Path) -> None:
    peers = tmp_path / "peers"
    small = {"nodes": 4, "rounds": 1, "topology": "ring", "checkpoint": {"every": 1}}
    run(small, peers, report=False)
    with pytest.raises(ConfigError, match="trained with servers"):
        forget(peers, THREE)
    plain = tmp_path / "plain"
    run(small | {"algorithm": "fedavg"}, plain, report=False)
    with pytest.raises(ConfigError, match="--method sga or --method retrain"):
        forget(plain, THREE)
    assert forget(plain, THREE, QUICK)["figures"]["after"]
    without = tmp_path / "without"
    run(small | {"algorithm": "fedavg", "checkpoint": {"every": 0}}, without, report=False)
    with pytest.raises(ConfigError, match=r"checkpoint\.every above 0"):
        forget(without, THREE)
    with pytest.raises(CheckpointError, match="no such run folder"):
        forget(tmp_path / "nowhere", THREE)
    assert not (tmp_path / "nowhere").exists()


def test_a_damaged_receipt_is_named(folder: Path) -> None:
    forget(folder, THREE, QUICK)
    (folder / "requests/001/receipt.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"receipt\.json: is missing or not whole"):
        open_trained(folder)
