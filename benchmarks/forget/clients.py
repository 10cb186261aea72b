"""Forgetting clients of the digits: how far each method ends from retraining, and two markers.

    python benchmarks/forget/clients.py            # 3 seeds, about 30 minutes on an idle core
    python benchmarks/forget/clients.py --smoke    # one seed, a few rounds

The run of digits.py, with the updates of every second round kept for FedEraser. Each of the 10
clients leaves in turn, from the same trained model, and is judged by its own training examples and
by the oracle of that very client: apart is |forget - oracle|, agree the share of these examples on
which both predict the same. Worst is the client with whom a method does worst, over all seeds.
Every method has the same budget of tuning, four settings of each, all tried on the first three
clients of a seed; "retrain, other batches" there is how far two oracles are from each other. Then,
in runs of their own, one client's examples of other classes than 0 carry a patch, half of them, and
the label 0, and ten of another's have random labels: either leaves, and what is left of its marker
is measured. A marker that the model never learned has no power to tell anything, and says so.
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
from measure_forgetting import Bench, Row, closest, figures, lines, mean, over, served, table

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Goals, Notes, markdown, publish

from hansa.base.streams import Streams
from hansa.data import marker_power
from hansa.experiment import RunFile, prepare, run
from hansa.forget import (
    Ascent,
    FedEraser,
    Forgetting,
    GradientAscent,
    ProjectedAscent,
    QuickDrop,
    RandomReal,
    Recovery,
    Request,
    Retrain,
)
from hansa.forget.trained import Trained, open_trained

SEEDS = 3
PUBLISHED = Recovery(rounds=2, steps=10)
METHODS: dict[str, Forgetting] = {
    "federaser": FedEraser(),
    "quickdrop": QuickDrop(),
    "random real": RandomReal(),
    "sga": GradientAscent(),
    "pgd": ProjectedAscent(),
}
ONE_ROUND = "quickdrop, 1 round of ascent"
TRIED_ON = 3
TRIED: dict[str, Forgetting] = {
    "federaser, a quarter of the steps": FedEraser(share=0.25),
    "federaser, all steps": FedEraser(share=1),
    "federaser, not calibrated": FedEraser(calibrate=False),
    "quickdrop, 2 x 10, half real": QuickDrop(real_share=0.5, recovery=PUBLISHED),
    ONE_ROUND: QuickDrop(ascent=Ascent(client_rounds=1)),
    "quickdrop, 3 rounds of ascent": QuickDrop(ascent=Ascent(client_rounds=3)),
    "sga, 2 x 10": GradientAscent(recovery=PUBLISHED),
    "sga, 4 x 10": GradientAscent(recovery=Recovery(rounds=4, steps=10)),
    "sga, 1 round of ascent": GradientAscent(ascent=Ascent(client_rounds=1)),
    "pgd, 10 x 2": ProjectedAscent(recovery=Recovery(rounds=10, steps=2, rechecks=0)),
    "pgd, 40 steps": ProjectedAscent(steps=40, until=2),
    "pgd, half the ball": ProjectedAscent(radius=1 / 6),
}
AGAIN = "retrain, other batches"
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


def leave(
    trained: Trained, client: int, methods: dict[str, Forgetting], again: int | None = None
) -> dict[str, Row]:
    """Figures of each method for one client, accuracies in percent.

    Args:
        again: the seed of a second oracle.
    """
    judge = Bench(trained.case(Request.of(clients=[client])))
    perfect, cost = served(judge, Retrain())
    found = {
        "before": figures(judge, judge.row, None, perfect),
        "retrain": figures(judge, perfect, cost, perfect),
    }
    if again is not None:
        job = replace(trained.job, streams=Streams(again))
        other = Bench(replace(judge.case, job=job))
        found[AGAIN] = figures(judge, *served(other, Retrain()), perfect)
    for name, method in methods.items():
        row, spent = served(judge, method)
        found[name] = figures(judge, row, spent, perfect)
    return found


def plain(seed: int, rounds: int, clients: int, smoke: bool) -> list[dict[str, Row]]:
    """Each client leaves in turn: the figures of each method, of the first clients all tried."""
    with tempfile.TemporaryDirectory() as place:
        folder = run(settings(seed, rounds), out=Path(place) / "run", report=False)
        trained = open_trained(folder.path)
        few = {"quickdrop": METHODS["quickdrop"]} if smoke else METHODS
        more = few if smoke else METHODS | TRIED
        found = [leave(trained, c, more, 1000 + seed) for c in range(min(TRIED_ON, clients))]
        found += [leave(trained, c, few) for c in range(TRIED_ON, clients)]
        return found


def marked(seed: int, rounds: int, methods: dict[str, Forgetting]) -> dict[str, Row]:
    """The client with the backdoor leaves, then, from the same model, that with the canaries."""
    chosen, backdoor, canaries = with_markers(seed, rounds)
    with tempfile.TemporaryDirectory() as place:
        folder = run(chosen, out=Path(place) / "run", report=False)
        trained = open_trained(folder.path)
        one, other = (leave(trained, client, methods) for client in (backdoor, canaries))
    found = {}
    for name in one:
        found[name] = mean([one[name], other[name]]) | {
            "backdoor": one[name]["backdoor"],
            "b_forget": one[name]["forget"],
            "canaries": other[name]["canaries"],
            "c_forget": other[name]["forget"],
        }
    return found


def goals(clients: dict[str, Row], tried: dict[str, Row], markers: dict[str, Row]) -> Goals:
    """What was wanted of QuickDrop."""
    found, ours, oracle = Goals(), clients["quickdrop"], clients["retrain"]
    ball, apart = clients["pgd"], ours["apart"]
    found.add("apart from the oracle, points", f"{apart:.1f}", "<= 5", apart <= 5)
    part = tried["quickdrop"]["apart"] / tried[ONE_ROUND]["apart"]
    found.add("apart, share of that of 1 round", f"{part:.2f}", "<= 0.5", part <= 0.5)
    part = apart / ball["apart"]
    found.add("apart, share of that of pgd", f"{part:.2f}", "< 1", part < 1)
    gap = oracle["retain"] - ours["retain"]
    found.add("retain below the oracle's, points", f"{gap:.2f}", "<= 1.5", gap <= 1.5)
    cheaper = oracle["gradients"] / ours["gradients"]
    found.add("sample gradients, retrain / ours", f"{cheaper:.0f}", "> 20", cheaper > 20)
    before, after, without = (markers[name] for name in ("before", "quickdrop", "retrain"))
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
    methods = {"quickdrop": METHODS["quickdrop"]} if smoke else METHODS
    with_marks, every, first = [], [], []
    for seed in range(1, seeds + 1):
        with_marks.append(
            notes.get(f"marked {seed}", lambda s=seed: marked(s, rounds, methods))  # type: ignore[misc]
        )
        found = notes.get(f"plain {seed}", lambda s=seed: plain(s, rounds, clients, smoke))  # type: ignore[misc]
        every += [{name: one[name] for name in ("before", "retrain", *methods)} for one in found]
        first += found[:TRIED_ON]
    whole, tried, markers = over(every), over(first), over(with_marks)
    command = "python benchmarks/forget/clients.py" + f" --seeds {seeds}" * (seeds != SEEDS)
    header = ["method", *CLIENTS]
    text = markdown("Forgetting clients of the digits", command, header, table(whole, CLIENTS))
    text += (
        f"\n{closest(whole, list(methods))}\n\nFour settings of each method, on the first "
        f"{TRIED_ON} clients of each seed; those of the library first:\n\n"
        + lines(header, table(tried, CLIENTS))
        + f"\n{closest(tried, [*methods, *TRIED])}\n"
        "\nMarked clients. backdoor: test examples of other classes that get the class of the "
        "pattern once they show it; canaries: wrong labels that are still given; b_forget and "
        "c_forget: accuracy on the rest of these clients' examples.\n\n"
        + lines(["method", *MARKED], [with_power(row, markers) for row in table(markers, MARKED)])
        + f"\n{seeds} seed(s), accuracies in percent.\n"
    )
    if not smoke:
        wanted = goals(whole, tried, markers)
        text += "\n" + lines(wanted.HEADER, wanted.rows)
    publish("forget_clients", text, smoke)


if __name__ == "__main__":
    main()
