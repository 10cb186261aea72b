"""What docs/stability.md promises is so, and it leaves nothing out."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import hansa as package
from hansa.base.forms import FORMAT

PAGE = (Path(__file__).parents[2] / "docs" / "stability.md").read_text()


def promised(what: str) -> set[str]:
    block = re.search(rf"<!-- {what} -->\n```text\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None, what
    return set(block[1].split())


def test_the_names_in_python_are_those_of_the_page() -> None:
    assert promised("names") == set(package.__all__) - {"__version__"}
    for name in promised("names"):
        assert getattr(package, name) is not None
    fresh = importlib.import_module("hansa")
    assert set(dir(fresh)) >= promised("names")


def test_the_object_and_the_folder_of_a_run(hansa, tiny: str, tmp_path: Path) -> None:
    said = hansa(f"learn dpsgd {tiny} --out run --json").object
    assert promised("keys: learn") <= set(said)
    assert promised("files") <= {path.name for path in (tmp_path / "run").iterdir()}
    columns = package.RunFolder.open(tmp_path / "run").metrics().columns
    sentence = next(line for line in PAGE.splitlines() if line.startswith("`metrics` holds"))
    assert set(columns) == set(re.findall(r"`(\w+)`", sentence)) - {"metrics"}
    error = hansa("learn dpsgd --rounds 0 --json").object["error"]
    assert promised("keys: error") | {"field", "value", "problem", "fix"} <= set(error)


def test_the_page_knows_the_form_of_today() -> None:
    assert f"`format: {FORMAT}`" in PAGE
    rows = re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)
    assert rows == [str(form) for form in range(1, FORMAT + 1)]
