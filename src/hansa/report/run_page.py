"""The page of a run: one story, whatever the verb. Families of runs refine it in their rooms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hansa.base.component import register
from hansa.base.lazy import polars as pl
from hansa.base.paths import short
from hansa.base.yamltext import dump_yaml
from hansa.report import pictures, tables
from hansa.report.curves import Curves, curves_chart
from hansa.report.fault_log import FaultLog
from hansa.report.fault_picture import fault_pictures
from hansa.report.folder import RunFolder
from hansa.report.grid import Grid
from hansa.report.guarantee import privacy_grid, privacy_note, privacy_tile
from hansa.report.measured import Measured
from hansa.report.page import Page, Section, Tile
from hansa.report.series import is_constant, is_straight
from hansa.report.story import cost, ending, status
from hansa.report.units import dimension, label, number, quantity

_BANDS = 4  # lines
ONE_SEED = "It is one run: how much seeds differ is not in it."


@register("run")
class RunPage(Page):
    """Any run: its score against what it spent, its nodes and data; all else is folded away."""

    def claim(self, path: Path, config: Mapping[str, Any] | None) -> int:
        """Every folder with settings is a run's."""
        return int(config is not None)

    def read(self, folder: RunFolder | Path) -> Measured:
        """The folder with its measurements."""
        return Measured(folder)

    def called(self, folder: RunFolder) -> str:
        """The name of the run's algorithm, or else its verb, or else its folder."""
        chosen = folder.config.get("algorithm")
        name = chosen.get("name") if isinstance(chosen, Mapping) else chosen
        return short(str(name or folder.config.get("verb") or folder.path.name))

    def who(self, of: Measured) -> str:
        """What the run's nodes are called, in the plural."""
        return "clients" if of.servers else "nodes"

    def headline(self, of: Measured) -> str:
        """What ran, and on how many nodes."""
        return ", ".join(filter(None, [self.called(of.run), self._many(of)]))

    def _many(self, of: Measured) -> str:
        return f"{number(of.nodes)} {self.who(of)}" if of.nodes else ""

    def sentence(self, of: Measured) -> str:
        """What was done, how it ended, what came of it and what it cost."""
        data = of.config.get("data")
        data = data.get("name") if isinstance(data, Mapping) else data
        on = f" on {short(str(data))}" if data else ""
        subject = f"{self._many(of)} ran " if of.nodes else ""
        done = f"{subject}{self.called(of.run)}{on}{'' if subject else ' ran'} {ending(of)}."
        return " ".join(filter(None, [done[0].upper() + done[1:], self.result(of), cost(of)]))

    def result(self, of: Measured) -> str:
        """What the run's score came to, as a sentence."""
        row = self.last(of, of.main)
        if row is None or of.main is None:
            return ""
        words = label(of.main)
        text = f"{words[0].upper() + words[1:]} is {quantity(row['mean'], of.main)}"
        if row["min"] is not None:
            text += f" on average, {self._range(row)}"
        average = self.last(of, f"{of.main}_average_model")
        if average is not None and average["round"] == row["round"]:
            text += f", and {quantity(average['mean'], of.main)} for the average of the models"
        client = self.last(of, f"{of.main}_per_client")
        if client is not None:
            text += (
                f", and {quantity(client['mean'], of.main)} on average on what clients hold back"
            )
            text += f" ({self._range(client)})" if client["min"] is not None else ""
        return text + "."

    def last(self, of: Measured, name: str | None) -> dict[str, Any] | None:
        """A metric where it was last measured (a row of :func:`hansa.report.series.final`)."""
        rows = of.last.filter(pl.col("name") == (name or ""))
        return rows.to_dicts()[0] if len(rows) else None

    def _range(self, row: Mapping[str, Any]) -> str:
        low, high = quantity(row["min"], row["name"]), quantity(row["max"], row["name"])
        return (
            f"{low} to {high} over {row['who']}" if low != high else f"the same at all {row['who']}"
        )

    def status(self, of: Measured) -> str:
        """How the run ended, in a word."""
        return status(of)

    def subtitle(self, of: Measured) -> str:
        """What was run, where it is, and when in a round its models were measured."""
        parts = [str(of.summary.get("verb", "run")), of.run.path.name]
        evaluate = of.config.get("evaluate")
        if isinstance(evaluate, dict) and "when" in evaluate:
            parts.append(f"models measured {str(evaluate['when']).replace('_', ' the ')}")
        return " · ".join(parts)

    def notes(self, of: Measured) -> list[str]:
        """That it diverged, and what is damaged."""
        diverged = [t[0].upper() + t[1:] + "." for t in [tables.divergence(of.run)] if t]
        of.everything  # noqa: B018 - what is damaged shows when it is read
        lost = [
            f"metrics/{name} is damaged: what it held is missing here." for name in of.run.damaged
        ]
        return diverged + lost

    def tiles(self, of: Measured) -> list[Tile]:
        """The score, what else says how good the models are, and what all that cost."""
        names = dict.fromkeys([str(of.main), f"{of.main}_average_model", "loss"])
        every = [row for row in (self.last(of, name) for name in names) if row is not None]
        tiles = []
        for row in [row for row in every if row["round"] == every[0]["round"]][:2]:
            remark = self._range(row) if row["min"] is not None else f"round {number(row['round'])}"
            tiles.append(Tile(label(row["name"]), quantity(row["mean"], row["name"]), remark))
        said = (of.run.summary or {}).get("privacy")
        return tiles + ([privacy_tile(said)] if said else []) + self.costs(of)

    def costs(self, of: Measured) -> list[Tile]:
        """What the run spent."""
        spent, who = tables.totals(of.run, of.metrics), self.who(of)
        tiles = []
        if "bytes" in spent:
            each = quantity(spent["bytes"] / of.nodes, "bytes") if of.nodes else ""
            each = each and f"{each} a {who[:-1]}" + ", up and down" * bool(of.servers)
            if added := (of.run.summary or {}).get("overhead_bytes"):
                each += "; " * bool(each) + f"links added {quantity(added, 'bytes')}"
            tiles.append(Tile("sent in all", quantity(spent["bytes"], "bytes"), each))
        for name, remark in (
            ("modelled_time", "of the server" if of.servers else f"of the slowest {who[:-1]}"),
            ("energy", f"of all {who}"),
            ("time", f"{number(of.rounds)} rounds"),
        ):
            if name in spent and len(tiles) < 3:
                tiles.append(
                    Tile(
                        "wall time" if name == "time" else label(name),
                        quantity(spent[name], name),
                        remark,
                    )
                )
        return tiles

    def curves(self, of: Measured, family: str) -> Curves:
        """The lines of a family of metrics, and what they and their bands are."""
        lines = of.families[family]
        frames = {line.label: of.curve(line) for line in lines}
        several = len(frames) > _BANDS  # their bands would hide each other
        spread = [(int(max(f["nodes"], default=1)), who_of(name)) for name, f in frames.items()]
        nodes, who = max(spread, default=(1, ""))
        note = ""
        if any(line.low for line in lines):
            note = "Line: mean; band: lowest to highest."
        elif nodes > 1:
            note = f"Line: mean of {number(nodes)} {who}"
            note += "." if several else "; band: the lowest to the highest of them."
        elif who.startswith("server"):
            note = "One model, the server's: there is no spread over nodes."
        if several:
            level = pl.col("mean")
            frames = {name: f.with_columns(low=level, high=level) for name, f in frames.items()}
        return Curves(frames, note)

    def compared(self, of: Measured, family: str) -> Curves:
        """The one line of a family that stands for this run among others, named ``""``."""
        first = of.families[family][0]
        return Curves({"": of.curve(first)}, who_of(first.label))

    def sections(self, of: Measured) -> list[Section]:
        """The chart, what to know, the nodes and their data; then, folded, all else."""
        return [
            Section("", self.main_chart(of)),
            Section("Remarks", grid=Grid("", [""], [[text] for text in self._remarks(of)])),
            *self.privacy(of),
            *self.faults(of),
            *self.unfolded(of),
            *self.folded(of),
            *self.others(of),
            Section(
                "Every figure", grid=tables.final_table(of.run, of.metrics, every=True), folded=True
            ),
            Section("Events", grid=tables.events_table(of.run), folded=True),
            Section("Settings", text=dump_yaml(of.config, sort_keys=False), folded=True),
            Section("Environment", grid=tables.environment_table(of.run), folded=True),
        ]

    def privacy(self, of: Measured) -> list[Section]:
        """What differential privacy came to, where the run has some."""
        said = (of.run.summary or {}).get("privacy")
        if not said:
            return []
        return [Section("Privacy", grid=privacy_grid(said), note=privacy_note(said))]

    def faults(self, of: Measured) -> list[Section]:
        """What went wrong, and when, if something did."""
        log = FaultLog.of(of.run.events(), of.config)
        if not log or not of.rounds:
            return []
        return [Section("Faults", fault_pictures(log, of.rounds, self.who(of)[:-1]))]

    def main_chart(self, of: Measured) -> list[Any]:
        """The score against rounds, or what was spent; none where a figure says it all."""
        family = self._main(of)
        if family is None:
            return []
        curves = self.curves(of, family)
        note = " ".join(filter(None, [curves.note, ONE_SEED]))
        return [curves_chart(replace(curves, note=note), family, large=True)]

    def _main(self, of: Measured) -> str | None:
        """The family of the large chart."""
        able = [f for f in of.families if f in (of.main, "loss")]
        return next((f for f in able if self.says_more(of, f, chosen=True)), None)

    def unfolded(self, of: Measured) -> list[Section]:
        """What a family of runs shows after its chart: the nodes and their data."""
        return [Section("Nodes and data", self.nodes_and_data(of), note=self.sizes(of))]

    def folded(self, of: Measured) -> list[Section]:
        """What a family of runs has beside what all have, folded away."""
        return []

    def table(self, of: Measured, *, every: bool = False) -> Grid:
        """Each metric where it was last measured."""
        return tables.final_table(of.run, of.metrics, every=every)

    def nodes_and_data(self, of: Measured) -> list[Any]:
        """The final score of each node, and how the data are divided."""
        drawn, who = [], self.who(of)[:-1]
        name, values = self.by_node(of)
        if len(set(values.values())) > 1:
            drawn.append(pictures.final_picture(values, name, who))
        if of.partition.get("histogram"):
            drawn.append(pictures.label_picture(of.partition, who))
        if len(set(of.partition.get("sizes") or ())) > 2:
            drawn.append(pictures.sizes_picture(of.partition["sizes"], who))
        return drawn

    def by_node(self, of: Measured) -> tuple[str, dict[int, float]]:
        """A metric's name and its last value at each node that is no server."""
        single = of.metrics.filter(pl.col("node").is_not_null() & ~pl.col("server"))
        for name in (f"{of.main}_per_client", of.main or "", f"validation_{of.main}"):
            rows = single.filter(pl.col("name") == name)
            rows = rows.filter(pl.col("round") == pl.col("round").max())
            if len(rows):
                return name, dict(zip(rows["node"].to_list(), rows["value"].to_list(), strict=True))
        return "", {}

    def sizes(self, of: Measured) -> str:
        """How many examples a node has, as a sentence."""
        held = of.partition.get("sizes") or []
        if not held:
            return ""
        low, high = number(min(held)), number(max(held))
        many = low if low == high else f"{low} to {high}"
        whose, every = self.who(of), of.partition.get("clients", len(held))
        if every > len(held):  # the folder of a run of very many has a sample of them
            seen = f"{number(len(held))} of the {number(every)} {whose} were looked at"
            return f"{seen}: each holds {many} training examples."
        return f"Each of the {number(len(held))} {whose} holds {many} training examples."

    def _remarks(self, of: Measured) -> list[str]:
        warned = [
            str(e["text"])
            for e in of.run.events()
            if e["kind"] in ("warning", "remark") and "text" in e
        ]
        return list(dict.fromkeys([*(of.run.read_json("remarks.json") or []), *warned]))

    def others(self, of: Measured) -> list[Section]:
        """Whatever else changed in a way that a figure does not tell, folded away."""
        elsewhere = {self._main(of), *self.elsewhere(of)}
        names = [f for f in of.families if f not in elsewhere and self.says_more(of, f)]
        charts = {f: curves_chart(self.curves(of, f), f) for f in names}
        traffic = [f for f in names if is_exchange(f)]
        return [
            Section("Other metrics", [charts[f] for f in names if f not in traffic], folded=True),
            Section("Exchange", [charts[f] for f in traffic], folded=True),
        ]

    def elsewhere(self, of: Measured) -> Sequence[str]:
        """The families that a section of the page's own draws."""
        return ()

    def comparable(self, family: str) -> bool:
        """Whether a family of metrics says something beside those of other runs."""
        return True

    def says_more(self, of: Measured, family: str, *, chosen: bool = False) -> bool:
        """Whether a family's curves say more than its last figures do."""
        frames = list(self.curves(of, family).frames.values())
        if max(map(len, frames), default=0) < 2 or is_constant(frames):
            return False
        amount = dimension(family) in ("B", "s", "J")
        return chosen or not (amount and all(is_straight(f) for f in frames))


def who_of(words: str) -> str:
    """Whom a line is about, of its words in the legend."""
    parts = [part for part in words.split(", ") if not part.startswith("class ")]
    return parts[0]


def is_exchange(family: str) -> bool:
    """Whether a metric is about messages."""
    return bool({"bytes", "messages"} & set(family.split("_")))
