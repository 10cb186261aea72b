"""Aggregating 10,000 queries at once, against a loop over queries and against ByzFL.

    python benchmarks/infer/aggregators_speed.py --python-byzfl P
    python benchmarks/infer/aggregators_speed.py --smoke    # few queries, without ByzFL

10,000 queries, 17 members, 10 classes, f = 4, float32, one thread; CPU time, the least of some
calls. The loops are plain torch and plain NumPy, a query at a time, the shortest that is right
(geometric medians to the condition 1e-6 by Weiszfeld's iteration; timed on fewer queries). ByzFL
takes a query at a time too, in either library; numbers of a column may be laid end to end for its
trimmed mean and median, which is shown beside (the laying is not counted). Its geometric median
takes 3 steps whatever is left. ByzFL may live in an environment of its own: torch and numpy of the
same versions, then ``pip install --no-deps byzfl``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Goals, markdown, publish

from hansa.ensemble import Aggregator, GeometricMedian, Krum, Median, TrimmedMean
from hansa.ensemble.kvote import kvote

MEMBERS, CLASSES, F = 17, 10, 4
RULES: dict[str, Aggregator] = {
    "trimmed_mean": TrimmedMean(f=F),
    "median": Median(),
    "geometric_median": GeometricMedian(),
    "krum": Krum(f=F),
}


def seconds(work: Callable[[], Any], repeats: int) -> float:
    """The least CPU time of some calls, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times[1:])


def torch_geometric_median(x: Tensor) -> Tensor:
    """Weiszfeld's iteration from the mean."""
    y = x.mean(0)
    for _ in range(1000):
        ways = x - y
        far = ways.norm(dim=1).clamp(min=1e-9)
        total = (ways / far[:, None]).sum(0)
        if total.norm() <= 1e-6 * len(x):
            break
        y = y + total / (1 / far).sum()
    return y


def numpy_geometric_median(x: np.ndarray) -> np.ndarray:
    """The same."""
    y = x.mean(0)
    for _ in range(1000):
        ways = x - y
        far = np.maximum(np.sqrt((ways * ways).sum(1)), 1e-9)
        total = (ways / far[:, None]).sum(0)
        if np.sqrt((total * total).sum()) <= 1e-6 * len(x):
            break
        y = y + total / (1 / far).sum()
    return y


def torch_krum(x: Tensor) -> Tensor:
    """The row that is nearest to its nearest."""
    near = torch.cdist(x, x).square().sort(1).values[:, : MEMBERS - F].sum(1)
    return x[near.argmin()]


def numpy_krum(x: np.ndarray) -> np.ndarray:
    """The same."""
    ways = x[:, None] - x
    near = np.partition((ways * ways).sum(2), MEMBERS - F - 1, axis=1)[:, : MEMBERS - F]
    return x[near.sum(1).argmin()]


LOOPS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "torch": {
        "trimmed_mean": lambda x: x.sort(0).values[F : MEMBERS - F].mean(0),
        "median": lambda x: x.median(0).values,
        "geometric_median": torch_geometric_median,
        "krum": torch_krum,
    },
    "numpy": {
        "trimmed_mean": lambda x: np.sort(x, axis=0)[F : MEMBERS - F].mean(0),
        "median": lambda x: np.median(x, axis=0),
        "geometric_median": numpy_geometric_median,
        "krum": numpy_krum,
    },
}


def looped(form: str, name: str, rows: Tensor, repeats: int) -> float:
    """Seconds for all queries, from as many as a few seconds allow."""
    some = rows[: 200 if name == "geometric_median" else 2000]
    rule = LOOPS[form][name]
    sets = list(some) if form == "torch" else list(some.numpy())
    spent = seconds(lambda: [rule(x) for x in sets], repeats)
    return spent * len(rows) / len(some)


def check(rows: Tensor) -> None:
    """The loops and we answer alike, or there is nothing to compare."""
    for name, rule in RULES.items():
        ours = rule.many(rows[:50])
        for form in LOOPS:
            sets = rows[:50] if form == "torch" else rows[:50].numpy()
            theirs = np.stack([np.asarray(LOOPS[form][name](x)) for x in sets])
            np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-4, err_msg=name)


def byzfl(python: str, queries: int, repeats: int) -> dict[str, dict[str, float]]:
    """ByzFL's seconds by rule and form; nothing where it is not installed."""
    script = Path(__file__).with_name("peers_byzfl.py")
    command = [python, str(script), *map(str, (queries, MEMBERS, CLASSES, F, repeats))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"ByzFL was not measured: {done.stderr.strip().splitlines()[-1]}")
        return {}
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def pgd(rule: Aggregator, rows: Tensor, labels: Tensor, steps: int) -> Tensor:
    """Rows in which the last F members lie, by signed steps on their logits."""
    honest, logits = rows[:, :-F], torch.zeros(len(rows), F, CLASSES)
    for _ in range(steps):
        logits.requires_grad_()
        scores = rule.many(torch.cat([honest, logits.softmax(2)], 1))
        right = scores.gather(1, labels[:, None])[:, 0]
        (gradient,) = torch.autograd.grad(right.sum() - scores.sum() / CLASSES, logits)
        logits = logits.detach() - 0.1 * gradient.sign()
    return torch.cat([honest, logits.softmax(2)], 1)


def attacks(rows: Tensor, repeats: int) -> list[list[str]]:
    """K-vote and PGD on the trimmed mean: all queries at once, and a query at a time."""
    labels, liars = rows.mean(1).argmax(1), torch.arange(MEMBERS - F, MEMBERS)
    rule, table = RULES["trimmed_mean"], []
    some = rows[:20]
    for name, work in (
        ("K-vote", lambda r, y: kvote(rule.many, r, liars, y)),
        ("PGD, 10 steps", lambda r, y: pgd(rule, r, y, 10)),
    ):
        ours = seconds(lambda work=work: work(rows, labels), repeats)
        each = list(zip(some.split(1), labels[: len(some)].split(1), strict=True))
        loop = seconds(lambda work=work, each=each: [work(r, y) for r, y in each], repeats)
        loop *= len(rows) / len(some)
        table.append([name, f"{1e3 * ours:.0f} ms", f"{loop:.2f} s", f"{loop / ours:.0f}"])
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="few queries, without ByzFL")
    parser.add_argument("--python-byzfl", help="a Python that has byzfl")
    parser.add_argument("--queries", type=int, default=10_000)
    options = parser.parse_args()
    smoke = options.smoke
    queries, repeats = (40, 1) if smoke else (options.queries, 3)
    torch.set_num_threads(1)
    drawn = np.random.default_rng(0).dirichlet(np.full(CLASSES, 0.3), (queries, MEMBERS))
    rows = torch.from_numpy(drawn.astype(np.float32))
    check(rows)
    peer = {} if smoke or not options.python_byzfl else byzfl(options.python_byzfl, queries, 2)
    table, goals = [], Goals()
    for name, rule in RULES.items():
        ours = seconds(lambda rule=rule: rule.many(rows), repeats + 4)
        loops = {form: looped(form, name, rows, repeats) for form in LOOPS}
        theirs = peer.get(name, {})
        row = [name, f"{1e3 * ours:.1f} ms"]
        for spent in (*loops.values(), theirs.get("torch"), theirs.get("numpy")):
            row.append("" if spent is None else f"{spent:.2f} s ({spent / ours:.0f})")
        best = [theirs[form] for form in theirs if "end" in form]
        row.append(f"{1e3 * min(best):.0f} ms ({min(best) / ours:.1f})" if best else "")
        table.append(row)
        for form, spent in loops.items():
            ratio = spent / ours
            goals.add(
                f"{name}: the {form} loop's time over ours", f"{ratio:.1f}", ">= 20", ratio >= 20
            )
        for form, spent in theirs.items():
            ratio = spent / ours
            goals.add(f"{name}: ByzFL's ({form}) over ours", f"{ratio:.1f}", ">= 3", ratio >= 3)
    header = ["rule", "hansa, all at once", "loop, torch", "loop, NumPy", "ByzFL, torch"]
    header += ["ByzFL, NumPy", "ByzFL, end to end, the faster"]
    command = "python benchmarks/infer/aggregators_speed.py --python-byzfl P"
    title = f"Aggregating {queries:,} queries of {MEMBERS} members and {CLASSES} classes: CPU time"
    text = markdown(title, command, header, table)
    text += "\nIn brackets: how many times ours.\n\n"
    text += _table(["attack on the trimmed mean", "all at once", "a query at a time", "ratio"],
                   attacks(rows[:2000], repeats))  # fmt: skip
    text += f"\nOf {min(2000, queries):,} queries.\n\n"
    text += _table(Goals.HEADER, goals.rows)
    publish("aggregators_speed", text, smoke)


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


if __name__ == "__main__":
    main()
