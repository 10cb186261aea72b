"""Pages are components: each says which folders it can show, and what stands on them.

A folder is shown by the page whose claim rests on most facts. A page of one's own subclasses
:class:`hansa.report.run_page.RunPage` (or :class:`Page`, for a folder that is no run); it is found
by the entry point ``hansa.page`` or in a module that is named as a plugin::

    @register("auction")
    class AuctionPage(RunPage):
        def claim(self, path, config):
            return 2 * ((config or {}).get("verb") == "auction")

        def headline(self, of):
            return f"Auction among {of.nodes} bidders"
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from hansa.base.component import Component, catalogue
from hansa.base.errors import CheckpointError
from hansa.report.folder import CONFIG, RunFolder
from hansa.report.grid import Grid

REPORT = "report.html"


class Figure(NamedTuple):
    """A figure that stands for a run among others, beside its metrics.

    Attributes:
        value: what it came to.
        share: whether it is a share of 1.
        better: ``higher`` or ``lower``; empty where neither is.
    """

    value: float
    share: bool = False
    better: str = "higher"


class Tile(NamedTuple):
    """One of the few figures at the top of a page."""

    name: str
    number: str
    remark: str = ""


@dataclass
class Section:
    """A part of a page: charts, a table, text; parts with nothing to show are left out.

    Attributes:
        title: a heading; empty where the chart's own says it.
        folded: shown when its title is clicked; its charts are drawn then.
        swatches: the table's rows are the lines of the page's legend.
    """

    title: str
    charts: list[Any] = field(default_factory=list)
    grid: Grid | None = None
    text: str = ""
    note: str = ""
    folded: bool = False
    swatches: bool = False

    def __bool__(self) -> bool:
        return bool(self.charts or (self.grid and self.grid.rows) or self.text)


class Page(Component, kind="page"):
    """How folders of one kind are shown.

    ``of`` is what :meth:`read` made of the folder; the methods after it are given that.
    """

    @abstractmethod
    def claim(self, path: Path, config: Mapping[str, Any] | None) -> int:
        """On how many facts about the folder the claim rests that it is this page's; 0: it is not.

        Args:
            path: the folder.
            config: its settings if it is a run's, else None.
        """

    @abstractmethod
    def read(self, folder: RunFolder | Path) -> Any:
        """What the page is made from."""

    @abstractmethod
    def headline(self, of: Any) -> str:
        """The title."""

    @abstractmethod
    def sentence(self, of: Any) -> str:
        """What was done, how it ended and what it cost."""

    @abstractmethod
    def tiles(self, of: Any) -> list[Tile]:
        """The few figures that matter most, five at most."""

    @abstractmethod
    def sections(self, of: Any) -> list[Section]:
        """All else, in a reader's order."""

    @abstractmethod
    def table(self, of: Any, *, every: bool = False) -> Grid:
        """The table for a terminal; ``every`` line, or those that matter."""

    def figures(self, of: Any) -> dict[str, Figure]:
        """What the run came to that is none of its metrics, by its name in a table of several."""
        return {}

    def status(self, of: Any) -> str:
        """How it ended, in a word."""
        return ""

    def subtitle(self, of: Any) -> str:
        """What is said in small letters beneath the title."""
        return ""

    def notes(self, of: Any) -> list[str]:
        """What a reader must know before any figure."""
        return []

    def called(self, folder: RunFolder) -> str:
        """A few words for a legend or a line of a table."""
        return folder.path.name


def run_or_path(folder: RunFolder | str | Path) -> RunFolder | Path:
    """The run in a folder; of another folder, its path.

    Raises:
        CheckpointError: the run's settings are corrupt.
    """
    if isinstance(folder, RunFolder):
        return folder
    path = Path(folder).expanduser()
    return path if path.is_dir() and not (path / CONFIG).is_file() else RunFolder.open(path)


def page_of(folder: RunFolder | Path) -> Page:
    """The page that claims a folder by most facts; if several do, one that is not hansa's own.

    Raises:
        CheckpointError: no page knows such a folder.
    """
    path = folder.path if isinstance(folder, RunFolder) else folder
    config = folder.config if isinstance(folder, RunFolder) else None
    claims = [
        (page.claim(path, config), not type(page).__module__.startswith("hansa."), page)
        for page in (page() for page in catalogue("page").values() if issubclass(page, Page))
    ]
    best = max(claims, key=lambda claim: claim[:2])
    if not best[0]:
        RunFolder.open(path)  # says what is wrong with it
        raise CheckpointError(f"{path}: no page knows such a folder")
    return best[2]


def called(folder: RunFolder) -> str:
    """What a run is called where there are several."""
    return page_of(folder).called(folder)


def final(folder: RunFolder | str | Path, *, every: bool = False) -> Grid:
    """The table of a folder for a terminal, by its page."""
    place = run_or_path(folder)
    page = page_of(place)
    return page.table(page.read(place), every=every)
