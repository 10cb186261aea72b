"""The page of servers and clients: whom they invited, what became of them, where time went."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from hansa.base.component import register
from hansa.base.lazy import polars as pl
from hansa.learn.federated import participation
from hansa.learn.federated.cohort_curves import MERGED, apart, cohort_curves, points
from hansa.learn.federated.fates import (
    COUNTED,
    UNDER_WAY,
    costs,
    invitations,
    is_timed,
    times_counted,
)
from hansa.learn.federated.timeline import timeline_picture
from hansa.report.curves import Curves, curves_chart
from hansa.report.folder import RunFolder
from hansa.report.grid import Grid
from hansa.report.measured import Measured
from hansa.report.page import Section, Tile
from hansa.report.run_page import RunPage, who_of
from hansa.report.series import curve, thinned
from hansa.report.units import number, quantity

_ROUNDS = ("round_time", "idle_time", "staleness")
"""What servers say of their rounds; drawn beside what clients did."""


class Served(Measured):
    """A run of servers and clients, with what became of those invited."""

    @cached_property
    def invited(self) -> pl.DataFrame:
        """One row for each invited client and round (:func:`invitations`)."""
        return invitations(self.everything)


@register("federated")
class FederatedPage(RunPage):
    """A run of one server, or of several with a cohort each, and their clients."""

    group: ClassVar[str] = "cohort"
    """What the clients of one of several servers are called together."""

    def claim(self, path: Path, config: Mapping[str, Any] | None) -> int:
        """A run that has servers."""
        if config is None:
            return 0
        partition = RunFolder(path, {}, {}).read_json("partition.json") or {}
        return 2 * bool(partition.get("servers"))

    def read(self, folder: RunFolder | Path) -> Served:
        """The folder with its measurements."""
        return Served(folder)

    def who(self, of: Measured) -> str:
        """They are clients, also before a server was measured."""
        return "clients"

    def headline(self, of: Measured) -> str:
        """What ran, with how many clients and servers."""
        hosts = of.partition.get("servers", 1)
        return super().headline(of) + (f", {number(hosts)} servers" if hosts > 1 else "")

    def tiles(self, of: Served) -> list[Tile]:  # type: ignore[override]
        """The score, how many of those invited counted, and the costs."""
        found = super().tiles(of)
        asked = len(of.invited)
        if asked:
            done = int((of.invited["fate"] == COUNTED).sum())
            share = quantity(done / asked, "accuracy")
            found.insert(1, Tile("updates that counted", share, f"of {number(asked)} invited"))
        return [tile for tile in found if tile.name != "loss" or not asked][:5]

    def curves(self, of: Measured, family: str) -> Curves:
        """A line a cohort where there are some; what servers and clients sent, each for itself."""
        if family == "bytes_sent":
            return Curves(_traffic(of), "Sums over servers and over clients.")
        if cohorts := cohort_curves(of.metrics, family, of.spent):
            merged = "; the dot: the model that they were merged into" * (MERGED in cohorts)
            return Curves(cohorts, f"A line a cohort{merged}.", grey=MERGED)
        return super().curves(of, family)

    def compared(self, of: Measured, family: str) -> Curves:
        """The mean of the cohorts, with what they were merged into as a dot."""
        rest, merged = apart(of.metrics, family)
        first = of.families[family][0]
        return Curves(
            {"": curve(rest, first, of.spent)},
            who_of(first.label),
            points(merged, of.spent),
        )

    def folded(self, of: Served) -> list[Section]:  # type: ignore[override]
        """What clients did in the rounds of servers, and where the time went."""
        if not len(of.invited):
            return []
        clients = times_counted(of.invited, of.partition.get("sizes") or [])
        timed = self.elsewhere(of)
        drawn = [timeline_picture(of.invited, self.group)]
        if clients["invited"].n_unique() > 1 or (of.invited["fate"] != COUNTED).any():
            drawn += [
                participation.fates_picture(of.invited),
                participation.often_picture(clients),
                participation.evenness_picture(clients),
            ]
        drawn += [curves_chart(self.curves(of, f), f) for f in timed if self.says_more(of, f)]
        title = "Where the time went" if timed else "Invitations"
        grid = costs_table(costs(of.run, of.metrics, of.invited))
        return [
            Section("Clients", [chart for chart in drawn if chart], folded=True),
            Section(title, grid=grid, folded=True),
        ]

    def elsewhere(self, of: Served) -> list[str]:  # type: ignore[override]
        """What servers say of their rounds, drawn beside what clients did."""
        timed = len(of.invited) and is_timed(of.invited)
        return [f for f in _ROUNDS if f in of.families] if timed else []

    def comparable(self, family: str) -> bool:
        """Not what is told in the pictures of its clients."""
        return not family.startswith("cohort_") and family not in ("invited", "participants")

    def says_more(self, of: Measured, family: str, *, chosen: bool = False) -> bool:
        """Nor is that a chart of its own."""
        return self.comparable(family) and super().says_more(of, family, chosen=chosen)


def _traffic(of: Measured) -> dict[str, pl.DataFrame]:
    """What all servers and what all clients had sent by each round."""
    rows = of.metrics.filter((pl.col("name") == "bytes_sent") & pl.col("node").is_not_null())
    sums = rows.group_by("round", "server").agg(value=pl.col("value").sum())
    return {
        words: thinned(points(sums.filter(pl.col("server") == host), of.spent))
        for words, host in (("down, from servers", True), ("up, from clients", False))
    }


def costs_table(found: Mapping[str, Any]) -> Grid:
    """What :func:`hansa.learn.federated.fates.costs` found, in words."""
    rows = [
        [words, quantity(found[key], key), remark]
        for key, words, remark in (
            ("modelled_time", "modelled time", "from the first round to the end of the last"),
            ("device_time", "device time", "all clients' training, counted or not"),
            ("wasted_time", "wasted device time", "training of clients whose update did not count"),
            ("transfer_time", "transfer time", "all clients' links in use"),
            ("idle_time", "idle time", "between a client's last byte and the end of its round"),
        )
        if key in found
    ]
    for row in rows if found.get("device_time") else ():
        if row[0] == "wasted device time":
            row[2] += f": {quantity(found['wasted_time'] / found['device_time'], 'accuracy')} of it"
    remarks = {
        COUNTED: "the update counted",
        "late": "missed the deadline",
        "left": "became unavailable",
        "failed": "failed on the way",
        "surplus": "enough others were faster",
        "idle": "had no budget for a single step",
        "lost": "a message to or from them was lost",
        UNDER_WAY: "the run ended before they were done",
    }
    if found:
        rows.append(["invitations", number(found["invited"]), "one a client and round"])
    rows += [[fate, number(found[fate]), remarks[fate]] for fate in remarks if found.get(fate)]
    if found.get("failed_rounds"):
        rows.append(["failed rounds", number(found["failed_rounds"]), "too few updates counted"])
    return Grid("Where the time went", ["", "", ""], [[a, c, b] for a, b, c in rows], words=2)
