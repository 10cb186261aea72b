"""A ResNet that clients trained by FedAvg, compiled and asked in private inference."""

from __future__ import annotations

from composing import Bench, Column, Composition, Figures, Goal, percent

FILE = "fedavg_resnet_private.yaml"
SMALL = "rounds=1 nodes=4"
QUERIES = 16
SKEWED = "data.partition.alpha=0.1"
LINES = {
    "FedAvg, ResNet-20": (),
    "the same, classes more skewed": (SKEWED,),
    "FedAvg, a network of four layers": ("model=femnist_cnn", "train.optimizer.lr=0.05"),
    "one client with all data, ResNet-20": ("nodes=1", "data.partition=iid"),
}
GROUPED = {
    "FedAvg, group norm (cannot be compiled)": ("model=resnet20_gn",),
    "the same, classes more skewed (cannot)": ("model=resnet20_gn", SKEWED),
}
FIRST, SKEW, SMALLER, ALONE = LINES
GROUP, GROUP_SKEW = GROUPED


def measure(bench: Bench, seed: int) -> Figures:
    figures: Figures = {}
    for number, (line, settings) in enumerate(LINES.items()):
        answer = bench.learn(FILE, f"line {number}", seed, *settings, small=SMALL)
        run = bench.folder / answer["run_dir"]
        compiled = bench.hansa("infer", "compile", run, "--out", bench.folder / f"net{number}")
        facts = compiled["facts"]
        asked = bench.hansa(
            "infer", "private", "demo", "--set", f"run={run}", "--set", f"queries={QUERIES}",
            "--out", bench.folder / f"asked{number}", small="queries=2",
        )  # fmt: skip
        final, queries = asked["final"], asked["final"]["queries"]
        figures[line] = {
            "private": 100 * facts["accuracy"],
            "plain": percent(answer),
            "wrong": final["mismatches"],
            "cpu": 1e3 * final["cpu_seconds"] / queries,
            "mb": (final["bytes_up"] + final["bytes_down"]) / queries / 1e6,
            "rounds": final["rounds"],
        }
    for number, (line, settings) in enumerate(GROUPED.items()):
        answer = bench.learn(FILE, f"grouped {number}", seed, *settings, small=SMALL)
        figures[line] = {"plain": percent(answer)}
    return figures


COMPOSITION = Composition(
    name="fedavg_resnet_private",
    title="A federated ResNet, compiled for private inference",
    command=f"hansa learn examples/compositions/{FILE} --out runs/resnet; "
    "hansa infer private demo --set run=runs/resnet",
    text="ResNet-20 with batch normalization, 8 clients with skewed classes of digits, 8 rounds of "
    f"one pass; 8 bits a weight, 7 an activation. {QUERIES} test images are asked over TLS; "
    "every logit is compared with the integers in the clear. Group normalization, which suits "
    "skewed clients better, cannot be compiled: its line says what that costs.",
    columns={
        "private": Column("accuracy asked in private, %"),
        "plain": Column("as trained, %"),
        "wrong": Column("logits that differ", 0, max),
        "cpu": Column("CPU-ms a question", 0, max),
        "mb": Column("MB a question", 2, max),
        "rounds": Column("round trips", 0, max),
    },
    measure=measure,
    goals=(
        Goal(
            "compiling costs no accuracy",
            "at most 1 point, every seed, both skews",
            lambda m: (
                " and ".join(
                    f"{(m.of(line, 'plain') - m.of(line, 'private')).max():.1f}"
                    for line in (FIRST, SKEW)
                ),
                all(
                    bool(((m.of(line, "plain") - m.of(line, "private")) <= 1).all())
                    for line in (FIRST, SKEW)
                ),
            ),
        ),
        Goal(
            "answers are those of the integers in the clear",
            "every logit",
            lambda m: (
                f"{int(max(m.of(line, 'wrong').max() for line in LINES))} differ",
                not any(m.of(line, "wrong").any() for line in LINES),
            ),
        ),
        Goal(
            "batch normalization costs no accuracy among skewed clients",
            "at most 1 point beside group normalization, on average, alpha 0.5 and 0.1",
            lambda m: _close(
                m.gap(FIRST, GROUP, "plain").mean(), m.gap(SKEW, GROUP_SKEW, "plain").mean()
            ),
        ),
        Goal(
            "a smaller network is no better bargain",
            "the ResNet is above it by a point, on average",
            lambda m: (
                f"{m.gap(FIRST, SMALLER, 'private').mean():+.1f} points at "
                f"{m.mean(FIRST, 'cpu') / m.mean(SMALLER, 'cpu'):.0f} times its CPU time",
                bool(m.gap(FIRST, SMALLER, "private").mean() >= 1),
            ),
        ),
    ),
)


def _close(even: float, skewed: float) -> tuple[str, bool]:
    return f"{even:+.1f} and {skewed:+.1f}", min(even, skewed) >= -1
