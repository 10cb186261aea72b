"""Fed-Heart-Disease: FLamby's rows, split, columns and normalization, number by number."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from hansa.base.errors import ConfigError, DataError
from hansa.base.streams import Streams
from hansa.data import Dataset, DataSource, Heart, Natural
from hansa.data.sources.heart import CENTRES, REMOTES, normalized, one_hot, parse, split

MD5 = (
    "2d91a8ff69cfd9616aa47b59d6f843db",
    "22e96bee155b5973568101c93b3705f6",
    "9a87f7577310b3917730d06ba9349e20",
    "4249d03ca7711e84f4444768c9426170",
)
TRAIN, TEST = [199, 172, 30, 85], [104, 89, 16, 45]
ILL_TRAIN, ILL_TEST = [91, 65, 30, 66], [48, 33, 15, 35]


def groups(data: Dataset, part: str) -> np.ndarray:
    found = getattr(data, part).groups
    assert found is not None
    return found


def whole(data: Dataset, part: str) -> tuple[Tensor, Tensor]:
    return data.gather(getattr(data, part), torch.arange(len(getattr(data, part))))


@pytest.mark.data
def test_the_files_are_those_of_flamby(real: Path) -> None:
    found = [hashlib.md5(path.read_bytes()).hexdigest() for path in Heart().files()]
    assert found == list(MD5)


@pytest.mark.data
def test_rows_and_classes_of_every_centre(real: Path, streams: Streams) -> None:
    data = Heart().load(streams)
    assert data.spec.shape == (13,)
    assert (data.spec.task, data.spec.outputs, data.spec.classes) == ("binary", 1, 2)
    assert data.group_names == CENTRES
    for part, rows, ill in (("train", TRAIN, ILL_TRAIN), ("test", TEST, ILL_TEST)):
        targets = getattr(data, part).targets.numpy()
        assert np.bincount(groups(data, part)).tolist() == rows
        assert np.bincount(groups(data, part), weights=targets).tolist() == ill
        assert targets.dtype == np.int64
    again = Heart().load(Streams(99))
    assert torch.equal(again.train.inputs, data.train.inputs)


@pytest.mark.data
def test_the_hospitals_are_the_clients(real: Path, streams: Streams) -> None:
    source = Heart(partition=Natural(choose="first"))
    data = source.load(streams)
    parts = source.divide(data, 4, streams)
    assert [len(part) for part in parts] == TRAIN
    for centre, part in enumerate(parts):
        assert (groups(data, "train")[part] == centre).all()
        x, _ = data.gather(data.train, torch.from_numpy(part))
        assert x.mean(0).abs().max() < 1e-5
        measured = x.std(0)
        # Switzerland never measured cholesterol: it is 0 throughout, and stays 0.
        assert (measured > 0.5).sum() == (12 if centre == 2 else 13)
        assert torch.allclose(measured[measured > 0.5], torch.ones(1), atol=1e-4)


@pytest.mark.data
def test_ways_to_normalize(real: Path, streams: Streams) -> None:
    own = Heart(test_normalize="centre").load(streams)
    pooled = Heart(train_normalize="pooled").load(streams)
    x, _ = whole(pooled, "train")
    assert x.mean(0).abs().max() < 1e-5
    assert torch.allclose(x.std(0), torch.ones(13), atol=1e-4)
    # The published default tests on rows that no client could have prepared.
    assert torch.equal(Heart().load(streams).test.inputs, pooled.test.inputs)
    assert not torch.allclose(own.test.inputs, pooled.test.inputs, atol=0.1)
    for centre in range(4):
        here = torch.from_numpy(groups(own, "test") == centre)
        one = Heart(test_centre=centre).load(streams)
        assert len(one.test) == TEST[centre]
        assert torch.equal(one.test.inputs, own.test.inputs[here])
        one = Heart(test_centre=centre, test_normalize="pooled").load(streams)
        assert torch.equal(one.test.inputs, pooled.test.inputs[here])


@pytest.mark.data
def test_no_other_normalization(real: Path, streams: Streams) -> None:
    with pytest.raises(ConfigError, match="standardized by hospital") as caught:
        Heart(normalize="standardize").load(streams)
    assert caught.value.field == "normalize"


@pytest.mark.data
def test_one_hospital_alone_as_published(real: Path, streams: Streams) -> None:
    """Plain PyTorch on the source's numbers: FLamby's row "Local 2", its shortest training.

    Published, mean of seeds 42 to 46: 0.483 +- 0.045 on the pooled test rows.
    """
    data = Heart().load(streams)
    here = torch.from_numpy(groups(data, "train") == 2)
    x, y = (tensor[here] for tensor in whole(data, "train"))
    test, truth = whole(data, "test")
    scores = []
    for seed in range(42, 47):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = nn.Linear(13, 1)
            adam = torch.optim.Adam(model.parameters(), lr=1e-3)
            for _ in range(50):
                for batch in torch.randperm(len(y)).split(4):
                    adam.zero_grad()
                    score = model(x[batch]).squeeze(1)
                    binary_cross_entropy_with_logits(score, y[batch].float()).backward()
                    adam.step()
        scores.append(((model(test).squeeze(1) > 0) == truth).double().mean().item())
    assert np.mean(scores) == pytest.approx(0.4827, abs=0.03)


LINE = "63,1,{pain},145,233,1,{ecg},150,0,2.3,?,?,?,{ill}"


def test_incomplete_rows_are_dropped_once_three_columns_are_gone() -> None:
    lines = [LINE.format(pain=1, ecg=0, ill=0), LINE.format(pain="?", ecg=0, ill=1)]
    table = parse("\n".join([*lines, LINE.format(pain=4, ecg=2, ill=3)]), Path("x"))
    assert table.tolist() == [
        [63, 1, 1, 145, 233, 1, 0, 150, 0, 2.3, 0],
        [63, 1, 4, 145, 233, 1, 2, 150, 0, 2.3, 3],
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no complete row"),
        ("1,2,3\n", "x:1 has 3 columns"),
        (LINE.format(pain="typical", ecg=0, ill=0), "x:1: could not convert"),
    ],
)
def test_bad_tables_are_named(text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        parse(text, Path("x"))


def test_another_file_of_that_name_is_refused(store: Path, streams: Streams) -> None:
    folder = store / "heart"
    folder.mkdir()
    for remote in REMOTES:
        (folder / remote.file).write_text("age,sex\n")
    with pytest.raises(DataError, match=r"processed\.cleveland\.data is not the published file"):
        Heart().load(streams)


def test_missing_files_are_explained(streams: Streams) -> None:
    with pytest.raises(DataError, match="HANSA_OFFLINE"):
        Heart().load(streams)


@pytest.mark.parametrize(("ill", "stratified"), [(3, True), (2, False), (0, False)])
def test_the_split_is_stratified_where_it_can_be(ill: int, stratified: bool) -> None:
    target = np.arange(60) < ill * 10 if stratified else np.arange(60) < ill
    chosen = split(target)
    assert chosen.sum() == 21
    assert np.array_equal(split(target), chosen)
    if stratified:
        assert abs(int(chosen[target].sum()) - 10) <= 1


def test_categories_are_those_of_all_rows() -> None:
    values = np.zeros((4, 10))
    values[:, 2] = [1, 2, 3, 4]
    values[:, 6] = [0, 1, 2, 0]
    values[:, 9] = 7
    table = one_hot(values)
    assert table.shape == (4, 13)
    assert (table[:, 7] == 7).all()
    assert table[:, 8:11].tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert table[:, 11:].tolist() == [[0, 0], [1, 0], [0, 1], [0, 0]]


def test_statistics_come_from_training_rows_alone() -> None:
    rng = np.random.default_rng(0)
    values, centres = rng.normal(size=(40, 3)), np.arange(40) % 2
    is_test = np.arange(40) >= 30
    before = normalized(values, is_test, centres)
    values[is_test] += 100
    after = normalized(values, is_test, centres)
    for one, two in zip(before, after, strict=True):
        assert np.array_equal(one[~is_test], two[~is_test])


def test_comes_back_from_its_dump() -> None:
    source = Heart(train_normalize="pooled", test_centre=2)
    assert DataSource.resolve(source.dump()) == source


@pytest.mark.parametrize("wrong", [{"test_centre": 4}, {"train_normalize": "all"}])
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Heart.parse(wrong)
