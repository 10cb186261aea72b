"""D-PSGD, each peer's own model, FlexMerge into the bytes of two, and a router over these."""

from __future__ import annotations

from composing import Bench, Column, Composition, Figures, Goal

FILE = "dpsgd_views.yaml"
SMALL = "rounds=2"
STEPS = 300
SIZES = {1: "the bytes of one", 2: "the bytes of two", 8: "all eight"}
FIRST, ONE, ALL = (f"merged by averaging into {SIZES[size]}, routed" for size in (2, 1, 8))
ALL = f"{SIZES[8]}, routed"
EMR = "merged by EMR at its least, routed"
TOLD, TOLD_ALL = f"{SIZES[2]}, told the task", f"{SIZES[8]}, told the task"
MEAN, BASE = f"{SIZES[8]}, the mean of all answers", "D-PSGD's average model alone"
ISOLATED = "eight that trained alone, as many steps, routed"


def measure(bench: Bench, seed: int) -> Figures:
    run = bench.folder / bench.learn(FILE, "peers", seed, small=SMALL)["run_dir"]
    merged = bench.folder / "merged"
    bench.hansa(
        "combine", "merge", run, "--out", merged, "--set", f"tasks.personalise={STEPS}",
        "--set", "least_gain=0", "--algorithm", "averaging", "--algorithm", "emr", "--size", "2",
        "--seed", str(seed), "--no-report", small="tasks.personalise=5",
    )  # fmt: skip

    def routed(of: object, algorithm: str, size: float | None) -> tuple[dict, float]:
        """What ``hansa route models`` says of a cut, and the cut's megabytes."""
        file = bench.folder / f"{of}_{algorithm}_{size}.safetensors"
        words = ["--size", str(size)] if size else ["--budget", "1GB"]
        cut = bench.hansa("combine", "cut", bench.folder / str(of), "--out", file,
                          "--algorithm", algorithm, *words)  # fmt: skip
        answer = bench.hansa(
            "route", "models", file, "--run", bench.folder / str(of), "--seed", str(seed)
        )
        return answer, cut["bytes"] / 1e6

    def figures(answer: dict, mb: float, method: str) -> dict[str, float]:
        one = answer["methods"][method]
        row = {
            "accuracy": 100 * one["accuracy"], "worst": 100 * one["worst"], "mb": mb,
            "passes": one["passes"],
        }  # fmt: skip
        return row | ({"own": 100 * answer["sent_to_own"]} if method == "routed" else {})

    cuts = {size: routed("merged", "averaging", size) for size in SIZES}
    emr = routed("merged", "emr", 2.5)
    alone = bench.learn(
        FILE, "alone", seed, "algorithm=isolated", f"rounds={60 + STEPS // 10}", small=SMALL
    )
    bench.hansa(
        "combine", "merge", bench.folder / alone["run_dir"], "--out", bench.folder / "apart",
        "--set", "least_gain=0", "--algorithm", "averaging", "--size", "8", "--seed", str(seed),
        "--no-report",
    )  # fmt: skip
    whole, whole_mb = cuts[8]
    return {
        FIRST: figures(*cuts[2], "routed"),
        TOLD: figures(*cuts[2], "told"),
        ONE: figures(*cuts[1], "routed"),
        EMR: figures(*emr, "routed"),
        ALL: figures(whole, whole_mb, "routed"),
        TOLD_ALL: figures(whole, whole_mb, "told"),
        MEAN: figures(whole, whole_mb, "average"),
        BASE: figures(whole, whole_mb / 8, "base"),
        ISOLATED: figures(*routed("apart", "averaging", 8), "routed"),
    }


COMPOSITION = Composition(
    name="dpsgd_views",
    title="D-PSGD, eight personal models, merged into the bytes of two, routed by task",
    command=f"hansa learn examples/compositions/{FILE} --out runs/views; hansa combine merge "
    f"runs/views --set tasks.personalise={STEPS} --algorithm averaging --size 2 --out runs/merged; "
    "hansa combine cut runs/merged --size 2 --out two.safetensors; "
    "hansa route models two.safetensors --run runs/merged",
    text="Eight peers see digits each in a view of its own (turned, inverted, pixels permuted), "
    f"180 images each. D-PSGD for 60 rounds, {STEPS} steps of each from the average, FlexMerge, a "
    "router that knows ten places of each peer's examples. Test images of all views come without "
    "their view; accuracy is the mean over views. Those that trained alone took as many steps.",
    columns={
        "accuracy": Column("accuracy, %"),
        "worst": Column("worst view, %"),
        "own": Column("sent to their own, %"),
        "mb": Column("MB of models", 3, max),
        "passes": Column("models asked", 1, max),
    },
    measure=measure,
    goals=(
        Goal(
            "two models' bytes, routed, are better than one common model",
            "every seed",
            lambda m: (
                f"{m.gap(FIRST, BASE, 'accuracy').min():+.1f} points at least",
                bool(m.gap(FIRST, BASE, "accuracy").min() > 0),
            ),
        ),
        Goal(
            "not being told the task costs little",
            "at most 2 points, every seed",
            lambda m: (
                f"{-m.gap(FIRST, TOLD, 'accuracy').min():.1f}",
                bool(m.gap(FIRST, TOLD, "accuracy").min() >= -2),
            ),
        ),
        Goal(
            "two models' bytes keep what eight have",
            "at least 95 % of all eight's accuracy, routed",
            lambda m: (
                f"{100 * m.mean(FIRST, 'accuracy') / m.mean(ALL, 'accuracy'):.1f} %, by EMR "
                f"{100 * m.mean(EMR, 'accuracy') / m.mean(ALL, 'accuracy'):.1f} % at "
                f"{8 * m.mean(EMR, 'mb') / m.mean(ALL, 'mb'):.2f} models",
                bool(m.mean(FIRST, "accuracy") >= 0.95 * m.mean(ALL, "accuracy")),
            ),
        ),
        Goal(
            "one routed model is better than the mean of all eight",
            "every seed",
            lambda m: (
                f"{m.gap(ALL, MEAN, 'accuracy').min():+.1f} points at least",
                bool(m.gap(ALL, MEAN, "accuracy").min() > 0),
            ),
        ),
        Goal(
            "training together first is better than alone",
            "every seed, all eight routed",
            lambda m: (
                f"{m.gap(ALL, ISOLATED, 'accuracy').min():+.1f} points at least",
                bool(m.gap(ALL, ISOLATED, "accuracy").min() > 0),
            ),
        ),
    ),
)
