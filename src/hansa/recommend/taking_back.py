"""A user takes ratings back after the run has begun: in effect as soon as it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hansa.base.errors import ConfigError
from hansa.engine import Algorithm, BySite
from hansa.engine.runtimes.checkpoint import latest, read_manifest
from hansa.experiment.hosting import opened
from hansa.experiment.prepare import prepare
from hansa.experiment.trained import settings_of
from hansa.recommend.recommend_file import RecommendFile
from hansa.recommend.recommending import numbered
from hansa.recommend.rex import Rex
from hansa.recommend.withdrawing import Withdrawal

ROOM = 8
"""Tombstones for which there is room from the first such withdrawal on."""


def take_back(run: Path, user: str, item: str | None = None) -> dict[str, Any]:
    """Note in a run's folder that a user's ratings are withdrawn from where it has come to.

    Args:
        user, item: their names in the ratings; without an item all that the user rated.

    Returns:
        ``user``, ``item``, ``round``, and ``next``: what makes it happen.

    Raises:
        ConfigError: it is no run of ``hansa recommend`` whose nodes pass ratings on, there is no
            such user or rating, or no room for one more withdrawal.
        CheckpointError: the run is at work now, or its folder is damaged.
    """
    with opened(run) as folder:
        fix = "the folder of a run of hansa recommend"
        chosen = settings_of(folder, "run", fix, RecommendFile)
        rex = chosen.algorithm
        if chosen.runtime.name == BySite.name:
            problem = "is one site's folder, whose run file says what its owner takes back"
            fix = "algorithm.withdraw in this site's run file, then hansa node run"
            raise ConfigError("run", str(run), problem, fix)
        if not isinstance(rex, Rex) or rex.share == "model":
            problem = "passes no ratings on that somebody could be asked to drop"
            fix = "train anew without them: models keep what they learnt"
            raise ConfigError("run", str(run), problem, fix)
        dataset = prepare(chosen).dataset
        number = numbered("user", user, dataset.group_names)
        which = None if item is None else numbered("item", item, dataset.item_names)
        place = latest(folder.path / "checkpoints")
        done = 0 if place is None else int(read_manifest(place)["round"])
        one = {"user": number, "item": which, "at": done}
        known = [w.model_dump() for w in rex.withdraw]
        there = [w.numbered(dataset)[:2] for w in rex.withdraw]
        if Withdrawal(user=number, item=which, at=done).numbered(dataset)[:2] in there:
            raise ConfigError("user", user, "has withdrawn this already", "going on with the run")
        room = max(rex.withdrawals, len(known)) or ROOM
        if len(known) + 1 > room:
            problem = f"{len(known)} are there, and its nodes have room for {room}"
            raise ConfigError("run", str(run), problem, "a new run with more algorithm.withdrawals")
        settings = {**rex.dump(), "withdraw": [*known, one], "withdrawals": room}
        changed = chosen.model_copy(update={"algorithm": Algorithm.resolve(settings)})
        folder.reconfigure({**folder.config, **changed.dump()})
        folder.event("withdrawal", **one)
        more = f"hansa recommend --resume {run} --set rounds={max(chosen.rounds, done) + 20}"
        return {"user": user, "item": item, "round": done, "next": more}
