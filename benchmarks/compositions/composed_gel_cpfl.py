"""GeL's guessed steps in CPFL's cohorts, under a deadline, on devices that come and go."""

from __future__ import annotations

from composing import Bench, Column, Composition, Figures, Goal, ahead, percent

FILE = "gel_cpfl_devices.yaml"
SMALL = "rounds=2 evaluate.every=2 algorithm.distillation.epochs=1"
WAIT = ("algorithm.deadline=null", "train.budget=full", "train.optimizer.guesses=0")
LINES: dict[str, tuple[str, ...]] = {
    "GeL, CPFL, deadline": (),
    "the same without guesses": ("train.optimizer.guesses=0",),
    "CPFL, deadline, all steps asked": ("train.budget=full", "train.optimizer.guesses=0"),
    "CPFL, no deadline": WAIT,
    "FedAvg (one cohort), GeL, deadline": ("algorithm.cohorts=1", "algorithm.sampled=20"),
}
FIRST, UNGUESSED, LATE, PATIENT, ONE = LINES
SAME = "CPFL, no deadline, as many seconds"


def measure(bench: Bench, seed: int) -> Figures:
    figures = {
        line: _figures(bench.learn(FILE, line, seed, *settings, small=SMALL))
        for line, settings in LINES.items()
    }
    share = figures[FIRST]["seconds"] / figures[PATIENT]["seconds"]
    rounds = max(1, round(figures[PATIENT]["rounds"] * share))
    settings = (*WAIT, f"rounds={rounds}", f"evaluate.every={rounds}")
    figures[SAME] = _figures(bench.learn(FILE, SAME, seed, *settings, small=SMALL))
    return figures


def _figures(answer: dict) -> dict[str, float]:
    return {
        "accuracy": percent(answer),
        "rounds": answer["rounds"],
        "seconds": answer["modelled_seconds"],
        "mb": answer["bytes_sent"] / 1e6,
        "joules": answer["energy_joules"] / 1e3,
    }


def _above(other: str, least: float) -> Goal:
    words = "is above" if not least else "is not below"
    wanted = "every seed" if not least else f"by {-least:.0f} points at most, every seed"
    return ahead(f"{words} {other}", wanted, FIRST, other, least)


COMPOSITION = Composition(
    name="gel_cpfl_devices",
    title="GeL in CPFL's cohorts, under a deadline, on devices that come and go",
    command=f"hansa learn examples/compositions/{FILE}",
    text="Digits, 40 clients (Dirichlet 0.1) in 4 cohorts, 337 public digits, 7 invited and 5 "
    "wanted in each cohort, a deadline of 15 modelled seconds. A client takes the steps that fit "
    "into 12 seconds, of 10, and guesses 10 more.",
    columns={
        "accuracy": Column("accuracy, %"),
        "rounds": Column("rounds", 0),
        "seconds": Column("modelled seconds", 0, max),
        "mb": Column("MB sent", 1, max),
        "joules": Column("energy, kJ", 0, max),
    },
    measure=measure,
    goals=(
        _above(UNGUESSED, 0),
        _above(LATE, 0),
        _above(SAME, 0),
        _above(PATIENT, -2),
        _above(ONE, 0),
    ),
)
