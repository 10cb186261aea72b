"""Forgetting clients of the digits: how far each method ends from retraining, and two markers.

    python benchmarks/forget/clients.py            # 3 seeds, about 25 minutes
    python benchmarks/forget/clients.py --smoke    # one seed, a few rounds

The run of digits.py, with the updates of every second round kept for FedEraser. Each of the 10
clients leaves in turn, from the same trained model, and is judged by its own training examples and
by the oracle of that very client: apart is |forget - oracle|, agree the share of these examples on
which both predict the same; "retrain, other batches" is how far two oracles are from each other.
Worst is the client with whom a method does worst, over all seeds. "until foretold" is QuickDrop's
default: the ascent ends at the loss that is foretold from what the others hold. Then, in runs of
their own, one client's examples of other classes than 0 carry a patch, half of them, and the label
0, and ten of another's have random labels: either leaves, and what is left of its marker is
measured. A marker that the model never learned has no power to tell anything, and says so.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import digits
import numpy as np
import torch
from measure_forgetting import Row, closest, figures, lines, mean, over, served, table

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Goals, Notes, markdown, publish

from hansa.base.streams import Streams
from hansa.data import marker_power
from hansa.experiment import RunFile, prepare, run
from hansa.experiment.trained import Trained, open_trained
from hansa.forget import (
    Ascent,
    FedEraser,
    Forgetting,
    GradientAscent,
    Judge,
    ProjectedAscent,
    QuickDrop,
    RandomReal,
    Recovery,
    Request,
    Retrain,
)

SEEDS = 3
PUBLISHED, SHORT = Recovery(rounds=2, steps=10), Recovery(rounds=10, steps=2, rechecks=0)
METHODS: dict[str, Forgetting] = {
    "federaser": FedEraser(),
    "federaser, all local steps": FedEraser(share=1),
    "federaser, without calibration": FedEraser(calibrate=False),
    "quickdrop, until foretold": QuickDrop(),
    "quickdrop, until foretold, published recovery": QuickDrop(real_share=0.5, recovery=PUBLISHED),
    "quickdrop, 1 round": QuickDrop(ascent=Ascent(client_rounds=1)),
    "quickdrop, 3 rounds": QuickDrop(ascent=Ascent(client_rounds=3)),
    "random real, until foretold": RandomReal(),
    "sga, until foretold": GradientAscent(),
    "sga, until foretold, 2 x 10": GradientAscent(recovery=PUBLISHED),
    "sga, until foretold, 4 x 10": GradientAscent(recovery=Recovery(rounds=4, steps=10)),
    "sga, 1 round": GradientAscent(ascent=Ascent(client_rounds=1)),
    "pgd": ProjectedAscent(),
    "pgd, recovery of 10 x 2": ProjectedAscent(recovery=SHORT),
}
DEFAULT = "quickdrop, until foretold"
CLIENTS = ("forget", "apart", "worst apart", "agree", "retain", "worst retain", "test", "auc",
           "gradients", "checks", "bytes", "seconds")  # fmt: skip
MARKED = ("backdoor", "b_forget", "canaries", "c_forget", "retain", "test", "gradients")
NO_POWER = "no power"


def settings(seed: int, rounds: int) -> dict[str, Any]:
    """The run of digits.py that is to forget, the server keeping updates."""
    return digits.settings(seed, rounds) | {"algorithm": {"name": "quickdrop", "keep_updates": 2}}


def with_markers(seed: int, rounds: int) -> tuple[dict[str, Any], int, int]:
    """(settings with markers, the client with the backdoor, the client with the canaries).

    They are the third and the fourth by size, so that there is something to see.
    """
    chosen = settings(seed, rounds)
    sizes = np.array([len(part) for part in prepare(RunFile.parse(chosen)).parts])
    backdoor, canaries = np.argsort(-sizes, kind="stable")[2:4].tolist()
    chosen["data"]["markers"] = [
        {"name": "backdoor", "clients": [backdoor], "target": 0, "share": 0.5},
        {"name": "canaries", "clients": [canaries], "count": 10},
    ]
    return chosen, backdoor, canaries


def leave(trained: Trained, client: int, methods: dict[str, Forgetting]) -> dict[str, Row]:
    """Figures of each method for one client, accuracies in percent."""
    federation = trained.federation(Request.of(clients=[client]))
    judge = Judge(federation)
    perfect, cost = served(federation, Retrain())
    found = {
        "before": figures(judge, federation.row, None, perfect),
        "retrain": figures(judge, perfect, cost, perfect),
    }
    for name, method in methods.items():
        row, spent = served(federation, method)
        found[name] = figures(judge, row, spent, perfect)
    return found


def plain(seed: int, rounds: int, clients: int, methods: dict[str, Forgetting]) -> dict[str, Row]:
    """Each client leaves in turn: mean figures of each method."""
    with tempfile.TemporaryDirectory() as place:
        folder = run(settings(seed, rounds), out=Path(place) / "run", report=False)
        trained = open_trained(folder.path)
        found = over([leave(trained, client, methods) for client in range(clients)])
        trained.block.trainer.close()
        return found


def chance(seed: int, rounds: int, clients: int) -> Row:
    """How far two oracles are apart that draw other batches: what no method can be better than."""
    found = []
    with tempfile.TemporaryDirectory() as place:
        folder = run(settings(seed, rounds), out=Path(place) / "run", report=False)
        trained = open_trained(folder.path)
        for client in range(clients):
            federation = trained.federation(Request.of(clients=[client]))
            judge = Judge(federation)
            perfect, _ = Retrain().forget(federation)
            other = trained.federation(Request.of(clients=[client]))
            other.job = replace(other.job, streams=Streams(1000 + seed))
            row, cost = served(other, Retrain())
            found.append(figures(judge, row, cost, perfect))
        trained.block.trainer.close()
    return mean(found)


def marked(seed: int, rounds: int, methods: dict[str, Forgetting]) -> dict[str, Row]:
    """The client with the backdoor leaves, then, from the same model, that with the canaries."""
    chosen, backdoor, canaries = with_markers(seed, rounds)
    with tempfile.TemporaryDirectory() as place:
        folder = run(chosen, out=Path(place) / "run", report=False)
        trained = open_trained(folder.path)
        one, other = (leave(trained, client, methods) for client in (backdoor, canaries))
        trained.block.trainer.close()
    found = {}
    for name in one:
        found[name] = mean([one[name], other[name]]) | {
            "backdoor": one[name]["backdoor"],
            "b_forget": one[name]["forget"],
            "canaries": other[name]["canaries"],
            "c_forget": other[name]["forget"],
        }
    return found


def goals(clients: dict[str, Row], markers: dict[str, Row]) -> Goals:
    """What was wanted of the default."""
    found, ours, oracle = Goals(), clients[DEFAULT], clients["retrain"]
    once, ball = clients["quickdrop, 1 round"], clients["pgd"]
    apart = ours["apart"]
    found.add("apart from the oracle, points", f"{apart:.1f}", "<= 5", apart <= 5)
    part = apart / once["apart"]
    found.add("apart, share of that of 1 round", f"{part:.2f}", "<= 0.5", part <= 0.5)
    part = apart / ball["apart"]
    found.add("apart, share of that of pgd", f"{part:.2f}", "< 1", part < 1)
    gap = oracle["retain"] - ours["retain"]
    found.add("retain below the oracle's, points", f"{gap:.2f}", "<= 1.5", gap <= 1.5)
    cheaper = oracle["gradients"] / ours["gradients"]
    found.add("sample gradients, retrain / ours", f"{cheaper:.0f}", "> 20", cheaper > 20)
    before, after, without = (markers[name] for name in ("before", DEFAULT, "retrain"))
    for name in ("backdoor", "canaries"):
        power = marker_power(before[name] / 100, without[name] / 100)
        above = after[name] - without[name]
        verdict = above <= 10 if power else NO_POWER
        found.add(f"{name} above the oracle's after it", f"{above:.1f}", "<= 10", verdict)
    return found


def with_power(cells: list[str], markers: dict[str, Row]) -> list[str]:
    """A row of the table of markers; where a marker has no power its figures are none."""
    found = list(cells)
    for name in ("backdoor", "canaries"):
        if not marker_power(markers["before"][name] / 100, markers["retrain"][name] / 100):
            found[1 + MARKED.index(name)] = NO_POWER
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one seed, a few rounds")
    parser.add_argument("--notes", help="a file for what is done, to go on from if stopped")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the models are small
    smoke, notes = arguments.smoke, Notes(arguments.notes)
    seeds, rounds, clients = (1, 2, 1) if smoke else (arguments.seeds, 60, 10)
    methods = {DEFAULT: METHODS[DEFAULT]} if smoke else METHODS
    with_marks, without, by_chance = [], [], []
    for seed in range(1, seeds + 1):
        with_marks.append(
            notes.get(f"marked {seed}", lambda s=seed: marked(s, rounds, methods))  # type: ignore[misc]
        )
        without.append(
            notes.get(f"plain {seed}", lambda s=seed: plain(s, rounds, clients, methods))  # type: ignore[misc]
        )
        by_chance.append(
            notes.get(f"chance {seed}", lambda s=seed: chance(s, rounds, clients))  # type: ignore[misc]
        )
    found, markers = over(without), over(with_marks)
    found["retrain, other batches"] = mean(by_chance)
    command = "python benchmarks/forget/clients.py" + f" --seeds {seeds}" * (seeds != SEEDS)
    text = markdown(
        "Forgetting clients of the digits", command, ["method", *CLIENTS], table(found, CLIENTS)
    )
    text += (
        "\nMarked clients. backdoor: test examples of other classes that get the class of the "
        "pattern once they show it; canaries: wrong labels that are still given; b_forget and "
        "c_forget: accuracy on the rest of these clients' examples.\n\n"
        + lines(["method", *MARKED], [with_power(row, markers) for row in table(markers, MARKED)])
        + f"\n{closest(found, list(methods))}\n"
        f"\n{seeds} seed(s), accuracies in percent.\n"
    )
    if not smoke:
        wanted = goals(found, markers)
        text += "\n" + lines(wanted.HEADER, wanted.rows)
    publish("forget_clients", text, smoke)


if __name__ == "__main__":
    main()
