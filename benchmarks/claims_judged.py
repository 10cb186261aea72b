"""What each paper claims, and how one sees in a table of results whether it is so."""

from __future__ import annotations

from collections.abc import Callable

from claims_answers import (
    audit_alike,
    audit_curves,
    audit_table,
    audit_together,
    audit_worse,
    infer_gain,
    infer_lma,
    infer_parts,
    private_accuracy,
    private_bytes,
    private_orion,
    private_shares,
    private_shuffle,
    rex_bytes,
    rex_epochs,
    route_halving,
    route_noisy,
    route_ood,
    route_oracle,
    route_order,
)
from claims_tables import DIFFERS, NO, YES, Claim, Judgement, Table, number, size


def many_nodes(t: Table) -> Judgement:
    row = next(r for r in t.rows if r[0].startswith("1,024"))
    words = f"1,024 nodes in 4 workers over sockets, {row[2]}; models equal: {row[8]}"
    return words, YES if row[8] == row[7] == "yes" else NO


def changing(t: Table) -> Judgement:
    late, soon = "lr .02, 2 steps, batch 8, T=400", "lr .05, 10 steps, batch 16, T=120"
    shares = []
    for setting in (late, soon):
        low, mid, high = (
            t.cell("mean", setting, graph)
            for graph in ("static 4-regular", "dynamic 4-regular", "complete")
        )
        shares.append((mid - low) / (high - low))
    words = (
        f"a changing graph closes {shares[0]:.0%} (short local work) and {shares[1]:.0%} of the "
        "gap between a fixed one and all to all, at 4/31 of its bytes"
    )
    return words, YES if min(shares) >= 0.9 else DIFFERS if min(shares) > 0 else NO


def sparse(t: Table) -> Judgement:
    full = t.cell("accuracy", "full sharing")
    lost = {n: full - t.cell("accuracy", n) for n in ("random sampling .37", "TopK .343")}
    words = "two classes a node: " + ", ".join(f"{n} loses {v:.1f} points" for n, v in lost.items())
    return words, YES if min(lost.values()) > 1 else NO


def masks(t: Table) -> Judgement:
    more = max(number(r[1]) for r in t.rows if r[0].startswith("bytes beyond"))
    slower = max(number(r[1].split("=")[1]) for r in t.rows if "whole round" in r[0])
    words = f"at most {more:.3f} % more bytes and {slower:.2f} times the CPU time of a round"
    return words, YES if more < 3 and slower < 1.25 else DIFFERS


def jwins_bytes(t: Table) -> Judgement:
    less = 100 - number(next(r for r in t.rows if r[0] == "JWINS")[2])
    apart = t.cell("accuracy", "JWINS") - t.cell("accuracy", "full sharing")
    words = f"{less:.1f} % fewer bytes, {apart:+.1f} points (3 seeds)"
    return words, YES if less >= 64 and apart > -1.5 else DIFFERS if less > 0 and apart > -3 else NO


def jwins_choco(t: Table) -> Judgement:
    ratio = t.cell("MB a node", "CHOCO 20 %, gamma 0.6") / t.cell("MB a node", "JWINS 10 %")
    apart = t.cell("accuracy", "JWINS 10 %") - t.cell("accuracy", "CHOCO 20 %, gamma 0.6")
    words = f"{ratio:.1f} times fewer bytes than CHOCO with a tuned gamma, at {apart:+.1f} points"
    return size(words, ratio if apart >= 0 else 0, 1, 4)


def cut_off(t: Table) -> Judgement:
    return t.all(
        "the paper's claim that a randomized cut-off helps (JWINS against",
        "the paper's claim that a randomized cut-off helps (JWINS 20 %",
    )


def skip_energy(t: Table) -> Judgement:
    share = t.cell("energy, Wh", "SkipTrain (4,4)") / t.cell("energy, Wh", "D-PSGD")
    return f"{1 - share:.1%} less", YES if share <= 0.501 else DIFFERS if share < 1 else NO


def skip_accuracy(t: Table) -> Judgement:
    def seeds(policy: str) -> list[float]:
        row = next(r for r in t.rows if r[0] == policy)
        return [float(x) for x in row[2].split("/")]

    gains = [a - b for a, b in zip(seeds("SkipTrain (4,4)"), seeds("D-PSGD"), strict=True)]
    mean, model = sum(gains) / len(gains), t.cell("averaged model", "SkipTrain (4,4)")
    words = (
        f"{mean:+.1f} points, at worst {min(gains):+.1f} (32 nodes); the average of all models "
        f"is no better ({model - t.cell('averaged model', 'D-PSGD'):+.1f}): the gain is mixing"
    )
    return size(words, mean, 0, 12)


def guess_rounds(rate: str, published: float) -> Callable[[Table], Judgement]:
    def judge(t: Table) -> Judgement:
        row = next(r for r in t.rows if r[:3] == ["FedAvg", rate, "plain"])
        none, some, many = (number(row[k]) for k in (3, 5, 6))
        words = (
            f"rounds to 80 %: {none:.1f} without, {some:.1f} with 10, {many:.1f} with 30 guesses: "
            f"{none / many:.2f} times faster"
        )
        return size(words, none / min(some, many), 1, published)

    return judge


def rates(t: Table) -> Judgement:
    rises, _ = t.met("rate 0.002, plain: accuracy grows")
    falls, collapsed = t.met("rate 0.2, plain: collapse")
    safe, kept = t.met("rate 0.2, safe: within")
    words = (
        f"at a too low rate accuracy grows by {rises}; at a too high one plain guesses lose "
        f"{falls}, safe ones {safe}"
    )
    return words, DIFFERS if collapsed and kept else YES if not collapsed else NO


def cohorts(figure: str) -> Callable[[Table], Judgement]:
    """CPFL's time or device hours of four cohorts against one, on digits."""

    def judge(t: Table) -> Judgement:
        ratio = t.cell(figure, "0.1", "1") / t.cell(figure, "0.1", "4")
        published = 1.9 if figure == "time, h" else 1.3
        return size(f"digits, 40 clients, 5 seeds: {ratio:.2f} times less", ratio, 1, published)

    return judge


def cohorts_cifar(t: Table) -> Judgement:
    names = ("less time", "fewer device hours", "points lost")
    ways = {}
    for way in ("at most 16", "a quarter"):
        ways[way] = [t.met(f"{way}, 4 cohorts against 1: {name}") for name in names]
    words = "; ".join(
        f"{way} of the clients a round: {a[0]} times less time, {b[0]} times less device time, "
        f"{c[0]} points lost"
        for way, (a, b, c) in ways.items()
    )
    whole = [all(ok for _, ok in told) for told in ways.values()]
    some = any(ok for told in ways.values() for _, ok in told)
    return words, YES if any(whole) else DIFFERS if some else NO


def minimal(t: Table) -> Judgement:
    lost = t.cell("one cohort, %", "0.1", "1") - t.cell("distilled by labels", "0.1", "4")
    return f"digits: {lost:.1f} points with four cohorts", YES if lost <= 1.5 else DIFFERS


def fens_trained(t: Table) -> Judgement:
    parts = []
    for alpha in ("alpha 0.01", "alpha 0.05"):
        rules = ("average", "label_weighted", "voting")
        gain = t.cell(alpha, "neural") - max(t.cell(alpha, rule) for rule in rules)
        parts.append(gain)
    words = f"{parts[0] * 100:+.1f} and {parts[1] * 100:+.1f} points over the best fixed rule"
    words += " (digits, alpha .01 and .05)"
    return words, YES if min(parts) > 0.05 else DIFFERS if max(parts) > 0 else NO


def fens_adam(t: Table) -> Judgement:
    gaps = [t.cell(a, "neural") - t.cell(a, "fedadam") for a in ("alpha 0.01", "alpha 0.05")]
    words = f"{gaps[0] * 100:+.1f} and {gaps[1] * 100:+.1f} points from FedAdam (digits)"
    return words, YES if min(gaps) >= -0.031 else DIFFERS


def fens_mild(t: Table) -> Judgement:
    gap = t.cell("alpha 1.0", "fedavg") - t.cell("alpha 1.0", "neural")
    return f"{gap * 100:.1f} points below FedAvg at alpha 1 (digits)", YES if gap > 0 else NO


def fens_baselines(t: Table) -> Judgement:
    column = "alpha 0.1: mean"
    others = ("best client", "fedavg_once", "fedkd", "dense", "coboosting")
    kept = t.cell(column, "kept rule")
    best = max(others, key=lambda name: t.cell(column, name))
    gain = (kept - t.cell(column, best)) * 100
    points = [p for p in t.points if p.startswith("alpha 0.1") and " above " in p]
    worst = min(
        number(p.rpartition("at worst by ")[2]) for p in points if any(o in p for o in others)
    )
    words = f"CIFAR-10 at 16 x 16: {gain:+.1f} points over the best ({best}), at worst {worst:+.1f}"
    return size(words, gain, 0, 11.4)


def fens_heart(t: Table) -> Judgement:
    best = max(t.cell("pooled test", "neural"), t.cell("pooled test", "linear"))
    adam = t.cell("pooled test", "FedAdam, 150")
    words = f"{best:.4f} against {adam:.4f} of FedAdam; no rule is safely better than another"
    return words, YES if best >= adam - 0.03 else NO


def merge_double(t: Table) -> Judgement:
    one, two = (t.cell(s, "TA 1.5") for s in ("1x", "2x"))
    words = f"task arithmetic keeps {one:.1f} % of the fine-tuned at 1x and {two:.1f} % at 2x"
    return size(words, two - one, 0, 13.5)


def merge_nearly(t: Table) -> Judgement:
    kept = {n: t.cell("5x", n) for n in ("averaging", "TIES", "TSV-M")}
    words = "5 of 8 models' size keep " + ", ".join(f"{v:.1f} ({n})" for n, v in kept.items())
    good = [v >= 98 for v in kept.values()]
    return words + " %", YES if all(good) else DIFFERS if any(good) else NO


def merge_crossing(t: Table) -> Judgement:
    line = next(s for s in t.sentences if s.startswith("Rankings that cross"))
    return line.partition(": ")[2].rstrip("."), YES if "passes" in line else NO


def merge_order(t: Table) -> Judgement:
    greedy, left = (
        t.cell(f"averaging; mean (worst task): {order}", "2x") for order in ("greedy", "left_right")
    )
    digits, right = Table("merge_digits").met("(e) greedy over left to right")
    words = f"sentences at 2x: {greedy:.1f} against {left:.1f}; digits at 3x: {digits} points"
    won = greedy > left
    return words, YES if won and right else DIFFERS if won or right else NO


def forget_time(t: Table) -> Judgement:
    passes = t.cell("gradients", "retrain") / t.cell("gradients", "quickdrop")
    clock = t.cell("seconds", "retrain") / t.cell("seconds", "quickdrop")
    words = f"{passes:.0f} times fewer gradients, {clock:.0f} times less CPU time (digits)"
    return size(words, clock, 1, 463)


def forget_others(t: Table) -> Judgement:
    passes = t.cell("gradients", "sga") / t.cell("gradients", "quickdrop")
    clock = t.cell("seconds", "sga") / t.cell("seconds", "quickdrop")
    words = f"{passes:.0f} times fewer gradients and {clock:.1f} times less time than SGA (digits)"
    return size(words, clock, 1, 65)


def forget_control(t: Table) -> Judgement:
    ours, random = (
        (t.cell("forget", n), t.cell("worst forget", n), t.cell("retain", n))
        for n in ("quickdrop", "random real")
    )
    words = (
        f"left {ours[0]} % (worst {ours[1]}), retained {ours[2]}; as many random originals: "
        f"{random[0]} (worst {random[1]}), {random[2]}"
    )
    better = (ours[0] < random[0], ours[2] > random[2])
    return words, YES if all(better) else DIFFERS if any(better) or ours[1] < random[1] else NO


def forget_row(t: Table) -> Judgement:
    left = [t.cell("forget", f"request {k}, quickdrop") for k in (1, 2, 3)]
    worst = max(t.cell("worst forget", f"request {k}, quickdrop") for k in (1, 2, 3))
    words = f"three classes in a row: {left[0]}, {left[1]}, {left[2]} % left, at worst {worst}"
    return words, YES if worst <= 10 else DIFFERS


def forget_again(t: Table) -> Judgement:
    measured, ok = t.met("relearned: forget >= 75")
    return f"accuracy on the class once it may be learnt again: {measured} %", YES if ok else NO


def forget_clients(t: Table) -> Judgement:
    apart, worst = t.cell("apart", "quickdrop"), t.cell("worst apart", "quickdrop")
    words = f"{apart} points from a model retrained without the client, at worst {worst} (digits)"
    return words, YES if t.met("apart from the oracle")[1] else DIFFERS


SHARING, SKIP, GEL = ("sharing", ""), ("skiptrain", ""), ("gel", "")
DIGITS, SENTENCES, ROUTE = ("ensemble_digits", ""), ("merge_sentences", ""), ("route_sentences", "")
FORGET, AUDIT, ROBUST = ("forget_digits", ""), ("audit_study", ""), ("robust_digits", "")
GPU = "needs the paper's models and data, and a GPU"

CLAIMS = [
    Claim("DecentralizePy", "more than a thousand nodes", ("networks", "--only 4"), many_nodes),
    Claim(
        "DecentralizePy",
        "a sparse graph that changes comes close to all to all, at far fewer bytes",
        ("topologies", ""),
        changing,
    ),
    Claim("DecentralizePy", "sparsified models lose on skewed data", SHARING, sparse),
    Claim(
        "DecentralizePy",
        "secure aggregation costs a modest overhead",
        ("secure_aggregation", ""),
        masks,
    ),
    Claim("JWINS", "up to 64 % fewer bytes at the accuracy of full sharing", SHARING, jwins_bytes),
    Claim("JWINS", "at low budgets up to 4 times better than CHOCO-SGD", SHARING, jwins_choco),
    Claim("JWINS", "a randomized cut-off helps", SHARING, cut_off),
    Claim("SkipTrain", "50 % less energy of training", SKIP, skip_energy),
    Claim("SkipTrain", "up to 12 points more accuracy than D-PSGD", SKIP, skip_accuracy),
    Claim(
        "SkipTrain",
        "under budgets of energy: as good as D-PSGD with a third of the training, above greedy",
        SKIP,
        lambda t: t.all("constrained (4,4) >= D-PSGD", "constrained (4,4) >= greedy"),
    ),
    Claim("GeL", "up to 1.64 times faster", GEL, guess_rounds("0.01", 1.64)),
    Claim("GeL", "helps most where the learning rate is not well tuned", GEL, rates),
    Claim(
        "GeL",
        "up to 40 % better in networks of few resources",
        GEL,
        guess_rounds("0.01", 1 / (1 - 0.4)),
    ),
    Claim("CPFL", "four cohorts: 1.9 times less time", ("cpfl_digits", ""), cohorts("time, h")),
    Claim(
        "CPFL",
        "four cohorts: 1.3 times fewer resources",
        ("cpfl_digits", ""),
        cohorts("device time, h"),
    ),
    Claim("CPFL", "with a minimal drop in accuracy", ("cpfl_digits", ""), minimal),
    Claim("CPFL", "all three of it on CIFAR-10", ("cpfl_cifar", ""), cohorts_cifar),
    Claim("FENS", "a trained aggregator is far above fixed rules", DIGITS, fens_trained),
    Claim("FENS", "at strong skew within 3.1 points of FedAdam", DIGITS, fens_adam),
    Claim("FENS", "at mild skew below iterative learning", DIGITS, fens_mild),
    Claim(
        "FENS",
        "11.4 to 26.9 points above the best one-shot method on CIFAR-10",
        ("ensemble_cifar", ""),
        fens_baselines,
    ),
    Claim("FENS", "on par with iterative learning on Heart", ("ensemble_heart", ""), fens_heart),
    Claim("FENS", "Camelyon16, ISIC2019 and AG News", why="data and GPU hours"),
    Claim("FlexMerge", "task arithmetic gains 13.5 points from 1x to 2x", SENTENCES, merge_double),
    Claim("FlexMerge", "a quarter of the size goes at nearly no loss", SENTENCES, merge_nearly),
    Claim("FlexMerge", "rankings of algorithms change with size", SENTENCES, merge_crossing),
    Claim("FlexMerge", "the greedy order is better than left to right", SENTENCES, merge_order),
    Claim("FlexMerge", "vision transformers and T5 of up to 30 tasks", why=GPU),
    Claim("QuickDrop", "463 times less time than retraining", FORGET, forget_time),
    Claim("QuickDrop", "65 to 218 times less than other methods", FORGET, forget_others),
    Claim("QuickDrop", "distilled images serve where originals would", FORGET, forget_control),
    Claim("QuickDrop", "clients as well as classes", ("forget_clients", ""), forget_clients),
    Claim("QuickDrop", "several requests in a row", ("forget_successive", ""), forget_row),
    Claim("QuickDrop", "what was forgotten can be learnt again", FORGET, forget_again),
    Claim(
        "REX",
        "network load two orders of magnitude lower than with models",
        ("recommend_speed", ""),
        rex_bytes,
    ),
    Claim(
        "REX",
        "training 18.3 times faster than with models (in which set-up is not known)",
        ("recommend_speed", ""),
        rex_epochs,
    ),
    Claim("REX", "enclaves cost very little", why="needs hardware with enclaves"),
    Claim(
        "LORAUTER", "matches the oracle where tasks have adapters (101.2 %)", ROUTE, route_oracle
    ),
    Claim("LORAUTER", "above mixtures and fusions of retrieved adapters", ROUTE, route_order),
    Claim("LORAUTER", "5.2 points more on tasks without adapters", ROUTE, route_ood),
    Claim("LORAUTER", "holds in a pool of 1,500 noisy adapters", ROUTE, route_noisy),
    Claim("LORAUTER", "association at less than half the evaluations", ROUTE, route_halving),
    Claim(
        "Robust Federated Inference",
        "4.7 to 22.2 points above the best rule, worst attack",
        ROBUST,
        infer_gain("digits"),
    ),
    Claim(
        "Robust Federated Inference",
        "the same on CIFAR-10",
        ("robust_cifar", ""),
        infer_gain("CIFAR-10's patches"),
    ),
    Claim(
        "Robust Federated Inference",
        "the same on AG News",
        ("robust_agnews", ""),
        infer_gain("some of AG News"),
    ),
    Claim(
        "Robust Federated Inference",
        "trimming at test time and adversarial training both help",
        ROBUST,
        infer_parts,
    ),
    Claim(
        "Robust Federated Inference", "below plain rules under the LMA attack", ROBUST, infer_lma
    ),
    Claim("Safhire", "1.5 to 10.5 times faster than Orion", ("private_orion", ""), private_orion),
    Claim("Safhire", "accuracy comparable", ("private_resnet", ""), private_accuracy),
    Claim(
        "Safhire",
        "a shuffle makes it practically impossible to reconstruct the model",
        ("private_redteam", ""),
        private_shuffle,
    ),
    Claim(
        "Safhire",
        "ours, in place of it: shares withstand clients that choose their inputs",
        ("private_redteam", ""),
        private_shares,
    ),
    Claim("Safhire", "up to 170 MB an image for ResNet-20", ("private_resnet", ""), private_bytes),
    Claim(
        "Fairness audits by many agents", "the table of COMPAS, nine strategies", AUDIT, audit_table
    ),
    Claim("Fairness audits by many agents", "the curves of German credit", AUDIT, audit_curves),
    Claim("Fairness audits by many agents", "working together always helps", AUDIT, audit_together),
    Claim(
        "Fairness audits by many agents",
        "afterwards, stratified and uniform become alike with many agents",
        AUDIT,
        audit_alike,
    ),
    Claim(
        "Fairness audits by many agents",
        "agreed beforehand, stratified gets worse with many agents",
        AUDIT,
        audit_worse,
    ),
    Claim("Fairness audits by many agents", "Folktables", why="data of 5.9 million rows"),
]
