"""Rules that peers train by gossip, and what a removal leaves behind."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from hansa.combine.ensemble import fit, out_of_fold, prepare
from hansa.combine.ensemble.ensemble_file import EnsembleFile
from hansa.combine.ensemble.ensemble_settings import AggregateSettings
from hansa.combine.ensemble.run import ensemble, remove
from hansa.engine import Processes, Runtime, Simulate
from hansa.engine.exchange.wire import HEADER_BYTES
from hansa.ensemble import PerClass
from hansa.experiment import played
from hansa.experiment.played import Place
from hansa.report import RunFolder

from .conftest import made_up, ran


def peers(**changes: Any) -> AggregateSettings:
    ring = {"name": "ring"}
    return AggregateSettings.model_validate(
        {"over": "peers", "topology": ring, "rounds": 4, "every": 4} | changes
    )


def test_the_mean_of_peers_is_counted_and_single_peers_are_told(tmp_path: Path) -> None:
    scores = made_up()
    found = fit(PerClass(), scores, peers(), 1, tmp_path / "peers")
    counted = (RunFolder.open(tmp_path / "peers").summary or {})["bytes_sent"]
    numbers = sum(p.numel() for p in found.module.parameters())
    gossip, mean = 4 * 3 * 2, 2 * (3 - 1)  # rounds on a ring; to the first and back
    assert found.bytes_sent == counted == (gossip + mean) * (4 * numbers + HEADER_BYTES)
    assert len(found.peers) == 3
    assert found.curve[-1][1] == pytest.approx(np.mean(found.peers))
    # Without a round there is nothing to average: all peers are where the mean is.
    same = fit(PerClass(), scores, peers(local_steps=0), 1, tmp_path / "same")
    hits = same.hits(scores.test_rows(same.rule), scores.test_targets)
    assert set(same.peers) == {float(hits.double().mean())}
    assert not fit(PerClass(), scores, AggregateSettings(rounds=2), 1, tmp_path / "c").peers


def test_peers_apart_take_the_same_mean(tmp_path: Path) -> None:
    scores, place = made_up(), Place(Processes(workers=2))
    here = fit(PerClass(), scores, peers(), 1, tmp_path / "here")
    apart = fit(PerClass(), scores, peers(), 1, tmp_path / "apart", place)
    assert (here.bytes_sent, here.peers) == (apart.bytes_sent, apart.peers)
    for own, other in zip(here.module.parameters(), apart.module.parameters(), strict=True):
        assert torch.equal(own, other)


def test_folds_are_fitted_where_peers_live(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, place = made_up(), Place(Processes(workers=2))
    workers: list[Runtime] = []
    plain = played.host_job

    def watched(job: Any, runtime: Any, *given: Any, **more: Any) -> Any:
        workers.append(runtime)
        return plain(job, runtime, *given, **more)

    monkeypatch.setattr(played, "host_job", watched)
    settings = peers(folds=2, strategy="looped")
    here = out_of_fold(PerClass(), scores, settings, 1)
    apart = out_of_fold(PerClass(), scores, settings, 1, place)
    assert workers == [Simulate()] * 2 + [Processes(workers=2)] * 2
    assert here.bytes_sent == apart.bytes_sent
    assert torch.equal(here.rows, apart.rows)


def test_the_table_tells_of_single_peers(tmp_path: Path) -> None:
    aggregate = {"over": "peers", "topology": {"name": "ring"}, "rounds": 4, "every": 4}
    _, result = ran(tmp_path, rules=["average", "per_class"], aggregate=aggregate)
    plain, learned = result.table[:2]
    assert plain["peers"] == []
    assert len(learned["peers"]) == 4
    assert "4 peers' rules, alone" in learned["note"]


def table(path: Path) -> dict[str, Any]:
    """A table whose second owner's numbers are far from the others'."""
    rng = np.random.default_rng(3)
    site = np.repeat([0, 1, 2], 40)
    x = rng.normal(0, 1, 120) + 100 * (site == 1)
    pl.DataFrame({"x": x, "y": rng.normal(size=120), "site": site, "label": rng.integers(0, 2, 120)}
                 ).write_csv(path)  # fmt: skip
    split = {"name": "natural", "choose": "first"}
    return {"name": "file", "path": str(path), "group": "site", "partition": split}


def few(data: dict[str, Any], **changes: Any) -> EnsembleFile:
    return EnsembleFile.parse(
        {
            "clients": 3,
            "data": data,
            "models": ["logistic"],
            "local": {"epochs": 1},
            "rules": ["average"],
        }
        | changes
    )


def test_a_removal_says_which_statistics_stay(tmp_path: Path) -> None:
    data = table(tmp_path / "t.csv")
    run = ensemble(few(data), tmp_path / "run", report=False)
    less = remove(run.path, 1, tmp_path / "less")
    said = json.loads((less.path / "removal.json").read_text())["kept_statistics"]
    assert "client 1's too" in said
    assert "What was removed" in (less.path / "report.html").read_text()
    for name in ("preparing.safetensors", "member_00.safetensors"):
        files = [(folder.path / "ensemble" / name).read_bytes() for folder in (run, less)]
        assert files[0] == files[1]  # the kept models need them
    plain = ensemble(few(data | {"normalize": "none"}), tmp_path / "plain", report=False)
    bare = remove(plain.path, 1, tmp_path / "bare", report=False)
    assert (bare.read_json("removal.json") or {})["kept_statistics"].startswith("none")


def test_whoever_is_left_out_from_the_start_leaves_no_statistics(tmp_path: Path) -> None:
    data = table(tmp_path / "t.csv")
    whole, anew = prepare(few(data)), prepare(few(data, without=[1]))
    assert whole.dataset.shift is not None
    assert anew.dataset.scale is not None
    held = np.concatenate([*anew.division.train, *anew.division.proxy])
    rows = anew.dataset.train.inputs[torch.from_numpy(np.sort(held))]
    torch.testing.assert_close(anew.dataset.scale, 1 / rows.std(0, correction=0))
    assert not torch.allclose(anew.dataset.scale, whole.dataset.scale)


def test_rounds_end_when_the_proxies_no_longer_gain(tmp_path: Path) -> None:
    baselines = {
        "methods": ["fedavg", "fedadam"],
        "rounds": 40,
        "patience": 2,
        "every": 1,
        "optimizer": {"name": "sgd", "lr": 0.5},
    }
    prepared, result = ran(tmp_path, rules=["average"], baselines=baselines)
    for line in result.table[-2:]:
        done = line["curve"][-1][0]
        assert 2 < done <= 40
        at = int(line["note"].split("round ")[1].split(",")[0]) if done < 40 else 40
        assert line["counted"] == pytest.approx(line["curve"][-1][2] * at / done)
        if done < 40:
            assert at == done - 2
            assert "stopped" in line["note"]
            nearby = [accuracy for k, accuracy, _ in line["curve"] if abs(k - at) <= 1]
            assert line["accuracy"] in nearby
    assert prepared.settings.baselines.patience == 2
