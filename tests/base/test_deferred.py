"""A library is bound by its name at once, and loaded by the first of its attributes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LIBRARY = """
import sys, time
sys.told.append("begun")
from late import part  # a library's own parts are found while it is loaded
answer, odd = part.answer, part.Odd
def __getattr__(name):
    if name == "made": return "when asked"
    raise AttributeError(name)
"""
SCRIPT = """
import importlib.util, sys, threading
from types import ModuleType
from hansa.base.deferred import defer
sys.told = []
defer("late")
defer("absent_library")
import late
assert importlib.util.find_spec("late") is not None
assert sys.told == [] and "late.part" not in sys.modules and type(late) is not ModuleType
"""


def ran(tmp_path: Path, script: str) -> None:
    package = tmp_path / "late"
    package.mkdir()
    (package / "__init__.py").write_text(LIBRARY)
    (package / "part.py").write_text("answer = 42\nclass Odd(Exception): pass\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{SCRIPT}{script}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_it_is_loaded_once_by_threads_that_ask_at_once_and_is_then_an_ordinary_module(
    tmp_path: Path,
) -> None:
    ran(
        tmp_path,
        """
ready, answers = threading.Barrier(8), []
def ask():
    ready.wait()
    answers.append((late.answer, late.made))
threads = [threading.Thread(target=ask) for _ in range(8)]
for one in threads: one.start()
for one in threads: one.join()
assert answers == [(42, "when asked")] * 8
assert sys.told == ["begun"]
assert sys.modules["late"] is late and type(late) is ModuleType
assert late.__file__.endswith("__init__.py") and late.__spec__.submodule_search_locations
try: late.nothing
except AttributeError as error: assert "nothing" in str(error)
else: raise SystemExit("an attribute that is not there was found")
""",
    )


def test_its_parts_can_be_imported_first(tmp_path: Path) -> None:
    ran(
        tmp_path,
        """
import late.part as part
from late import answer
assert (part.answer, answer, late.part) == (42, 42, part) and sys.told == ["begun"]
import late as again
assert again is late is sys.modules["late"]
""",
    )


def test_a_part_that_is_imported_first_is_not_run_twice(tmp_path: Path) -> None:
    ran(
        tmp_path,
        """
from late.part import Odd
assert late.odd is Odd and late.part is sys.modules["late.part"]
spec = late.part.__spec__
assert importlib.util.find_spec("late.part") is spec and spec.origin == late.part.__file__
assert spec.loader.get_code("late.part") is not None
importlib.reload(late.part)  # who wants it anew has it
assert late.part.Odd is not Odd and sys.told == ["begun"]
""",
    )


def test_what_fails_to_load_says_why_each_time(tmp_path: Path) -> None:
    ran(
        tmp_path,
        f"""
open({str(tmp_path / "late" / "part.py")!r}, "w").write("raise RuntimeError('broken here')")
for _ in range(2):
    try: late.answer
    except RuntimeError as error: assert "broken here" in str(error)
    else: raise SystemExit("a broken library was taken")
""",
    )
