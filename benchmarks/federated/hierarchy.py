"""Edge servers under a cloud: accuracy against the bytes between them, beside FedAvg.

    python benchmarks/federated/hierarchy.py            # 3 seeds, ~10 minutes
    python benchmarks/federated/hierarchy.py --smoke    # one seed, a few rounds

Digits, 40 clients with two shards each (two or three classes), five edges of eight clients, MLP
64-32-10, 5 local steps of 16 examples, 80 rounds in which all take part. Edges are alike (the rule
label_balanced) or skewed: clients are sorted by the class that they have most of and cut into five,
so that an edge has two or three classes. The cloud averages in every kappa-th round. Beside it:

* FedAvg without edges: every model of every client crosses the links to the cloud;
* FedAvg that sends as many bytes there and takes as many local steps: fewer rounds, longer each;
* FedAvg that sends as many bytes there by sampling 5 clients in 80 / kappa rounds: an eighth of the
  local steps at kappa 1, an eightieth at kappa 10;
* kappa 80: edges alone, averaged once at the end (what the cloud's rounds are worth at all).

Each line has its own learning rate of three, the best by the same measure on seed 11.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import RESULTS, Goals, Notes, markdown, publish

from hansa.experiment import RunFile, prepare, run

CLIENTS, EDGES, ROUNDS, STEPS = 40, 5, 80, 5
KAPPAS = (1, 2, 5, 10, ROUNDS)
RATES = (0.1, 0.4, 0.8)
SEEDS, TUNED = (1, 2, 3), 11
BASE: dict[str, Any] = {
    "nodes": CLIENTS,
    "data": {"name": "digits", "partition": {"name": "shards", "shards_per_node": 2}},
    "model": {"name": "mlp", "hidden": [32]},
    "evaluate": {"dense_start": False},
    "checkpoint": {"every": 0},
    "clock": "wall",
}


class Bench:
    """Runs of one size, each done once."""

    def __init__(self, notes: Notes, smoke: bool) -> None:
        self.notes, self.rounds = notes, 4 if smoke else ROUNDS
        self.seeds, self.rates = (SEEDS[:1], RATES[:1]) if smoke else (SEEDS, RATES)
        self.kappas = (1, 2, 4) if smoke else KAPPAS

    def settings(self, seed: int, rate: float, **more: Any) -> dict[str, Any]:
        steps = more.pop("steps", STEPS)
        rounds = more.pop("rounds", self.rounds)
        optimizer = {"name": "sgd", "lr": rate}
        train = {"local_steps": steps, "batch_size": 16, "drop_last": False, "strategy": "stacked"}
        own = {"seed": seed, "rounds": rounds, "train": {**train, "optimizer": optimizer}}
        return {**BASE, **own, **more, "evaluate": {**BASE["evaluate"], "every": rounds}}

    def skewed(self, seed: int) -> list[list[int]]:
        """Clients in the order of their main class, cut into edges."""
        job = prepare(RunFile.parse(self.settings(seed, 0.1, algorithm="fedavg")))
        targets = job.dataset.train.targets.cpu().numpy()
        counts = np.array([np.bincount(targets[part], minlength=10) for part in job.parts])
        order = np.lexsort((counts.max(axis=1), counts.argmax(axis=1)))
        return [sorted(map(int, part)) for part in np.array_split(order, EDGES)]

    def method(self, name: str, seed: int) -> dict[str, Any]:
        """The settings of a line."""
        kind, _, number = name.partition(" ")
        kappa = int(number or 1)
        if kind == "fedavg":
            return {"algorithm": "fedavg"}
        if kind == "rare":  # as many models to the cloud and back as five edges send
            longer = CLIENTS // EDGES * kappa
            rounds = max(1, self.rounds // longer)
            return {
                "algorithm": "fedavg",
                "rounds": rounds,
                "steps": STEPS * self.rounds // rounds,
            }
        if kind == "few":  # as many models, of clients that are sampled
            sampled = {"name": "fedavg", "sampled": EDGES}
            return {"algorithm": sampled, "rounds": max(1, self.rounds // kappa)}
        edges: Any = {"name": "label_balanced", "cohorts": EDGES}
        if kind == "skewed":
            edges = self.skewed(seed)
        return {"algorithm": {"name": "hierarchical", "edges": edges, "edge_rounds": kappa}}

    def figures(self, name: str, seed: int, rate: float) -> dict[str, float]:
        """Accuracy at the end, and bytes at both levels."""

        def work() -> dict[str, float]:
            chosen = self.settings(seed, rate, **self.method(name, seed))
            with tempfile.TemporaryDirectory() as place:
                summary = run(RunFile.parse(chosen), Path(place) / "run", report=False).summary
            assert summary is not None
            levels = summary.get("bytes_by_level")
            cloud = summary["bytes_sent"]
            if levels:
                cloud = levels["edge_to_cloud"] + levels["cloud_to_edge"]
            accuracy = summary["final"]["accuracy"]
            return {"accuracy": accuracy, "cloud": cloud, "all": summary["bytes_sent"]}

        return self.notes.get(f"{name} {seed} {rate} {self.rounds}", work)

    def line(self, name: str) -> dict[str, Any]:
        """A line's figures over the seeds, at its best rate."""
        tried = {r: self.figures(name, TUNED, r)["accuracy"] for r in self.rates}
        rate = max(tried, key=lambda r: (tried[r], -r))
        found = [self.figures(name, seed, rate) for seed in self.seeds]
        accuracies = [one["accuracy"] for one in found]
        return {
            "name": name,
            "rate": rate,
            "mean": float(np.mean(accuracies)),
            "worst": min(accuracies),
            "cloud": float(np.mean([one["cloud"] for one in found])),
            "all": float(np.mean([one["all"] for one in found])),
        }


def words(name: str) -> str:
    """A line in words."""
    kind, _, number = name.partition(" ")
    return {
        "fedavg": "FedAvg, all clients to the cloud",
        "rare": f"FedAvg, long rounds, bytes as kappa {number}",
        "few": f"FedAvg, 5 sampled, bytes as kappa {number}",
        "alike": f"edges alike, kappa {number}",
        "skewed": f"edges skewed, kappa {number}",
    }[kind]


def goals(lines: dict[str, dict[str, Any]]) -> Goals:
    """What it should show."""
    made, base = Goals(), lines["fedavg"]
    mean = {name: line["mean"] for name, line in lines.items()}
    gap = max(abs(mean[f"{kind} 1"] - base["mean"]) for kind in ("alike", "skewed"))
    made.add("kappa 1 is FedAvg", f"{100 * gap:.2f} points apart", "at most 0.5", gap <= 0.005)
    loss, share = base["mean"] - mean["alike 5"], base["cloud"] / lines["alike 5"]["cloud"]
    got = f"{100 * loss:.2f} points for {share:.0f} times fewer bytes to the cloud"
    made.add("edges alike, kappa 5", got, "at most 1 point, 35 times", loss <= 0.01 and share >= 35)
    drop = mean["alike 10"] - mean["skewed 10"]
    made.add(
        "rare averaging costs skewed edges more (Liu et al.)",
        f"{100 * drop:.2f} points at kappa 10",
        "above 0",
        drop > 0,
    )
    for kind in ("alike", "skewed"):
        best = {k: max(mean[f"rare {k}"], mean[f"few {k}"]) for k in KAPPAS[:4]}
        better = [mean[f"{kind} {k}"] - best[k] for k in KAPPAS[:4]]
        got = ", ".join(f"{100 * b:+.1f}" for b in better) + " points at kappa 1, 2, 5, 10"
        made.add(
            f"edges {kind} beat either FedAvg of as many bytes", got, "all above 0", min(better) > 0
        )
    return made


def draw(lines: dict[str, dict[str, Any]], path: Path) -> None:
    """Accuracy against bytes to and from the cloud."""
    import altair as alt

    from hansa.report.charts import COLOURS, save_png

    kinds = {
        "alike": "edges alike",
        "skewed": "edges skewed",
        "rare": "FedAvg, long rounds",
        "few": "FedAvg, 5 sampled",
        "fedavg": "FedAvg, all clients",
    }
    rows = [
        {
            "what": kinds[name.split()[0]],
            "kappa": name.partition(" ")[2],
            "cloud": line["cloud"] / 1e6,
            "accuracy": 100 * line["mean"],
            "worst": 100 * line["worst"],
        }
        for name, line in lines.items()
    ]
    data = alt.Chart(alt.Data(values=rows))
    scale = alt.Scale(domain=list(kinds.values()), range=list(COLOURS[: len(kinds)]))
    x = alt.X("cloud:Q", scale=alt.Scale(type="log"), title="to and from the cloud (MB)")
    y = alt.Y("accuracy:Q", scale=alt.Scale(zero=False), title="accuracy (%)")
    colour = alt.Color("what:N", scale=scale, legend=alt.Legend(title=None, orient="bottom"))
    marks = data.mark_line(point=True).encode(x=x, y=y, color=colour)
    worst = data.mark_rule(opacity=0.5).encode(x=x, y=y, y2="worst:Q", color=colour)
    text = data.mark_text(dy=-9, fontSize=9).encode(x=x, y=y, text="kappa:N", color=colour)
    title = "Accuracy after 80 rounds; numbers: kappa; rules: down to the worst of three seeds"
    save_png((worst + marks + text).properties(width=560, height=300, title=title), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one seed, a few rounds")
    parser.add_argument("--notes", help="a file for what is done, to go on from if stopped")
    arguments = parser.parse_args()
    bench = Bench(Notes(arguments.notes), arguments.smoke)
    names = ["fedavg", *(f"{kind} {k}" for kind in ("alike", "skewed") for k in bench.kappas)]
    names += [f"{kind} {k}" for kind in ("rare", "few") for k in bench.kappas if k < bench.rounds]
    lines = {name: bench.line(name) for name in names}
    base = lines["fedavg"]
    rows = [
        [
            words(name),
            f"{line['rate']:g}",
            f"{100 * line['mean']:.2f}",
            f"{100 * line['worst']:.2f}",
            f"{line['cloud'] / 1e6:.2f}",
            f"{base['cloud'] / line['cloud']:.0f}",
            f"{(line['all'] - line['cloud'] * (line['all'] != line['cloud'])) / 1e6:.1f}",
        ]
        for name, line in lines.items()
    ]
    header = [
        "run", "rate", "accuracy, %", "worst seed", "to and from the cloud, MB",
        "times fewer than FedAvg", "of clients, MB",
    ]  # fmt: skip
    title = "Edge servers under a cloud: digits, 40 clients, 5 edges"
    text = markdown(title, "python benchmarks/federated/hierarchy.py", header, rows)
    text += (
        f"\nSeeds {', '.join(map(str, bench.seeds))}; each line's rate is the best of "
        f"{', '.join(f'{r:g}' for r in bench.rates)} on seed {TUNED}. All lines but those of 5 "
        "sampled take as many local steps. Of FedAvg alone every byte of clients goes to the "
        "cloud.\n"
    )
    if arguments.smoke:
        print(text)
        return
    draw(lines, RESULTS / "hierarchy.png")
    text += "\n![Accuracy against bytes](hierarchy.png)\n\n"
    reached = goals(lines)
    text += "\n".join(
        f"| {' | '.join(row)} |" for row in [reached.HEADER, ["---"] * 4, *reached.rows]
    )
    text += "\n"
    publish("hierarchy", text)


if __name__ == "__main__":
    main()
