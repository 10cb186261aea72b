"""Files are whole or absent, and locks end with their holders."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from hansa.base.files import atomic_write, lock, sha256, write_json

LONG = 300  # seconds; only a test that fails waits so long


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    with atomic_write(path, "w") as file:
        file.write("old")

    def fail() -> None:
        with atomic_write(path, "w") as file:
            file.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_nothing_is_seen_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_write(path) as file:
        file.write(b"x" * 100_000)
        assert not path.exists()
    assert path.stat().st_size == 100_000


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "a.json", {"x": [1, 2.5]})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [1, 2.5]}


def test_sha256_of_a_known_content(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert sha256(tmp_path / "f").startswith("ba7816bf8f01cfea")


def _take_and_die(path: Path, ready) -> None:  # type: ignore[no-untyped-def]
    with lock(path):
        ready.set()
        os._exit(1)


def _hold(path: Path, ready, release) -> None:  # type: ignore[no-untyped-def]
    with lock(path):
        ready.set()
        release.wait()


def test_a_lock_keeps_others_out_until_it_is_given_back(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path / "lock", ready, release))
    holder.start()
    assert ready.wait(LONG)
    with pytest.raises(BlockingIOError), lock(tmp_path / "lock", wait=False):
        pass
    release.set()
    holder.join()
    with lock(tmp_path / "lock", wait=False):
        pass


def test_a_lock_ends_with_its_holders_death(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=_take_and_die, args=(tmp_path / "lock", ready))
    holder.start()
    assert ready.wait(LONG)
    holder.join()
    with lock(tmp_path / "lock", wait=False):
        pass
