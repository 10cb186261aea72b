"""A saved ensemble answers what its training read, wherever both lie."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from hansa.base.errors import ConfigError, DataError, HansaError
from hansa.combine.ensemble.ensemble_file import EnsembleFile
from hansa.combine.ensemble.predict import predict
from hansa.combine.ensemble.run import ensemble, remove

QUICK: dict[str, Any] = {
    "seed": 5,
    "clients": 2,
    "models": ["logistic"],
    "local": {"epochs": 20, "batch_size": 8, "optimizer": {"name": "sgd", "lr": 0.2}},
    "rules": ["average"],
}


def patients(count: int = 80) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    sick = rng.integers(0, 2, count)
    age, weight = rng.integers(20, 90, count), 60 + 30 * sick + rng.normal(0, 2, count)
    return pl.DataFrame(
        {"age": age, "sick": np.where(sick, "yes", "no"), "weight": weight, "site": sick % 2}
    )


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble on a table."""
    path = tmp_path_factory.mktemp("hospital")
    patients().write_csv(path / "patients.csv")
    data = {"name": "file", "path": str(path / "patients.csv"), "label": "sick", "group": "site"}
    return ensemble(QUICK | {"data": data}, path / "run", report=False).path


def answers(run: Path, file: Path) -> list[tuple[str, float]]:
    return [(str(line["class"]), line["probability"]) for line in predict(run, file)]


def test_columns_are_found_by_name(hospital: Path, tmp_path: Path) -> None:
    table = patients()[:9]
    table.write_csv(tmp_path / "as_read.csv")
    wanted = answers(hospital, tmp_path / "as_read.csv")
    assert {name for name, _ in wanted} <= {"yes", "no"}
    shares = table["sick"].to_list()
    assert sum(a == b for (a, _), b in zip(wanted, shares, strict=True)) > 6
    mixed = table.select("weight", "site", "age").with_columns(note=pl.lit("text"))
    mixed.write_csv(tmp_path / "mixed.csv")
    mixed.write_parquet(tmp_path / "mixed.parquet")
    table.select("age", "weight").write_csv(tmp_path / "bare.csv", include_header=False)
    np.save(tmp_path / "array.npy", table.select("age", "weight").to_numpy())
    np.savez(tmp_path / "named.npz", weight=table["weight"], age=table["age"], other=np.ones(3))
    np.savez(tmp_path / "one.npz", x=table.select("age", "weight").to_numpy(), y=np.ones(9))
    for name in ("mixed.csv", "mixed.parquet", "bare.csv", "array.npy", "named.npz", "one.npz"):
        assert answers(hospital, tmp_path / name) == wanted, name


def test_numbers_may_be_names_of_columns(tmp_path: Path) -> None:
    table = patients().rename({"age": "0", "weight": "1"}).with_columns(pl.lit(3.5).alias("2"))
    table.write_csv(tmp_path / "patients.csv")
    data = {"name": "file", "path": str(tmp_path / "patients.csv"), "label": "sick"}
    run = ensemble(
        QUICK | {"data": data | {"inputs": ["0", "1", "2"]}}, tmp_path / "run", report=False
    ).path
    table[:4].select("1", "0", "2").write_csv(tmp_path / "turned.csv")
    assert answers(run, tmp_path / "turned.csv") == answers(run, tmp_path / "patients.csv")[:4]
    # Where one is missing, and another makes up the number, the names are no row of numbers.
    table[:4].rename({"1": "3"}).select("0", "3", "2").write_csv(tmp_path / "other.csv")
    with pytest.raises(DataError, match="there is no column '1'"):
        predict(run, tmp_path / "other.csv")


def test_what_does_not_fit_is_explained(hospital: Path, tmp_path: Path) -> None:
    table = patients()[:3]
    table.drop("age").write_csv(tmp_path / "less.csv")
    table.with_columns(age=pl.lit("old")).write_csv(tmp_path / "text.csv")
    table.with_columns(weight=None).write_csv(tmp_path / "gaps.csv")
    np.savez(tmp_path / "two.npz", a=np.ones((3, 2)), b=np.ones((3, 2)))
    np.save(tmp_path / "wide.npy", np.ones((3, 5)))
    np.save(tmp_path / "endless.npy", np.full((3, 2), np.inf))
    (tmp_path / "words.odt").write_text("1,2")
    for name, words in (
        ("less.csv", "no column 'age'"),
        ("text.csv", "age"),
        ("gaps.csv", "weight"),
        ("two.npz", "one array"),
        ("wide.npy", "the models take"),
        ("endless.npy", "not finite"),
        ("words.odt", "no known kind"),
        ("none.csv", "no such file"),
    ):
        with pytest.raises(HansaError, match=words) as error:
            predict(hospital, tmp_path / name)
        assert isinstance(error.value, ConfigError | DataError)


def test_categories_and_gaps_are_read_as_training_read_them(tmp_path: Path) -> None:
    table = patients().with_columns(
        ward=pl.Series(["north", "south", None, "east"] * 20),
        age=pl.when(pl.col("age") > 80).then(None).otherwise(pl.col("age")),
    )
    table.write_csv(tmp_path / "patients.csv", separator=";")
    data = {
        "name": "file",
        "path": str(tmp_path / "patients.csv"),
        "label": "sick",
        "exclude": ["site"],
        "categories": "one_hot",
        "missing": "impute",
        "test_fraction": 0.5,
    }
    run = ensemble(QUICK | {"data": data}, tmp_path / "run", report=False)
    whole = answers(run.path, tmp_path / "patients.csv")
    some = table.filter(pl.col("ward") == "south").select("ward", "weight", "age")
    some.write_parquet(tmp_path / "some.parquet")  # not all words are there
    south = [k for k, ward in enumerate(table["ward"]) if ward == "south"]
    assert answers(run.path, tmp_path / "some.parquet") == [whole[k] for k in south]
    some.with_columns(ward=pl.lit("attic")).write_csv(tmp_path / "new.csv")
    with pytest.raises(DataError, match="attic"):
        predict(run.path, tmp_path / "new.csv")


def test_a_folder_of_classes_is_read_as_training_read_it(tmp_path: Path) -> None:
    images, rng = photos(), np.random.default_rng(2)
    for k, image in enumerate(images):
        folder = tmp_path / "photos" / ("dark", "bright")[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        side = int(rng.integers(8, 12))
        Image.fromarray(image).resize((side, side)).save(folder / f"{k}.png")
    data = {"name": "image_folder", "path": str(tmp_path / "photos"), "size": 8}
    run = ensemble(QUICK | {"data": data}, tmp_path / "run", report=False)
    found = predict(run.path, tmp_path / "photos" / "bright")
    assert len(found) == 30
    assert sum(line["class"] == "bright" for line in found) > 25


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble on small colour images that were made smaller: dark, or bright."""
    path = tmp_path_factory.mktemp("pictures")
    np.savez(path / "data.npz", x=photos(), label=np.arange(60) % 2)
    data = {"name": "file", "path": str(path / "data.npz"), "inputs": ["x"], "downscale": 2}
    return ensemble(QUICK | {"data": data}, path / "run", report=False).path


def photos() -> np.ndarray:
    rng = np.random.default_rng(1)
    bright = np.arange(60) % 2
    return (
        rng.integers(0, 120, (60, 8, 8, 3)).astype(np.uint8)
        + (130 * bright).astype(np.uint8)[:, None, None, None]
    )


def test_images_are_found_in_folders_and_files(pictures: Path, tmp_path: Path) -> None:
    images = photos()[:6]
    for k, image in enumerate(images):
        folder = tmp_path / "all" / ("dark", "bright")[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{k}.png")
    (tmp_path / "all" / "notes.txt").write_text("no image")
    found = predict(pictures, tmp_path / "all")
    by_name = {Path(line["input"]).stem: line for line in found}
    assert [by_name[str(k)]["class"] for k in range(6)] == ["0", "1", "0", "1", "0", "1"]
    np.save(tmp_path / "bytes.npy", images)
    np.savez(tmp_path / "unit.npz", x=(images / 255).astype("float32"), label=np.zeros(6))
    blobs = [{"bytes": (tmp_path / "all" / ("dark", "bright")[k % 2] / f"{k}.png").read_bytes()}
             for k in range(6)]  # fmt: skip
    pl.DataFrame({"image": blobs, "label": [0] * 6}).write_parquet(tmp_path / "hub.parquet")
    np.save(tmp_path / "small.npy", images.reshape(6, 4, 2, 4, 2, 3).mean((2, 4)))
    wanted = [by_name[str(k)]["probability"] for k in range(6)]
    for name in ("bytes.npy", "unit.npz", "hub.parquet", "small.npy"):
        said = [line["probability"] for line in predict(pictures, tmp_path / name)]
        assert said == pytest.approx(wanted, abs=1e-4), name
    Image.fromarray(images[0][:5]).save(tmp_path / "odd.png")
    with pytest.raises(DataError, match="8 x 5"):
        predict(pictures, tmp_path / "odd.png")


NETS = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
"""
CENTRES = """
import numpy as np

class Centres:
    def fit(self, x, y):
        self.classes_ = np.unique(y)
        self.means = np.stack([x[y == c].mean(0) for c in self.classes_])
        return self

    def predict_proba(self, x):
        near = np.exp(-0.1 * ((x[:, None] - self.means[None]) ** 2).sum(-1)) + 1e-9
        return near / near.sum(1, keepdims=True)
"""
RULES = """
from hansa.base.component import register
from hansa.ensemble import Average

@register("owners_mean")
class OwnersMean(Average):
    "A rule of one's own."
"""


def test_own_modules_travel_with_the_ensemble(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    patients().write_csv(home / "patients.csv")
    for name, text in (("nets", NETS), ("centres", CENTRES), ("rules", RULES)):
        (home / f"{name}.py").write_text(text)
    (home / "run.yaml").write_text(
        "{verb: combine, clients: 2, plugins: [rules.py], local: {epochs: 2},"
        " models: [{name: module, path: 'nets.py:Net'}],"
        " predictors: [{path: 'centres.py:Centres'}], rules: [owners_mean],"
        " data: {name: file, path: patients.csv, label: sick, group: site}}"
    )

    settings = EnsembleFile.load(home / "run.yaml")
    ensemble(settings, home / "run", report=False)
    before = predict(home / "run", home / "patients.csv", trust=True)
    away = tmp_path / "away"
    away.mkdir()
    (home / "run").rename(away / "moved")
    patients().write_csv(away / "patients.csv")
    for name in ("nets", "centres", "rules"):
        (home / f"{name}.py").unlink()
    # In a process of its own, which has seen none of the modules.
    done = subprocess.run(
        [sys.executable, "-m", "hansa.cli", "combine", "predict", "moved", "patients.csv",
         "--trust", "--json"], cwd=away, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    after = json.loads(done.stdout)["predictions"]
    assert [(p["class"], p["probability"]) for p in after] == [
        (p["class"], p["probability"]) for p in before
    ]
    with pytest.raises(ConfigError, match="runs that code") as error:
        predict(away / "moved", away / "patients.csv")
    assert "--trust" in error.value.fix
    # Nor does a removal need them.
    less = remove(away / "moved", 0, tmp_path / "less", report=False)
    assert (less.summary or {})["clients"] == 1
    again = predict(less.path, away / "patients.csv", trust=True)
    assert len(again) == len(before)
