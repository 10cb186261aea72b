"""Paths in settings: relative to the file they are written in, absolute once they are read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from hansa.base.component import Component, catalogue, register
from hansa.base.homes import ROOMS
from hansa.base.paths import located, located_name, located_object, path_fields, short, written
from hansa.combine.ensemble.ensemble_file import EnsembleFile
from hansa.experiment.runfile import RunFile

words = st.text("abc", min_size=1, max_size=3)
relative = st.lists(st.one_of(words, st.just("..")), min_size=1, max_size=4).map("/".join)


@given(relative, relative)
def test_a_path_leads_where_the_system_would_lead_it(folder: str, path: str) -> None:
    """Seen from the folder of its file, and from the working folder where it has none."""
    base = Path("/tmp") / folder
    assert located(written(path, base)) == Path(os.path.realpath(base / path))
    assert located(path) == Path(os.path.realpath(path))
    assert located(str(located(written(path, base)))) == located(written(path, base))


def test_home_is_meant_by_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert located(written("~/x.csv", Path("/elsewhere"))) == tmp_path / "x.csv"
    assert located_object("~/nets.py:Net") == f"{tmp_path}/nets.py:Net"
    assert located_name("~/folder") == f"{tmp_path}/folder"


def test_a_link_at_the_end_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "blob").write_text("1")
    (tmp_path / "data.csv").symlink_to(tmp_path / "blob")
    assert located(tmp_path / "data.csv").name == "data.csv"


@pytest.mark.parametrize("name", ["sklearn.svm:SVC", "ring", "owner/name", "a.b"])
def test_names_stay_names(name: str, tmp_path: Path) -> None:
    text = written(name, tmp_path)
    assert located_object(text) == name
    assert located_name(text) == name
    assert short(name) == name


def test_a_name_that_is_a_folder_beside_the_file_is_that_folder(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    assert located_name(written("pictures", tmp_path)) == str(tmp_path / "pictures")


def parts() -> list[type[BaseModel]]:
    """Every class of settings that there is."""
    found: list[type[BaseModel]] = [RunFile, EnsembleFile]
    for kind in ROOMS:
        found += catalogue(kind).values()
    seen: dict[type[BaseModel], None] = {}
    while found:
        cls = found.pop()
        if cls not in seen:
            seen[cls] = None
            found += [
                part
                for info in cls.model_fields.values()
                for part in [info.annotation]
                if isinstance(part, type) and issubclass(part, BaseModel)
            ]
    return list(seen)


def test_every_setting_that_says_it_is_a_file_is_a_path() -> None:
    """By its type, so that one mechanism serves them all."""
    named = {"path", "file", "folder", "test_path"}
    forgotten = [
        f"{cls.__name__}.{field}"
        for cls in parts()
        for field, info in cls.model_fields.items()
        if (field in named or "file.py" in (info.description or ""))
        and field not in path_fields(cls)
    ]
    assert forgotten == []
    known = sum(len(path_fields(cls)) for cls in parts())
    assert known >= 12


def test_paths_of_all_parts_are_absolute_in_the_resolved_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of a component of one's own, whose fields are plain paths."""

    @register("own_graph_here")
    class Own(catalogue("topology")["ring"]):  # type: ignore[misc]
        """A ring with files."""

        notes: Path = Field(description="a file")
        more: tuple[Path, ...] = Field((), description="files")

    there = tmp_path / "there"
    there.mkdir()
    settings: dict[str, Any] = {
        "data": {"name": "file", "path": "x.csv", "test_path": "../y.csv"},
        "model": {"name": "module", "path": "nets.py:Net"},
        "topology": {"name": "own_graph_here", "notes": "n.txt", "more": ["a", "~/b"]},
        "clock": {
            "name": "devices",
            "profiles": {"name": "file", "file": "p.csv"},
            "availability": {"name": "file", "file": "a.csv"},
        },
    }
    own = {"start": "../s.pt", "deep": [{"x": "~/x"}], "words": "w.txt", "kind": "a.b", "n": 1}
    settings["model"]["arguments"] = own
    (there / "w.txt").touch()
    (there / "run.yaml").write_text(yaml.safe_dump(settings))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    dumped = RunFile.load(Path("there/run.yaml"), ("data.test_path=z.csv",)).dump()
    assert dumped["data"]["path"] == str(there / "x.csv")
    assert dumped["data"]["test_path"] == str(tmp_path / "z.csv")  # of the command line
    assert dumped["model"]["path"] == f"{there / 'nets.py'}:Net"
    assert dumped["model"]["arguments"] == {
        "start": str(tmp_path / "s.pt"),
        "deep": [{"x": "/home/somebody/x"}],
        "words": str(there / "w.txt"),  # there is one
        "kind": "a.b",
        "n": 1,
    }
    assert dumped["topology"]["notes"] == str(there / "n.txt")
    assert dumped["topology"]["more"] == [str(there / "a"), "/home/somebody/b"]
    assert dumped["clock"]["profiles"]["file"] == str(there / "p.csv")
    assert dumped["clock"]["availability"]["file"] == str(there / "a.csv")
    monkeypatch.chdir("/")
    assert RunFile.parse(dumped).dump() == dumped


def test_a_component_in_a_file_beside_the_run_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a plugin, by import path; people read its short name."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "rings.py").write_text(
        "from hansa.topology import Ring\nclass Mine(Ring):\n    '''A ring.'''\n"
    )
    (tmp_path / "there" / "run.yaml").write_text("topology: rings.py:Mine\n")
    monkeypatch.chdir(tmp_path)
    run = RunFile.load(Path("there/run.yaml"))
    name = run.dump()["topology"]["name"]
    assert name == f"{tmp_path / 'there' / 'rings.py'}:Mine"
    assert short(name) == "rings.py:Mine"
    monkeypatch.chdir("/")
    assert type(Component.resolve.__func__(type(run.topology), name)) is type(run.topology)  # type: ignore[attr-defined]
