"""FlexMerge on real sentences: eight MiniLMs, each fine-tuned on a task, merged at every size.

    python benchmarks/combine/merge_sentences.py --encoder FOLDER --keep FOLDER
    python benchmarks/combine/merge_sentences.py --smoke    # four made-up tasks, a tiny encoder

Each task's sentences are scored by the nearest label text, embedded by the encoder before tuning:
the counterpart of CLIP's frozen text heads. The train sets hold no sentence of any test set. The
embeddings stay frozen, so all models share them; sizes here count the part that was trained, 8x
being all models apart. Training: 2,000 sentences a task, 2 epochs, AdamW at 1e-4, bfloat16. All
answers are computed in bfloat16. Accuracies are shares of the fine-tuned models'.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Goals, Notes, markdown, publish
from measure_sentences import Judge, encoder_folder, tasks_of, tuned_models

from hansa.combine.merge.algorithms.merging import MergingAlgorithm
from hansa.combine.merge.artefact import Artefact
from hansa.combine.merge.artefact_building import build_artefact
from hansa.combine.merge.crossings import crossings
from hansa.combine.merge.cut import cut
from hansa.combine.merge.merged_models import MergedModels
from hansa.models.fine_tuning import FineTuning
from hansa.weights.model_folder import ModelFolder

ALGORITHMS: dict[str, dict[str, Any]] = {
    "averaging": {"name": "averaging"},
    "TA 1.5": {"name": "task_arithmetic", "scale": 1.5},
    "TIES": {"name": "ties"},
    "DARE": {"name": "dare"},
    "PCB": {"name": "pcb"},
    "TSV-M": {"name": "tsv_m"},
    "Consensus": {"name": "consensus", "inner": {"name": "task_arithmetic", "scale": 1.5}},
    "TALL mask": {"name": "tall_mask", "inner": {"name": "task_arithmetic", "scale": 1.5}},
    "EMR": {"name": "emr"},
}
SIZES = (1.0, 2.0, 3.0, 5.0)
LEAST_GAIN = 5.0
"""Points that fine-tuning has to gain: where it gains less, a curve shows nothing."""


class Merging:
    """The merged models of a seed and what they get right."""

    def __init__(self, artefact: Artefact, judge: Judge, place: Path) -> None:
        self.artefact, self.judge, self.place = artefact, judge, place
        # What all models share from the start is no part of a size.
        self.shared = sum(
            layout.size.bytes
            for layout, versions in zip(artefact.layouts, artefact.versions, strict=True)
            if len(set(versions)) == 1
        )
        self.trained = artefact.unit - self.shared

    def whole(self, size: float) -> float:
        """A size of the trained part, in whole models."""
        return (self.shared + size * self.trained) / self.artefact.unit

    def least(self, algorithm: str) -> float:
        """The smallest size of the trained part."""
        sizes = self.artefact.sizes(algorithm)
        return (sizes.least * self.artefact.unit - self.shared) / self.trained

    def measured(self, algorithm: str, size: float, order: str = "greedy") -> dict[str, Any]:
        """A row: accuracy by task at a size."""
        file = self.place / "cut.safetensors"
        made = cut(self.artefact, algorithm, file, size=self.whole(size) + 1e-9, order=order)
        merged = MergedModels.open(file)
        accuracy = {
            task: self.judge.accuracy(task, merged.state_dict(task)) for task in merged.names
        }
        file.unlink()
        got = (made.payload - self.shared) / self.trained
        return {"algorithm": algorithm, "size": size, "got": got, "order": order} | {
            "bytes": made.bytes,
            "accuracy": accuracy,
            "loss": made.loss,
        }


def seed_results(seed: int, base: Path, keep: Path, smoke: bool, notes: Notes) -> dict[str, Any]:
    """All rows of a seed."""
    pool = tasks_of(seed, smoke, train=2000, test=200)
    print(pool.story(), flush=True)
    settings = FineTuning(epochs=2, lr=1e-4, bfloat16=True, seed=seed)
    if smoke:
        settings = FineTuning(epochs=6, lr=3e-3, seed=seed)
    folders = tuned_models(base, pool, keep / f"seed_{seed}", settings)
    judge = Judge(base, pool)
    algorithms = {
        label: MergingAlgorithm.resolve(dict(said))
        for label, said in ALGORITHMS.items()
        if not smoke or label in ("averaging", "TA 1.5", "TIES", "EMR")
    }
    labels = {label.replace(" ", "_"): algorithm for label, algorithm in algorithms.items()}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        models = [ModelFolder.open(path) for path in folders.values()]
        ground, place = ModelFolder.open(base), Path(folder)
        # Losses choose by the knapsack; TSV-M's would take an SVD for every group there may be.
        artefact = build_artefact(models, ground, place / "all", labels, losses=False)
        building = time.process_time() - began
        averaging = {"averaging": labels["averaging"]}
        began = time.process_time()
        weighed = build_artefact(models, ground, place / "averaging", averaging)
        alone = time.process_time() - began
        merging, ordered = Merging(artefact, judge, place), Merging(weighed, judge, place)
        states = MergedModels.state_dict

        def ends() -> dict[str, dict[str, float]]:
            whole = Path(folder) / "whole.safetensors"
            cut(artefact, "averaging", whole, size=float(len(folders)))
            apart = MergedModels.open(whole)
            before = {t: judge.accuracy(t, ModelStates(base)) for t in folders}
            after = {t: judge.accuracy(t, states(apart, t)) for t in folders}
            for task, path in folders.items():  # all apart: every model as it was
                assert judge.accuracy(task, ModelStates(path)) == after[task]
            return {"zero": before, "tuned": after}

        both = notes.get(f"ends {seed}", ends)
        gain = mean(both["tuned"]) - mean(both["zero"])
        if gain < LEAST_GAIN and not smoke:
            raise SystemExit(f"fine-tuning gains {gain:.1f} points: no curve would show anything")
        for label in labels:
            least = merging.least(label)
            for size in sorted({max(size, least) for size in SIZES if size < len(folders)}):
                name = f"{seed} {label} {size:.4f}"
                rows.append(notes.get(name, lambda a=label, s=size: merging.measured(a, s)))
        for order in ("knapsack", "left_right"):
            for size in (1.5, 2.0, 3.0):
                name = f"{seed} averaging {size} {order}"
                rows.append(
                    notes.get(name, lambda s=size, o=order: ordered.measured("averaging", s, o))
                )
        rows.append(notes.get(f"{seed} averaging 1.5", lambda: merging.measured("averaging", 1.5)))
        pairs = notes.get(f"pairs {seed}", lambda: related_first(artefact, list(folders)))
    cost = {"all": building, "averaging": alone}
    return {"rows": rows, "building": cost, "pairs": pairs, **both, "names": list(folders)}


def ModelStates(path: Path) -> dict[str, Any]:
    """All tensors of a model on disk."""
    folder = ModelFolder.open(path)
    return {name: folder.read(name) for name in folder.entries}


def related_first(artefact: Artefact, names: Sequence[str]) -> dict[str, int]:
    """In how many blocks film reviews are one group before questions and news are."""
    films = [names.index(n) for n in ("sst2", "sst5", "mr") if n in names]
    others = [names.index(n) for n in ("trec", "agnews") if n in names]
    blocks = earlier = 0
    for number, versions in enumerate(artefact.versions):
        if len(set(versions)) < len(names):
            continue
        blocks += 1
        stages = artefact.dendrogram("averaging", number).stages

        def joined(models: Sequence[int], stages: Any = stages, versions: Any = versions) -> int:
            wanted = {versions[m] for m in models}
            return next(k for k, s in enumerate(stages) if any(wanted <= set(g) for g in s))

        if films and others:
            earlier += joined(films) < joined(others)
    return {"blocks": blocks, "earlier": earlier}


def mean(scores: Mapping[str, float]) -> float:
    return statistics.mean(scores.values())


def shares(row: Mapping[str, Any], tuned: Mapping[str, float]) -> list[float]:
    """Percent of the fine-tuned models' accuracy, by task."""
    return [100 * row["accuracy"][task] / tuned[task] for task in tuned]


def tables(results: Sequence[Mapping[str, Any]], smoke: bool) -> tuple[Goals, list[str]]:
    """What was wanted, and the tables."""
    cells: dict[tuple[str, float, str], list[list[float]]] = {}
    for result in results:
        for row in result["rows"]:
            key = (row["algorithm"], round(row["size"], 2), row["order"])
            cells.setdefault(key, []).append(shares(row, result["tuned"]))
    curve = [
        {
            "algorithm": algorithm,
            "size": size,
            "accuracy": statistics.mean(statistics.mean(s) for s in scores),
            "worst": statistics.mean(min(s) for s in scores),
            "spread": [statistics.mean(s) for s in scores],
            "order": order,
        }
        for (algorithm, size, order), scores in cells.items()
    ]
    greedy = [row for row in curve if row["order"] == "greedy"]
    at = {(row["algorithm"], row["size"]): row["accuracy"] for row in greedy}
    plain = [n for n in dict.fromkeys(r["algorithm"] for r in greedy) if (n, 1.0) in at]
    most = len(results[0]["names"])
    goals = Goals()
    for name in plain:
        line = [at[name, size] for size in SIZES if (name, size) in at]
        goals.add(
            f"{name} at 1x, 2x, 3x, 5x: rises",
            ", ".join(f"{x:.1f}" for x in line),
            "rising",
            all(a < b for a, b in itertools.pairwise(line)),
        )
    first, second, third = (at["averaging", size] for size in (1.0, 2.0, 3.0))
    goals.add(
        "averaging gains more from 1x to 2x than from 2x to 3x",
        f"{second - first:.1f} and {third - second:.1f} points",
        "more",
        second - first > third - second,
    )
    emr = min(size for name, size in at if name == "EMR")
    goals.add(
        f"EMR at its minimum ({emr:g}x) above averaging at 2x",
        f"{at['EMR', emr]:.1f} and {second:.1f}",
        "above",
        at["EMR", emr] > second,
    )
    for name in ("TIES", "TA_1.5"):
        value = at[name, 1.0]
        goals.add(
            f"{name} above averaging at 1x", f"{value:.1f} and {first:.1f}", "above", value > first
        )
    if not smoke:
        for result in results:
            pairs = result["pairs"]
            goals.add(
                "blocks in which SST-2, SST-5 and MR are one before TREC and AG News are",
                f"{pairs['earlier']} of {pairs['blocks']}",
                "most",
                2 * pairs["earlier"] > pairs["blocks"],
            )
    for what, said in (
        ("averaging", "averaging, losses of all merges measured"),
        ("all", f"{len(plain)} plain algorithms and masked ones, no losses"),
    ):
        cost = statistics.mean(r["building"][what] for r in results)
        goals.add(f"the artefact of all sizes: {said}", f"{cost:.1f} CPU-s")
    text = [size_table(greedy, most)]
    changes = crossings([r for r in greedy if r["size"] in SIZES], margin=0.0 if smoke else 0.25)
    said = [f"{c.ahead} passes {c.behind} at {c.size:.1f}x" for c in changes]
    text.append(f"Rankings that cross: {'; '.join(said) or 'none'}.\n")
    orders = sorted({(row["size"], row["order"]) for row in curve if row["order"] != "greedy"})
    rows = []
    for size in sorted({size for size, _ in orders}):
        of = {r["order"]: r for r in curve if (r["algorithm"], r["size"]) == ("averaging", size)}
        rows.append(
            [f"{size:g}x"]
            + [f"{of[o]['accuracy']:.1f} ({of[o]['worst']:.1f})" for o in ORDERS if o in of]
        )
    text.append(table([f"averaging; mean (worst task): {o}" for o in ORDERS], rows, "size"))
    names = results[0]["names"]
    text.append(
        table(
            names,
            [
                [label] + [f"{statistics.mean(r[key][n] for r in results):.1f}" for n in names]
                for label, key in (("before tuning", "zero"), ("fine-tuned", "tuned"))
            ],
            "percent right",
        )
    )
    return goals, text


ORDERS = ("greedy", "knapsack", "left_right")


def size_table(greedy: Sequence[Mapping[str, Any]], most: int) -> str:
    """Mean and worst task of every algorithm by size."""
    columns: list[float] = [*SIZES]
    rows = []
    for name in dict.fromkeys(row["algorithm"] for row in greedy):
        of = {row["size"]: row for row in greedy if row["algorithm"] == name}
        least = min(of)
        cells = []
        for size in columns:
            place = size if size in of else least if size < least < size + 1 else None
            if place is None:
                cells.append("")
                continue
            row = of[place]
            spread = f" ± {statistics.stdev(row['spread']):.1f}" if len(row["spread"]) > 1 else ""
            where = "" if place == size else f"at {place:g}x: "
            cells.append(f"{where}{row['accuracy']:.1f}{spread} ({row['worst']:.1f})")
        rows.append([name.replace("_", " "), *cells, "100 (100)"])
    return table([*(f"{size:g}x" for size in columns), f"{most}x"], rows, "mean (worst task)")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], first: str) -> str:
    """Markdown."""
    lines = ["| " + " | ".join([first, *header]) + " |", "|" + "---|" * (len(header) + 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="made-up tasks, a tiny encoder")
    parser.add_argument("--encoder", type=Path, help="MiniLM's folder; not set: the package's")
    parser.add_argument("--keep", type=Path, help="where tuned models and notes stay")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        keep = Path(place) if given.smoke or given.keep is None else given.keep
        keep.mkdir(parents=True, exist_ok=True)
        base = encoder_folder(given.encoder, given.smoke, keep)
        notes = Notes(None if given.smoke else keep / "notes.jsonl")
        seeds = [0] if given.smoke else list(range(given.seeds))
        results = [seed_results(seed, base, keep, given.smoke, notes) for seed in seeds]
    goals, text = tables(results, given.smoke)
    title = f"FlexMerge on eight sentence tasks: percent of fine-tuned, MiniLM, {len(seeds)} seeds"
    command = "python benchmarks/combine/merge_sentences.py --encoder FOLDER --keep FOLDER"
    whole = markdown(title, command, goals.HEADER, goals.rows) + "\n" + "\n".join(text)
    publish("merge_sentences", whole, given.smoke)


if __name__ == "__main__":
    main()
