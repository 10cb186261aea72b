"""Two marks in a page's text, comments where the page is read as plain Markdown.

``<!-- toctree -->``: the links of the list beneath it are the pages beneath this one.
``<!-- toctree: PATTERN -->``: so are the pages of that pattern, which are listed there.
``<!-- generated: WHAT WORDS -->``: a part of the reference, made from the code (:data:`MAKERS`).

A link to a folder leads to the page that shows what is in it (:data:`FOLDERS`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from commands import all_commands
from public import public_names, without_fields
from settings import parts, run_files

if TYPE_CHECKING:
    from sphinx.application import Sphinx

MARK = re.compile(r"^<!-- (toctree|generated)(?:: (.+?))? -->$", re.MULTILINE)
ITEM = re.compile(r"^(?:- |\| )\[[^\]]*\]\(([^)#:]+)\.md\)", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#:]+)\)")
MAKERS: dict[str, Callable[..., str]] = {
    "commands": all_commands,
    "parts": parts,
    "python": public_names,
    "files": run_files,
}
FOLDERS = {
    "benchmarks/results": "docs/research/tables.md",
    "examples": "docs/gallery.md",
    "README.md": "docs/index.md",
    "docs": "docs/index.md",
}


def pages_beneath(text: str) -> list[str]:
    """The pages that a page's marked lists link to, in order, as the page writes them."""
    found: list[str] = []
    marks = list(MARK.finditer(text))
    for mark, end in zip(marks, [*(m.start() for m in marks[1:]), len(text)], strict=False):
        if mark[1] == "toctree" and not mark[2]:
            found += ITEM.findall(text[mark.end() : end])
    return list(dict.fromkeys(found))


def patterns_of(text: str) -> list[str]:
    """The patterns of pages that a page's marks put beneath it."""
    return [mark[2] for mark in MARK.finditer(text) if mark[1] == "toctree" and mark[2]]


def _toctree(text: str, mark: re.Match[str], first: bool) -> str:
    if mark[2]:
        return f"```{{toctree}}\n:maxdepth: 1\n:glob:\n\n{mark[2].removesuffix('.md')}\n```"
    entries = "\n".join(pages_beneath(text)) if first else ""
    return f"```{{toctree}}\n:hidden:\n\n{entries}\n```" if entries else ""


def weave(app: Sphinx, name: str, source: list[str]) -> None:
    """Put what the marks of a page stand for in their place."""
    text, here = source[0], Path(name).parent
    first = True

    def filled(mark: re.Match[str]) -> str:
        nonlocal first
        if mark[1] == "generated":
            what, *words = (mark[2] or "").split()
            if what not in MAKERS:
                raise ValueError(f"{name}: nothing makes {what!r}: {', '.join(MAKERS)}")
            return MAKERS[what](*words)
        made = _toctree(text, mark, first)
        first = first and bool(mark[2])
        return made

    def led(link: re.Match[str]) -> str:
        target = os.path.normpath(here / link[1])
        if target not in FOLDERS:
            return link[0]
        return f"]({os.path.relpath(FOLDERS[target], here)})"

    source[0] = LINK.sub(led, MARK.sub(filled, text))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", weave)
    app.connect("autodoc-process-signature", without_fields)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
