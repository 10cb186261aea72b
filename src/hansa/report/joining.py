"""The folders of several sites of one run, put together: as if somebody had gathered all reports.

A site records its own nodes. What the whole run says of a round (means, spreads, sizes of messages)
is worked out anew from what all of them recorded; what takes all models (consensus distance, the
average model) nobody knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hansa.base.errors import ConfigError
from hansa.base.lazy import polars as pl
from hansa.report.folder import RunFolder

SITE = "site.json"
"""What a site's folder says of it: who it is, and which sites there are."""
_SIZES, _MEASURED = "message_bytes", "bytes_sent"
_SUMS, _SLOWEST, _SAME = ("overhead_bytes",), "round_seconds", "present"


class JoinedRun(RunFolder):
    """A run as far as its sites' folders tell of it; reads alone.

    Args:
        parts: folders of different sites of one run, by the number of the site.

    Attributes:
        missing: by the name of a site the rounds of which it has recorded nothing, of those that
            somebody has.
    """

    def __init__(self, parts: Sequence[RunFolder]) -> None:
        first = parts[0]
        self.parts_of = list(parts)
        self.who = [folder.read_json(SITE) for folder in parts]
        path = first.path.parent / str(self.who[0]["session"])
        super().__init__(path, first.config, first.environment)
        self._frame, self.missing = self._put_together()

    def metrics(self) -> pl.DataFrame:
        """Every measurement, as of one run."""
        return self._frame

    def events(self) -> list[dict[str, Any]]:
        """What happened at all sites, by its time, each with the site's name."""
        every = [
            {**event, "site_name": who["name"]}
            for who, folder in zip(self.who, self.parts_of, strict=True)
            for event in folder.events()
        ]
        return sorted(every, key=lambda event: str(event.get("time")))

    def read_json(self, name: str) -> Any:
        """What a file says that all of them have; nothing of what is one site's own."""
        return self.parts_of[0].read_json(name) if name == "topology.json" else None

    @property
    def summary(self) -> dict[str, Any]:
        """What the run came to, as far as it is known here."""
        every = [folder.summary or {} for folder in self.parts_of]
        states = {one.get("status", "unfinished") for one in every}
        status = states.pop() if len(states) == 1 else "unfinished"
        sums = {name: sum(one.get(name, 0) for one in every) for name in (*_SUMS, "bytes_sent")}
        return {
            "run_dir": str(self.path),
            "verb": every[0].get("verb", "learn"),
            "algorithm": every[0].get("algorithm"),
            "nodes": self.config.get("nodes"),
            "rounds": max(int(one.get("rounds", 0)) for one in every),
            "seconds": max(float(one.get("seconds", 0.0)) for one in every),
            **sums,
            "session": self.who[0]["session"],
            "sites": [who["name"] for who in self.who],
            "missing": self.missing,
            "partial": bool(self.missing),
            "status": status,
        }

    def _put_together(self) -> tuple[pl.DataFrame, dict[str, list[int]]]:
        frames = [
            folder.metrics().with_columns(site=pl.lit(who["site"]))
            for who, folder in zip(self.who, self.parts_of, strict=True)
        ]
        every = pl.concat(frames)
        node = every.filter(pl.col("node").is_not_null()).unique(
            ("round", "node", "name"), keep="first", maintain_order=True
        )
        own = every.filter(pl.col("node").is_null())
        summed_up = own["name"].unique()
        measured = node.filter(pl.col("name") == _MEASURED)["round"].unique()
        # What is kept by node in other rounds is there to be summed up.
        shown = node.filter(
            (pl.col("name") != _SIZES)
            & (
                pl.col("round").is_in(measured.implode())
                | ~pl.col("name").is_in(summed_up.implode())
            )
        )
        whole = _summed_up(node, own)
        order = every.columns[:-1]
        frame = pl.concat([whole.select(order), shown.select(order)]).sort(
            "round", maintain_order=True
        )
        return frame, self._missing(every)

    def _missing(self, every: pl.DataFrame) -> dict[str, list[int]]:
        rounds = set(every["round"].to_list())
        missing = {}
        for at, site in enumerate(self.who[0]["sites"]):
            there = set(every.filter(pl.col("site") == at)["round"].to_list())
            if rounds - there:
                missing[str(site["name"])] = sorted(rounds - there)
        return missing


def _summed_up(node: pl.DataFrame, own: pl.DataFrame) -> pl.DataFrame:
    """The rows of the whole run, of those that sites have of theirs."""
    value = pl.col("value")
    stamps = own.group_by("round").agg(pl.col("step").max(), pl.col("time").max())
    # Each site's rows of a round bear what its nodes have sent by then.
    sent = own.group_by("round", "site").agg(pl.col("bytes").max())
    stamps = stamps.join(sent.group_by("round").agg(pl.col("bytes").sum()), on="round")
    wanted = own.select("round", "name").unique(maintain_order=True)
    by_node = node.filter(value.is_finite()).group_by("round", "name").agg(
        mean=value.mean(), std=value.std(ddof=0), low=value.min(), high=value.max()
    )  # fmt: skip
    pieces = [_known(own)]
    plain = by_node.select("round", "name", value="mean")
    spread = by_node.select("round", pl.col("name") + "_std", value="std")
    sizes = by_node.filter(pl.col("name") == _SIZES)
    for kind, column in (("mean", "mean"), ("min", "low"), ("max", "high")):
        pieces.append(sizes.select("round", pl.lit(f"{_SIZES}_{kind}").alias("name"), value=column))
    pieces += [plain, spread]
    values = pl.concat(pieces).unique(("round", "name"), keep="first", maintain_order=True)
    return (
        wanted.join(values, on=("round", "name"), how="inner", maintain_order="left")
        .join(stamps, on="round", how="left", maintain_order="left")
        .with_columns(node=pl.lit(None, dtype=own["node"].dtype))
    )


def _known(own: pl.DataFrame) -> pl.DataFrame:
    """What follows from the sites' own rows: who is there, and how long the slowest took."""
    kept = own.filter(pl.col("name").is_in([_SLOWEST, _SAME]))
    return kept.group_by("round", "name", maintain_order=True).agg(pl.col("value").max())


def joined(folders: Sequence[RunFolder]) -> tuple[list[RunFolder], list[str]]:
    """(runs, what to say of them): the folders of one run's sites become one run.

    A site's folder alone stays what it is: partial.

    Raises:
        ConfigError: two folders are of the same site of a run.
    """
    groups: dict[str, list[tuple[int, RunFolder]]] = {}
    order: list[tuple[str, RunFolder]] = []
    for folder in folders:
        who = folder.read_json(SITE)
        key = str(folder.path) if who is None else _run_of(folder, who)
        if key not in groups:
            order.append((key, folder))
        if who is not None:
            groups.setdefault(key, []).append((int(who["site"]), folder))
    runs, lines = [], []
    for key, folder in order:
        parts = sorted(groups.get(key, ()), key=lambda part: part[0])
        if len(parts) < 2:
            runs.append(folder)
            lines += _alone(folder)
            continue
        sites = [site for site, _ in parts]
        if len(set(sites)) < len(sites):
            twice = [one for at, one in parts if sites.count(at) > 1]
            names = " and ".join(str(one.path) for one in twice)
            problem = "are of the same site of one run"
            raise ConfigError("runs", names, problem, "the folder of each site once")
        run = JoinedRun([part for _, part in parts])
        runs.append(run)
        session = run.who[0]["session"]
        lines.append(
            f"{session}: the folders of {', '.join(w['name'] for w in run.who)} as one run."
        )
        for name, rounds in run.missing.items():
            lines.append(
                f"{session}: {name} is missing in {_ranges(rounds)}; means are without it."
            )
    return runs, lines


def _alone(folder: RunFolder) -> list[str]:
    who = folder.read_json(SITE)
    if who is None:
        return []
    others = [site["name"] for at, site in enumerate(who["sites"]) if at != who["site"]]
    return [f"{folder.path.name}: of {who['name']} alone; {', '.join(others)} keep their own."]


def _run_of(folder: RunFolder, who: Mapping[str, Any]) -> str:
    """What is the same in the folders of a run's sites, and in no others."""
    own = {"data", "plugins", "runtime", "checkpoint", "device", "sinks"}
    shared = {key: value for key, value in folder.config.items() if key not in own}
    return json.dumps([who["session"], who["sites"], shared], sort_keys=True, default=str)


def _ranges(rounds: Sequence[int]) -> str:
    """Rounds in words: ``rounds 3 to 5 and 9``."""
    spans: list[list[int]] = []
    for one in rounds:
        if spans and one == spans[-1][1] + 1:
            spans[-1][1] = one
        else:
            spans.append([one, one])
    shown = [str(a) if a == b else f"{a} to {b}" for a, b in spans[:6]]
    more = " and more" if len(spans) > 6 else ""
    return f"round{'s' if len(rounds) > 1 else ''} {', '.join(shown)}{more}"
