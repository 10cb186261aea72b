"""Three requests in a row: does what was forgotten stay so, and what do the others lose?

    python benchmarks/forget/successive.py            # 3 seeds, about 8 minutes on a core
    python benchmarks/forget/successive.py --smoke    # one seed, a few rounds

The run of digits.py, with the updates of every second round kept. Three classes go one after the
other, each request from the model that the one before has left, and then, from the trained model
again, three clients. Requests 1, 2 and 3 are measured when they are served: *forget* is the mean
accuracy on all that was to be forgotten so far (classes: test examples; clients: their own), "worst
forget" that of the class or client of which most is left, *apart* how far the mean is from a model
retrained without all of them, gradients those of the request alone. Each method goes its own way
to the end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import clients
import torch
from measure_forgetting import Bench, Row, figures, lines, mean, over, served, table

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Notes, markdown, publish

from hansa.experiment import run
from hansa.forget import (
    FedEraser,
    Forgetting,
    GradientAscent,
    ProjectedAscent,
    QuickDrop,
    RandomReal,
    Request,
    Retrain,
)
from hansa.forget.case import Case
from hansa.forget.trained import Trained, open_trained

SEEDS, REQUESTS = 3, 3
METHODS: dict[str, dict[str, Forgetting]] = {
    "classes": {
        "quickdrop": QuickDrop(),
        "random real": RandomReal(),
        "sga": GradientAscent(),
    },
    "clients": {
        "federaser": FedEraser(),
        "quickdrop": QuickDrop(),
        "sga": GradientAscent(),
        "pgd": ProjectedAscent(),
    },
}
COLUMNS = (
    "forget", "worst forget", "apart", "worst apart", "retain", "worst retain", "gradients",
    "seconds",
)  # fmt: skip


def going(level: str, seed: int) -> list[Request]:
    """The three requests of a seed: items 3 apart, so that three seeds name nine of the ten."""
    return [Request.of(**{level: [(seed + 3 * k) % 10]}) for k in range(REQUESTS)]


def so_far(case: Case, past: Request) -> tuple[Bench, list[Bench]]:
    """(a judge of all that was to be forgotten until now, one of each class or client)."""
    level = "classes" if past.classes else "clients"
    parts = [Request.of(**{level: [item]}) for item in getattr(past, level)]
    every = Bench(replace(case, request=past, past=Request()))
    return every, [Bench(replace(case, request=p, past=past - p)) for p in parts]


def in_a_row(trained: Trained, level: str, seed: int, names: list[str]) -> dict[str, Row]:
    """Figures after each request, by ``request N, method``."""
    found: dict[str, Row] = {}
    first = trained.case(Request())
    rows = dict.fromkeys(names, trained.row)
    past = Request()
    for k, request in enumerate(going(level, seed), 1):
        here = replace(first, request=request, past=past, number=k)
        past = past | request
        perfect, cost = served(Bench(here), Retrain())
        judge, parts = so_far(first, past)
        for name in ("before", "retrain", *names):
            if name in rows:
                method = METHODS[level][name]
                rows[name], spent = served(Bench(here, rows[name]), method)
                row = figures(judge, rows[name], spent, perfect)
            else:
                model = perfect if name == "retrain" else trained.row
                row = figures(judge, model, cost if name == "retrain" else None, perfect)
            model = rows.get(name, perfect if name == "retrain" else trained.row)
            left = [100 * part.figures(model)["forget"] for part in parts]
            found[f"request {k}, {name}"] = mean([row]) | {"worst forget": max(left)}
    return found


def one_seed(seed: int, rounds: int, level: str, names: list[str]) -> dict[str, Row]:
    """A run, and the three requests of each method."""
    with tempfile.TemporaryDirectory() as place:
        folder = run(clients.settings(seed, rounds), out=Path(place) / "run", report=False)
        trained = open_trained(folder.path)
        return in_a_row(trained, level, seed, names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one seed, a few rounds")
    parser.add_argument("--notes", help="a file for what is done, to go on from if stopped")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the models are small
    smoke, notes = arguments.smoke, Notes(arguments.notes)
    seeds, rounds = (1, 2) if smoke else (arguments.seeds, 60)
    tables = {}
    for level, methods in METHODS.items():
        names = list(methods)[:1] if smoke else list(methods)
        runs = [
            notes.get(
                f"{level}, seed {seed}",
                lambda s=seed, at=level, n=names: one_seed(s, rounds, at, n),  # type: ignore[misc]
            )
            for seed in range(1, seeds + 1)
        ]
        tables[level] = table(over(runs), COLUMNS)
    command = "python benchmarks/forget/successive.py" + f" --seeds {seeds}" * (seeds != SEEDS)
    header = ["request, method", *COLUMNS]
    text = markdown("Three requests in a row, on digits", command, header, tables["classes"])
    text += (
        "\nThree clients, judged by their own training examples; the aim is 0 points apart:\n\n"
        + lines(header, tables["clients"])
        + f"\n{seeds} seed(s), {rounds} rounds; accuracies in percent, means over the seeds, and "
        "the worst of them. Above: three classes, whose accuracy is to be 0.\n"
    )
    publish("forget_successive", text, smoke)


if __name__ == "__main__":
    main()
