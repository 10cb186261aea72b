"""Which setting came out best, in one sentence that claims no more than its seeds bear out.

A setting has the highest accuracy only where the 95 % interval of its paired difference
(:func:`hansa.report.several.paired.of_differences`) lies above 0 against every other. Each interval
is for itself: to lead, a setting has to be ahead of all others at once, so that not correcting for
their number does not make a false leader likelier (an intersection-union test, Berger 1982,
"Multiparameter hypothesis testing and acceptance sampling").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hansa.report.comparing import Group, data_name, groups_of, shown_scores
from hansa.report.folder import RunFolder
from hansa.report.scores import direction
from hansa.report.several.column import Column
from hansa.report.several.difference_table import gap_words
from hansa.report.several.paired import LEAST, of_differences, paired_values
from hansa.report.several.seeds import TOTAL, seed_statistics
from hansa.report.units import label

_NAMED = 4
SAME, LEVEL, BEHIND, AHEAD, FEW = "same", "level", "behind", "ahead", "few"
Gaps = Callable[[str], Mapping[str, Sequence[float]]]


def standings(
    folders: Sequence[RunFolder],
    runs: list[dict[str, Any]],
    groups: Sequence[Group] | None = None,
) -> list[str]:
    """Which settings came out best, and which sent least, a sentence each; often fewer.

    Only settings that were measured on the same data are held against each other.

    Args:
        folders: the runs.
        runs: their rows (:func:`hansa.report.comparing.comparison`).
        groups: what ``groups_of`` found, where it is at hand.
    """
    groups = groups or groups_of(folders)
    main = next((n for n in shown_scores(runs) if sum(n in run["final"] for run in runs) > 1), None)
    if len(groups) < 2 or main is None:
        return []
    frame = seed_statistics(folders, runs, groups)
    data = {group.name: data_name(folders[group.runs[0]]) for group in groups}

    def said(metric: str, on: str, sent: str = "") -> str:
        own = [row for row in frame.filter(metric=metric).to_dicts() if data[row["setting"]] == on]

        def gaps(name: str) -> dict[str, list[float]]:
            return paired_values(folders, runs, groups, name, metric)

        return leading(metric, {row["setting"]: row for row in own}, gaps, sent)

    every = list(dict.fromkeys(data.values()))
    sentences = []
    for on in every[:_NAMED]:
        where = f"On {on}: " if len(every) > 1 and on else ""
        told = [said(main, on), said(f"{TOTAL}bytes", on, "sent")]
        sentences += [f"{where * (not k)}{text}" for k, text in enumerate(filter(None, told))]
    if len(every) > 1:
        more = f"{listed(every)}" if all(every) else "different data"
        sentences.insert(0, f"Settings are held against those on the same data ({more}).")
    return sentences


def leading(metric: str, cells: Mapping[str, Mapping[str, Any]], gaps: Gaps, sent: str = "") -> str:
    """Which setting leads by a metric, or that none does.

    Args:
        metric: which.
        cells: by setting, a row of :func:`hansa.report.several.seeds.over_runs`: mean, std, unit,
            n, runs.
        gaps: given a setting, by every other the differences between the two over shared seeds,
            that setting's figure less the other's.
        sent: a verb, of what is spent: ``sent``.

    Returns:
        A sentence; empty where there is nothing to say: fewer than two settings have a finite
        figure, the metric has no direction, or nothing spent differs.
    """
    way = direction(metric)
    known = {n: c for n, c in cells.items() if c["mean"] is not None and math.isfinite(c["mean"])}
    if len(known) < 2 or not way:
        return ""
    sign = 1 if way == "higher" else -1
    order = sorted(known, key=lambda name: -sign * known[name]["mean"])
    first, column = order[0], Column.of(known.values())
    pairs = {name: [sign * d for d in ds] for name, ds in gaps(first).items() if name in known}
    of = {name: fate(pairs.get(name, ())) for name in order[1:]}
    best = known[first]["mean"]
    of |= {  # the same where both were, while their means are over other seeds, too
        name: LEVEL if len(pairs[name]) >= LEAST else FEW
        for name in order[1:]
        if of[name] == SAME and not math.isclose(known[name]["mean"], best)
    }
    having = {kind: [n for n in order[1:] if of[n] == kind] for kind in set(of.values())}
    same, level, few = (having.get(kind, []) for kind in (SAME, LEVEL, FEW))
    shown = {name: f"{name} {column.plain(known[name]['mean'])}" for name in order}
    how, words = ("highest" if sign > 0 else "lowest"), label(metric)
    if ahead := having.get(AHEAD):
        text = (
            f"{first} has the {how} mean, {column.plain(known[first]['mean'])}, but over the seeds "
            f"that they share {listed(ahead)} {'is' if len(ahead) == 1 else 'are'} ahead of it"
        )
    elif level:
        rest = [*same, *level]
        text = _undecided(first, rest, shown, _seeds([pairs[n] for n in rest]), sent or words)
        text += _beaten(having.get(BEHIND, []), shown, sign)
    elif len(same) == len(order) - 1:
        if sent:
            return ""
        text = f"All have the same {words}, {column.plain(known[first]['mean'])}"
    else:
        text = _led(first, same, known, column, sent, how, words)
        if few and not sent:
            text += _too_few(few, [pairs.get(name, ()) for name in few])
        elif not sent:
            after = order[len(same) + 1]
            text += _ahead_by(after, [sign * d for d in pairs[after]], column)
    return f"{text}{_lacking([first, *same], known)}."


def fate(differences: Sequence[float]) -> str:
    """What paired differences, positive where the first is better, say of the other: a word."""
    if len(differences) and not any(differences):
        return SAME
    row = of_differences(differences)
    if row["n"] < LEAST:
        return FEW
    if row["low"] > 0:
        return BEHIND
    return AHEAD if row["high"] < 0 else LEVEL


def _undecided(
    first: str, rest: Sequence[str], shown: Mapping[str, str], seeds: str, words: str
) -> str:
    of = "bytes sent" if words == "sent" else words
    if len(rest) == 1:
        return f"By {of}, {shown[first]} and {shown[rest[0]]} cannot be told apart ({seeds})"
    others = listed([shown[name] for name in rest])
    return f"No setting leads by {of}: {others} cannot be told apart from {shown[first]} ({seeds})"


def _beaten(behind: Sequence[str], shown: Mapping[str, str], sign: int) -> str:
    worse = "lower" if sign > 0 else "higher"
    if not behind:
        return ""
    if len(behind) == 1:
        return f"; {shown[behind[0]]} is {worse}"
    return f"; the other {len(behind)} are {worse}"


def _led(
    first: str,
    same: Sequence[str],
    cells: Mapping[str, Mapping[str, Any]],
    column: Column,
    sent: str,
    how: str,
    words: str,
) -> str:
    who, row = listed([first, *same]), cells[first]
    figure = column.plain(row["mean"]) if sent or row["n"] < 2 else column.with_spread(row)
    seeds = f" (n = {row['n']})" if row["n"] > 1 and not sent else ""
    if sent:
        return f"{who} {sent} the least, {figure}{' each' if same else ''}"
    return f"{who} {'have' if same else 'has'} the {how} {words}, {figure}{seeds}"


def _ahead_by(after: str, differences: Sequence[float], column: Column) -> str:
    """How far the first is from the next, with the interval; nothing where it is one number."""
    row = of_differences(differences)
    if row["low"] == row["high"]:
        return ""
    by, interval = gap_words(row, column.kind)
    return f", {by} {interval} against {after}, the next"


def _too_few(few: Sequence[str], differences: Sequence[Sequence[float]]) -> str:
    counts = sorted({len(d) for d in differences})
    if counts == [1]:
        return "; of one seed each: it takes three to tell that from chance"
    if counts == [0]:
        return f"; {listed(few)} {'shares' if len(few) == 1 else 'share'} no seed with it"
    return f"; with {listed(few)} it has fewer than {LEAST} seeds in common, too few to tell"


def _lacking(names: Sequence[str], cells: Mapping[str, Mapping[str, Any]]) -> str:
    """That some of the first's own runs have no such figure: its mean is of those that do."""
    texts = [
        f"{cells[n]['runs'] - cells[n]['n']} of {cells[n]['runs']} runs of {n}"
        for n in names
        if cells[n]["n"] < cells[n]["runs"]
    ]
    return f"; {listed(texts)} have no such figure" if texts else ""


def _seeds(differences: Sequence[Sequence[float]]) -> str:
    low, high = min(map(len, differences)), max(map(len, differences))
    return f"n = {low}" if low == high else f"n = {low} to {high}"


def listed(words: Sequence[str]) -> str:
    """``a, b and c``; of many the first."""
    if len(words) > _NAMED + 1:
        return f"{', '.join(words[:_NAMED])} and {len(words) - _NAMED} others"
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
