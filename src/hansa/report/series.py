"""From measurements to curves: one mean and one spread a round, for any metric there is.

Names that belong together make one family: ``loss``, ``validation_loss``, ``train_loss`` and
``loss_average_model`` are lines of ``loss``; ``x_mean``, ``x_min`` and ``x_max`` are one line of
``x`` with its spread. Where some nodes are servers, the models are theirs and what nodes spend is
said of their clients.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hansa.base.lazy import polars as pl
from hansa.report.folder import RunFolder
from hansa.report.scores import scores
from hansa.report.units import dimension

CONSTANT = 1e-6  # of its size, by which what never changes may waver
STRAIGHT = 0.05  # of its rise, by which a straight line may be missed
POINTS = 300  # of a line at most; a picture 400 pixels wide shows no more
AXES = ("round", "bytes", "time", "modelled_time", "device_time", "energy")
COLUMNS = ("round", "mean", "low", "high", "nodes", *AXES[1:])
"""Of a curve: a round's mean, lowest and highest of so many nodes, and what was spent by then."""
_NAME = re.compile(r"^(validation_|train_)?(.+?)(_average_model)?$")
_CLASS = re.compile(r"^(.+)_(\d+)(_per_client)?$")
_WORDS = {"validation_": "validation", "train_": "training"}
_AXES_ONLY = ("wall_time", "modelled_time", "energy")  # shown as axes of the others
_UNDRAWN = (
    "steps",
    "samples",
    "training_rounds",
    "messages_sent",
    "messages_received",
    "bytes_received",
    "backhaul_bytes",
)
"""Straight lines in most runs, or no curves at all; they are in tables and pictures."""
_SPENT = ("bytes_sent", "modelled_time", "compute_time", "energy")


@dataclass(frozen=True)
class Line:
    """One line of a family: the metrics it comes from and what to call it."""

    name: str
    label: str
    low: str | None = None
    high: str | None = None


def measurements(run: RunFolder) -> pl.DataFrame:
    """A run's metrics, with a column that says which rows are a server's."""
    clients = run.config.get("nodes")
    is_server = pl.lit(False)
    if isinstance(clients, int):
        is_server = (pl.col("node") >= clients).fill_null(False)
    # Text is compared in every filter to come, and there are millions of rows.
    name = pl.col("name").cast(pl.Categorical)
    return run.metrics().with_columns(name, is_server.alias("server"))


def without_moments(metrics: pl.DataFrame) -> pl.DataFrame:
    """All but when clients did what: five rows a client and round, most of a large run."""
    names = metrics["name"].unique().cast(pl.String)
    kept = [name for name in names if not name.startswith("client_")]
    return metrics.filter(pl.col("name").is_in(kept)) if len(kept) < len(names) else metrics


def servers(metrics: pl.DataFrame) -> list[int]:
    """The ids of the servers of a run, ascending; none among peers."""
    if "server" not in metrics.columns:
        return []
    return metrics.filter("server")["node"].unique().sort().to_list()


def families(metrics: pl.DataFrame) -> dict[str, list[Line]]:
    """The lines of every family, families and lines in a reader's order."""
    who = _who(metrics)
    zero = metrics.group_by("name").agg(nothing=(pl.col("value") == 0).all())
    nothing = set(zero.filter("nothing")["name"].cast(pl.String))
    # No model of their energy was given.
    names = set(who) - {name for name in nothing if name.endswith("_energy")}
    lines_of: dict[str, list[Line]] = {}
    for name in sorted(names):
        family = name.removesuffix("_mean")
        if name in _UNDRAWN or name.endswith("_std") or name.startswith("client_"):
            continue
        if family != name and {f"{family}_min", f"{family}_max"} <= names:
            line = Line(name, "mean", f"{family}_min", f"{family}_max")
            lines_of.setdefault(family, []).append(line)
        elif re.sub(r"_(min|max)$", "_mean", name) in names - {name}:
            continue  # the spread of the line above
        elif match := _NAME.match(name):
            part, family, average = match.groups()
            words = ["averaged model" if average else who[name], _WORDS.get(part or "", "")]
            of_class = _CLASS.match(family)
            if of_class and of_class[1] in names:  # what it is the mean of
                family = f"{of_class[1]}_by_class{of_class[3] or ''}"
                words.insert(0, f"class {of_class[2]}")
            line = Line(name, ", ".join(word for word in words if word))
            lines_of.setdefault(family, []).append(line)
    order = {"share": 0, "": 1, "s": 3, "B": 2, "J": 3}
    for family, lines in lines_of.items():
        lines.sort(key=lambda line: (line.name != family, len(line.name), line.label))
    good = scores(lines_of)
    keys = sorted(lines_of, key=lambda f: (f not in good, order[dimension(f)], f == "loss", f))
    return {family: lines_of[family] for family in keys if family not in _AXES_ONLY}


def score(metrics: pl.DataFrame) -> str | None:
    """The family by which the run is judged: that of the metric which chooses, else the first."""
    every = families(metrics)
    return next(iter([*scores(every), *every]), None)


def spread(metrics: pl.DataFrame, line: Line) -> pl.DataFrame:
    """Mean, std, low, high and count over nodes in each round; not finite rounds are left out.

    Rows of single nodes are preferred to rows of the whole run where a metric has both, unless it
    is always the same node, and rows of clients to those of servers.
    """
    rows = metrics.filter(pl.col("name") == line.name)
    nodes = rows.filter(pl.col("node").is_not_null())
    if "server" in nodes.columns and not nodes["server"].all():
        nodes = nodes.filter(~pl.col("server"))
    whole = rows.filter(pl.col("node").is_null())
    if nodes["node"].n_unique() == 1 and len(whole) > len(nodes):
        nodes = whole  # a server says of every round what its node is asked at evaluations
    value = pl.col("value")
    frame = (
        (nodes if len(nodes) else rows)
        .group_by("round")
        .agg(
            mean=value.mean(),
            std=value.std(ddof=0),
            low=value.min(),
            high=value.max(),
            nodes=pl.len(),
        )
    )
    for column, name in (("low", line.low), ("high", line.high)):
        if name:
            other = metrics.filter(pl.col("name") == name).group_by("round")
            frame = frame.drop(column).join(other.agg(value.mean().alias(column)), on="round")
    return frame.filter(pl.col("mean").is_finite()).sort("round")


def progress(metrics: pl.DataFrame) -> pl.DataFrame:
    """For each round what had been spent by then, null where unknown.

    Columns: round, bytes (sent by all nodes), time (s), modelled_time (s, the slowest node, or the
    slowest server where there are servers), device_time (s of training, all nodes), energy (J, all
    nodes).
    """
    single, value = pl.col("node").is_not_null(), pl.col("value")
    frame = metrics.group_by("round").agg(
        pl.col("time").max(), pl.col("bytes").filter(~single).max().cast(pl.Float64)
    )
    for name in _SPENT:
        rows = metrics.filter(pl.col("name") == name)
        counted = single
        if name == "modelled_time" and servers(rows):
            counted = pl.col("server")  # a client that is late or went away holds nobody up
        total = value.max() if name == "modelled_time" else value.sum()
        of_nodes = rows.filter(counted).group_by("round").agg(total.alias("nodes"))
        whole = rows.filter(~single).group_by("round").agg(value.max().alias("whole"))
        frame = frame.join(of_nodes, on="round", how="left").join(whole, on="round", how="left")
        frame = frame.with_columns(pl.coalesce("whole", "nodes").alias(name)).drop("nodes", "whole")
    return frame.select(
        "round",
        pl.coalesce("bytes", "bytes_sent").alias("bytes"),
        "time",
        "modelled_time",
        pl.col("compute_time").alias("device_time"),
        "energy",
    ).sort("round")


def curve(metrics: pl.DataFrame, line: Line, spent: pl.DataFrame) -> pl.DataFrame:
    """The points of a line, few enough to draw; columns are :data:`COLUMNS`.

    Args:
        metrics: measurements in long format.
        line: which of them.
        spent: what :func:`progress` found.
    """
    return nested(with_axes(spread(metrics, line), spent))


def with_axes(frame: pl.DataFrame, spent: pl.DataFrame) -> pl.DataFrame:
    """Points (round, mean, low, high, nodes) with what was ``spent`` by their rounds."""
    return frame.join(spent, on="round", how="left").select(COLUMNS).sort("round")


def thinned(frame: pl.DataFrame, most: int = POINTS) -> pl.DataFrame:
    """Evenly chosen rows of a long curve, the first and the last among them."""
    if len(frame) <= most:
        return frame
    return frame[np.unique(np.linspace(0, len(frame) - 1, most).round().astype(int))]


def nested(frame: pl.DataFrame, most: int = POINTS) -> pl.DataFrame:
    """Every second, fourth or eighth ... row of a long curve, and the last.

    Of two runs of one setting that stopped at different rounds, both then have the rounds of the
    one that is thinned more, and a mean over them is of both.
    """
    step = 1
    while -(-len(frame) // step) > most - 1 and len(frame) > most:
        step *= 2
    kept = np.union1d(np.arange(0, len(frame), step), [len(frame) - 1])
    return frame if step == 1 else frame[kept]


def is_constant(frames: Iterable[pl.DataFrame]) -> bool:
    """Whether no line and no spread ever changes: a row of a table says it all."""
    columns = [frame[column].to_numpy() for frame in frames for column in ("mean", "low", "high")]
    return all(np.ptp(c) <= CONSTANT * np.abs(c).max() for c in columns if len(c))


def is_straight(frame: pl.DataFrame) -> bool:
    """Whether an amount grows by as much every round: its last figure says it all."""
    x, y = frame["round"].to_numpy(), frame["mean"].to_numpy()
    if len(y) < 2 or y[-1] <= y[0] or (np.diff(y) < 0).any():
        return False
    at = y[0] + (y[-1] - y[0]) * (x - x[0]) / (x[-1] - x[0])
    return bool(np.abs(y - at).max() <= STRAIGHT * (y[-1] - y[0]))


def final(metrics: pl.DataFrame) -> pl.DataFrame:
    """Each metric at the last round it was measured: name, who, round, nodes, mean, std, min, max.

    Std, min and max are null for what is said of one node or of the whole run. Names that repeat
    what a row of single nodes says, or its spread, are left out, and so are the moments of
    clients' rounds, which are no amounts, and what servers spend nothing of.
    """
    value, single = pl.col("value"), pl.col("node").is_not_null()
    text = pl.col("name").cast(pl.String)
    unsaid = text.str.contains("_std$|_bytes_(min|max)$|^client_")
    server = pl.col("server") if "server" in metrics.columns else pl.lit(False)
    word = "clients" if servers(metrics) else "nodes"
    several = pl.len() > 1
    return (
        metrics.with_columns(single=single, is_server=server)
        .filter(~unsaid & (pl.col("single") | ~pl.col("single").any().over("name")))
        .filter(pl.col("round") == pl.col("round").max().over("name", "single", "is_server"))
        .group_by("name", "single", "is_server")
        .agg(
            pl.col("round").first(),
            nodes=pl.when(pl.col("single").first()).then(pl.len()),
            mean=value.mean(),
            std=pl.when(pl.col("single").first() & several).then(value.std(ddof=0)),
            min=pl.when(pl.col("single").first() & several).then(value.min()),
            max=pl.when(pl.col("single").first() & several).then(value.max()),
            nothing=(value == 0).all(),
            elsewhere=~server.first(),
        )
        .with_columns(elsewhere=pl.col("elsewhere").any().over("name"))
        .filter(~(pl.col("is_server") & pl.col("nothing") & pl.col("elsewhere")))
        .with_columns(
            text,
            who=pl.when(pl.col("is_server"))
            .then(pl.lit("servers"))
            .when("single")
            .then(pl.lit(word)),
        )
        .select("name", "who", "round", "nodes", "mean", "std", "min", "max")
        .sort("name", "who", nulls_last=False)
    )


def _who(metrics: pl.DataFrame) -> dict[str, str]:
    """Whom each metric is about."""
    if "server" not in metrics.columns or not metrics["server"].any():
        return dict.fromkeys(metrics["name"].unique().cast(pl.String).to_list(), "nodes")
    single = pl.col("node").is_not_null()
    rows = metrics.group_by("name").agg(
        servers=pl.col("server").any(), clients=(single & ~pl.col("server")).any()
    )
    word = "server" if len(servers(metrics)) == 1 else "servers"
    return {
        str(name): "clients" if clients else (word if served else "run")
        for name, served, clients in rows.rows()
    }
