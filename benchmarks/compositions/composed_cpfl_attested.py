"""CPFL's cohorts in worker processes that show each other evidence first."""

from __future__ import annotations

from composing import Bench, Column, Composition, Figures, Goal, Measured, ahead, percent
from safetensors.numpy import load_file

FILE = "cpfl_attested.yaml"
SMALL = "rounds=2 evaluate.every=2 algorithm.distillation.epochs=1 runtime.workers=2 nodes=8"
LINES: dict[str, tuple[str, ...]] = {
    "CPFL, attested, four processes": (),
    "CPFL, four processes": ("runtime={name: processes, workers: 4}",),
    "CPFL, simulated": ("runtime=simulate",),
    "FedAvg (one cohort), attested": ("algorithm.cohorts=1",),
}
FIRST, PLAIN, SIMULATED, ONE = LINES


def measure(bench: Bench, seed: int) -> Figures:
    bench.environment["HANSA_SIMULATED_TEE"] = "1"
    figures: Figures = {}
    models = {}
    for line, settings in LINES.items():
        small = SMALL if "simulate" not in str(settings) else SMALL.replace("runtime.workers=2", "")
        answer = bench.learn(FILE, line, seed, *settings, small=small)
        out = bench.folder / f"model_{len(models)}.safetensors"
        bench.hansa("export", answer["run_dir"], "--out", out)
        models[line] = load_file(out)
        figures[line] = {
            "accuracy": percent(answer),
            "rounds": answer["rounds"],
            "mb": answer["bytes_sent"] / 1e6,
            "overhead": answer["overhead_bytes"] / 1e6,
        }
    for line in (FIRST, PLAIN, SIMULATED):
        same = all((models[line][k] == v).all() for k, v in models[SIMULATED].items())
        figures[line]["same"] = float(same)
    return figures


def _same(m: Measured) -> tuple[str, bool]:
    bits, sent = m.of(FIRST, "same"), m.gap(FIRST, SIMULATED, "mb")
    held = bool(bits.all()) and not sent.any()
    return f"{int(bits.sum())} of {len(bits)} models, bytes by {abs(sent).max():.1f}", held


def _overhead(m: Measured) -> tuple[str, bool]:
    more = m.gap(FIRST, PLAIN, "overhead")
    share = more / m.of(FIRST, "mb")
    return f"{1000 * more.max():.0f} kB, {100 * share.max():.2f} %", bool(share.max() <= 0.05)


COMPOSITION = Composition(
    name="cpfl_attested",
    title="CPFL's cohorts over the attested channel",
    command=f"HANSA_SIMULATED_TEE=1 hansa learn examples/compositions/{FILE}",
    text="Digits, 20 clients (Dirichlet 0.1) in 4 cohorts, 337 public digits; evidence is "
    "simulated. Cohorts and their servers live wherever the workers are: a cohort is in several.",
    columns={
        "accuracy": Column("accuracy, %"),
        "rounds": Column("rounds", 0, max),
        "mb": Column("MB sent", 1, max),
        "overhead": Column("overhead, MB", 2, max),
        "same": Column("model is the simulated one", 0),
    },
    measure=measure,
    goals=(
        Goal("comes to the simulated run's model and bytes", "to the bit, every seed", _same),
        Goal("evidence and TLS cost little", "at most 5 % of the bytes more", _overhead),
        ahead("loses little to one attested server", "at most 2 points", FIRST, ONE, -2),
    ),
)
