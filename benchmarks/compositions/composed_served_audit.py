"""Five banks train an ensemble, serve its members, and two agents audit what it answers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import polars as pl
from composing import EXAMPLES, Bench, Column, Composition, Figures, Goal, Measured

FILES = (
    "served_audit_train.yaml",
    "served_audit_serve.yaml",
    "served_audit.yaml",
    "served_audit_data.py",
)
FIRST, ALONE = "served ensemble, agents plan together", "served ensemble, each agent alone"
DOWN, BANK = "served ensemble, a member down", "one biased bank, agents plan together"
ATTRIBUTES = {"sex": ("women", "men"), "age": ("over 40", "up to 40")}
NOBODY = "strategy={sampling: uniform, collaboration: none}"


def measure(bench: Bench, seed: int) -> Figures:
    for name in FILES:
        shutil.copy(EXAMPLES / name, bench.folder / name)
    maker = [sys.executable, FILES[-1], str(seed)]
    subprocess.run(maker, cwd=bench.folder, check=True)
    run = bench.folder / "runs" / "banks"
    words = ["combine", "ensemble", FILES[0], "--seed", str(seed), "--out", run, "--no-report"]
    bench.hansa(*words, small="local.epochs=2")
    truth = differences(bench, run)
    members = [["infer", "member", run, "--client", str(k), "--port", "0"] for k in range(5)]
    with bench.serving_all(members) as urls:
        listed = ", ".join(f'{{url: "{url}"}}' for url in urls)
        serve = ["infer", "serve", FILES[1], "--port", "0", "--set", f"endpoints=[{listed}]"]
        with bench.serving(*serve) as url:
            figures = {
                FIRST: audited(bench, seed, "first", truth, url),
                ALONE: audited(bench, seed, "alone", truth, url, NOBODY),
            }
        figures[BANK] = audited(bench, seed, "bank", None, urls[0], "box.model=member")
    gone = listed.replace(urls[-1], "http://127.0.0.1:9")  # nobody answers at port 9
    with bench.serving_all(members[:-1]) as urls:
        for before, now in zip(listed.split('"')[1::2], urls, strict=False):
            gone = gone.replace(before, now)
        serve[-1] = f"endpoints=[{gone}]"
        with bench.serving(*serve) as url:
            figures[DOWN] = audited(bench, seed, "down", truth, url)
    return figures


def differences(bench: Bench, run: Any) -> dict[str, float]:
    """By attribute, the difference of the rates of yes over everybody, in points, told by
    ``hansa combine predict``."""
    answer = bench.hansa("combine", "predict", run, "features.csv")
    yes = np.array([one["class"] == "yes" for one in answer["predictions"]])
    people = pl.read_csv(bench.folder / "people.csv")
    return {
        name: 100
        * float(yes[_is(people, name, group)].mean() - yes[_is(people, name, other)].mean())
        for name, (group, other) in ATTRIBUTES.items()
    }


def _is(people: pl.DataFrame, name: str, group: str) -> np.ndarray:
    return people[name].to_numpy() == group


def audited(
    bench: Bench, seed: int, out: str, truth: dict[str, float] | None, url: str, *settings: str
) -> dict[str, float]:
    """An audit of what answers at an address, in points."""
    pairs = [word for pair in (f"box.url={url}", *settings) for word in ("--set", pair)]
    words = ["audit", FILES[2], "--seed", str(seed), "--out", bench.folder / out, "--no-report"]
    answer = bench.hansa(*words, *pairs, small="budget=60 box.queries_a_second=5000")
    found = {
        one["attribute"]: one
        for one in answer["final"]["findings"]
        if one["metric"] == "demographic_parity"
    }
    figures = {
        "women": 100 * found["sex"]["estimate"],
        "width": 50 * (found["sex"]["high"] - found["sex"]["low"]),
        "queries": sum(answer["spent"].values()),
        "decided": sum(one["verdict"] == "different" for one in found.values()),
    }
    if truth is not None:
        figures["truth"] = truth["sex"]
        figures["error"] = float(
            np.mean([abs(100 * one["estimate"] - truth[name]) for name, one in found.items()])
        )
        figures["covered"] = sum(
            100 * one["low"] <= truth[name] <= 100 * one["high"] for name, one in found.items()
        )
    return figures


def _covered(m: Measured) -> tuple[str, bool]:
    right = int(m.of(FIRST, "covered").sum() + m.of(DOWN, "covered").sum())
    every = 4 * len(m.each)
    return f"{right} of {every}", right >= every - 1


def _together(m: Measured) -> tuple[str, bool]:
    ratio = m.of(FIRST, "width") / m.of(ALONE, "width")
    return f"{ratio.mean():.2f} ({ratio.max():.2f}) of the width", bool(ratio.max() < 1)


def _down(m: Measured) -> tuple[str, bool]:
    gap = abs(m.gap(DOWN, FIRST, "women"))
    return f"{gap.mean():.1f} ({gap.max():.1f}) points", bool(gap.max() <= 5)


COMPOSITION = Composition(
    name="served_audit",
    title="An audit of a served ensemble",
    command="hansa audit examples/compositions/served_audit.yaml, after the steps in its parts",
    text="Made loans: five banks, two of which used to take points off women's score; nobody is "
    "asked for a sex, but part-time work tells it. Rates of yes are of the ensemble's answers over "
    "HTTP, of 2,000 people; the truth is what `hansa combine predict` says of everybody.",
    columns={
        "women": Column("women less men, points", 1),
        "truth": Column("truth", 1),
        "error": Column("error, points, of both attributes", 1, max),
        "width": Column("half of the 95 % interval", 1, max),
        "covered": Column("intervals that hold the truth, of 2", 1),
        "decided": Column("decided, of 2", 1),
        "queries": Column("queries", 0, max),
    },
    measure=measure,
    goals=(
        Goal("the intervals hold the truth", "all but one of all seeds' at most", _covered),
        Goal("planning together makes intervals shorter", "every seed", _together),
        Goal("a member down changes little", "at most 5 points", _down),
    ),
)
