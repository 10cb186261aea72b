"""Ratings as published, made small."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from hansa.base.errors import DataError
from hansa.base.streams import Streams
from hansa.data import Movielens

ROWS = [(user, film * 7, 0.5 + film % 9 / 2) for user in (3, 10, 20) for film in range(1, 11)]
TABS = "".join(f"{u}\t{f}\t{int(r)}\t88{u}\n" for u, f, r in ROWS)
COMMAS = "userId,movieId,rating,timestamp\r\n" + "".join(f"{u},{f},{r},9\r\n" for u, f, r in ROWS)


def fill(store: Path, version: str, packed: bool, text: str) -> Path:
    name = {"100k": "ml-100k/u.data", "latest-small": "ml-latest-small/ratings.csv"}[version]
    path = store / "movielens" / name
    path.parent.mkdir(parents=True)
    if not packed:
        path.write_bytes(text.encode())
        return path
    archive = store / "movielens" / f"ml-{version}.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(name, text)
    return archive


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("version", "text"), [("100k", TABS), ("latest-small", COMMAS)])
def test_both_versions(
    version: str, text: str, packed: bool, store: Path, streams: Streams
) -> None:
    fill(store, version, packed, text)
    data = Movielens(version=version).load(streams)
    assert data.spec.kind == "pairs"
    assert data.spec.task == "regression"
    assert data.spec.vocabulary == (3, 10)
    assert data.group_names == ("3", "10", "20")
    assert data.test.groups is not None
    assert np.bincount(data.test.groups).tolist() == [3, 3, 3]
    assert len(data.train) == 21
    x, y = data.gather(data.train, torch.arange(21))
    assert x.dtype == torch.int64
    assert y.dtype == torch.float32
    assert np.array_equal(x[:, 0].numpy(), data.train.groups)
    stars = {(u, f): r for u, f, r in ROWS}
    for (user, film), rating in zip(x.tolist(), y.tolist(), strict=True):
        known = stars[(3, 10, 20)[user], (film + 1) * 7]
        assert rating == (int(known) if version == "100k" else known)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "u,f,r\n1,2,x\n", "u,f,r\n1,2.5,3\n"])
def test_bad_tables_are_named(text: str, store: Path, streams: Streams) -> None:
    fill(store, "latest-small", False, text)
    with pytest.raises(DataError, match=r"ratings\.csv"):
        Movielens().load(streams)


def test_damaged_zip_is_named(store: Path, streams: Streams) -> None:
    path = fill(store, "100k", True, TABS)
    (store / "movielens" / "ml-100k" / "u.data").unlink(missing_ok=True)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"ml-100k\.zip is damaged"):
        Movielens(version="100k").load(streams)


@pytest.mark.data
@pytest.mark.parametrize(
    ("version", "users", "films", "rows"),
    [("100k", 943, 1682, 100_000), ("latest-small", 610, 9724, 100_836)],
)
def test_the_real_ones(
    version: str, users: int, films: int, rows: int, real: Path, streams: Streams
) -> None:
    data = Movielens(version=version).load(streams)
    assert data.spec.vocabulary == (users, films)
    assert len(data.train) + len(data.test) == rows
    assert abs(len(data.test) / rows - 0.3) < 0.005
