"""The base of all sources: preparing, holding out, normalising, gathering."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hansa.base import component
from hansa.base.component import catalogue, register
from hansa.base.errors import ConfigError, DataError
from hansa.base.streams import Streams
from hansa.data import Arrays, Dataset, DataSource, Digits, Partition, RawSplits, Shards
from hansa.data.fetch import cache_folder
from hansa.data.source import moments


class Toy(DataSource):
    """Whatever arrays a test gives it."""

    raw: Any = None

    def read(self) -> RawSplits:
        return self.raw


def pictures(rows: int = 40, side: int = 4, dtype: type = np.uint8) -> RawSplits:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (rows, side, side, 3)).astype(dtype)
    targets = np.arange(rows) % 2
    train, test = Arrays(images, targets), Arrays(images[: rows // 2], targets[: rows // 2])
    return RawSplits(train, test, kind="image", outputs=2)


def table(inputs: np.ndarray, targets: np.ndarray | None = None) -> RawSplits:
    targets = np.arange(len(inputs)) % 2 if targets is None else targets
    part = Arrays(inputs.astype(np.float32), targets)
    outputs = 2 if targets.dtype.kind == "i" else 1
    return RawSplits(part, part, kind="table", outputs=outputs)


@pytest.mark.parametrize("shape", [(), (8,), (3, 5), (2, 1, 4)])
def test_gather_gives_scaled_channels_last_views(shape: tuple[int, ...], streams: Streams) -> None:
    raw = pictures()
    data = Toy(raw=raw).load(streams)
    index = torch.randint(0, 40, shape)
    x, y = data.gather(data.train, index)
    assert x.shape == (*shape, 3, 4, 4)
    assert y.shape == shape
    assert x.dtype == torch.float32
    assert data.spec.shape == (3, 4, 4)
    expected = raw.train.inputs[index.numpy()] / 127.5 - 1
    assert np.allclose(np.moveaxis(x.numpy(), -3, -1), expected, atol=1e-6)
    assert np.array_equal(y.numpy(), raw.train.targets[index.numpy()])
    if len(shape) == 1:
        assert x.is_contiguous(memory_format=torch.channels_last)
    assert x.movedim(-3, -1).is_contiguous()
    assert not x.requires_grad


def test_gather_leaves_the_stored_data_alone(streams: Streams) -> None:
    data = Toy(raw=table(np.arange(12).reshape(6, 2))).load(streams)
    before = data.train.inputs.clone()
    data.gather(data.train, torch.arange(6))[0].zero_()
    assert torch.equal(data.train.inputs, before)


def test_gather_refuses_an_index_out_of_range(streams: Streams) -> None:
    data = Toy(raw=pictures()).load(streams)
    with pytest.raises(IndexError):
        data.gather(data.train, torch.tensor([40]))


def test_ids_stay_whole_numbers(streams: Streams) -> None:
    ids = Arrays(np.array([[1, 2], [3, 4]], np.uint8), np.array([0, 1]))
    raw = RawSplits(ids, ids, kind="tokens", outputs=5, vocabulary=(5,))
    x, _ = (data := Toy(raw=raw).load(streams)).gather(data.train, torch.tensor([1]))
    assert x.dtype == torch.int64
    assert x.tolist() == [[3, 4]]
    with pytest.raises(ConfigError, match="tokens are ids"):
        Toy(raw=raw, normalize="half").load(streams)


@pytest.mark.parametrize(
    ("way", "low", "high"), [("half", -1, 1), ("unit", 0, 1), ("none", 0, 255)]
)
def test_ways_to_normalize_images(way: str, low: float, high: float, streams: Streams) -> None:
    data = Toy(raw=pictures(200), normalize=way).load(streams)
    x, _ = data.gather(data.train, torch.arange(200))
    assert x.min() == pytest.approx(low, abs=1e-6)
    assert x.max() == pytest.approx(high, abs=1e-6)


def test_standardize_is_over_the_training_examples_used(streams: Streams) -> None:
    data = Toy(raw=pictures(200), normalize="standardize", train_samples=50).load(streams)
    x, _ = data.gather(data.train, torch.arange(50))
    assert torch.allclose(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(x.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5)


def test_a_constant_column_standardizes_to_zero(streams: Streams) -> None:
    inputs = np.stack([np.arange(10), np.full(10, 1e6 + 0.1)], axis=1)
    data = Toy(raw=table(inputs)).load(streams)
    x, _ = data.gather(data.train, torch.arange(10))
    assert x[:, 0].std(correction=0) == pytest.approx(1)
    assert x[:, 1].abs().max() < 0.1


def test_moments_do_not_cancel() -> None:
    values = torch.tensor([[1e4], [1e4 + 1], [1e4 + 2]])
    mean, deviation = moments(values, chunk=2)
    assert mean.item() == pytest.approx(10001)
    assert deviation.item() == pytest.approx((2 / 3) ** 0.5)


def test_downscale_is_the_mean_of_blocks(streams: Streams) -> None:
    raw = pictures()
    data = Toy(raw=raw, downscale=2).load(streams)
    assert data.train.inputs.dtype == torch.float32
    assert data.spec.shape == (3, 2, 2)
    expected = raw.train.inputs[5, 2:4, 0:2].astype(float).mean((0, 1))
    assert np.allclose(data.train.inputs[5, 1, 0].numpy(), expected)
    x, _ = data.gather(data.train, torch.arange(40))
    assert x.abs().max() <= 1


@pytest.mark.parametrize(("where", "total"), [("train", 40), ("test", 20)])
def test_validation_is_disjoint_and_seeded(where: str, total: int) -> None:
    raw = pictures()
    # The first pixel names the example.
    raw.train.inputs[:, 0, 0, 0] = np.arange(40)
    raw.test.inputs[:, 0, 0, 0] = np.arange(20)
    held = []
    for seed in (1, 1, 2):
        data = Toy(raw=raw, validation=0.25, validation_from=where).load(Streams(seed))
        assert data.validation is not None
        kept = set(getattr(data, where).inputs[:, 0, 0, 0].tolist())
        out = set(data.validation.inputs[:, 0, 0, 0].tolist())
        assert not kept & out
        assert kept | out == set(range(total))
        assert len(out) == total // 4
        held.append(out)
    assert held[0] == held[1] != held[2]


def test_half_of_the_test_set_is_the_default_of_validation_from_test(streams: Streams) -> None:
    data = Toy(raw=pictures(), validation_from="test").load(streams)
    assert data.validation is not None
    assert (len(data.train), len(data.validation), len(data.test)) == (40, 10, 10)


def test_no_validation_by_default(streams: Streams) -> None:
    assert Toy(raw=pictures()).load(streams).validation is None


def test_fewer_samples(streams: Streams) -> None:
    data = Toy(raw=pictures(), train_samples=10, test_samples=5, validation=0.2).load(streams)
    assert (len(data.train), len(data.test)) == (8, 5)
    with pytest.raises(ConfigError, match="there are only 40") as caught:
        Toy(raw=pictures(), train_samples=41).load(streams)
    assert caught.value.field == "train_samples"


def test_divide_names_the_partition(streams: Streams) -> None:
    source = Toy(raw=pictures(), partition=Shards())
    data = source.load(streams)
    parts = source.divide(data, 4, streams)
    assert sorted(np.concatenate(parts)) == list(range(40))
    with pytest.raises(ConfigError, match="shards") as caught:
        source.divide(data, 30, streams)
    assert caught.value.field == "partition.shards_per_node"
    with pytest.raises(ConfigError) as caught:
        source.divide(data, 50, streams)
    assert caught.value.field == "nodes"


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"downscale": 3}, "downscale"),
        ({"validation": 0.001}, "validation"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], field: str, streams: Streams) -> None:
    with pytest.raises(ConfigError) as caught:
        Toy(raw=pictures(), **settings).load(streams)
    assert caught.value.field == field
    assert caught.value.fix


def test_tables_have_no_pixels(streams: Streams) -> None:
    raw = table(np.eye(4))
    for settings in ({"normalize": "unit"}, {"downscale": 2}):
        with pytest.raises(ConfigError):
            Toy(raw=raw, **settings).load(streams)


def test_a_regression_has_one_output(streams: Streams) -> None:
    data = Toy(raw=table(np.eye(4), np.linspace(0, 1, 4, dtype=np.float32))).load(streams)
    assert data.spec.task == "regression"
    assert data.spec.outputs == 1


def broken(**changes: Any) -> RawSplits:
    good = pictures()
    part = vars(good.train) | changes
    return RawSplits(Arrays(**part), good.test, kind="image", outputs=2)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (broken(inputs=np.empty((0, 4, 4, 3)), targets=np.empty(0, np.int64)), "is empty"),
        (broken(targets=np.zeros(3, np.int64)), "40 inputs but 3 targets"),
        (broken(targets=np.full(40, 2)), "class 2 is outside 0..1"),
        (broken(targets=np.full(40, -1)), "class -1 is outside"),
        (broken(inputs=np.full((40, 4, 4, 3), np.nan)), "1920 inputs that are not finite"),
        (broken(inputs=np.zeros((40, 48))), "need 4 dimensions"),
        (broken(inputs=np.zeros((40, 4, 4, 1))), "the test set has examples of shape"),
        (table(np.eye(4), np.full(4, np.nan, np.float32)), "targets that are not finite"),
    ],
)
def test_bad_arrays_are_explained(raw: RawSplits, words: str, streams: Streams) -> None:
    with pytest.raises(DataError, match=words):
        Toy(raw=raw).load(streams)


def test_one_class_only(streams: Streams) -> None:
    part = Arrays(np.eye(3, dtype=np.float32), np.zeros(3, np.int64))
    with pytest.raises(DataError, match="one class only"):
        Toy(raw=RawSplits(part, part, kind="table", outputs=1)).load(streams)


def test_ids_beyond_the_vocabulary(streams: Streams) -> None:
    part = Arrays(np.array([[0, 9], [1, 1]]), np.ones(2, np.float32))
    raw = RawSplits(part, part, kind="pairs", outputs=1, vocabulary=(2, 9))
    with pytest.raises(DataError, match=r"id 9 is outside 0\.\.8"):
        Toy(raw=raw).load(streams)


def test_digits(streams: Streams) -> None:
    data = Digits().load(streams)
    assert data.spec.shape == (1, 8, 8)
    assert (len(data.train), len(data.test)) == (1438, 359)
    assert np.bincount(data.test.targets.numpy()).min() >= 35
    x, _ = data.gather(data.train, torch.arange(len(data.train)))
    assert (x.min(), x.max()) == (-1, 1)
    again = Digits().load(Streams(8))
    assert torch.equal(data.test.inputs, again.test.inputs)


def test_a_changed_reader_is_not_served_old_arrays(tmp_path: Path, streams: Streams) -> None:
    (tmp_path / "data.bin").write_bytes(b"x")
    code = """
import numpy as np
from pathlib import Path
from hansa.data import Arrays, DataSource, RawSplits
class Kept(DataSource):
    "Two rows."
    def files(self):
        return [Path(__file__).with_name("data.bin")]
    def read(self):
        part = Arrays(np.eye(2, dtype=np.float32) * SIZE, np.arange(2))
        return RawSplits(part, part, kind="table", outputs=2)
"""
    for name, size in (("one", 1.0), ("two", 2.0)):
        plugin = tmp_path / f"{name}.py"
        plugin.write_text(code.replace("SIZE", str(size)))
        for _ in range(2):
            data = DataSource.resolve(f"{plugin}:Kept").load(streams)
            assert data.train.inputs.max() == size
    assert len(list((cache_folder() / "decoded").glob("kept-*"))) == 2


def test_every_source_is_listed_with_help() -> None:
    known = catalogue("data")
    assert len(known) >= 11
    for cls in known.values():
        assert cls.summary()
        assert all(help_text for *_, help_text in cls.settings())


def test_a_source_comes_back_from_its_dump() -> None:
    source = Digits(partition=Partition.resolve("shards"), validation=0.1)
    assert DataSource.resolve(source.dump()) == source
    with pytest.raises(ConfigError, match="did you mean 'cifar10'"):
        DataSource.resolve("cifar1")
    with pytest.raises(ConfigError) as caught:
        DataSource.resolve({"name": "digits", "partition": {"name": "shards", "shards": 2}})
    assert caught.value.field == "partition.shards"


def test_a_source_of_the_users_own_needs_read_only(streams: Streams) -> None:
    @register("toy_source")
    class Mine(DataSource):
        """Two rows."""

        def read(self) -> RawSplits:
            return table(np.eye(2))

    try:
        data = DataSource.resolve("toy_source").load(streams)
    finally:
        component._registry["data"].pop("toy_source")
    assert isinstance(data, Dataset)
    assert data.name == "toy_source"
