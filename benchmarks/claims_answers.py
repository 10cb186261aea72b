"""What is claimed of recommending, routing, inference and audits, held against tables."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

from claims_tables import DIFFERS, NO, YES, Judgement, Table, number, size


def route_order(t: Table) -> Judgement:
    return t.all("clean pool, ID: LORAUTER", "noisy pool, ID: LORAUTER")


def route_oracle(t: Table) -> Judgement:
    def of(name: str) -> float:
        return t.cell("ID", name) / t.cell("ID", "own adapter (oracle)") * 100

    plain, labels = of("LORAUTER, K = 3"), of("LORAUTER, K = 3, routed with its labels")
    words = f"{plain:.0f} % of the own adapter; {labels:.0f} % where the query carries its labels"
    return size(words, plain, 90, 100)


def route_ood(t: Table) -> Judgement:
    ours = t.cell("OOD", "LORAUTER, K = 3")
    best = max(t.cell("OOD", n) for n in ("uniform mixture of 3", "parameter fusion of 3"))
    return size(f"{ours - best:+.1f} points over the best other way", ours - best, 0, 5.2)


def route_noisy(t: Table) -> Judgement:
    at = [k for k, r in enumerate(t.rows) if r[0] == "LORAUTER, K = 3"]
    clean, noisy = (number(t.rows[k][1]) for k in at[:2])
    words = f"{noisy:.1f} with 1,500 noisy adapters, {clean:.1f} with the clean pool"
    return size(words, noisy / clean, 0.8, 85.7 / 88.4)


def route_halving(t: Table) -> Judgement:
    measured, ok = t.met("successive halving as good as exhaustive")
    return measured, YES if ok else NO


def rex_bytes(t: Table) -> Judgement:
    ratios = [
        number(r[1]) for r in t.rows if r[0].startswith(("50 nodes: bytes", "610 nodes: bytes"))
    ]
    words = f"{ratios[0]:.0f} (50 nodes) and {ratios[1]:.0f} (610) times fewer bytes at equal error"
    return size(words, min(ratios), 1, 100)


def rex_epochs(t: Table) -> Judgement:
    def epochs(what: str) -> tuple[float, float]:
        row = next(r for r in t.rows if r[0].startswith(what))
        models, ratings = re.findall(r"in (\d+)", row[1])
        return float(models), float(ratings)

    small, large = epochs("50 nodes: bytes"), epochs("610 nodes: bytes")
    words = (
        f"epochs to one error, models and ratings: {small[0]:.0f} and {small[1]:.0f} (50 nodes), "
        f"{large[0]:.0f} and {large[1]:.0f} (610): the rest is what an epoch of models costs"
    )
    ratios = [small[0] / small[1], large[0] / large[1]]
    return words, YES if min(ratios) >= 18.3 else DIFFERS if max(ratios) > 1 else NO


def infer_gain(name: str) -> Callable[[Table], Judgement]:
    def judge(t: Table) -> Judgement:
        column, others = "worst of six", ("mean", "CWTM", "CWMed", "GM", "Krum", "NNM + CWTM")
        there = {r[0] for r in t.rows}
        best = max(t.cell(column, n) for n in others if n in there)
        gain = t.cell(column, "DeepSet-TM (paper)") - best
        return size(f"{name}: {gain:+.1f} points over the best rule", gain, 0, 4.7)

    return judge


def infer_parts(t: Table) -> Judgement:
    return t.all("… over adversarial training alone", "… over the plain set network")


def infer_lma(t: Table) -> Judgement:
    apart = t.cell("LMA", "DeepSet-TM (paper)") - t.cell("LMA", "CWTM")
    return f"{apart:+.1f} points under that attack (digits)", YES if apart < 0 else NO


def private_orion(t: Table) -> Judgement:
    def seconds(system: str) -> float:
        head = next(r for r in t.rows if "CPU-s an image" in r)
        row = next(r for r in t.rows if r[1] == system and r[0].startswith("MLP"))
        return float(row[head.index("CPU-s an image")])

    ratio = min(seconds("orion-fhe 1.0.2"), seconds("orion-v2 2.1.8")) / seconds(
        "hansa shuffle, square, w8a7"
    )
    words = f"{ratio:.0f} times less CPU time than the faster Orion, same network (MLP)"
    return size(words, ratio, 1, 10.5)


def private_accuracy(t: Table) -> Judgement:
    real = next(number(r[1]) for r in t.rows if r[0].startswith("accuracy on 10,000"))
    whole = next(number(r[1]) for r in t.rows if r[0].startswith("in integers"))
    words = f"ResNet-20: {real} % in real numbers, {whole} % under encryption"
    return words, YES if real - whole <= 1.7 else DIFFERS


def private_bytes(t: Table) -> Judgement:
    row = next(r for r in t.rows if r[0] == "bytes an image")
    up, down = (float(x) for x in re.findall(r"([\d.]+) MB", row[1]))
    return f"{up + down:.1f} MB an image (ResNet-20)", YES if up + down <= 170 else NO


def audit_table(t: Table) -> Judgement:
    rows = [r for r in t.rows if r[0].startswith("COMPAS, as published")]
    good = sum(r[-1] == "yes" for r in rows)
    return _within(f"{good} of {len(rows)} figures within .002", good, len(rows))


def audit_curves(t: Table) -> Judgement:
    rows = [r for r in t.rows if r[0].startswith("German credit") and r[-1] in ("yes", "no")]
    good = sum(r[-1] == "yes" for r in rows)
    return _within(f"{good} of {len(rows)} curves within .003", good, len(rows))


def _within(words: str, good: int, of: int) -> Judgement:
    return words, NO if not good else YES if good == of else DIFFERS


def _curve(t: Table, what: str) -> list[float]:
    start = f"German credit, m = 1 to 5, {what} (as published)"
    return [float(x) for x in next(r for r in t.rows if r[0] == start)[1].split()]


def audit_together(t: Table) -> Judgement:
    curves = {w: _curve(t, f"{w} a_posteriori") for w in ("uniform", "stratified", "neyman")}
    words = ", ".join(f"{w} {c[0]:.3f} to {c[-1]:.3f}" for w, c in curves.items())
    falls = all(a > b for c in curves.values() for a, b in itertools.pairwise(c))
    return f"error of one agent to five, told each other afterwards: {words}", YES if falls else NO


def audit_alike(t: Table) -> Judgement:
    uniform, strata = (_curve(t, f"{w} a_posteriori") for w in ("uniform", "stratified"))
    one, five = (abs(uniform[k] - strata[k]) for k in (0, -1))
    return f"apart by {one:.4f} alone and {five:.4f} at five agents", YES if five < one / 2 else NO


def audit_worse(t: Table) -> Judgement:
    def error(m: int, strategy: str) -> float:
        rows = (r for r in t.rows if r[0].startswith(f"ACS, m = {m} ") and r[0].endswith(strategy))
        return number(next(rows)[1])

    few, many = (error(m, "stratified a_priori") for m in (4, 20))
    after = error(20, "stratified a_posteriori")
    words = f"ACS: {few:.4f} with 4 agents, {many:.4f} with 20, where afterwards gives {after:.4f}"
    return words, YES if many > few and many > after else NO


def private_shuffle(t: Table) -> Judgement:
    rows = [r for r in t.rows if len(r) > 7 and r[2] == "shuffle"]
    read = max(rows, key=lambda r: number(r[4]))
    words = f"{read[0]} reads {read[4]} of {read[3]} weights of {read[1]} with {read[6]} questions"
    holds = t.met("mode shuffle shows no attack")[1]
    return words, YES if holds else NO


def private_shares(t: Table) -> Judgement:
    rows = [r for r in t.rows if len(r) > 7 and r[2] == "shares"]
    worst = max(number(r[4]) for r in rows)
    holds = t.met("mode shares shows no attack")[1]
    return f"{len(rows)} attacks read at most {worst:.0f} %", YES if holds else NO
