"""Each tutorial is followed from its first line to its last: shortened, and whole when slow."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .conftest import Hansa
from .followed import check_foretold, follow
from .shortening import shortened

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "tutorials"
PAGES = sorted(page for page in FOLDER.glob("*.md") if page.stem != "README")
NEEDS = {"robust_ensemble": ("starlette", "uvicorn"), "adapter_pool": ("transformers", "peft")}
"""What a tutorial takes beyond hansa itself."""


EXCERPTS = ("your_own_algorithm",)
"""Their Python is part of a file in ``examples``, which another test holds it against."""
ASKS = re.compile(
    r"&$|^hansa node (run|status)|private client|run-north|^hansa audit audit|^python ask"
)
"""Serves, or asks who serves: processes of their own, which only whole tutorials begin."""
ELSEWHERE = re.compile(r"^hansa sweep|runs/luck|^hansa route")
"""Shortened commands of docs/sweeps.md and docs/route.md, which the test of pages runs already."""


def quickly(line: str) -> str:
    """The command with few rounds; none where it takes other processes."""
    return "" if ASKS.search(line) or ELSEWHERE.search(line) else shortened(line)


def may_end(line: str) -> tuple[int, ...]:
    """After two rounds of training too much may still be known, which is an answer too."""
    return (0, 1) if line.startswith("hansa forget") else (0,)


@pytest.fixture
def in_folder(hansa: Hansa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hansa:
    """The command line, in an empty folder whose Python files can be imported; wide tables."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return hansa


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_runs(in_folder: Hansa, tmp_path: Path, page: Path) -> None:
    for package in NEEDS.get(page.stem, ()):
        pytest.importorskip(package)
    if page.stem == "your_own_algorithm":
        (tmp_path / "examples").symlink_to(ROOT / "examples")
    seen = follow(in_folder, page, tmp_path, quickly, may_end, excerpts=page.stem in EXCERPTS)
    assert seen.said


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_says_what_comes_out(in_folder: Hansa, tmp_path: Path, page: Path) -> None:
    for package in NEEDS.get(page.stem, ()):
        pytest.importorskip(package)
    if page.stem == "your_own_algorithm":
        (tmp_path / "examples").symlink_to(ROOT / "examples")
    seen = follow(in_folder, page, tmp_path, excerpts=page.stem in EXCERPTS)
    assert seen.foretold, "a tutorial shows what is printed"
    check_foretold(seen)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_says_what_it_needs_and_what_comes_next(page: Path) -> None:
    text = page.read_text()
    for said in ("**You will have**", "**You need**", "\n## Next\n"):
        assert said in text, said
    assert re.search(r"^!\[|^\|", text, re.MULTILINE), "a picture or a table"
