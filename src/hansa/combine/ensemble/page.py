"""An ensemble's page: its rules, what they are compared with, its members and what travelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from hansa.base.component import register
from hansa.base.lazy import polars as pl
from hansa.combine.ensemble import charts
from hansa.report import pictures
from hansa.report.folder import RunFolder
from hansa.report.grid import Grid
from hansa.report.measured import Measured
from hansa.report.page import Section, Tile
from hansa.report.run_page import RunPage
from hansa.report.scores import scores
from hansa.report.units import label, number, quantity

TABLE = "table.json"
_BEST = 8
_COLUMNS = ["bytes a client, formula", "counted", "note"]


class Ensemble(Measured):
    """An ensemble that has come to its table."""

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Its rules, the best client and the baselines."""
        return list((self.run.read_json(TABLE) or {}).get("rows", []))

    @cached_property
    def members(self) -> list[dict[str, Any]]:
        """The clients' models."""
        return list((self.run.read_json(TABLE) or {}).get("members", []))

    @cached_property
    def kept(self) -> dict[str, Any]:
        """The line of the rule that is kept; of a run cut short at its end, the best's."""
        rules = [row for row in self.rows if row["kind"] == "rule"]
        named = [row for row in rules if row["name"] == self.summary.get("chosen")]
        return named[0] if named else max(rules, key=lambda row: bool(row["note"]))

    @cached_property
    def why(self) -> str:
        """Why it is kept."""
        return str(self.summary.get("why") or self.kept["note"])

    @cached_property
    def alone(self) -> list[float]:
        """The accuracy of each member alone."""
        return [member["accuracy"] for member in self.members]


@register("ensemble")
class EnsemblePage(RunPage):
    """An ensemble: its rules, what they are compared with, its members and what travelled."""

    def claim(self, path: Path, config: Mapping[str, Any] | None) -> int:
        """A run with clients and rules that has come to its table."""
        return 3 * ({"clients", "rules"} <= set(config or ()) and (path / TABLE).exists())

    def read(self, folder: RunFolder | Path) -> Ensemble:
        """The folder with its table."""
        return Ensemble(folder)

    def called(self, folder: RunFolder) -> str:
        """The rule that is kept."""
        rule = (folder.summary or {}).get("chosen")
        return f"ensemble by {rule}" if rule else "ensemble"

    def who(self, of: Measured) -> str:
        """They are clients."""
        return "clients"

    def headline(self, of: Ensemble) -> str:  # type: ignore[override]
        """How many were combined, and by what."""
        return f"Ensemble of {len(of.members)} clients, combined by {of.kept['name']}"

    def sentence(self, of: Ensemble) -> str:  # type: ignore[override]
        """What was combined, what came of it and what it cost."""
        data, alone = of.config.get("data", {}), of.alone
        name = data.get("name") if isinstance(data, Mapping) else data
        spent = f"{quantity(of.kept['counted'], 'bytes')} a client"
        if "seconds" in of.summary:
            spent += f" and {quantity(of.summary['seconds'], 'time')} of wall time"
        return (
            f"{len(of.members)} clients trained a model each on their part of {name} and uploaded "
            f"it once; of {sum(row['kind'] == 'rule' for row in of.rows)} rules to combine them, "
            f"{of.kept['name']} was kept: {of.why}. Its test accuracy is "
            f"{quantity(of.kept['accuracy'], 'accuracy')}, that of the models alone "
            f"{quantity(sum(alone) / len(alone), 'accuracy')} on average. It cost {spent}."
        )

    def tiles(self, of: Ensemble) -> list[Tile]:  # type: ignore[override]
        """What matters most; the accuracy is that of the rule kept."""
        kept, alone = of.kept, of.alone
        low, high = (quantity(limit(alone), "accuracy") for limit in (min, max))
        mean = quantity(sum(alone) / len(alone), "accuracy")
        formula = quantity(kept["formula"], "bytes")
        tiles = [
            Tile(f"accuracy of {kept['name']}", quantity(kept["accuracy"], "accuracy"), "kept"),
            Tile("the models alone, mean", mean, f"{low} to {high} over clients"),
            Tile(
                "sent and received by a client",
                quantity(kept["counted"], "bytes"),
                f"{formula} by FENS's formula",
            ),
        ]
        if others := [row for row in of.rows if row["kind"] == "baseline"]:
            best = max(others, key=lambda row: row["accuracy"])
            remark = f"{best['name']}, {quantity(best['counted'], 'bytes')} a client"
            tiles.insert(1, Tile("best baseline", quantity(best["accuracy"], "accuracy"), remark))
        if phases := of.summary.get("phases"):
            slow = max(phases, key=lambda name: phases[name])
            remark = f"{slow.replace('_', ' ')}: {quantity(phases[slow], 'time')}"
            tiles.append(Tile("wall time", quantity(of.summary["seconds"], "time"), remark))
        return tiles

    def main_chart(self, of: Ensemble) -> list[Any]:  # type: ignore[override]
        """All rules over the rounds of phase 2, or against what a client sends and receives."""
        rules = [row["name"] for row in of.rows if row["kind"] == "rule"]
        curves = {name: _curve(of.metrics, name) for name in rules}
        return [charts.rules_chart(of.rows, curves, str(of.kept["name"]))]

    def unfolded(self, of: Ensemble) -> list[Section]:  # type: ignore[override]
        """The rules, and the members beside their data."""
        removal = of.run.read_json("removal.json")
        clients = [str(member["client"]) for member in of.members]
        beside = [charts.members_chart(of.members)]
        if of.partition.get("histogram"):
            beside.append(pictures.label_picture(of.partition | {"names": clients}, "client"))
        note = "Proxies are what clients held back; rules that are fitted are judged there out of "
        note += "fold. The test set is used for this table alone."
        for liars in _liars(of.rows):
            note += f" “{_said(liars)}” is what of the proxies a rule still gets right where the "
            note += "worst so many members all vote for the worst class, as surely as anybody does."
        return [
            Section("What was removed, and what stays", grid=removal and _removed(removal)),
            Section("Rules", grid=self.table(of, every=True), note=note),
            Section("Members and their data", beside),
        ]

    def folded(self, of: Ensemble) -> list[Section]:  # type: ignore[override]
        """What was sent, by client."""
        return [Section("What travels", grid=_travel(of), note=_quantized(of), folded=True)]

    def others(self, of: Measured) -> list[Section]:
        """Its metrics are the lines of its chart."""
        return []

    def table(self, of: Ensemble, *, every: bool = False) -> Grid:  # type: ignore[override]
        """Every rule, the best client and every baseline, the best on the test set first.

        Else the eight best, among them the one that is kept.
        """
        chosen = str(of.kept["name"])
        rows = sorted(of.rows, key=lambda row: -row["accuracy"])
        if not every:
            kept = [row for row in rows[_BEST:] if _is_kept(row, chosen)]
            rows = rows[: _BEST - len(kept)] + kept
        return Grid("Test accuracy, * is kept", columns(rows), lines(rows, chosen), remark=True)


def columns(table: Sequence[Mapping[str, Any]]) -> list[str]:
    """The heads of the table."""
    liars = [_said(f) for f in _liars(table)]
    return ["", "accuracy", "on proxies", *liars, *map(label, _asked(table)), *_COLUMNS]


def _liars(table: Sequence[Mapping[str, Any]]) -> list[int]:
    """How many members lie, where rules were judged so."""
    return sorted({row["liars"] for row in table if row.get("liars") is not None})


def _said(liars: int) -> str:
    return f"{liars} {'lies' if liars == 1 else 'lie'}"


def _asked(table: Sequence[Mapping[str, Any]]) -> list[str]:
    """The metrics that were asked for, without what they say of single classes, and accuracy."""
    every = dict.fromkeys(name for row in table for name in row.get("figures") or ())
    return [name for name in scores(every) if name != "accuracy"]


def lines(table: Sequence[Mapping[str, Any]], chosen: str) -> list[list[str]]:
    """The table as text."""
    rows, asked = [], _asked(table)
    for row in sorted(table, key=lambda row: -row["accuracy"]):
        title = row["name"] + (" *" if _is_kept(row, chosen) else "")
        judged = row.get("proxy_accuracy")
        costs = [quantity(row[key], "bytes") if row[key] else "" for key in ("formula", "counted")]
        robust = [row.get("proxy_robust_accuracy")] if _liars(table) else []
        shares = [quantity(s, "accuracy") for s in (row["accuracy"], judged, *robust)]
        more = [quantity((row.get("figures") or {}).get(name), name) for name in asked]
        rows.append([title, *shares, *more, *costs, row.get("note", "")])
    return rows


def _is_kept(row: Mapping[str, Any], chosen: str) -> bool:
    return bool(row["name"] == chosen and row["kind"] == "rule")


def markdown(table: Sequence[Mapping[str, Any]], chosen: str) -> str:
    """The table as Markdown."""
    heads = columns(table)
    rows = [heads, ["---"] * len(heads), *lines(table, chosen)]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def _curve(metrics: pl.DataFrame, rule: str) -> list[tuple[int, float]]:
    rows = metrics.filter(pl.col("name") == f"accuracy_{rule}").sort("round")
    return list(zip(rows["round"].to_list(), rows["value"].to_list(), strict=True))


def _travel(of: Ensemble) -> Grid:
    """Each client's model: what it is, how good alone, its size as trained and as sent to all."""
    sizes = of.partition
    held = sizes.get("proxies") or []
    rows = []
    for k, member in enumerate(of.members):
        trained = number(sizes["sizes"][k]) if sizes.get("sizes") else ""
        form = str(member.get("form", "")).rpartition(":")[2]
        rows.append(
            [
                f"client {member['client']}",
                form,
                trained,
                number(held[k]) if held else "",
                quantity(member["accuracy"], "accuracy"),
                quantity(member["upload_bytes"], "bytes"),
                quantity(member["download_bytes"], "bytes"),
            ]
        )
    columns = ["", "model", "trained on", "proxies", "accuracy", "uploaded", "sent to all"]
    return Grid("", columns, rows, words=2)


def _quantized(of: Ensemble) -> str:
    way = of.config.get("quantize")
    up = sum(member["upload_bytes"] for member in of.members)
    down = sum(member["download_bytes"] for member in of.members)
    words = "as trained" if way == "none" else "with weights in 8 bits, one scale a channel"
    words += ", and outputs of layers in 256 levels" if way == "static" else ""
    share = f", {100 * down / up:.0f} % of the {quantity(up, 'bytes')} uploaded" if up else ""
    return f"Networks are sent {words}. The ensemble is {quantity(down, 'bytes')}{share}."


def _removed(removal: Mapping[str, Any]) -> Grid:
    """What became of each part of an ensemble when a client was removed."""
    kept = ", ".join(map(str, removal["kept_clients"]))
    rows = [
        ["removed", f"client {removal['removed']}: its model and its proxy"],
        [f"models of clients {kept}", str(removal["kept_models"])],
        ["fitted anew, on the others' proxies", ", ".join(removal["refitted"])],
        ["statistics that stay", str(removal.get("kept_statistics", "not recorded"))],
    ]
    return Grid("", ["", ""], rows, words=2)
