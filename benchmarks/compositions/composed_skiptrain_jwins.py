"""JWINS on SkipTrain's rounds, over shaped links on which one message in ten is lost."""

from __future__ import annotations

from composing import Bench, Column, Composition, Figures, Goal, percent

FILE = "skiptrain_jwins_links.yaml"
SKIPTRAIN = "{name: skiptrain, train_rounds: 4, sync_rounds: 4, algorithm: dpsgd}"
SMALL = "rounds=2 nodes=6 evaluate.every=2"
LINES = {
    "JWINS on SkipTrain, 10 % lost": (),
    "the same, nothing lost": ("faults=null",),
    "SkipTrain alone, 10 % lost": (f"algorithm={SKIPTRAIN}",),
    "JWINS alone, 10 % lost": ("algorithm=jwins",),
    "D-PSGD, 10 % lost": ("algorithm=dpsgd",),
    "D-PSGD, 40 rounds, 10 % lost": ("algorithm=dpsgd", "rounds=40"),
}
FIRST, WHOLE, SKIP, WAVES, PLAIN, HALF = LINES


def measure(bench: Bench, seed: int) -> Figures:
    figures: Figures = {}
    for line, settings in LINES.items():
        answer = bench.learn(FILE, line, seed, *settings, small=SMALL)
        figures[line] = {
            "accuracy": percent(answer),
            "mb": answer["bytes_sent"] / 1e6,
            "joules": answer["energy_joules"],
            "seconds": answer["modelled_seconds"],
            "lost": answer["faults"]["lost"],
        }
    return figures


COMPOSITION = Composition(
    name="skiptrain_jwins_links",
    title="JWINS on SkipTrain's rounds, shaped links, one message in ten lost",
    command=f"hansa learn examples/compositions/{FILE}",
    text="16 nodes with two classes or so of digits each, 80 rounds, links of 200 kB/s and 50 ms. "
    "Energy and seconds are those of the modelled phones. D-PSGD with half of the rounds has the "
    "composition's energy.",
    columns={
        "accuracy": Column("accuracy, %"),
        "mb": Column("MB sent", 1, max),
        "joules": Column("energy, J", 1, max),
        "seconds": Column("modelled seconds", 1, max),
        "lost": Column("messages lost", 0, max),
    },
    measure=measure,
    goals=(
        Goal(
            "loses little by the messages that do not come",
            "at most 2 points, every seed",
            lambda m: (
                f"{-m.gap(FIRST, WHOLE, 'accuracy').min():.1f}",
                bool(m.gap(FIRST, WHOLE, "accuracy").min() >= -2),
            ),
        ),
        Goal(
            "is better than D-PSGD at its energy, with fewer bytes",
            "every seed",
            lambda m: (
                f"{m.gap(FIRST, HALF, 'accuracy').min():+.1f} points, "
                f"{m.mean(FIRST, 'mb') / m.mean(HALF, 'mb'):.2f} of the bytes",
                bool(m.gap(FIRST, HALF, "accuracy").min() > 0)
                and bool(m.gap(FIRST, HALF, "mb").max() < 0),
            ),
        ),
        Goal(
            "sends as much less than SkipTrain as JWINS than D-PSGD",
            "ratios within 2 %",
            lambda m: _ratios(
                m.mean(FIRST, "mb") / m.mean(SKIP, "mb"), m.mean(WAVES, "mb") / m.mean(PLAIN, "mb")
            ),
        ),
        Goal(
            "spends as much less energy than JWINS as SkipTrain than D-PSGD",
            "ratios within 2 %",
            lambda m: _ratios(
                m.mean(FIRST, "joules") / m.mean(WAVES, "joules"),
                m.mean(SKIP, "joules") / m.mean(PLAIN, "joules"),
            ),
        ),
    ),
)


def _ratios(ours: float, theirs: float) -> tuple[str, bool]:
    return f"{ours:.3f} and {theirs:.3f}", abs(ours / theirs - 1) <= 0.02
