"""Made-up ratings against a recommender, and what `guard` of `rex` does about them.

    python benchmarks/recommend/poison.py            # 3 seeds, some minutes of a core
    python benchmarks/recommend/poison.py --smoke    # one seed, a few rounds, nothing is kept

``examples/synthetic_rex.yaml`` with small messages, raw ratings by random walks; 4 of its 20 nodes
lie in every message that they send:

- *flood*: their own users have rated any item at all, with the lowest stars or the highest;
- *forged*: so has anybody, whosever user that is;
- *mirrored*: they pass on what they have with stars turned round: 5 for 0.5.

RMSE is the mean of the 16 honest nodes, in stars. Of the ratings that honest nodes were sent it is
told how many were refused: of those made up, of true ones, and of true ones of the tenth of all
users whose ratings are furthest from what others gave the same items.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import yaml
from pydantic import Field

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Notes, markdown, options, publish

from hansa import register, run
from hansa.codec import Tables
from hansa.engine import Block, Script, Send
from hansa.engine.own_examples import Store
from hansa.recommend.recommend_file import RecommendFile
from hansa.recommend.rex import Rex
from hansa.recommend.vetting import Guard

EXAMPLE = Path(__file__).parents[2] / "examples" / "synthetic_rex.yaml"
LIARS = (0, 5, 10, 15)
ROUNDS = 60
LOW, HIGH = 0.5, 5.0
LIES = ("none", "flood", "forged", "mirrored")
GUARDS: dict[str, dict[str, Any]] = {
    "none": {},
    "per_user 4": {"per_user": 4},
    "conflicts": {"conflicts": True},
    "deviation 2": {"deviation": 2.0},
    "deviation 1.2": {"deviation": 1.2},
    "per_user 4, conflicts, deviation 2": {"per_user": 4, "conflicts": True, "deviation": 2.0},
}


@register("rex_among_liars")
class RexAmongLiars(Rex):
    """``rex`` some of whose nodes send made-up ratings."""

    lie: Literal["none", "flood", "forged", "mirrored"] = Field("none", description="what they do")

    def round(self, block: Block, t: int) -> Script:
        script, answer = super().round(block, t), None
        while True:
            try:
                step = script.send(answer)
            except StopIteration:
                return
            if isinstance(step, Send) and step.kind == "ratings" and self.lie != "none":
                assert isinstance(step.rows, Tables)
                step.rows.columns.update(lied(block, t, step.rows, self.lie))
            answer = yield step


def lied(block: Block, t: int, tables: Tables, lie: str) -> dict[str, np.ndarray]:
    """Columns of messages on all links from a block, those of liars made up."""
    ends, _ = block.graph(t).transpose().rows(block.ids)
    sender = np.repeat(block.ids, np.diff(ends))
    user, item, stars = (tables.columns[name].copy() for name in ("user", "item", "stars"))
    people, items = block.trainer.dataset.spec.vocabulary
    random, each = np.random.default_rng([t, 7]), people // len(block)
    high = np.random.default_rng(3).random((people, items)) < 0.5  # asked twice they say the same
    for m in np.flatnonzero(np.isin(sender, LIARS) & (tables.counts > 0)).tolist():
        at = slice(int(tables.indptr[m]), int(tables.indptr[m + 1]))
        if lie == "mirrored":
            stars[at] = np.float32(LOW + HIGH) - stars[at]
            continue
        first, count = (int(sender[m]) * each, each) if lie == "flood" else (0, people)
        drawn = random.choice(count * items, at.stop - at.start, replace=False)
        user[at], item[at] = first + drawn // items, drawn % items
        stars[at] = np.where(high[user[at], item[at]], HIGH, LOW)
    return {"user": user, "item": item, "stars": stars}


class Tally:
    """What honest nodes were sent and what they refused, by whether it is true."""

    def __init__(self, truth: dict[tuple[int, int], float], unusual: set[int]) -> None:
        self.truth, self.unusual = truth, unusual
        self.sent = dict.fromkeys(("made up", "true", "unusual"), 0)
        self.refused = dict(self.sent)

    def add(self, pairs: np.ndarray, stars: np.ndarray, accepted: np.ndarray) -> None:
        """Ratings that came to an honest node."""
        for pair, given, taken in zip(pairs.tolist(), stars, accepted, strict=True):
            true = self.truth.get((pair[0], pair[1])) == given
            for kind in (
                ("true", "unusual")[: 1 + (pair[0] in self.unusual)] if true else ("made up",)
            ):
                self.sent[kind] += 1
                self.refused[kind] += not taken

    def shares(self) -> dict[str, float | None]:
        """Refused of each kind, per cent; None: none came."""
        return {k: 100 * self.refused[k] / n if n else None for k, n in self.sent.items()}


@contextmanager
def tallied(tally: Tally) -> Iterator[None]:
    """Have what guards say counted."""
    accepts = Guard.accepts

    def counting(
        self: Guard, store: Store, node: int, pairs: np.ndarray, *more: np.ndarray
    ) -> np.ndarray:
        accepted = accepts(self, store, node, pairs, *more)
        if node not in LIARS:
            tally.add(pairs, more[0], accepted)
        return accepted

    Guard.accepts = counting  # type: ignore[method-assign]
    try:
        yield
    finally:
        Guard.accepts = accepts  # type: ignore[method-assign]


def known(chosen: RecommendFile) -> tuple[dict[tuple[int, int], float], set[int]]:
    """All true ratings, and the tenth of users who are furthest from others."""
    from hansa.experiment.prepare import prepare

    train = prepare(chosen).dataset.train
    pairs, stars = train.inputs.numpy(), train.targets.numpy().astype(float)
    often = np.bincount(pairs[:, 1])
    others = (np.bincount(pairs[:, 1], stars)[pairs[:, 1]] - stars) / np.maximum(
        often[pairs[:, 1]] - 1, 1
    )
    off = np.bincount(pairs[:, 0], (stars - others) ** 2) / np.maximum(np.bincount(pairs[:, 0]), 1)
    last = np.argsort(-off)[: max(1, len(off) // 10)]
    truth = {(u, i): s for (u, i), s in zip(pairs.tolist(), train.targets.numpy(), strict=True)}
    return truth, set(last.tolist())


def case(lie: str, guard: dict[str, Any], seed: int, smoke: bool) -> dict[str, float | None]:
    """One run: ``rmse`` of honest nodes, and what was refused, per cent."""
    chosen = yaml.safe_load(EXAMPLE.read_text())
    chosen |= {"seed": seed, "baselines": ["global_mean"], "checkpoint": {"every": 0}}
    chosen["rounds"] = 4 if smoke else ROUNDS
    chosen["evaluate"] = {"every": chosen["rounds"], "own": {"name": "ratings", "k": 0}}
    rex = {"name": "rex_among_liars", "lie": lie, "ratings": 100, "guard": guard}
    chosen["algorithm"] |= rex
    file = RecommendFile.parse(chosen)
    tally = Tally(*known(file))
    with tempfile.TemporaryDirectory() as folder, tallied(tally):
        done = run(file, out=Path(folder) / "run", report=False)
        errors = done.metrics().filter(
            pl.col("name") == "rmse", pl.col("round") == chosen["rounds"],
            pl.col("node").is_not_null(), ~pl.col("node").is_in(LIARS),
        )  # fmt: skip
        return {"rmse": float(errors["value"].mean()), **tally.shares()}  # type: ignore[arg-type]


def main() -> None:
    """Run all, print the table and keep it."""
    said = options(__doc__, "a few rounds, one seed").parse_args()
    notes, seeds = Notes(said.notes), 1 if said.smoke else said.seeds
    found: dict[tuple[str, str, int], dict[str, Any]] = {}
    lies, guards = (LIES[-1:], dict([*GUARDS.items()][-2:])) if said.smoke else (LIES, GUARDS)
    for seed in range(1, 1 + seeds):  # one after the other, so that notes are of use early
        for lie in lies:
            for name, guard in guards.items():
                work = partial(case, lie, guard, seed, said.smoke)
                found[lie, name, seed] = notes.get(f"{lie}, {name}, seed {seed}", work)
    rows = []
    for lie in lies:
        for name, guard in guards.items():
            each = [found[lie, name, seed] for seed in range(1, 1 + seeds)]
            errors = [one["rmse"] for one in each]
            row = [lie, name, f"{np.mean(errors):.4f} ({max(errors):.4f})"]
            for kind in ("made up", "true", "unusual"):
                values = [one[kind] for one in each if one[kind] is not None]
                row.append(f"{np.mean(values):.1f} ({max(values):.1f})" if values and guard else "")
            rows.append(row)
            print(", ".join(row), flush=True)
    header = ["4 of 20 nodes", "guard", "RMSE of honest nodes", "made up refused, %",
              "true refused, %", "of unusual users refused, %"]  # fmt: skip
    command = "python benchmarks/recommend/poison.py"
    text = markdown("Made-up ratings: mean of seeds (worst)", command, header, rows)
    text += (
        "\nOf what was refused the number in brackets is the highest. Counted are ratings as they "
        "came, whether or not the node had them already.\n"
    )
    publish("recommend_poison", text, said.smoke)


if __name__ == "__main__":
    main()
