"""The page of an audit, for whoever has to judge a platform: what was asked, of whom, and found."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from hansa.audit import audit_tables as tables
from hansa.audit.forest import forest
from hansa.base.component import register
from hansa.report.folder import RunFolder
from hansa.report.grid import Grid
from hansa.report.measured import Measured
from hansa.report.page import Figure, Section, Tile
from hansa.report.run_page import RunPage
from hansa.report.units import number, quantity

AUDIT, PLAN = "audit.json", "plan.json"
_NAMED = 6
ADVICE = (
    "This page is a measurement, not legal advice: whether a difference is lawful depends on more "
    "than rates."
)
TERMS = (
    (
        "yes, difference",
        "The share of a group that the platform answers favourably, weighed by the population; a "
        "difference is that share less the reference group's, in points (per cent of the group).",
    ),
    (
        "interval",
        "Where the whole population's value lies, at the confidence named above. A finding is "
        "decided only where the whole interval is on one side of the line: of a difference 0 (or "
        "what is tolerated), of a ratio 0.8.",
    ),
    (
        "ratio, four-fifths rule",
        "The share of a group over that of the group with the highest share (US Uniform Guidelines "
        "on Employee Selection Procedures, 29 CFR 1607.4 D; the impact ratio of New York City's "
        "Local Law 144). Below 0.8 is evidence of adverse impact, above it is not; where the "
        "interval holds 0.8, it is undecided.",
    ),
    (
        "Fisher's p",
        "Chance of answers at least so unlike between group and reference if both were treated "
        "alike, from the answers as they came, unweighted.",
    ),
    (
        "more queries",
        "How many more would decide a finding if the estimates stayed as they are.",
    ),
    (
        "small, unknown",
        "Groups below 2 % of the population, and members whose group nobody knows, are listed and "
        "never dropped.",
    ),
    (
        "undefined",
        "A share of nothing over a share of nothing, or a group of which nothing was heard: no "
        "evidence of fairness.",
    ),
)


class Audit(Measured):
    """An audit that has come to its findings."""

    @cached_property
    def found(self) -> dict[str, Any]:
        """Findings, groups, the platform's consistency."""
        return self.run.read_json(AUDIT) or {}

    @cached_property
    def plan(self) -> dict[str, Any]:
        """What was expected."""
        return self.run.read_json(PLAN) or {}

    @property
    def attributes(self) -> list[str]:
        """That were audited."""
        return list(self.plan["population"]["groups"])

    def count(self, *verdicts: str) -> int:
        """Findings with one of some verdicts."""
        return sum(row["verdict"] in verdicts for row in self.found["findings"])

    @property
    def platform(self) -> str:
        """What was asked, in words."""
        box = self.config["box"]
        name = box["name"]
        if name == "own":
            return "the recorded outcomes"
        if name == "disturbed":
            return "a disturbed platform (a study)"
        where = box.get("url") or box.get("function") or box.get("path") or name
        return f"the platform {Path(str(where)).name if 'path' in box else where}"


@register("audit")
class AuditPage(RunPage):
    """An audit: findings with their intervals, the groups, the queries, and how to read them."""

    def claim(self, path: Path, config: Mapping[str, Any] | None) -> int:
        """The run of an audit that has come to findings."""
        return 3 * ((config or {}).get("verb") == "audit" and (path / AUDIT).exists())

    def read(self, folder: RunFolder | Path) -> Audit:
        """The folder with its findings."""
        return Audit(folder)

    def called(self, folder: RunFolder) -> str:
        """By its strategy."""
        strategy = (folder.summary or {}).get("strategy")
        return f"audit, {strategy}" if strategy else "audit"

    def figures(self, of: Audit) -> dict[str, Figure]:
        """The estimate of every finding; how many queries it took is a metric."""
        return {
            f"{row['metric']} of {row['attribute']}, {row['group']}": Figure(
                row["estimate"], share=row["unit"] == "share", better=""
            )
            for row in of.found["findings"]
            if row["estimate"] is not None
        }

    def who(self, of: Measured) -> str:
        """They are agents."""
        return "agents"

    def headline(self, of: Audit) -> str:  # type: ignore[override]
        """What was audited, and by which attributes."""
        own = of.config["box"]["name"] == "own"
        what = of.plan["population"]["name"] if own else of.platform
        names = ", ".join(of.attributes)
        if len(of.attributes) > _NAMED:
            names = f"{len(of.attributes)} attributes"
        return f"Audit of {what}: {names}"

    def subtitle(self, of: Audit) -> str:  # type: ignore[override]
        """What the intervals are, and where the run is."""
        confidence = f"{100 * float(of.config['confidence']):g} % intervals"
        return f"audit · {of.run.path.name} · {confidence} · {ADVICE}"

    def sentence(self, of: Audit) -> str:  # type: ignore[override]
        """Who asked whom, and what came of it."""
        population, cost = of.plan["population"], of.found["agents"]
        spent = sum(one["spent"] for one in cost)
        who = "One agent" if len(cost) == 1 else f"{len(cost)} agents"
        text = f"{who} spent {number(spent)} queries on {of.platform}, about the "
        text += f"{number(population['members'])} members of {population['name']}, by "
        text += f"{of.plan['chosen'].replace('_', ' ')}. Of {len(of.found['findings'])} findings "
        text += f"{of.count('below', 'different')} show a difference beyond the "
        text += f"line, {of.count('above', 'similar')} do not, "
        text += f"{of.count('undecided')} are undecided"
        undefined = of.count("undefined")
        return text + (f" and {undefined} undefined." if undefined else ".")

    def notes(self, of: Audit) -> list[str]:  # type: ignore[override]
        """What has to be known before any finding."""
        return [text[0].upper() + text[1:] + "." for text in tables.caveats(of.found)]

    def tiles(self, of: Audit) -> list[Tile]:  # type: ignore[override]
        """Queries, findings, the largest difference, and whether the platform was one for all."""
        agents, checked = of.found["agents"], of.found["consistency"]
        spent, budget = (sum(one[key] for one in agents) for key in ("spent", "budget"))
        silent = sum(one["refused"] + one["lost"] for one in agents)
        tiles = [
            Tile("queries", number(spent), f"of {number(budget)}; {number(silent)} unanswered"),
            Tile(
                "beyond the line",
                number(of.count("below", "different")),
                f"of {len(of.found['findings'])} findings; {of.count('undecided')} undecided",
            ),
        ]
        if worst := self._worst(of):
            title, row = worst
            tiles.append(
                Tile("largest difference", f"{100 * row['difference']:+.1f} points", title)
            )
        remark = f"{checked['differ']} of {checked['pairs']} answers differ"
        if not checked["pairs"]:
            remark = "no member was asked about by two agents"
        elif not checked["differ"]:
            remark = (
                f"of {checked['pairs']} pairs none differs: below {tables.share(checked['bound'])}"
            )
        if singled := checked["singled_out"]:
            remark = f"{', '.join(singled)}: {remark}"
        word = "singles out" if singled else str(checked["verdict"])
        tiles.append(Tile("platform", word, remark))
        sent = sum(one["bytes_sent"] for one in agents)
        sharing = of.config["sharing"]
        tiles.append(Tile("told each other", quantity(sent, "bytes"), f"{sharing}, as encoded"))
        return tiles

    def _worst(self, of: Audit) -> tuple[str, Mapping[str, Any]] | None:
        rows = [
            (f"{title}: {row['group']}", row)
            for title, groups in of.found["groups"].items()
            for row in groups
            if row.get("difference") is not None and row["difference"] == row["difference"]
        ]
        return max(rows, key=lambda pair: abs(pair[1]["difference"]), default=None)

    def main_chart(self, of: Audit) -> list[Any]:  # type: ignore[override]
        """Differences and ratios with their intervals."""
        return forest(of.found["groups"])

    def unfolded(self, of: Audit) -> list[Section]:  # type: ignore[override]
        """Findings, groups, who asked, and how to read it."""
        groups = [
            Section(f"Groups: {title}", grid=tables.groups_table(rows))
            for title, rows in of.found["groups"].items()
        ]
        return [
            Section("Findings", grid=tables.findings_table(of.found, ""), note=self._lines(of)),
            *groups,
            Section("What was asked, by whom", grid=tables.agents_table(of.found, "")),
            Section("One platform for all?", grid=consistency_table(of.found["consistency"])),
            Section("How to read this", grid=Grid("", [], [list(t) for t in TERMS], words=2)),
        ]

    def _lines(self, of: Audit) -> str:
        confidence, count = float(of.config["confidence"]), len(of.found["findings"])
        missed = (1 - confidence) * count
        return (
            "Differences are in points, signed: the first group less the second. Ratios are the "
            f"first over the second. Each interval holds at {100 * confidence:g} % by itself: of "
            f"{count} such, {missed:.1f} can be expected to miss."
        )

    def folded(self, of: Audit) -> list[Section]:  # type: ignore[override]
        """What was expected, and the heads of the ledgers."""
        heads = [[one["agent"], one["head"]] for one in of.found["agents"]]
        conventions = [
            [row["attribute"], row["metric"], row["convention"]] for row in of.found["findings"]
        ]
        notes = [[note] for note in of.plan["population"]["notes"]]
        return [
            Section(
                "What was expected before anything was asked",
                grid=tables.plan_table(of.plan, ""),
                note="Points of the difference: mean error over agents, root mean square of each.",
                folded=True,
            ),
            Section(
                "Conventions", folded=True,
                grid=Grid("", ["attribute", "measure", "what was taken from what"], conventions, 3),
            ),
            Section("Notes on the population", grid=Grid("", [""], notes), folded=True),
            Section(
                "Ledgers", grid=Grid("", ["agent", "digest of the last line"], heads, 2),
                note="Each line of a ledger holds the digest of the one before.", folded=True,
            ),
        ]  # fmt: skip

    def others(self, of: Measured) -> list[Section]:
        """Its metrics are in its tables."""
        return []

    def table(self, of: Audit, *, every: bool = False) -> Grid:  # type: ignore[override]
        """The findings."""
        return tables.findings_table(of.found)


def consistency_table(checked: Mapping[str, Any]) -> Grid:
    """Each agent against all others, over the members that both asked about."""
    rows = [
        [
            one["agent"],
            number(one["pairs"]),
            number(one["differ"]),
            number(one["better"]),
            f"{one['p_direction']:.2g}",
            f"{one['p_rate']:.2g}",
            "answered differently" if one["agent"] in checked["singled_out"] else "",
        ]
        for one in checked["agents"]
        if one["pairs"]
    ]
    columns = [
        "agent", "compared", "differ", "heard yes", "p of the direction", "p of the rate", "",
    ]  # fmt: skip
    return Grid("", columns, rows, remark=True)
