"""Ratings as published, made small."""

import bz2
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hansa.base.errors import DataError
from hansa.base.streams import Streams
from hansa.data import Movielens
from hansa.data.sources import movielens

ROWS = [(user, film * 7, 1 + film % 9 / 2) for user in (3, 10, 20) for film in range(1, 11)]
TABS = "".join(f"{u}\t{f}\t{int(r)}\t88{u}\n" for u, f, r in ROWS)
COMMAS = "userId,movieId,rating,timestamp\r\n" + "".join(f"{u},{f},{r},9\r\n" for u, f, r in ROWS)


DOTS = TABS.replace("\t", "::")
VERSIONS = [("100k", TABS), ("latest-small", COMMAS), ("1m", DOTS)]


@pytest.fixture(autouse=True)
def _small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if so few had been published, but for the real ones."""
    if request.node.get_closest_marker("data") is None:
        for name, edition in movielens.EDITIONS.items():
            monkeypatch.setitem(movielens.EDITIONS, name, replace(edition, counts=(30, 3, 10)))


def fill(store: Path, version: str, packed: bool, text: str) -> Path:
    name = movielens.EDITIONS[version].table
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
@pytest.mark.parametrize(("version", "text"), VERSIONS)
def test_all_versions(version: str, text: str, packed: bool, store: Path, streams: Streams) -> None:
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
        assert rating == (known if version == "latest-small" else int(known))
    assert data.item_names == tuple(str(film * 7) for film in range(1, 11))
    assert data.spec.scale == ((0.5, 5) if version == "latest-small" else (1, 5))


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


def test_another_edition_of_the_name_is_refused(store: Path, streams: Streams) -> None:
    fill(store, "latest-small", False, COMMAS.rsplit("\r\n", 2)[0] + "\r\n")
    with pytest.raises(DataError, match="has 29 ratings of 3 users and 10 films") as caught:
        Movielens().load(streams)
    assert "name: ratings" in str(caught.value)


def test_ratings_outside_the_scale_are_refused(store: Path, streams: Streams) -> None:
    fill(store, "100k", False, TABS.replace("\t3\t88", "\t9\t88"))
    with pytest.raises(DataError, match="outside the scale of 1 to 5"):
        Movielens(version="100k").load(streams)


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ("100k", "7|Été (1995)|01-Jan-1995||url|0\n14|GoldenEye (1995)|x\n"),
        ("latest-small", 'movieId,title,genres\n7,Été (1995),A\n14,"American President, The",B\n'),
        ("1m", "7::Été (1995)::Drama\n14::GoldenEye (1995)::Action\n"),
    ],
)
def test_titles(version: str, text: str, store: Path) -> None:
    path = fill(store, version, False, dict(VERSIONS)[version])
    edition = movielens.EDITIONS[version]
    assert Movielens(version=version).titles() == {}
    (path.parents[1] / edition.films).write_bytes(text.encode(edition.encoding))
    titles = Movielens(version=version).titles()
    assert titles["7"] == "Été (1995)"
    assert titles["14"] in ("GoldenEye (1995)", "American President, The")


def r_file(*columns: list[int], tail: bytes = b"") -> bytes:
    """What R writes of a list of vectors of whole numbers, but for its names."""
    vectors = [np.array([13, len(c), *c], ">i4").tobytes() for c in columns]
    return bz2.compress(b"RDX2\nX\n" + bytes(20) + b"".join(vectors) + tail)


def test_the_copy_that_r_wrote(store: Path, streams: Streams) -> None:
    users = [u for u, _, _ in ROWS]
    films = [f for _, f, _ in ROWS]
    stars = [1 + f % 5 for f in films]
    path = store / "movielens" / movielens.R_COPY
    path.parent.mkdir(parents=True)
    path.write_bytes(r_file(users, films, stars, tail=b"names"))
    source = Movielens(version="1m")
    ratings = source.ratings()
    assert ratings.times is None
    assert [ratings.user_names[u] for u in ratings.users.tolist()] == list(map(str, users))
    assert ratings.stars.tolist() == stars
    assert source.titles() == {}
    assert len(source.load(streams).train) == 21
    for broken in (r_file(users, films), b"no file of R", r_file(users, films, stars)[:-9]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"ratings\.rda"):
            source.ratings()


@pytest.mark.data
@pytest.mark.parametrize(
    ("version", "users", "films", "rows"),
    [
        ("100k", 943, 1682, 100_000),
        ("latest-small", 610, 9724, 100_836),
        ("1m", 6040, 3706, 1_000_209),
    ],
)
def test_the_real_ones(
    version: str, users: int, films: int, rows: int, real: Path, streams: Streams
) -> None:
    source = Movielens(version=version)
    data = source.load(streams)
    assert data.spec.vocabulary == (users, films)
    assert len(data.train) + len(data.test) == rows
    assert abs(len(data.test) / rows - 0.3) < 0.005
    if version == "1m":
        stars = torch.cat([data.train.targets, data.test.targets]).numpy().astype(int)
        assert np.bincount(stars).tolist() == [0, 56174, 107557, 261197, 348971, 226310]
    else:
        assert set(data.item_names) <= source.titles().keys()
        assert "Toy Story (1995)" in source.titles().values()
