"""What a recommender costs: CPU time, memory, bytes of ratings beside bytes of models.

    python benchmarks/recommend/speed.py            # some minutes of a core
    python benchmarks/recommend/speed.py --smoke    # a few nodes and rounds, nothing is kept

Every case is a process of its own, and its CPU time is that of all of it: loading, training,
merging, measuring. The C++ reference took 116 CPU seconds and 0.68 GB for 100 epochs of 610 nodes
that share 300 ratings, and 224 CPU seconds for 40 epochs that share models (-O2, another machine).
Equal error: what a node had sent when its mean error first came down to that with which the other
way ended. Rows of models are float32 and ratings go in ``pair_gaps``; settings are the reference's,
with fresh draws and biases that are copied, for both.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
import rex_cases
from measure import Goals, fresh, markdown, publish

CASES: dict[str, dict[str, Any]] = {
    "ratings, 610": {"nodes": 610, "rounds": 100, "every": 100},
    "models, 610": {"nodes": 610, "rounds": 40, "every": 40, "share": "model"},
    "ratings, 610, often": {"nodes": 610, "rounds": 80, "every": 4},
    "ratings, 50": {"nodes": 50, "rounds": 200, "every": 4},
    "models, 50": {"nodes": 50, "rounds": 100, "every": 100, "share": "model"},
}
MANY = {"people": 15_000, "nodes": 500, "rounds": 20}
GB = 1 << 30


def equal_error(goals: Goals, models: dict[str, Any], ratings: dict[str, Any], least: int) -> None:
    """What both ways had sent at the error with which models ended."""
    error, sent = models["rmse"][-1], models["sent"][-1]
    k = rex_cases.first_below(ratings, error)
    nodes = 610 if least == 10 else 50
    what = f"{nodes} nodes: bytes of models / of ratings at RMSE {error:.4f}"
    if k is None:
        goals.add(what, f"ratings ended at {ratings['rmse'][-1]:.4f}", f">= {least}", False)
        return
    rounds, ratio = (models["rounds"][-1], ratings["rounds"][k]), sent / ratings["sent"][k]
    told = f"{ratio:.0f} ({sent / 1e6:.1f} MB in {rounds[0]} epochs, "
    told += f"{ratings['sent'][k] / 1e6:.3f} MB in {rounds[1]})"
    goals.add(what, told, f">= {least}", ratio >= least)


def main() -> None:
    """Measure, print, and keep what was measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--smoke", action="store_true")
    smoke = parser.parse_args().smoke
    found = {}
    for name, settings in CASES.items():
        small = {"nodes": 8, "rounds": 4, "every": 2, "data": "synthetic_ratings"} if smoke else {}
        found[name] = fresh(
            "case", "rex_cases", smoke=smoke, **{"settings": "reference", **settings, **small}
        )
    goals = Goals()
    ratings, models = found["ratings, 610"], found["models, 610"]
    goals.add("610 nodes, 100 epochs of ratings: CPU s", f"{ratings['cpu']:.1f}", "< 60",
              ratings["cpu"] < 60)  # fmt: skip
    goals.add("the same: peak memory, GiB", f"{ratings['peak'] / GB:.2f}", "< 2",
              ratings["peak"] < 2 * GB)  # fmt: skip
    goals.add("610 nodes, 40 epochs of models: CPU s", f"{models['cpu']:.1f}", "<= 224 / 5",
              models["cpu"] <= 224 / 5)  # fmt: skip
    goals.add("the same: peak memory, GiB", f"{models['peak'] / GB:.2f}")
    equal_error(goals, found["models, 50"], found["ratings, 50"], 100)
    equal_error(goals, models, found["ratings, 610, often"], 10)
    size = {"people": 60, "nodes": 8, "rounds": 2} if smoke else MANY
    made = fresh("many", "rex_cases", smoke=smoke, **size)
    goals.add(
        f"{size['people']:,} people at {size['nodes']} nodes, {size['rounds']} epochs of ratings",
        f"RMSE {made['rmse']:.3f}, {made['cpu']:.0f} CPU s, {made['peak'] / GB:.2f} GiB",
    )
    rows = [[cell.replace("no", "NO") if k == 3 else cell for k, cell in enumerate(row)]
            for row in goals.rows]  # fmt: skip
    command = "python benchmarks/recommend/speed.py"
    publish(
        "recommend_speed", markdown("What a recommender costs", command, Goals.HEADER, rows), smoke
    )


if __name__ == "__main__":
    main()
