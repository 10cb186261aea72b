"""Tables of text, for the terminal and for pages."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

_BETWEEN = 3  # characters that a terminal's table puts between two columns
_NUMBER = 24  # characters: what is longer is no number, and may be broken


@dataclass(frozen=True)
class Grid:
    """A table of text: the first ``words`` columns are words, the others numbers.

    With ``remark`` the last column is words, too.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    words: int = 1
    remark: bool = False

    def is_words(self, index: int) -> bool:
        """Whether a column is read from the left."""
        return index < self.words or (self.remark and index == len(self.columns) - 1)

    def rich(self) -> Table:
        """The table for a terminal; print it with a ``rich.console.Console``."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self.title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for index, column in enumerate(self.columns):
            side: Any = "left" if self.is_words(index) else "right"
            heading = textwrap.fill(column, 10, break_long_words=False)
            least = self._least(index)
            whole = not self.is_words(index) and all(
                len(row[index]) <= _NUMBER for row in self.rows
            )
            table.add_column(heading, justify=side, overflow="fold", min_width=least, no_wrap=whole)
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table

    def within(self, width: int) -> list[Grid]:
        """The table in parts that a terminal of this width shows without breaking a number.

        Each part begins with the words; what does not fit beside them goes into the next.
        """
        words = sum(self._least(index) + _BETWEEN for index in range(self.words))
        apart = len({row[0] for row in self.rows}) == len(self.rows)
        if self.words > 1 and words > width // 2 and apart:  # the first column says which row it is
            return Grid(self.title, self.columns, self.rows, 1, self.remark).within(width)
        numbers = list(range(self.words, len(self.columns)))
        parts: list[list[int]] = [[]]
        room = width - words
        for index in numbers:
            need = self._least(index) + _BETWEEN
            if parts[-1] and need > room:
                parts.append([])
                room = width - words
            parts[-1].append(index)
            room -= need
        return [self._part(part, self.title if k == 0 else "") for k, part in enumerate(parts)]

    def needs(self, first: int) -> int:
        """Characters that the table takes where its first column has at least this many."""
        wide = [max(self._least(k), first * (not k)) for k in range(len(self.columns))]
        return sum(wide) + _BETWEEN * len(wide)

    def _part(self, numbers: list[int], title: str) -> Grid:
        kept = [*range(self.words), *numbers]
        rows = [[row[index] for index in kept] for row in self.rows]
        remark = self.remark and kept[-1] == len(self.columns) - 1
        return Grid(title, [self.columns[index] for index in kept], rows, self.words, remark)

    def _least(self, index: int) -> int:
        """Characters that a column needs: a number whole, of words the longest up to some 20."""
        cells = [row[index] for row in self.rows]
        heading = textwrap.wrap(self.columns[index], 10, break_long_words=False)
        if self.is_words(index):
            parts = [*heading, *(word for cell in cells for word in cell.split())]
            return min(20, max(map(len, parts), default=0))
        numbers = (len(cell) for cell in cells if len(cell) <= _NUMBER)
        return max([*map(len, heading), *numbers], default=0)
