"""Tables and plain words in Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence


class Ready(str):
    """Markdown that is shown as it is."""


def cell(text: str) -> str:
    """Text that stays in its cell and shows what it says."""
    if isinstance(text, Ready):
        return text.replace("|", "\\|")
    words = " ".join(text.split()).replace("``", "`")
    words = re.sub(r":\w+:`~?\.?([^`<]+?)(?: <[^`]+)?`", r"`\1`", words)  # roles of docstrings
    parts = words.split("`")  # what stands between backticks is shown as it is
    quoted = [
        part if i % 2 else re.sub(r"([*_<\[\]{}])", r"\\\1", part) for i, part in enumerate(parts)
    ]
    return "`".join(quoted).replace("|", "\\|")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table, none where there are no rows; columns that are empty are left out."""
    kept = [i for i in range(len(columns)) if any(row[i] for row in rows)]
    if not kept:
        return []
    lines = [" | ".join(columns[i] for i in kept), " | ".join("---" for _ in kept)]
    lines += [" | ".join(cell(row[i]) for i in kept) for row in rows]
    return [f"| {line} |" for line in lines] + [""]
