"""Names of run folders that nobody gave."""

from __future__ import annotations

from pathlib import Path

import pytest

from hansa.base.errors import ConfigError
from hansa.experiment import places, run
from hansa.experiment.places import reserved


def test_two_of_one_name_get_folders_of_their_own(tmp_path: Path) -> None:
    base = tmp_path / "runs" / "name"
    with reserved(base) as one, reserved(base) as other:
        assert one == base
        assert other == base.with_name("name-2")
        (other / "config.yaml").touch()
    assert not one.exists()
    assert other.exists()


def test_one_that_was_faster_is_not_disturbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also between the look and the taking."""
    base, late = tmp_path / "name", iter([tmp_path / "name", tmp_path / "name-2"])
    base.mkdir()
    monkeypatch.setattr(places, "unused", lambda _: next(late))
    with reserved(base) as path:
        assert path == tmp_path / "name-2"


def test_a_run_that_cannot_begin_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no such file"):
        run({"nodes": 4, "topology": "ring", "data": {"name": "file", "path": "none.csv"}})
    assert list(tmp_path.iterdir()) == []
