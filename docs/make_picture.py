"""Makes docs/picture.png: five runs on digits of which each node has about two.

    python docs/make_picture.py

The runs go to a temporary folder; they take about half a minute.
"""

import sys
import tempfile
from pathlib import Path

import hansa
from hansa.report.charts import save_png
from hansa.report.comparison import comparison_chart

SETTINGS = {
    "nodes": 16,
    "rounds": 100,
    "data": {"name": "digits", "partition": {"name": "shards", "shards_per_node": 2}},
    "train": {"local_steps": 5, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}},
    "evaluate": {"every": 4},
}
RUNS = {
    "centralized (upper bound)": {"algorithm": "centralized"},
    "D-PSGD, a fresh 4-regular graph each round": {
        "topology": {"name": "regular", "degree": 4, "dynamic": True}
    },
    "D-PSGD, one 4-regular graph": {"topology": {"name": "regular", "degree": 4}},
    "D-PSGD, ring": {"topology": "ring"},
    "isolated (lower bound)": {"algorithm": "isolated"},
}


def main(target: Path) -> None:
    """Train all runs and draw their mean node accuracy."""
    made = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, changes) in enumerate(RUNS.items()):
            run = hansa.run(SETTINGS | changes, Path(folder) / str(number), report=False)
            made[name] = run
            print(f"{name}: {run.summary['final']['accuracy']:.3f}")  # type: ignore[index]
        chart = comparison_chart(made, "accuracy")
    save_png(chart.properties(width=640, height=300), target, scale=1.5)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("picture.png"))
