"""A Byzantine client is forgotten: what that repairs, beside training again and robust means."""

from __future__ import annotations

import shutil
from typing import Any

from composing import Bench, Column, Composition, Figures, Goal

FILE = "quickdrop_byzantine.yaml"
SMALL = "rounds=2 checkpoint.every=2 evaluate.every=2 algorithm.keep_updates=1"
LIAR, HONEST = 0, 5
BACKDOOR = "data.markers=[{name: backdoor, clients: [0], share: 0.9, target: 0, size: 3}]"
ROBUST = "algorithm.aggregator={name: trimmed_mean, f: 1}"
ATTACKS = {"sign flip": (), "backdoor": ("attack=null", BACKDOOR)}
METHODS: dict[str, tuple[int, tuple[str, ...]]] = {
    "QuickDrop forgets it": (LIAR, ()),
    "QuickDrop forgets an honest client instead": (HONEST, ()),
    "QuickDrop, recovery of 40 rounds": (LIAR, ("--set", "recovery.rounds=40")),
    "FedEraser forgets it": (LIAR, ("--method", "federaser", "--set", "share=1")),
    "trained again without it": (LIAR, ("--method", "retrain")),
}
FORGOTTEN, INSTEAD, LONGER, ERASED, AGAIN = METHODS
MEAN, TRIMMED = "as trained", "trimmed mean, as trained"
CLEAN = "nobody attacks, as trained"


def measure(bench: Bench, seed: int) -> Figures:
    figures: Figures = {}

    def trained(line: str, *settings: str) -> Any:
        return bench.folder / bench.learn(FILE, line, seed, *settings, small=SMALL)["run_dir"]

    def forgotten(run: Any, name: str, client: int, words: tuple[str, ...]) -> dict[str, Any]:
        """A receipt, and what the run showed before; the run stays as it is."""
        copy = bench.folder / name
        shutil.copytree(run, copy)
        short = "" if "--method" in words else "recovery.rounds=1"
        return bench.hansa(
            "forget", copy, "--client", str(client), *words, small=short, statuses=(0, 1)
        )

    for attack, settings in ATTACKS.items():
        run = trained(f"{attack} mean", *settings)
        for number, (line, (client, words)) in enumerate(METHODS.items()):
            receipt = forgotten(run, f"{attack} {number}", client, words)
            total = receipt["cost"]["total"]
            before = _figures(receipt["figures"]["before"], 0, 0)
            if client == LIAR:
                figures.setdefault(f"{attack}: {MEAN}", before)
            figures[f"{attack}: {line}"] = _figures(
                receipt["figures"]["after"], total["sample_gradients"], total["bytes"]
            )
        robust = trained(f"{attack} robust", *settings, ROBUST)
        receipt = forgotten(robust, f"{attack} robust forgotten", LIAR, ())
        figures[f"{attack}: {TRIMMED}"] = _figures(receipt["figures"]["before"], 0, 0)
    clean = trained("clean", "attack=null")
    receipt = forgotten(clean, "clean forgotten", LIAR, ())
    figures[CLEAN] = _figures(receipt["figures"]["before"], 0, 0)
    first = f"sign flip: {FORGOTTEN}"
    return {first: figures.pop(first), **figures}


def _figures(shown: dict[str, float], gradients: float, sent: float) -> dict[str, float]:
    row = {"accuracy": 100 * shown["test"], "gradients": gradients / 1e3, "mb": sent / 1e6}
    return row | ({"backdoor": 100 * shown["backdoor"]} if "backdoor" in shown else {})


def _line(attack: str, line: str) -> str:
    return f"{attack}: {line}"


FLIP = {name: _line("sign flip", name) for name in (*METHODS, MEAN, TRIMMED)}
DOOR = {name: _line("backdoor", name) for name in (*METHODS, MEAN, TRIMMED)}

COMPOSITION = Composition(
    name="quickdrop_byzantine",
    title="QuickDrop after federated averaging with a Byzantine client",
    command=f"hansa learn examples/compositions/{FILE} --out runs/byzantine; "
    "hansa forget runs/byzantine --client 0",
    text="10 clients with skewed classes of digits, 40 rounds; one of them sends the opposite of "
    "its update, four times as long, or shows nine in ten of its images with a pattern and the "
    "label 0. Forgetting an honest client instead is the control: where it does as well, it is the "
    "steps of recovery that repair and not the forgetting. Gradients and bytes are those of "
    "forgetting.",
    columns={
        "accuracy": Column("accuracy, %"),
        "backdoor": Column("backdoor works, %", 1, max),
        "gradients": Column("thousand gradients", 1, max),
        "mb": Column("MB sent", 1, max),
    },
    measure=measure,
    goals=(
        Goal(
            "forgetting the client repairs what it sent",
            "within 2 points of training again, every seed",
            lambda m: (
                f"{m.gap(FLIP[FORGOTTEN], FLIP[AGAIN], 'accuracy').min():+.1f} points at worst",
                bool(m.gap(FLIP[FORGOTTEN], FLIP[AGAIN], "accuracy").min() >= -2),
            ),
        ),
        Goal(
            "more than forgetting an honest client instead does",
            "every seed",
            lambda m: (
                f"{m.gap(FLIP[FORGOTTEN], FLIP[INSTEAD], 'accuracy').min():+.1f} points at worst",
                bool(m.gap(FLIP[FORGOTTEN], FLIP[INSTEAD], "accuracy").min() > 0),
            ),
        ),
        Goal(
            "forgetting the client closes its backdoor",
            "within 5 points of training again, every seed",
            lambda m: (
                f"{m.gap(DOOR[FORGOTTEN], DOOR[AGAIN], 'backdoor').max():+.1f} points at worst",
                bool(m.gap(DOOR[FORGOTTEN], DOOR[AGAIN], "backdoor").max() <= 5),
            ),
        ),
        Goal(
            "FedEraser, which goes the way again, repairs both",
            "within 5 points of training again, every seed",
            lambda m: (
                f"{m.gap(FLIP[ERASED], FLIP[AGAIN], 'accuracy').min():+.1f} points of accuracy, "
                f"{m.gap(DOOR[ERASED], DOOR[AGAIN], 'backdoor').max():+.1f} of the backdoor",
                bool(m.gap(FLIP[ERASED], FLIP[AGAIN], "accuracy").min() >= -5)
                and bool(m.gap(DOOR[ERASED], DOOR[AGAIN], "backdoor").max() <= 5),
            ),
        ),
        Goal(
            "a robust mean leaves little to repair",
            "trimmed mean within 2 points of nobody attacking, every seed",
            lambda m: (
                f"{m.gap(FLIP[TRIMMED], CLEAN, 'accuracy').min():+.1f} points at worst",
                bool(m.gap(FLIP[TRIMMED], CLEAN, "accuracy").min() >= -2),
            ),
        ),
    ),
)
