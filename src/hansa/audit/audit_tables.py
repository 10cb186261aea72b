"""An audit's tables and sentences, for the terminal and for the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hansa.report.grid import Grid
from hansa.report.units import number, quantity

_VERDICTS = {
    "below": "below (adverse impact)",
    "above": "above (no adverse impact)",
    "undecided": "undecided",
    "undefined": "undefined",
    "different": "different",
    "similar": "similar",
}


def signed(value: float | None) -> str:
    """A difference of shares in points, with its sign."""
    if value is None or math.isnan(value):
        return "–"
    return f"{100 * value:+.1f}"


def share(value: float | None) -> str:
    """A share in percent."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.1f} %"


def plain(value: float | None) -> str:
    """A ratio."""
    if value is None or math.isnan(value):
        return "–"
    return "∞" if math.isinf(value) else f"{value:.3f}"


def is_ratio(row: Mapping[str, Any]) -> bool:
    """Whether a finding is a ratio, and no difference in points."""
    return bool(row["unit"] == "ratio")


def written(row: Mapping[str, Any], key: str) -> str:
    """A number of a finding, in points or as a ratio."""
    return plain(row[key]) if is_ratio(row) else signed(row[key])


def verdict(row: Mapping[str, Any]) -> str:
    """A finding's verdict in words, with how many more queries would decide it."""
    words = _VERDICTS.get(row["verdict"], str(row["verdict"]))
    if row["verdict"] != "undecided":
        return words
    if row.get("remark"):
        words += f": {row['remark']}"
    more = row.get("needed")
    if more:
        return f"{words}; {number(more)} more {'query' if more == 1 else 'queries'}"
    return f"{words}; by no number of queries" if "needed" in row else words


def findings_table(found: Mapping[str, Any], title: str = "Findings") -> Grid:
    """A line a finding: what was compared, the estimate, its interval, the verdict."""
    rows = found["findings"]
    study = any("truth" in row for row in rows)
    alone = any(row["agent"] for row in rows)
    lines = []
    for row in rows:
        against = f"{row['group']} : {row['reference']}" if row["group"] else "all groups"
        if row["metric"] == "max_gap":
            against = f"{row['group']} − {row['reference']}"
        line = [row["attribute"], row["metric"].replace("_", " "), against]
        line += [row["agent"]] * alone
        line += [written(row, key) for key in ("estimate", "low", "high")]
        if study:
            line.append(written(row, "truth"))
        lines.append([*line, verdict(row)])
    columns = ["attribute", "measure", "groups", *["agent"] * alone, "estimate", "low", "high"]
    columns += ["truth"] * study
    return Grid(title, [*columns, "verdict"], lines, words=3 + alone, remark=True)


def groups_table(rows: Sequence[Mapping[str, Any]], title: str = "") -> Grid:
    """A line a group: who they are, what was asked, how they fare against the reference."""
    columns = [
        "group", "members", "asked / answered / refused", "yes", "difference", "Fisher's p",
        "ratio to the highest", "4/5 rule",
    ]  # fmt: skip
    return Grid(title, columns, [_group_line(row) for row in rows], remark=True)


def _group_line(row: Mapping[str, Any]) -> list[str]:
    members = f"{number(row['population'])} ({share(row['share'])})"
    if row["group"] is None:
        return ["(group unknown)", members, *[""] * 6]
    name = row["group"] + (" (reference)" if row["reference"] else "")
    line = [name + (" (small)" if row["small"] else ""), members]
    line.append(" / ".join(number(row[key]) for key in ("asked", "answered", "refused")))
    line.append(_between(share, row["rate"], row["low"], row["high"]))
    if "difference" in row:
        ends = row["difference"], row["difference_low"], row["difference_high"]
        line += [_between(signed, *ends), f"{row['fisher']:.2g}".replace("nan", "–")]
    else:
        line += ["", ""]
    if "ratio" in row:
        words = row["four_fifths"]
        if words not in ("below", "above"):
            words = verdict({"verdict": words, "needed": row["needed"]})
        line += [_between(plain, row["ratio"], row["ratio_low"], row["ratio_high"]), words]
    else:
        line += ["", "the highest"]
    return line


def _between(form: Callable[[float | None], str], value: float, low: float, high: float) -> str:
    """A number with its interval."""
    return f"{form(value)} ({form(low).removesuffix(' %')} to {form(high).removesuffix(' %')})"


def agents_table(found: Mapping[str, Any], title: str = "Queries") -> Grid:
    """What each agent spent, and what it told the others."""
    columns = ["agent", "audits", "budget", "asked", "checks", "refused", "lost", "calls", "sent"]
    rows = []
    for one in found["agents"]:
        keys = ("budget", "spent", "checks", "refused", "lost", "calls")
        line = [number(one[key]) for key in keys]
        rows.append([one["agent"], one["attribute"], *line, quantity(one["bytes_sent"], "bytes")])
    return Grid(title, columns, rows, words=2)


def population_table(facts: Mapping[str, Any]) -> Grid:
    """The groups that can be asked about."""
    population = facts["population"]
    rows = [
        [name, ", ".join(f"{group}: {number(size)}" for group, size in sizes.items())]
        for name, sizes in population["groups"].items()
    ]
    title = f"{population['name']}: {number(population['members'])} members"
    return Grid(title, ["attribute", "groups"], rows, words=2)


def plan_table(facts: Mapping[str, Any], title: str = "Expected errors, best first") -> Grid:
    """What each strategy is expected to come to, in points of the difference."""
    agents = list(facts["cost"]["queries"])
    shown = agents if len(agents) <= 6 else []
    rows = []
    for one in facts["forecasts"]:
        name = one["strategy"] + (" *" if one["chosen"] else "")
        rows.append([name, _points(one["error"]), *(_points(one["rmse"][a]) for a in shown)])
    return Grid(title, ["strategy, * is followed", "mean error", *shown], rows)


def _points(value: float) -> str:
    return f"{100 * value:.2f}" if math.isfinite(value) else "not finite"


def cost_lines(facts: Mapping[str, Any]) -> list[str]:
    """What an audit will cost, in words."""
    cost = facts["cost"]
    total, checks = sum(cost["queries"].values()), sum(cost["checks"].values())
    text = f"cost    {number(total)} queries in at least {number(cost['calls'])} calls"
    text += f", {number(checks)} of them to check the platform" if checks else ""
    if cost["least_seconds"]:
        text += f"; at its pace {quantity(cost['least_seconds'], 'seconds')} at least"
    return [text, *(f"note    {note}" for note in facts["population"]["notes"])]


def caveats(found: Mapping[str, Any]) -> list[str]:
    """What a reader has to know before any finding."""
    texts = []
    checked = found["consistency"]
    if checked["differ"]:
        text = f"the platform {checked['verdict']}: of {checked['pairs']} answers about members "
        text += f"that two agents asked about, {checked['differ']} differ"
        texts.append(f"{text}; or an agent does not report what it heard")
    outside: dict[str, list[str]] = {}
    for title, pool in found["pool"].items():
        if pool["torn"]:
            groups = ", ".join(pool["torn"])
            text = f"{title}: agents contradict each other about {groups}: more of them lie than "
            texts.append(f"{text}was reckoned with, or the platform answers them differently")
        for agent in pool["outside"]:
            outside.setdefault(agent, []).append(title)
    for agent, titles in outside.items():
        text = f"what {agent} reported does not fit what the others did"
        texts.append(f"{text}: {', '.join(titles)}")
    lost = sum(one["lost"] for one in found["agents"])
    refused = sum(one["refused"] for one in found["agents"])
    if lost:
        texts.append(f"{_queries(lost)} spent and never answered")
    if refused:
        text = f"{_queries(refused)} refused; findings are about those who were answered"
        texts.append(text)
    return texts


def _queries(count: int) -> str:
    return f"{number(count)} {'query was' if count == 1 else 'queries were'}"
