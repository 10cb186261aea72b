"""What nodes send, chosen by themselves: share: auto beside ratings, models and both.

    python benchmarks/recommend/share.py            # 3 seeds
    python benchmarks/recommend/share.py --smoke    # a few rounds, one seed

The same nodes, rounds and local work; synthetic ratings (20 nodes, messages of 100 ratings) as they
are, with stores that keep no ratings of others (``capacity: 0``), and with one hop; and, where
HANSA_DATA has it, MovieLens latest-small (50 nodes). RMSE is the mean of nodes, in stars. Equal
bytes: the last measured round by which a node has sent no more than one of ``auto`` does in all.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rex_cases import SMALL_WORLD, measured

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import RESULTS, Notes, markdown, options, publish

from hansa.report.charts import save_png

SHARES = ("data", "model", "both", "auto")
SYNTHETIC: dict[str, Any] = {
    "nodes": 20,
    "rounds": 200,
    "data": {"name": "synthetic_ratings"},
    "model": {"name": "matrix_factorization", "factors": 10, "start": 3.5},
    "train": {"optimizer": {"name": "sgd", "lr": 0.02, "weight_decay": 0.05}},
    "algorithm": {"name": "rex", "ratings": 100},
}
FILMS: dict[str, Any] = {
    "nodes": 50,
    "rounds": 200,
    "data": {"name": "movielens"},
    "model": {"name": "matrix_factorization", "factors": 10, "start": 3.5, "mean": "fixed"},
    "algorithm": {"name": "rex"},
}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "synthetic": (SYNTHETIC, {}),
    "synthetic, capacity 0": (SYNTHETIC, {"exposure": {"capacity": 0}}),
    "synthetic, hops 1": (SYNTHETIC, {"exposure": {"hops": 1}}),
    "latest-small": (FILMS, {}),
}


def case(name: str, share: str, seed: int, smoke: bool) -> dict[str, Any]:
    """One run: what :func:`rex_cases.measured` says of it."""
    base, more = CASES[name]
    rounds = 6 if smoke else base["rounds"]
    algorithm = {**base["algorithm"], **more, "share": share}
    if smoke:
        algorithm["weighing"] = {"every": 2}
    return measured(
        {
            **base,
            "seed": seed,
            "rounds": rounds,
            "topology": SMALL_WORLD,
            "algorithm": algorithm,
            "baselines": [],
            "checkpoint": {"every": 0},
            "evaluate": {
                "every": max(1, rounds // 40),
                "dense_start": False,
                "own": {"name": "ratings", "k": 0},
            },
        }
    )


def within(found: dict[str, Any], budget: float) -> float:
    """The error at the last measured round by which a node has sent at most so many bytes."""
    errors = [e for e, b in zip(found["rmse"], found["sent"], strict=True) if b <= budget]
    return errors[-1] if errors else float("nan")


def said(values: list[float], digits: int, worst: Any = max) -> str:
    """Mean of seeds, and the worst in brackets."""
    if np.isnan(values).any():
        return "not measured by then"
    return f"{np.mean(values):.{digits}f} ({worst(values):.{digits}f})"


def draw(curves: list[dict[str, Any]], path: Path) -> None:
    """Error against bytes a node, a line a way, mean of seeds."""
    import altair as alt

    charts = []
    for name in dict.fromkeys(row["data"] for row in curves):
        mine = pl.DataFrame([row for row in curves if row["data"] == name])
        mean = mine.group_by("share", "round").mean().sort("share", "round")
        marks = alt.Chart(mean, title=name, width=300, height=240)
        charts.append(
            marks.mark_line(point=True).encode(
                alt.X("kilobytes", title="kB sent by a node").scale(type="log"),
                alt.Y("rmse", title="RMSE, mean of nodes, stars").scale(zero=False),
                alt.Color("share", sort=list(SHARES), title="share"),
                order="round",
            )
        )
    save_png(
        alt.vconcat(*(alt.hconcat(*charts[k : k + 2]) for k in range(0, len(charts), 2))), path
    )


def main() -> None:
    arguments = options(__doc__, "a few rounds, one seed").parse_args()
    smoke, notes = arguments.smoke, Notes(arguments.notes)
    names = [n for n in CASES if "synthetic" in n or ("HANSA_DATA" in os.environ and not smoke)]
    rows, curves, verdicts = [], [], []
    for name in names:
        found: dict[str, list[dict[str, Any]]] = {}
        for share in SHARES:
            found[share] = [
                notes.get(f"{name}, {share}, seed {seed}", partial(case, name, share, seed, smoke))
                for seed in range(1, 2 if smoke else 1 + arguments.seeds)
            ]
            print(name, share, found[share][0]["rmse"][-1], flush=True)
        budgets = [one["sent"][-1] for one in found["auto"]]
        equal = {
            share: [within(one, b) for one, b in zip(each, budgets, strict=True)]
            for share, each in found.items()
        }
        for share, each in found.items():
            rows.append(
                [
                    name,
                    share,
                    said([one["rmse"][-1] for one in each], 4),
                    said([one["sent"][-1] / 1e3 for one in each], 0),
                    said(equal[share], 4),
                    said([one["cpu"] for one in each], 0),
                ]
            )
            curves += [
                {"data": name, "share": share, "round": r, "rmse": e, "kilobytes": b / 1e3}
                for one in each
                for r, e, b in zip(one["rounds"], one["rmse"], one["sent"], strict=True)
            ]
        for share in ("data", "model", "both"):
            worse = [
                100 * (mine / theirs - 1)
                for mine, theirs in zip(equal["auto"], equal[share], strict=True)
            ]
            if not np.isnan(worse).any():
                verdicts.append(
                    f"{name}: auto at equal bytes no worse than {share}, every seed: "
                    f"{'yes' if max(worse) <= 0 else 'NO'} (worst {max(worse):+.1f} %)"
                )
    header = ["data", "share", "RMSE at the end", "kB a node", "RMSE at equal bytes", "CPU s"]
    command = "python benchmarks/recommend/share.py"
    text = markdown("What nodes send: mean of seeds (worst)", command, header, rows)
    text += "\n" + "\n".join(f"- {line}" for line in verdicts) + "\n"
    if not smoke:
        draw(curves, RESULTS / "recommend_share.png")
        text += "\n![Error against bytes](recommend_share.png)\n"
    publish("recommend_share", text, smoke)


if __name__ == "__main__":
    main()
