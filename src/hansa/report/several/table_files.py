"""Tables as files: LaTeX, Markdown, and frames as CSV and Parquet."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hansa.base.files import atomic_write
from hansa.base.lazy import polars as pl
from hansa.report.grid import Grid

_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''",
    "±": r"$\pm$", "≥": r"$\geq$", "≤": r"$\leq$", "−": r"$-$", "∞": r"$\infty$", "×": r"$\times$",
    "→": r"$\to$", "∈": r"$\in$", "·": r"$\cdot$", "…": r"\dots{}", "\u202f": r"\,",
    "`": r"\textasciigrave{}",
    **{sign: rf"$\{name}$" for sign, name in zip("αβγδεζηθικλμνξπρστυφχψω", (
        "alpha", "beta", "gamma", "delta", "varepsilon", "zeta", "eta", "theta", "iota", "kappa",
        "lambda", "mu", "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "varphi", "chi", "psi",
        "omega",
    ), strict=True)},
    **dict(zip("ΔΣΩ", (r"$\Delta$", r"$\Sigma$", r"$\Omega$"), strict=True)),
    "µ": r"$\mu$", "¬": r"$\neg$", "√": r"$\surd$",
}  # fmt: skip
_SIGNS = re.compile("|".join(map(re.escape, _TEX)))
_EUROPEAN = range(0x180)
"""What pdfLaTeX sets without a package: Latin letters with accents."""
_LISTS = " "
_UNIT = re.compile(r"([^A-Za-z%]*[0-9]) (%|[kMGT]?[BJ]|d|h|min|s|ms)(| \(n = [0-9]+\))")


def tex(text: str) -> str:
    """Text that LaTeX sets as it stands, whatever signs are in it; lines become one.

    Signs that stand for nothing that is printed are left out.
    """
    plain = "".join(c for c in " ".join(text.split()) if c.isprintable() or c == "\u202f")
    # A row that began so would be read as an argument of the line break before it.
    guard = "{}" if plain[:1] in ("[", "*") else ""
    set_ = _SIGNS.sub(lambda sign: _TEX[sign[0]], plain)
    return guard + re.sub("-(?=-)", "-{}", set_)  # two would become a dash


def latex(grids: Sequence[Grid], notes: Sequence[str] = ()) -> str:
    """Tables for LaTeX with the package booktabs, each a ``tabular`` to be put into a ``table``.

    Args:
        grids: the tables; each one's title stands before it as a comment, and so does what is the
            same in all of its rows.
        notes: what a caption has to say, as comments.
    """
    cells = {cell for grid in grids for row in [grid.columns, *grid.rows] for cell in row}
    signs = {sign for cell in cells for sign in tex(cell) if ord(sign) not in _EUROPEAN}
    engine = [f"% needs LuaLaTeX or XeLaTeX, and a font that has {' '.join(sorted(signs))}"]
    lines = [r"% needs \usepackage{booktabs}", *engine * bool(signs)]
    lines += [f"% {' '.join(note.split())}" for note in notes]
    for whole in grids:
        grid, same = without_constants(whole)
        sides = "".join("l" if grid.is_words(k) else "r" for k in range(len(grid.columns)))
        lines += [f"% {' '.join(grid.title.split())}", *(f"% {text}" for text in same)]
        lines += [rf"\begin{{tabular}}{{{sides}}}", r"\toprule"]
        lines += [_row(grid.columns), r"\midrule"]
        lines += [*map(_row, grid.rows), r"\bottomrule", r"\end{tabular}", ""]
    return "\n".join(lines)


def markdown(grids: Sequence[Grid], notes: Sequence[str] = ()) -> str:
    """Tables in Markdown, each with its title before it, and the notes at the end."""
    parts = []
    for grid in grids:
        sides = [":--" if grid.is_words(k) else "--:" for k in range(len(grid.columns))]
        lines = [_cells(grid.columns), _cells(sides), *map(_cells, grid.rows)]
        parts.append(f"**{_plain(grid.title)}**\n\n" + "\n".join(lines))
    return "\n\n".join([*parts, *notes]) + "\n"


def without_constants(grid: Grid) -> tuple[Grid, list[str]]:
    """A table without the numbers that are the same in all rows, and those, each in words."""
    if len(grid.rows) < 2:
        return grid, []
    same = [
        k for k in range(grid.words, len(grid.columns)) if len({row[k] for row in grid.rows}) == 1
    ]
    kept = [k for k in range(len(grid.columns)) if k not in same]
    rows = [[row[k] for k in kept] for row in grid.rows]
    words = [f"{grid.columns[k]} (of all): {grid.rows[0][k]}" for k in same if grid.rows[0][k]]
    return Grid(grid.title, [grid.columns[k] for k in kept], rows, grid.words), words


def units_in_heads(grid: Grid) -> Grid:
    """A table whose columns say their unit at the top, where all of their cells have the same."""
    columns, rows = list(grid.columns), [list(row) for row in grid.rows]
    for k in range(grid.words, len(columns)):
        ends = {match[2] for row in rows if row[k] and (match := _UNIT.fullmatch(row[k]))}
        full = sum(bool(row[k]) for row in rows)
        if len(ends) == 1 and full == sum(bool(_UNIT.fullmatch(row[k])) for row in rows):
            columns[k] = f"{columns[k]} ({ends.pop()})"
            for row in rows:
                if match := _UNIT.fullmatch(row[k]):
                    row[k] = match[1] + match[3]
    return Grid(grid.title, columns, rows, grid.words, grid.remark)


def write_frame(frame: pl.DataFrame, path: Path) -> Path:
    """Write a frame as Parquet, or else as CSV: of lists, their items and blanks between."""
    with atomic_write(path) as file:
        if path.suffix.lower() == ".parquet":
            frame.write_parquet(file)
        else:
            lists = [name for name, kind in frame.schema.items() if isinstance(kind, pl.List)]
            flat = [pl.col(name).cast(pl.List(pl.String)).list.join(_LISTS) for name in lists]
            frame.with_columns(flat).write_csv(file)
    return path


def _row(cells: Sequence[str]) -> str:
    return " & ".join(map(tex, cells)) + r" \\"


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_plain, cells))} |"


def _plain(text: str) -> str:
    """One line; signs that would end a cell or be read as HTML or emphasis stand for themselves."""
    return re.sub(r"([\\|<>*_`\[\]])", r"\\\1", " ".join(text.split()))
