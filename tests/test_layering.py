"""Imports run one way, file by file: no arrow up, no circle, no verb in another's room."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import hansa

SOURCE = Path(hansa.__file__).parent
GROUND = (
    "codec", "data", "ensemble", "metrics", "models", "privacy", "report", "serving",
    "topology", "weights",
)  # fmt: skip
VERBS = ("learn", "recommend", "combine", "route", "infer", "forget", "audit")
BELOW = {"base", *GROUND, "engine", "attest", "experiment"}
ALLOWED: dict[str, set[str]] = {
    "base": set(),
    **{room: {"base"} for room in GROUND},
    "engine": {"base", *GROUND},
    "attest": {"base", *GROUND, "engine"},
    "experiment": BELOW,
    **dict.fromkeys(VERBS, BELOW),
    "interop": BELOW | set(VERBS),
    "cli": BELOW | set(VERBS) | {"interop"},
}
"""What each room may import beside itself and the names of the package."""


def name_of(path: Path) -> str:
    """The module in a file, without the package's own name."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or "hansa"


INSTALLED = SOURCE / "examples"
"""In a wheel the examples lie in the package; they are a user's code, and no room."""
FILES = {name_of(path): path for path in SOURCE.rglob("*.py") if INSTALLED not in path.parents}


@cache
def arrows() -> tuple[tuple[str, str, int], ...]:
    """(importer, imported, line) of every import of ours, wherever in a file it stands.

    Lazy imports count, and so does what only the type checker sees: it is knowledge all the same.
    """
    return tuple(arrow for module in FILES for arrow in _from(module))


def _from(module: str) -> Iterator[tuple[str, str, int]]:
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Lazy":
            names = [str(a.value) for a in node.args if isinstance(a, ast.Constant)]
        for name in names:
            package, _, rest = name.partition(".")
            if package != "hansa":
                continue
            while rest and rest not in FILES:  # a class or a function: the file it is taken from
                rest = rest.rpartition(".")[0]
            yield module, rest or "hansa", node.lineno


def test_a_room_imports_only_what_lies_below() -> None:
    wrong = set()
    for importer, imported, _ in arrows():
        room, other = importer.partition(".")[0], imported.partition(".")[0]
        if room != "hansa" and other not in {room, "hansa"} | ALLOWED[room]:
            wrong.add((importer, imported))
    assert not wrong


def test_no_file_is_in_a_circle() -> None:
    ahead: dict[str, set[str]] = {module: set() for module in FILES}
    for importer, imported, _ in arrows():
        if imported != importer and FILES[imported].name != "__init__.py":
            ahead[importer].add(imported)
    while leaves := {module for module, others in ahead.items() if not others}:
        ahead = {m: others - leaves for m, others in ahead.items() if m not in leaves}
    behind = {m: {k for k, others in ahead.items() if m in others} for m in ahead}
    while roots := {module for module, others in behind.items() if not others}:
        behind = {m: others - roots for m, others in behind.items() if m not in roots}
    assert not behind


def test_nobody_takes_from_the_front_of_the_own_room() -> None:
    """A module that imports its package's ``__init__`` imports itself half-made."""
    wrong = [
        f"{importer}:{line}"
        for importer, imported, line in arrows()
        if FILES[imported].name == "__init__.py"
        and imported != "hansa"
        and f"{importer}.".startswith(f"{imported}.")
        and importer != imported
    ]
    assert not wrong


def test_no_file_name_is_used_more_than_twice() -> None:
    """Every package has its ``__init__``, every verb its run and its page."""
    counts = Counter(path.stem for path in FILES.values())
    often = {name for name, count in counts.items() if count > 2}
    assert not often - {"__init__", "run", "page"}


@pytest.mark.parametrize("room", ["experiment", "report", "engine"])
def test_what_verbs_stand_on_names_none(room: str) -> None:
    for module, path in FILES.items():
        if module.partition(".")[0] == room:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            words = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
            for verb in VERBS:
                assert f"hansa.{verb}" not in words, module


def test_an_algorithm_module_imports_no_private_name_of_another_room() -> None:
    for path in (SOURCE / "learn").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert not [a.name for a in node.names if a.name.startswith("_")], path


def test_files_stay_small() -> None:
    lines = sorted(len(p.read_text(encoding="utf-8").splitlines()) for p in FILES.values())
    assert lines[-1] <= 500
    assert lines[int(0.9 * len(lines))] <= 300
    assert lines[len(lines) // 2] <= 140
