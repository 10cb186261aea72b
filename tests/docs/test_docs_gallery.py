"""The gallery shows every example, and what it says of one is what was kept of its run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"
GALLERY = DOCS / "gallery"


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(DOCS)
    monkeypatch.delitem(sys.modules, "make_gallery", raising=False)
    import make_gallery

    return make_gallery


def test_the_page_is_what_the_examples_came_to(maker: ModuleType) -> None:
    made = json.loads((GALLERY / "made.json").read_text())
    fix = "python docs/make_gallery.py NAME runs an example, --page writes the page alone"
    assert maker.page(made) == (DOCS / "gallery.md").read_text(), fix


def test_pictures_are_small_and_none_is_left_over(maker: ModuleType) -> None:
    made = json.loads((GALLERY / "made.json").read_text())["examples"]
    pictures = {file.stem: file.stat().st_size for file in GALLERY.glob("*.png")}
    assert set(pictures) == {name for name, one in made.items() if one.get("picture")}
    assert max(pictures.values()) <= maker.MOST


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("It cost 74.1 MB, 136 J and 9.76 s of wall time.", "It cost 74.1 MB and 136 J."),
        ("It cost 9.51 MB a client and 92.4 s of wall time.", "It cost 9.51 MB a client."),
        ("It cost 9.51 MB.", "It cost 9.51 MB."),
    ],
)
def test_wall_time_is_left_out(maker: ModuleType, said: str, kept: str) -> None:
    assert maker.without_wall_time(said) == kept


def test_an_example_is_run_and_shown(
    maker: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(maker, "HOME", tmp_path)
    made = maker.run("made_audit", 60)
    assert made["command"] == "audit"
    assert made["cpu_seconds"] > 0
    assert made["sentence"].startswith("3 agents spent 900 queries")
    assert 0 < (tmp_path / "made_audit.png").stat().st_size <= maker.MOST
    text = maker.page({"machine": "a machine", "examples": {"made_audit": made}})
    assert made["sentence"] in text
    assert "hansa learn digits_dpsgd" in text, "one that was not run is there too"


def test_an_example_that_takes_too_long_says_so(maker: ModuleType) -> None:
    made = maker.run("digits_dpsgd", 1)
    assert made["problem"] == "It takes more than 1 s of CPU."
    assert "commit" not in made
