"""The parts of a run's page: which charts and tables there are, and in what order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hansa.base.lazy import polars as pl
from hansa.report import charts, participation, pictures, tables
from hansa.report.folder import RunFolder
from hansa.report.rounds import costs, is_timed
from hansa.report.rounds import participation as participated
from hansa.report.series import families, score, servers
from hansa.report.timeline import timeline_picture

_SERVERS_ROUNDS = ("round_time", "idle_time", "staleness")
_OF_CLIENTS = (*_SERVERS_ROUNDS, "invited", "participants")
"""Families that are drawn beside what clients did, or are in its pictures."""


@dataclass
class Section:
    """A part of a page; parts with nothing to show are left out."""

    title: str
    charts: list[Any] = field(default_factory=list)
    grid: tables.Grid | None = None
    text: str = ""
    note: str = ""
    folded: bool = False

    def __bool__(self) -> bool:
        return bool(self.charts or (self.grid and self.grid.rows) or self.text)


def drawn_sections(run: RunFolder, metrics: pl.DataFrame, invited: pl.DataFrame) -> list[Section]:
    """The sections with charts of one run, and what became of those ``invited``."""
    from hansa.report import ensembles

    if ensembles.is_ensemble(run):
        return ensembles.sections(run, metrics)
    partition = run.read_json("partition.json") or {}
    return [
        Section("Curves", _curves(metrics)),
        *_clients(run, metrics, invited, partition),
        Section("Exchange", _exchange(metrics)),
        Section("Nodes and data", _pictures(run, metrics, partition)),
    ]


def _curves(metrics: pl.DataFrame) -> list[Any]:
    main = score(metrics)
    if main is None:
        return []
    served = bool(servers(metrics))
    drawn = [charts.metric_chart(metrics, main, axis) for axis in charts.axes(metrics)]
    others = [f for f in families(metrics) if f != main and not _is_exchange(f)]
    if served:
        others = [f for f in others if f not in _OF_CLIENTS and not f.startswith("cohort_")]
    first = [family for family in others if family in ("loss", "rmse")]
    drawn[1:1] = [charts.metric_chart(metrics, family) for family in first]
    drawn += [charts.metric_chart(metrics, family) for family in others if family not in first]
    return [chart for chart in drawn if chart]


def _clients(
    run: RunFolder, metrics: pl.DataFrame, invited: pl.DataFrame, partition: dict[str, Any]
) -> list[Section]:
    """What clients did in the rounds of servers, and where the time went."""
    if not len(invited):
        return []
    clients = participated(invited, partition.get("sizes") or [])
    timed = families(metrics) if is_timed(invited) else {}
    drawn = [
        timeline_picture(invited),
        participation.fates_picture(invited),
        participation.often_picture(clients),
        participation.evenness_picture(clients),
        *(charts.metric_chart(metrics, name) for name in _SERVERS_ROUNDS if name in timed),
    ]
    return [
        Section("Clients", [chart for chart in drawn if chart]),
        Section(
            "Where the time went" if timed else "Invitations",
            grid=tables.costs_table(costs(run, metrics, invited)),
        ),
    ]


def _exchange(metrics: pl.DataFrame) -> list[Any]:
    names = [family for family in families(metrics) if _is_exchange(family)]
    drawn = [charts.metric_chart(metrics, family) for family in names if family != "bytes_sent"]
    if "bytes_sent" in names:
        traffic = charts.traffic_chart(metrics) if servers(metrics) else None
        drawn.insert(0, traffic or charts.metric_chart(metrics, "bytes_sent"))
    return [chart for chart in drawn if chart]


def _is_exchange(family: str) -> bool:
    return bool({"bytes", "messages"} & set(family.split("_")))


def _pictures(run: RunFolder, metrics: pl.DataFrame, partition: dict[str, Any]) -> list[Any]:
    found: list[Any] = []
    main = score(metrics)
    who = "client" if servers(metrics) else "node"
    last = metrics.filter((pl.col("name") == (main or "")) & pl.col("node").is_not_null())
    last = last.filter(pl.col("round") == pl.col("round").max())
    values = dict(zip(last["node"].to_list(), last["value"].to_list(), strict=True))
    topology = run.read_json("topology.json")
    if topology and topology.get("nodes"):
        found.append(pictures.topology_picture(topology, values, main or ""))
    if main and who == "node" and last["value"].is_finite().sum() > 1:
        found.append(pictures.final_picture(last["value"].to_numpy(), main))
    if partition.get("histogram"):
        found.append(pictures.label_picture(partition, who))
    if len(set(partition.get("sizes") or ())) > 1:
        found.append(pictures.sizes_picture(partition["sizes"], who))
    return found
