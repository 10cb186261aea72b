"""Whether a run that was done again came to the same, to the bit, and if not where it parted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from hansa.base.lazy import safetensors, torch
from hansa.engine.exchange.recorded import Recorded
from hansa.engine.runtimes.checkpoint import few_in, peek, read_manifest, sealed
from hansa.report import RunFolder
from hansa.report.scores import says_how_good

if TYPE_CHECKING:
    import polars
    from torch import Tensor

WALL = ("round_seconds", "overhead_bytes")
"""Figures of the machine and the network that a run was on: another run's are others."""
_SUMMED = 1e-6  # relative: figures of all nodes, whose parts are added up worker by worker
_KEYS = ["round", "node", "name"]


def compared(
    theirs: RunFolder, ours: RunFolder, recorded: Recorded, done: int, own_pace: bool = False
) -> dict[str, Any]:
    """What a replay says of itself: ``equal``, and what was ``compared``.

    Models and all that is kept with them have to be equal to the bit in the newest checkpoint that
    both have; so have figures of single nodes in every round. Figures of all nodes (a consensus
    distance) may differ by the rounding of sums that are added up worker by worker. Wall times are
    not compared, nor nodes while nothing was recorded of them.

    Args:
        theirs: the run that was recorded.
        ours: the replay.
        recorded: what happened in it.
        done: how many rounds were replayed.
        own_pace: there are no rounds, and nodes are at rest only where they are saved: models and
            how good they are are compared there.

    Returns:
        ``equal`` is True or the first difference: ``round``, ``node`` (or None), ``what``, and the
        two values, ``recorded`` and ``replayed``.
    """
    common = _common(theirs.path, ours.path, done)
    at = max(common, default=None)
    ended = (theirs.summary or {}).get("status") in ("finished", "diverged", "interrupted")
    rounds = common | ({done} if ended else set()) if own_pace else range(done + 1)
    figures, count = _figures(theirs, ours, recorded, rounds, own_pace)
    models, nodes = None, 0
    if at is not None:
        models, nodes = _states(theirs.path, ours.path, recorded, at, own_pace)
    nothing = {"round": done, "node": None, "what": "what could be compared"}
    nothing |= {"recorded": None, "replayed": None}
    return {
        "equal": figures or models or (True if count or nodes else nothing),
        "compared": {"rounds": done, "figures": count, "models": nodes, "models_of_round": at},
    }


def told(verdict: Mapping[str, Any]) -> str:
    """A verdict in a line."""
    what, equal = verdict["compared"], verdict["equal"]
    models = f"{what['models']} models after round {what['models_of_round']}"
    if not what["models"]:
        models = "no models (there is no checkpoint of one round in both)"
    if equal is True:
        return f"equal   to the bit: {models} and {what['figures']:,} figures; no wall times"
    who = "the whole run" if equal["node"] is None else f"node {equal['node']}"
    return (
        f"differs first in round {equal['round']}: {equal['what']} of {who} was "
        f"{equal['recorded']} and is {equal['replayed']}"
    )


def _figures(
    theirs: RunFolder, ours: RunFolder, recorded: Recorded, among: Iterable[int], own_pace: bool
) -> tuple[dict[str, Any] | None, int]:
    """(the first figure of these rounds that differs, how many were compared)."""
    import polars

    def table(folder: RunFolder, name: str) -> polars.DataFrame:
        kept = polars.col("round").is_in(list(among)) & ~polars.col("name").is_in(WALL)
        rows = folder.metrics().filter(kept).select(*_KEYS, "value")
        if own_pace:
            good = [one for one in rows["name"].unique().to_list() if says_how_good(one)]
            rows = rows.filter(polars.col("name").is_in(good))
        return rows.with_columns(polars.col("node").fill_null(-1)).rename({"value": name})

    both = table(theirs, "recorded").join(
        table(ours, "replayed"), on=_KEYS, how="full", coalesce=True
    )
    both = both.sort("round", "node", "name")
    rounds, nodes = both["round"].to_numpy(), both["node"].to_numpy()
    one, two = (both[name].to_numpy().astype(np.float64) for name in ("recorded", "replayed"))
    with np.errstate(invalid="ignore"):
        near = np.abs(one - two) <= _SUMMED * np.maximum(np.abs(one), np.abs(two))
    lacking = both["recorded"].is_null().to_numpy() | both["replayed"].is_null().to_numpy()
    same = (one == two) | (np.isnan(one) & np.isnan(two) & ~lacking) | (near & (nodes < 0))
    counts = ~_unrecorded(recorded, rounds, nodes, both["recorded"].is_null().to_numpy())
    bad = np.flatnonzero(~same & counts)
    if not len(bad):
        return None, int(counts.sum())
    row = both.row(int(bad[0]), named=True)
    node = None if row["node"] < 0 else row["node"]
    values = {name: row[name] for name in ("recorded", "replayed")}
    return {"round": row["round"], "node": node, "what": row["name"], **values}, int(counts.sum())


def _unrecorded(
    recorded: Recorded, rounds: np.ndarray, nodes: np.ndarray, unsaid: np.ndarray
) -> np.ndarray:
    """Which figures are of nodes that were away, or of all nodes while some were, bool [rows].

    Args:
        unsaid: nothing was recorded; while a node is away it says nothing of others either, as a
            server does of its clients.
    """
    gone = np.zeros(len(rounds), dtype=bool)
    for one in recorded.absences:
        then = (rounds > one.start) & (rounds <= (one.end if one.end is not None else np.inf))
        gone |= then & (np.isin(nodes, one.nodes) | (nodes < 0) | unsaid)
    return gone


def _common(theirs: Path, ours: Path, done: int) -> set[int]:
    """The rounds of which both runs have a checkpoint."""
    each = [
        {int(peek(one).get("round", 0)) for one in sealed(path / "checkpoints")}
        for path in (theirs, ours)
    ]
    return {round for round in each[0] & each[1] if round <= done}


def _states(
    theirs: Path, ours: Path, recorded: Recorded, at: int, own_pace: bool
) -> tuple[dict[str, Any] | None, int]:
    """(the first node whose state differs after round ``at``, how many models were compared)."""
    one, two = (_read(path / f"checkpoints/round-{at:06d}") for path in (theirs, ours))
    settled = {node for end in recorded.ends if end.at == at for node in end.nodes}
    gone = np.flatnonzero(recorded.away(_width(one, two), at - 1))
    gone = np.array([node for node in gone.tolist() if node not in settled], dtype=np.int64)
    names = sorted(one.keys() | two.keys(), key=lambda name: (name != "model", name))
    for name in names[:1] if own_pace else names:
        difference = _difference(name, one.get(name), two.get(name), gone)
        if difference is not None:
            return {"round": at, **difference}, 0
    ids = one["model"][0] if "model" in one else np.zeros(0, dtype=np.int64)
    return None, int((~np.isin(ids, gone)).sum())


_Table: TypeAlias = "tuple[np.ndarray, Tensor]"


def _read(folder: Path) -> dict[str, _Table]:
    """Everything of all nodes in a checkpoint by name: (ids ascending, tensors [nodes, ...])."""
    parts: dict[str, list[_Table]] = {}
    for entry in read_manifest(folder)["files"]:
        with safetensors.safe_open(folder / entry["file"], framework="pt") as file:
            ids = {kind: file.get_tensor(kind).numpy() for kind in ("ids", "residents")}
            for name, at, of in few_in(file):
                parts.setdefault(name, []).append((ids["ids"][at], of))
            for key in file.keys():  # noqa: SIM118
                kind, _, name = key.partition(".")
                if kind == "rows":
                    parts.setdefault("model", []).append((ids["residents"], file.get_tensor(key)))
                elif kind in ("state", "kept"):
                    whose = ids["ids" if kind == "state" else "residents"]
                    parts.setdefault(name, []).append((whose, file.get_tensor(key)))
                elif key.endswith(".rows"):  # of a shelf, or of what the run came to
                    name = key.removesuffix(".rows")
                    whose = file.get_tensor(f"{name}.ids").numpy()
                    if len(whose):
                        parts.setdefault(name, []).append((whose, file.get_tensor(key)))
    return {name: _joined(tables) for name, tables in parts.items()}


def _joined(tables: list[_Table]) -> _Table:
    ids = np.concatenate([whose for whose, _ in tables])
    order = np.argsort(ids)
    return ids[order], torch.cat([values for _, values in tables])[torch.from_numpy(order)]


def _width(*each: dict[str, _Table]) -> int:
    return 1 + max((int(ids.max(initial=-1)) for one in each for ids, _ in one.values()), default=0)


def _difference(
    name: str, one: _Table | None, two: _Table | None, gone: np.ndarray
) -> dict[str, Any] | None:
    """The first node, but those that are ``gone``, of which two tables say different things.

    What a table does not say of a node is zero, as it is before it is first used.
    """
    some = one or two
    assert some is not None
    nodes = np.union1d(*((np.zeros(0, int) if t is None else t[0]) for t in (one, two)))
    nodes = nodes[~np.isin(nodes, gone)]
    if not len(nodes):
        return None
    whole = [_over(nodes, table, some[1]) for table in (one, two)]
    if whole[0].shape != whole[1].shape:
        shapes = [str(list(values.shape[1:])) for values in whole]
        what = f"the shape of {name}"
        return {"node": None, "what": what, "recorded": shapes[0], "replayed": shapes[1]}
    left, right = (values.reshape(len(nodes), -1).numpy() for values in whole)
    differ = (left != right) & ~((left != left) & (right != right))  # NaN is NaN
    if not differ.any():
        return None
    k = int(np.flatnonzero(differ.any(1))[0])
    j = int(np.flatnonzero(differ[k])[0])
    place = f"{name}, number {j}," if left.shape[1] > 1 else name
    values = {"recorded": left[k, j].item(), "replayed": right[k, j].item()}
    return {"node": int(nodes[k]), "what": place, **values}


def _over(nodes: np.ndarray, table: _Table | None, like: Tensor) -> Tensor:
    """A table's rows of these nodes, [nodes, ...]."""
    ids, values = (np.zeros(0, dtype=np.int64), like[:0]) if table is None else table
    rows = torch.zeros((len(nodes), *values.shape[1:]), dtype=values.dtype)
    here, source = np.intersect1d(nodes, ids, return_indices=True)[1:]
    rows[torch.from_numpy(here)] = values[torch.from_numpy(source)]
    return rows
