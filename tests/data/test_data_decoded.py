"""The decoded arrays on disk: shared, and rebuilt whenever they are not whole."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hansa.base.errors import DataError
from hansa.data.decoded import key, through_cache
from hansa.data.fetch import cache_folder
from hansa.data.raw import Arrays, RawSplits


class Builder:
    """Counts how often it is asked to decode."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> RawSplits:
        self.calls += 1
        part = Arrays(np.arange(24, dtype=np.uint8).reshape(6, 4), np.arange(6), np.arange(6) % 2)
        return RawSplits(
            part, part, kind="tokens", outputs=6, vocabulary=(24,), group_names=("a", "b")
        )


def folder() -> Path:
    return cache_folder() / "decoded" / "toy-k1"


def same(one: RawSplits, two: RawSplits) -> bool:
    arrays = all(
        np.array_equal(a, b)
        for first, second in ((one.train, two.train), (one.test, two.test))
        for a, b in zip(vars(first).values(), vars(second).values(), strict=True)
    )
    rest = {k: v for k, v in vars(one).items() if k not in ("train", "test")}
    return arrays and all(getattr(two, k) == v for k, v in rest.items())


def test_decoded_once_and_mapped() -> None:
    build = Builder()
    first = through_cache("toy", "k1", build)
    again = through_cache("toy", "k1", build)
    assert build.calls == 1
    assert same(first, build())
    assert same(first, again)
    assert isinstance(again.train.inputs, np.memmap)
    again.train.inputs[0, 0] = 99  # a private page: the file stays
    assert through_cache("toy", "k1", build).train.inputs[0, 0] == 0


@pytest.mark.parametrize("file", ["train_inputs.npy", "test_groups.npy", "about.json"])
@pytest.mark.parametrize("harm", ["cut", "emptied", "gone", "other form"])
def test_what_is_not_whole_is_built_anew(file: str, harm: str) -> None:
    build = Builder()
    through_cache("toy", "k1", build)
    path = folder() / file
    if harm == "gone":
        path.unlink()
    elif harm == "other form" and file == "about.json":
        path.write_text("{}")
    elif harm == "other form":
        np.save(path, np.load(path).astype(np.float32))
    else:
        path.write_bytes(path.read_bytes()[:-9] if harm == "cut" else b"")
    assert same(through_cache("toy", "k1", build), build())
    assert build.calls == 3  # first, anew, and the comparison's own
    assert same(through_cache("toy", "k1", build), build())
    assert build.calls == 4  # the comparison's own only


def test_remains_of_a_killed_process_are_swept_away() -> None:
    folder().mkdir(parents=True)
    (folder() / ".train_inputs.npy.x1.part").write_bytes(b"half")
    through_cache("toy", "k1", Builder())
    assert not list(folder().glob(".*"))


def test_a_failed_decoding_keeps_nothing() -> None:
    def bad() -> RawSplits:
        raise DataError("no")

    with pytest.raises(DataError, match="no"):
        through_cache("toy", "k1", bad)
    build = Builder()
    through_cache("toy", "k1", build)
    assert build.calls == 1


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HANSA_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"cannot be kept(.|\n)*HANSA_CACHE"):
        through_cache("toy", "k1", Builder())


def test_the_key_follows_files_and_settings(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1")
    first = key({"s": 1}, [path])
    assert key({"s": 1}, [path]) == first
    assert key({"s": 2}, [path]) != first
    os.utime(path, ns=(1, 1))
    touched = key({"s": 1}, [path])
    assert touched != first
    path.write_bytes(b"12")
    os.utime(path, ns=(1, 1))
    assert key({"s": 1}, [path]) != touched


def test_two_processes_decode_once(tmp_path: Path) -> None:
    script = f"""
import time, numpy as np, pathlib
from hansa.data.decoded import through_cache
from hansa.data.raw import Arrays, RawSplits
def build():
    with open({str(tmp_path / "calls")!r}, "a") as file:
        file.write("x")
    time.sleep(0.3)
    part = Arrays(np.ones((4, 2), np.float32), np.arange(4) % 2)
    return RawSplits(part, part, kind="table", outputs=2)
print(through_cache("toy", "k1", build).train.inputs.sum())
"""
    both = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in both] == [b"8.0"] * 2
    assert (tmp_path / "calls").read_text() == "x"
