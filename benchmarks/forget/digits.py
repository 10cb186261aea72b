"""QuickDrop on digits: forgetting each class in turn, against retraining, ascent and two controls.

    python benchmarks/forget/digits.py            # 3 seeds, about 12 minutes of one core
    python benchmarks/forget/digits.py --smoke    # one seed, a few rounds

10 clients (Dirichlet 0.1 of each class), ConvNet of depth 2 and width 16, 60 rounds of 5 steps at
rate 0.1 with up to 32 examples of every class, 1 % synthetic images from real ones. Fixed ascent
takes 3 (or 10) steps of 0.02 in one round and recovers in 2 rounds of 10 steps at 0.05. "quickdrop"
is the library's default: until the class has a loss of log K and 1 in K is right, then 10 rounds of
2 steps on the images that remain. Each class is forgotten from the same trained model; two of them
are also retrained without. Forgetting clients is measured in clients.py.

Beside each mean stands the worst class of the worst seed. checks: examples whose loss was looked at
(a third of a gradient each); sent: models and numbers, down and up; stored: the images that clients
keep for it; originals: whether a method trains on them, looks at them, or does without.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Notes, markdown, publish
from measure_forgetting import Bench, figures, lines, mean, over, shown

from hansa.experiment import run
from hansa.forget import (
    Ascent,
    Cost,
    Distilled,
    Federation,
    Forgetting,
    GradientAscent,
    Noise,
    OnOriginals,
    Pruning,
    QuickDrop,
    RandomReal,
    Recovery,
    Request,
    Retrain,
)
from hansa.forget.federation import Asking
from hansa.forget.playing import tried
from hansa.forget.trained import open_trained
from hansa.report import RunFolder

Figures = dict[str, dict[str, float]]
Methods = dict[str, Forgetting | None]
SEEDS = 3
THREE, TEN = (Ascent(local_steps=n, class_rounds=1) for n in (3, 10))
PLAIN = Recovery(rounds=2, steps=10, rechecks=0)
FIXED: dict[str, Any] = {"ascent": THREE, "recovery": PLAIN}
ON_IMAGES = Ascent(judge="synthetic")
BY_CLASS: dict[str, Forgetting | None] = {
    "retrain": Retrain(),
    "sga, 3 steps": GradientAscent(**FIXED),
    "sga, 10 steps": GradientAscent(ascent=TEN),
    "quickdrop, 3 steps, synthetic recovery": QuickDrop(**FIXED),
    "quickdrop, 3 steps, half real": QuickDrop(real_share=0.5, **FIXED),
    "random real, 3 steps": RandomReal(**FIXED),
    "noise, 3 steps": Noise(**FIXED),
    "sga": GradientAscent(),
    "quickdrop": QuickDrop(),
    "random real": RandomReal(),
    "noise": Noise(),
    "quickdrop, recovery 2 x 10": QuickDrop(recovery=Recovery(rounds=2, steps=10)),
    "quickdrop, half real": QuickDrop(real_share=0.5),
    "quickdrop, judged on images": QuickDrop(ascent=ON_IMAGES),
    "quickdrop_originals": OnOriginals(),
    "random real, originals": OnOriginals(stand_in="random_real"),
    "fu_mp": Pruning(),
    "relearned": None,
}
DISTILLED = ("quickdrop, 3 steps, synthetic recovery", "quickdrop")
CONDENSED: dict[str, dict[str, Any]] = {  # settings of algorithm.condensation
    "every second step": {"every": 2},
    "output layer": {"match": "output"},
    "output layer, every second step": {"match": "output", "every": 2},
    "features": {"match": "features"},
    "half the images": {"scale": 0.005},
}
FEWER = {name: BY_CLASS[name] for name in DISTILLED}
SPEC = {  # 4.4: forget and retain after ascent, forget and retain after recovery, sample gradients
    "retrain": "- / - / 0.0 / 97.2 / 158,967",
    "sga, 3 steps": "13.6 / 82.9 / 34.7 / 97.1 / 10,913",
    "sga, 10 steps": "0.0 / 18.6 / 0.0 / 95.0 / 11,657",
    "quickdrop, 3 steps, synthetic recovery": "0.0 / 67.7 / 2.5 / 95.7 / 988",
    "quickdrop, 3 steps, half real": "0.0 / 67.7 / 2.8 / 96.4 / 1,960",
    "random real, 3 steps": "26.3 / 83.5 / 43.5 / 96.6 / 988",
    "noise, 3 steps": "6.9 / 86.2 / 11.5 / 91.7 / 988",
    "relearned": "- / - / 82.6 / 95.9 / 1,000",
}
COLUMNS = ("f_ascent", "r_ascent", "forget", "worst forget", "retain", "worst retain", "gradients",
           "checks", "sent kB", "stored kB", "seconds")  # fmt: skip
NOTHING = {name: float("nan") for name in ("f_ascent", "r_ascent", "sent kB", "stored kB")}


def settings(seed: int, rounds: int) -> dict[str, Any]:
    """The run that is to forget."""
    return {
        "seed": seed,
        "nodes": 10,
        "rounds": rounds,
        "data": {
            "name": "digits",
            "normalize": "standardize",
            "partition": {"name": "dirichlet", "alpha": 0.1, "draw": "class"},
        },
        "model": {"name": "convnet", "depth": 2, "width": 16},
        "algorithm": "quickdrop",
        "train": {
            "local_steps": 5,
            "batch_size": 32,
            "drop_last": False,
            "strategy": "looped",
            "optimizer": {"name": "sgd", "lr": 0.1},
        },
        "evaluate": {"every": rounds},
        "checkpoint": {"every": rounds},
    }


def outcome(bench: Bench, method: Forgetting) -> dict[str, float]:
    """What :data:`COLUMNS` names but for the worst, accuracies in percent."""
    row, ledger, story = bench.forgotten(method)
    total = ledger.total
    found = NOTHING | figures(bench, row, total, None) | {"sent kB": total.bytes / 1e3}
    if (middle := story.get("model_after_ascent")) is not None:
        between = bench.figures(middle)
        found |= {"f_ascent": 100 * between["forget"], "r_ascent": 100 * between["retain"]}
    if isinstance(method, Distilled) and method.stand_in == "none":
        layout = bench.case.layout
        assert layout is not None
        found["stored kB"] = 4 * layout.pixels * layout.counts.sum() / 1e3
    return found


def originals(method: Forgetting | None) -> str:
    """What a method does with the clients' original examples."""
    if method is None:
        return "no"
    if not isinstance(method, Distilled) or isinstance(method, OnOriginals):
        return "trained on"
    if method.stand_in == "random_real" or (isinstance(method, QuickDrop) and method.real_share):
        return "trained on"
    looks = method.ascent.judge == "real" and method.ascent.class_rounds is None
    return "looked at" if looks else "no"


def relearned(bench: Bench) -> dict[str, float]:
    """Two rounds on everything synthetic, after QuickDrop with 3 steps."""

    def program(federation: Federation) -> Asking[tuple[torch.Tensor, Cost]]:
        row, _ = yield from QuickDrop(**FIXED).forget(federation)
        again = federation.relabelled(Request(), federation.past)
        images = yield from again.synthetic(forget=False)
        row, _ = yield from PLAIN.run(again, row, images)
        return row, again.ledger.total

    row, total = tried(bench.case, program)
    return NOTHING | figures(bench, row, total, None) | {"sent kB": total.bytes / 1e3}


def before(bench: Bench) -> dict[str, float]:
    """The figures of a model that has forgotten nothing."""
    return NOTHING | figures(bench, bench.row, None, None)


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int = 60
    items: int = 10
    retrained: int = 2
    condensed: int = 99


def training(seed: int, size: Size, folder: Path, how: dict[str, Any]) -> dict[str, float]:
    """Train a run into a folder; by what factor distilling made that longer."""
    shutil.rmtree(folder, ignore_errors=True)  # of a training that was stopped
    whole = settings(seed, size.rounds)
    whole["algorithm"] = {"name": "quickdrop", "keep_updates": 2, "condensation": how}
    metrics = run(whole, out=folder, report=False).metrics()
    found = {}
    for name in ("distillation_time_factor", "distillation_work_factor"):
        values = metrics.filter((metrics["name"] == name) & metrics["node"].is_null())["value"]
        found[name] = float(values.mean())
    return found


def one_run(
    seed: int, size: Size, notes: Notes, place: Path, methods: Methods, how: dict[str, Any]
) -> dict[str, Figures]:
    """Mean figures over classes of each method, on one run."""
    mark = ", ".join([f"seed {seed}", *(f"{name} {value}" for name, value in how.items())])
    folder = place / mark.replace(", ", "-").replace(" ", "-")
    factors = notes.get(f"{mark}: training", lambda: training(seed, size, folder, how))
    trained = open_trained(RunFolder.open(folder).path)
    layout = trained.layout
    assert layout is not None  # it distils
    factors["images"] = float(layout.counts.sum())
    rows: dict[str, list[dict[str, float]]] = {}
    for item in range(size.items):
        bench = Bench(trained.case(Request.of(classes=[item])))
        rows.setdefault("before", []).append(before(bench))
        for name, method in methods.items():
            if name == "retrain" and item >= size.retrained:
                continue
            label = f"{mark}: {bench.case.request}, {name}"
            rows.setdefault(name, []).append(notes.get(label, partial(one_row, bench, method)))
        print(mark, bench.case.request, "done", file=sys.stderr, flush=True)
    found = {"training": {"training": factors}}
    found["classes"] = {name: mean(values) for name, values in rows.items()}
    # Like with like: the classes that were retrained without.
    found["retrained"] = {name: mean(values[: size.retrained]) for name, values in rows.items()}
    return found


def one_row(bench: Bench, method: Forgetting | None) -> dict[str, float]:
    """A method's figures for one class; without a method, what is learned anew."""
    return relearned(bench) if method is None else outcome(bench, method)


def verdicts(classes: Figures, same: Figures) -> list[str]:
    """The bands of 6.2 in the specification, and what QuickDrop is to be improved by.

    Args:
        same: figures over those classes alone that were retrained without.
    """
    quick, again = classes[DISTILLED[0]], classes["relearned"]["forget"]
    oracle, ten = classes["retrain"], classes["sga, 10 steps"]
    least = min(classes["before"][name] for name in ("forget", "retain"))
    real, noise = classes["random real, 3 steps"], classes["noise, 3 steps"]
    worse = real["f_ascent"] - quick["f_ascent"]
    lower, apart = quick["retain"] - noise["retain"], abs(ten["retain"] - quick["retain"])
    chosen, raw, blank = classes["quickdrop"], classes["random real"], classes["noise"]
    most = max(
        classes[name]["worst forget"] for name in ("quickdrop", "quickdrop_originals", "sga")
    )
    on_images = classes["quickdrop, judged on images"]["worst forget"]
    paired = same["retrain"]["retain"] - same["quickdrop"]["retain"]
    better, above = chosen["retain"] - raw["retain"], chosen["retain"] - blank["retain"]
    less = raw["worst forget"] - chosen["worst forget"]
    checks = [
        ("before: both >= 95", least, least >= 95),
        ("quickdrop, 3 steps: forget <= 6", quick["forget"], quick["forget"] <= 6),
        ("quickdrop, 3 steps: retain >= 94", quick["retain"], quick["retain"] >= 94),
        ("retrain: forget = 0", oracle["forget"], oracle["forget"] == 0),
        ("retrain: retain >= 96", oracle["retain"], oracle["retain"] >= 96),
        ("sga, 10 steps: retain within 2 of quickdrop, 3 steps", apart, apart <= 2),
        ("relearned: forget >= 75", again, again >= 75),
        ("random real forgets >= 10 points worse after 3 steps", worse, worse >= 10),
        ("noise recovers >= 2 points lower after 3 steps", lower, lower >= 2),
        ("quickdrop, quickdrop_originals, sga: worst forget <= 10", most, most <= 10),
        ("quickdrop, judged on images: worst forget <= 10", on_images, on_images <= 10),
        ("quickdrop: retain < 2 below retrain on the same classes", paired, paired < 2),
        ("distilling pays: quickdrop retains more than random real", better, better > 0.5),
        ("distilling pays: its worst class is forgotten better", less, less > 0),
        ("images are worth more than noise: quickdrop retains more", above, above > 0.5),
    ]
    for name, what in (("retrain", 100), ("sga", 8)):
        for cheap in (quick, chosen):
            ratio = classes[name]["gradients"] / cheap["gradients"]
            of = "quickdrop, 3 steps" if cheap is quick else "quickdrop"
            label = f"sample gradients, {name} / {of} >= {what}"
            checks.append((label, ratio, ratio >= what))
    return [f"{what} ({value:.3g}): {'yes' if ok else 'NO'}" for what, value, ok in checks]


def distillation(ways: dict[str, list[dict[str, Figures]]]) -> tuple[list[str], list[list[str]]]:
    """What each way to distil costs, and what it is good for."""
    header = ["distilled", "images", "extra work", "extra time"]
    told = ("forget", "worst forget", "retain")
    header += [f"{name}: {what}" for name in DISTILLED for what in told]
    rows = []
    for name, runs in ways.items():
        of = mean([r["training"]["training"] for r in runs])
        line = [name, f"{of['images']:.0f}"]
        for factor in ("work", "time"):
            line.append(f"{100 * (of[f'distillation_{factor}_factor'] - 1):.0f}")
        for method in DISTILLED:
            found = mean([r["classes"][method] for r in runs])
            line += [f"{found[what]:.1f}" for what in told]
        rows.append(line)
    return header, rows


def distilled(ways: dict[str, list[dict[str, Figures]]]) -> list[str]:
    """Which ways to distil halve its cost and do as well as the published one."""
    told = []
    extra = {name: mean([r["training"]["training"] for r in runs]) for name, runs in ways.items()}
    good = {name: mean([r["classes"]["quickdrop"] for r in runs]) for name, runs in ways.items()}
    whole, best = extra.pop("published"), good["published"]
    for name, of in extra.items():
        for what in ("work", "time"):
            key = f"distillation_{what}_factor"
            share = (of[key] - 1) / (whole[key] - 1)
            verdict = "yes" if share <= 0.5 else "NO"
            told.append(f"{name}: extra {what} <= half the published ({share:.2f}): {verdict}")
        images = of["images"] / whole["images"]
        if images < 1:
            verdict = "yes" if images <= 0.5 else "NO"
            told.append(f"{name}: images <= half the published ({images:.2f}): {verdict}")
        own, lost = good[name], best["retain"] - good[name]["retain"]
        verdict = "yes" if own["forget"] <= max(2, best["forget"]) and lost < 0.5 else "NO"
        told.append(
            f"{name}: quickdrop forgets as well, forget <= 2 or the published "
            f"({own['forget']:.2f}), and retains within 0.5 ({-lost:+.2f}): {verdict}"
        )
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one seed, a few rounds")
    parser.add_argument("--notes", help="a file for what is done, to go on from if stopped")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument(
        "--distilled-seeds", type=int, default=1, help="seeds for the other ways to distil"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the models are small
    smoke, notes = arguments.smoke, Notes(arguments.notes)
    seeds, size = (1, Size(2, 1, 1, 1)) if smoke else (arguments.seeds, Size())
    ways: dict[str, list[dict[str, Figures]]] = {}
    with ExitStack() as stack:
        place = Path(
            f"{arguments.notes}.runs"
            if arguments.notes
            else stack.enter_context(tempfile.TemporaryDirectory())
        )
        every = range(1, seeds + 1)
        runs = [one_run(seed, size, notes, place, BY_CLASS, {}) for seed in every]
        few = range(1, min(seeds, arguments.distilled_seeds) + 1)
        ways["published"] = runs[: len(few)]
        for name, how in list(CONDENSED.items())[: size.condensed]:
            ways[name] = [one_run(seed, size, notes, place, FEWER, how) for seed in few]
    classes, same = over([r["classes"] for r in runs]), over([r["retrained"] for r in runs])
    rows = []
    for name, values in classes.items():
        cells = [shown(values[column], column) for column in COLUMNS]
        rows.append([name, *cells, originals(BY_CLASS.get(name)), SPEC.get(name, "")])
    command = "python benchmarks/forget/digits.py" + f" --seeds {seeds}" * (seeds != SEEDS)
    command += f" --distilled-seeds {len(few)}" * (len(few) != 1)
    header = ["method", *COLUMNS, "originals", "spec 4.4"]
    text = markdown("Forgetting on digits: each class in turn", command, header, rows)
    text += (
        f"\nOther ways to distil, {len(few)} seed(s); extra: what it adds to training, in %:\n\n"
    )
    text += lines(*distillation(ways))
    factors = mean([r["training"]["training"] for r in runs])
    text += (
        f"\n{seeds} seed(s). Distilling took {factors['distillation_time_factor']:.2f} times the "
        "time of training alone; by the count of passes, "
        f"{factors['distillation_work_factor']:.2f} times the work.\n\n"
    )
    if not smoke:
        checked = [*verdicts(classes, same), *distilled(ways)]
        text += "\n".join(f"- {line}" for line in checked) + "\n"
    publish("forget_digits", text, smoke)


if __name__ == "__main__":
    main()
