"""Imports run one way: commands, verbs, the engine, the ground rooms, the cellar."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import hansa

SOURCE = Path(hansa.__file__).parent
GROUND = {"codec", "data", "models", "topology", "report", "ensemble"}
VERBS = {"learn", "recommend", "combine", "route", "infer", "forget", "audit"}
BELOW = {"base"} | GROUND | {"engine"}
ALLOWED = {
    "base": set(),
    **{room: {"base"} for room in GROUND},
    "engine": {"base"} | GROUND,
    "attest": BELOW,
    **{verb: BELOW | {"attest"} for verb in VERBS},
    "experiment": BELOW | VERBS | {"attest", "hansa"},
    "interop": BELOW | VERBS | {"attest", "experiment", "hansa"},
    "cli": BELOW | VERBS | {"attest", "experiment", "hansa"},
}
ROOMS = sorted(path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists())


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, room) of each import of ours, wherever in the file; the package itself is hansa."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            module = node.module or ""
            names = [f"hansa.{a.name}" for a in node.names] if module == "hansa" else [module]
        for name in names:
            package, _, rest = name.partition(".")
            if package == "hansa":
                yield node.lineno, rest.partition(".")[0] or "hansa"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_lies_below(room: str) -> None:
    allowed = ALLOWED[room] | {room}
    wrong = [
        f"{path.relative_to(SOURCE)}:{line} imports {other}"
        for path in sorted((SOURCE / room).rglob("*.py"))
        for line, other in imports(path)
        if other not in allowed
    ]
    assert not wrong


def test_nothing_imports_the_commands() -> None:
    for path in SOURCE.rglob("*.py"):
        if path.relative_to(SOURCE).parts[0] != "cli":
            assert "cli" not in {room for _, room in imports(path)}, path


def test_an_algorithm_module_imports_no_private_name_of_another_room() -> None:
    for path in (SOURCE / "learn").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert not [a.name for a in node.names if a.name.startswith("_")], path
