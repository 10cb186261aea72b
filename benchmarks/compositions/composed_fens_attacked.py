"""FENS over robust aggregators, a fifth of whose clients lie in both phases."""

from __future__ import annotations

from composing import EXAMPLES, Bench, Column, Composition, Figures, ahead, percent

FILE = EXAMPLES / "fens_attacked.yaml"
MEAN, HONEST = "aggregate.aggregator=mean", "attack=null"
LIARS = "without=[0,5,10,15]"
LINES: dict[str, tuple[str, ...]] = {
    "FENS, NNM and trimmed mean, attacked": (),
    "FENS with the mean, attacked": (MEAN,),
    "FENS with the mean, nobody lies": (MEAN, HONEST),
    "FENS, NNM and trimmed mean, nobody lies": (HONEST,),
    "FENS with the mean, liars left out": (MEAN, HONEST, LIARS),
}
FIRST, BROKEN, PLAIN, ROBUST, WITHOUT = LINES
ANSWERS, AVERAGE = "trimmed mean of answers, attacked", "mean of answers, attacked"
FEDAVG = "FedAvg, NNM and trimmed mean, attacked, as many bytes"
SMALL = "local.epochs=1 aggregate.rounds=2 aggregate.every=2"
FEDERATED = (
    "nodes=20",
    "data={name: digits, partition: {name: dirichlet, alpha: 0.3, draw: class, min_samples: 10}}",
    "algorithm.aggregator={name: nnm, f: 4, then: {name: trimmed_mean, f: 4}}",
    "algorithm.weighting=uniform",
    "attack={name: sign_flip, nodes: [0, 5, 10, 15], scale: 10}",
    "train={local_epochs: 2, batch_size: 16, drop_last: false, optimizer: {name: sgd, lr: 0.05}}",
)


def measure(bench: Bench, seed: int) -> Figures:
    figures: Figures = {}
    for k, (line, settings) in enumerate(LINES.items()):
        pairs = [word for pair in settings for word in ("--set", pair)]
        words = ["combine", "ensemble", FILE, "--seed", str(seed), "--out", bench.folder / str(k)]
        answer = bench.hansa(*words, *pairs, "--no-report", small=SMALL)
        figures[line] = {"accuracy": 100 * answer["accuracy"], "mb": answer["bytes_sent"] / 1e6}
        if line == FIRST:
            for name, rule in (ANSWERS, "robust"), (AVERAGE, "average"):
                figures[name] = {"accuracy": 100 * answer["rules"][rule]}
    # One round tells what a round costs; then as many as the composition's bytes pay for.
    words = ["learn", "fedavg", "--seed", str(seed), "--no-report"]
    pairs = [word for pair in FEDERATED for word in ("--set", pair)]
    once = bench.hansa(*words, *pairs, "--set", "rounds=1", "--out", bench.folder / "once")
    rounds = 1 if bench.smoke else int(figures[FIRST]["mb"] * 1e6 // once["bytes_sent"])
    settings = ("--set", f"rounds={rounds}", "--set", f"evaluate.every={rounds}")
    answer = bench.hansa(*words, *pairs, *settings, "--out", bench.folder / "fedavg")
    figures[FEDAVG] = {"accuracy": percent(answer), "mb": answer["bytes_sent"] / 1e6}
    return figures


COMPOSITION = Composition(
    name="fens_attacked",
    title="FENS over robust aggregators, four of twenty clients lie",
    command="hansa combine ensemble examples/compositions/fens_attacked.yaml",
    text="Digits, Dirichlet 0.3. Liars upload the opposite of their model, ten times as large, and "
    "send such updates while one weight a member and class is learned (`per_class`).",
    columns={"accuracy": Column("accuracy, %"), "mb": Column("MB sent", 1, max)},
    measure=measure,
    goals=(
        ahead(
            "loses little to an ensemble that knew the liars",
            "at most 3 points",
            FIRST,
            WITHOUT,
            -3,
        ),
        ahead(
            "is far above the same with means", "at least 20 points, every seed", FIRST, BROKEN, 20
        ),
        ahead("is above a trimmed mean of answers, not learned", "every seed", FIRST, ANSWERS),
        ahead("is above robust FedAvg at its bytes", "every seed", FIRST, FEDAVG),
    ),
)
