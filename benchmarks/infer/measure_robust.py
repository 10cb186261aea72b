"""What the benchmarks of robust inference share: rules, attacks, and tables of runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import markdown, publish

from hansa.infer.robust.run import robust

N, F = 17, 4
SIX = ("logit_flip", "sia_blackbox", "sia_whitebox", "lma", "cpa", "pgd_cw")
AS_CODED = "sia_whitebox (off_simplex=True)"
TM: dict[str, Any] = {"name": "trimmed_mean"}
NAMES = {
    "mean": "mean",
    "trimmed_mean": "CWTM",
    "median": "CWMed",
    "geometric_median": "GM",
    "krum": "Krum",
    "nnm + trimmed_mean": "NNM + CWTM",
    "deep_set": "DeepSet",
    "deep_set + trimmed_mean": "DeepSet + TM",
    "deep_set adversarial": "DeepSet adversarial",
    "deep_set adversarial + trimmed_mean": "DeepSet-TM (paper)",
    "deep_set adversarial by clean + trimmed_mean": "DeepSet-TM (paper), epoch by clean accuracy",
    "deep_set kvote": "DeepSet K-vote",
    "deep_set kvote + trimmed_mean": "DeepSet-TM K-vote",
    "deep_set kvote + nnm + trimmed_mean": "DeepSet K-vote, NNM + CWTM",
}


def rules(training: dict[str, Any], few: bool = False) -> list[dict[str, Any]]:
    """Fixed rules, and set networks of three trainings with several poolings.

    Args:
        few: without Krum, mixing and other ways to choose an epoch.
    """
    fixed = ["mean", "trimmed_mean", "median", "geometric_median"]
    listed: list[dict[str, Any]] = [{"name": name} for name in fixed]
    if not few:
        listed += [{"name": "krum"}, {"name": "nnm", "then": TM}]
    for kind in ("none", "adversarial", "kvote"):
        for pooling in ({"name": "mean"}, TM):
            listed.append({"name": "deep_set", "training": kind, "pooling": pooling, **training})
    learned = {"name": "deep_set", **training}
    if not few:
        published = {"training": "adversarial", "chosen_by": "clean", "pooling": TM}
        mixed = {"training": "kvote", "pooling": {"name": "nnm", "then": TM}}
        listed += [{**learned, **published}, {**learned, **mixed}]
    return listed


def suite(steps: int = 50) -> list[dict[str, Any]]:
    """The paper's six, its white-box SIA as coded, and the K-vote."""
    six: list[dict[str, Any]] = [{"name": name} for name in SIX]
    six[-1]["steps"] = steps
    return [*six, {"name": "sia_whitebox", "off_simplex": True}, {"name": "kvote"}]


def run_of(clients: dict[str, Any], out: Path, seeds: Sequence[int], **more: Any) -> dict[str, Any]:
    """The table of a run, with what each seed measured."""
    settings = {
        "verb": "infer",
        "seed": seeds[0],
        "repeats": len(seeds),
        "clients": clients,
        "f": F,
        **more,
    }
    folder = robust(settings, out, lambda text: print(text, file=sys.stderr), report=False)
    table: dict[str, Any] = folder.read_json("table.json")
    return table


def by_rule(each: Sequence[dict[str, Any]], f: int) -> dict[str, dict[str, np.ndarray]]:
    """Percent right, [seeds], by rule and column."""
    found: dict[str, dict[str, list[float]]] = {}
    for one in each:
        at = {(row["attack"], row["identity"], row["f"]): row["accuracy"] for row in one["rows"]}
        columns = found.setdefault(one["aggregator"], {})

        def put(name: str, value: float | None, columns: Any = columns) -> None:
            if value is not None:
                columns.setdefault(name, []).append(100 * value)

        put("clean", at["none", "fixed", 0])
        for attack in (*SIX, AS_CODED, "kvote"):
            put(attack, at.get((attack, "fixed", f)))
        six = [at[attack, "fixed", f] for attack in SIX]
        put("worst of six", min(six))
        put("min(K-vote, PGD)", min(at["kvote", "fixed", f], at["pgd_cw", "fixed", f]))
        put("each query", at.get(("worst_per_query", "fixed", f)))
        put("worst liars", at.get(("worst_per_query", "worst", f)))
        put("certified", at.get(("any", "certified", f)))
    return {rule: {k: np.array(v) for k, v in row.items()} for rule, row in found.items()}


COLUMNS = {
    "clean": "clean",
    "logit_flip": "LF",
    "sia_blackbox": "SIA bb",
    AS_CODED: "SIA as coded",
    "sia_whitebox": "SIA",
    "lma": "LMA",
    "cpa": "CPA",
    "pgd_cw": "PGD-cw",
    "kvote": "K-vote",
    "worst of six": "worst of six",
    "min(K-vote, PGD)": "min(K-vote, PGD)",
    "each query": "worst of each query",
    "worst liars": "the same, worst liars",
    "certified": "certified",
}


def lines(figures: dict[str, dict[str, np.ndarray]]) -> tuple[list[str], list[list[str]]]:
    """(heads, rows) of means over seeds; the spread of the two that are judged."""
    rows = []
    for rule, row in figures.items():
        cells = [NAMES.get(rule, rule)]
        for key in COLUMNS:
            values = row.get(key)
            text = "" if values is None else f"{values.mean():.1f}"
            if values is not None and key in ("worst of six", "min(K-vote, PGD)"):
                text += f" ± {values.std(ddof=1) if len(values) > 1 else 0:.1f}"
            cells.append(text)
        rows.append(cells)
    return ["rule", *COLUMNS.values()], rows


def costs(each: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Seconds of learning and of the attacks, and milliseconds an answer, means over seeds."""
    names = list(dict.fromkeys(one["aggregator"] for one in each))
    rows = []
    for name in names:
        own = [one for one in each if one["aggregator"] == name]

        def mean(key: str, own: list[dict[str, Any]] = own) -> float:
            return float(np.mean([one[key] for one in own]))

        attacked = float(np.mean([sum(one["seconds"].values()) for one in own]))
        timed = [f"{mean('train_seconds'):.1f}", f"{attacked:.1f}"]
        timed += [f"{mean('query_ms'):.4f}", f"{mean('certify_ms'):.4f}"]
        rows.append([NAMES.get(name, name), *timed, own[0]["how"]])
    return rows


COST_HEADS = ["rule", "learning, s", "attacks, s", "an answer, ms", "its f*, ms", "worst liars"]


def report(
    name: str,
    title: str,
    table: dict[str, Any],
    smoke: bool,
    gates: Sequence[Sequence[str]] = (),
) -> None:
    """Print the table of a benchmark with its gates and costs, and keep it unless it is a smoke."""
    heads, rows = lines(by_rule(table["each"], F))
    text = markdown(title, f"python benchmarks/infer/{name}.py", heads, rows)
    more = [(["gate", "difference", "wanted", "met"], gates), (COST_HEADS, costs(table["each"]))]
    for heads, some in more:
        if some:
            text += "\n| " + " | ".join(heads) + " |\n" + "|" + "---|" * len(heads) + "\n"
            text += "".join("| " + " | ".join(row) + " |\n" for row in some)
    publish(name, text, smoke)
