"""What counts as a change of the code that made a table."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import stale

CODE = '''"""A module."""
RATE = 1

class Step:
    """A step."""
    size = 2

    def go(self):
        """Goes."""
        far = self.size
        return far  # by so much

def other():
    return RATE
'''


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ("Goes.", "Walks.", set()),
        ("  # by so much", "", set()),
        ("far", "way", set()),
        ("def go(self)", "def go(self: object) -> int", set()),
        ("return RATE", "return (\n        RATE\n    )", set()),
        ("far = self.size", "far = -self.size", {"Step.go()"}),
        ("return far", "return self.size", {"Step.go()"}),
        ("size = 2", "size = 3", {"Step"}),
        ("RATE = 1", "RATE = 2", {""}),
        ("def other", "def another", {"other()", "another()"}),
    ],
)
def test_only_what_has_a_meaning_counts(before: str, after: str, changed: set[str]) -> None:
    old, new = stale.meanings(CODE), stale.meanings(CODE.replace(before, after))
    assert {name for name in set(old) | set(new) if old.get(name) != new.get(name)} == changed


def test_what_only_moved_has_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Since the commit it stood in another file; there, and only there, is it found."""
    file = "src/hansa/base/words.py"
    before = {"src/hansa/old.py": (stale.ROOT / file).read_text()}
    monkeypatch.setattr(stale, "git", lambda *words: "\n".join(before))
    monkeypatch.setattr(stale, "at", lambda commit, name: stale.meanings(before.get(name, "")))
    called = {"benchmarks/stale.py": [], file: ["is_number"]}
    script = "src/hansa/base/__init__.py"
    stale.everywhere.cache_clear()
    assert not stale.changes("0" * 40, script, called)
    before["src/hansa/old.py"] = before["src/hansa/old.py"].replace("return", "return not")
    stale.everywhere.cache_clear()
    assert stale.changes("0" * 40, script, called) == [f"{file}: is_number()"]
    stale.everywhere.cache_clear()


def test_a_table_rests_on_what_its_smoke_run_calls(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    (tmp_path / "beside.py").write_text("from hansa.base.files import sha256\n")
    script.write_text(
        "from pathlib import Path\nfrom beside import sha256\nsha256(Path(__file__))\n"
    )
    called = stale.exercised(script)
    assert "sha256" in called["src/hansa/base/files.py"]
    assert "atomic_write" not in called["src/hansa/base/files.py"]


def test_a_table_says_how_it_was_made() -> None:
    shown = "# T\n\n`python benchmarks/a/b.py --all` at commit 0123abc\n\nmachine\n"
    made = stale.MADE.search(shown)
    assert made is not None
    assert made.groups() == ("benchmarks/a/b.py", "0123abc")
    for file in stale.RESULTS.glob("*.md"):
        assert stale.MADE.search(file.read_text()), file
