"""Files of the repository that a page links to, each shown on a page of its own.

MyST makes such a link a download; a reader would rather look at an example than save it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments.lexers.shell import BashLexer
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.osutil import relative_uri

LANGUAGES = {
    ".csv": "text",
    ".hex": "text",
    ".json": "json",
    ".py": "python",
    ".service": "ini",
    ".toml": "toml",
    ".txt": "text",
    ".yaml": "yaml",
}
FRONT = """<!DOCTYPE html>
<meta charset="utf-8">
<meta http-equiv="refresh" content="0; url=docs/index.html">
<title>hansa</title>
<a href="docs/index.html">hansa</a>
"""


def _place(file: str) -> str:
    return f"files/{file}"


def link_to_listings(app: Sphinx, doctree: nodes.document, name: str) -> None:
    """Let downloads of text lead to the page that shows it."""
    if app.builder.format != "html":
        return
    here = Path(name).parent
    for link in list(doctree.findall(addnodes.download_reference)):
        target = os.path.normpath(here / link["reftarget"])
        if Path(target).suffix in LANGUAGES:
            there = app.builder.get_target_uri(_place(target))
            refuri = relative_uri(app.builder.get_target_uri(name), there)
            link.replace_self(nodes.reference("", "", *link.children, refuri=refuri))


def listings(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """A page for each file of text that is linked to."""
    if app.builder.format != "html":
        return
    for file in sorted(app.env.dlfiles):
        relative = os.path.relpath(app.srcdir / file, app.srcdir)
        language = LANGUAGES.get(Path(relative).suffix)
        if language is None:
            continue
        text = (app.srcdir / relative).read_text(encoding="utf-8")
        shown = app.builder.highlighter.highlight_block(text, language)  # type: ignore[attr-defined]
        body = f'<h1><code class="docutils literal">{escape(relative)}</code></h1>{shown}'
        yield _place(relative), {"title": relative, "body": body, "parents": []}, "page.html"


def write_front(app: Sphinx, error: Exception | None) -> None:
    """The folder's own index.html leads to the first page, which lies in ``docs``."""
    if error is None and app.builder.name == "html":
        (app.outdir / "index.html").write_text(FRONT, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_lexer("console", BashLexer)  # blocks of commands without a prompt before them
    app.connect("doctree-resolved", link_to_listings)
    app.connect("html-collect-pages", listings)
    app.connect("build-finished", write_front)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
