"""Which tables in results/ were made by other code than today's.

    python benchmarks/stale.py                 # all tables; exit code 1 where one is stale
    python benchmarks/stale.py sharing gel     # some

A table names the command and the commit that made it. The command's smoke run shows which
functions of the source it exercises; the table is stale when one of them, or the benchmark itself,
has another meaning today than at that commit. Comments, docstrings, layout and the types of
arguments have none, nor have the names of local variables; and where a function stands is no part
of it, so that moves make no table stale. Commands and pages (``cli``, ``report``) show figures and
make none, and what checks a run (``check...``) lets it be or refuses it. What worker processes
alone execute is not seen. Each smoke run takes seconds.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import runpy
import subprocess
import sys
import tempfile
import threading
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from measure import HERE, RESULTS, git

ROOT = HERE.parent
SHOWING = ("src/hansa/cli/", "src/hansa/report/")
MADE = re.compile(r"^`python ([^\s`]+)[^`]*`(?: at commit (\w+))?", re.MULTILINE)
Meanings = dict[str, str]


def trace(script: Path, out: Path) -> None:
    """Run a benchmark's smoke test and write which functions of which files it called."""
    seen: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            seen.add(frame.f_code)

    sys.argv = [str(script), "--smoke"]
    sys.path.insert(0, str(script.parent))  # as when it is called by its name
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        runpy.run_path(str(script), run_name="__main__")
    finally:
        sys.setprofile(None)
        called: dict[str, set[str]] = {}
        for code in seen:
            if code.co_filename.startswith(f"{ROOT}/src/"):
                # A function within a function is part of its meaning.
                name = code.co_qualname.partition(".<locals>")[0]
                called.setdefault(str(Path(code.co_filename).relative_to(ROOT)), set()).add(name)
        out.write_text(json.dumps({file: sorted(names) for file, names in called.items()}))


def exercised(script: Path) -> dict[str, list[str]]:
    """The functions that a benchmark's smoke run calls, by file.

    Raises:
        subprocess.CalledProcessError: the benchmark failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "called.json"
        command = [sys.executable, __file__, "--trace", str(script), str(out)]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)
        return json.loads(out.read_text())


def meanings(text: str) -> Meanings:
    """What a source says: each function as ``f()``, the rest of each class and of the module."""
    found: Meanings = {}

    def visit(body: list[ast.stmt], prefix: str) -> None:
        rest = []
        for statement in filter(says_something, body):
            if isinstance(statement, ast.ClassDef):
                visit(statement.body, f"{prefix}{statement.name}.")
            elif isinstance(statement, ast.FunctionDef):
                found[f"{prefix}{statement.name}()"] = meaning(statement)
            elif not isinstance(statement, ast.Import | ast.ImportFrom):
                rest.append(meaning(statement))
        found[prefix.rstrip(".")] = "\n".join(rest)

    visit(ast.parse(text).body, "")
    return found


def meaning(statement: ast.stmt) -> str:
    """A statement without its docstrings, comments, layout and types of arguments."""
    for inner in ast.walk(statement):
        if isinstance(inner, ast.arg):
            inner.annotation = None
        elif isinstance(inner, ast.FunctionDef):
            inner.returns = None
            _rename_locals(inner)
        if isinstance(body := getattr(inner, "body", None), list):
            inner.body = list(filter(says_something, body)) or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.dump(statement)


def _rename_locals(function: ast.FunctionDef) -> None:
    """Give a function's own variables names by their order: what they are called says nothing."""
    arguments = {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
    names = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
    own = {n.id for n in names if isinstance(n.ctx, ast.Store)} - arguments
    number: dict[str, str] = {}
    for name in sorted(names, key=lambda node: (node.lineno, node.col_offset)):
        if name.id in own:
            name.id = number.setdefault(name.id, f"variable {len(number)}")


def says_something(statement: ast.stmt) -> bool:
    """False for a docstring."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return not (isinstance(value, ast.Constant) and isinstance(value.value, str))


def here(commit: str) -> bool:
    """Whether this clone has a commit."""
    try:
        git("cat-file", "-e", commit)
    except subprocess.CalledProcessError:
        return False
    return True


def brought(file: Path) -> str:
    """The commit that last changed a table."""
    return git("log", "-1", "--format=%h", "--", str(file))


def at(commit: str, file: str) -> Meanings:
    """The meanings of a file as it was; nothing where it was not yet there."""
    there = git("ls-tree", "--name-only", commit, "--", f":/{file}")
    return meanings(git("show", f"{commit}:{file}")) if there else {}


@cache
def everywhere(commit: str) -> dict[str, set[str]]:
    """The meanings of each name in any file of the source, as they were: code may have moved."""
    found: dict[str, set[str]] = {}
    for file in git("ls-tree", "-r", "--name-only", commit, "--", ":/src").splitlines():
        for name, said in at(commit, file).items() if file.endswith(".py") else ():
            found.setdefault(name, set()).add(said)
    return found


def changes(commit: str, script: str, called: dict[str, list[str]]) -> list[str]:
    """What a table rests on and has changed since its commit, as ``file: name``."""
    found = []
    for file, names in {script: None, **called}.items():
        if file.startswith(SHOWING):
            continue
        now, before = meanings((ROOT / file).read_text()), at(commit, file)
        if names is None:
            used = set(now) | set(before)  # the benchmark itself: all of it
        else:  # what was called, with the fields of its classes; an import alone is no use
            makers = (n for n in names if not n.rpartition(".")[2].lstrip("_").startswith("check"))
            used = {f"{name}()" for name in makers} & set(now)
            owners = {".".join(x.split(".")[:n]) for x in used for n in range(x.count(".") + 1)}
            used |= owners & set(now)
        moved = everywhere(commit) if names is not None else {}
        different = sorted(
            name
            for name in used
            if now.get(name) != before.get(name) and now.get(name) not in moved.get(name, ())
        )
        found += [f"{file}: {name or 'constants'}" for name in different]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", help="names of tables; none = all")
    parser.add_argument("--trace", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.trace:
        return trace(*options.trace)
    files = sorted(RESULTS.glob("*.md"))
    if options.tables:
        files = [RESULTS / f"{name}.md" for name in options.tables]
    traced: dict[str, dict[str, list[str]]] = {}
    stale = False
    print("| table | made at | stale | what changed since |\n|---|---|---|---|")
    for file in files:
        made = MADE.search(file.read_text())
        if made is None:
            raise SystemExit(f"{file} does not say which command made it")
        script = made[1]
        # Where a table names no commit, or one that was rebased since, the one that brought it.
        commit = made[2] if made[2] and here(made[2]) else brought(file)
        if script not in traced:
            traced[script] = exercised(ROOT / script)
        found = changes(commit, script, traced[script])
        stale |= bool(found)
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        shown = ("; ".join(found[:3]) + more).replace("src/hansa/", "")
        print(f"| {file.stem} | {commit} | {'yes' if found else 'no'} | {shown} |", flush=True)
    sys.exit(1 if stale else 0)


if __name__ == "__main__":
    main()
