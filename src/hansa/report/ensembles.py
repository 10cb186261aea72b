"""An ensemble's page: its rules, what they are compared with, its members and what travelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hansa.base.lazy import polars as pl
from hansa.report import ensemble_charts, pictures
from hansa.report.folder import RunFolder
from hansa.report.sections import Section
from hansa.report.tables import Grid
from hansa.report.units import quantity

TABLE = "table.json"
_BEST = 8
COLUMNS = ["", "accuracy", "on proxies", "bytes a client, formula", "counted", "note"]


def is_ensemble(run: RunFolder) -> bool:
    """Whether a folder holds an ensemble that has come to its table."""
    return {"clients", "rules"} <= set(run.config) and (run.path / TABLE).exists()


def rules_table(run: RunFolder, *, every: bool = True) -> Grid:
    """Every rule, the best client and every baseline, the best on the test set first.

    Args:
        run: the ensemble's.
        every: all of them; else the eight best, among them the one that is kept.
    """
    chosen = str((run.summary or {}).get("chosen", ""))
    table = sorted(_rows(run), key=lambda row: -row["accuracy"])
    if not every:
        kept = [row for row in table[_BEST:] if _is_kept(row, chosen)]
        table = table[: _BEST - len(kept)] + kept
    rows = lines(table, chosen)
    return Grid("Test accuracy, * is kept", COLUMNS, rows)


def lines(table: Sequence[Mapping[str, Any]], chosen: str) -> list[list[str]]:
    """The table as text."""
    found = []
    for row in sorted(table, key=lambda row: -row["accuracy"]):
        name = row["name"] + (" *" if _is_kept(row, chosen) else "")
        judged = row.get("proxy_accuracy")
        costs = [quantity(row[key], "bytes") if row[key] else "" for key in ("formula", "counted")]
        shares = [f"{row['accuracy']:.4f}", "" if judged is None else f"{judged:.4f}"]
        found.append([name, *shares, *costs, row.get("note", "")])
    return found


def _is_kept(row: Mapping[str, Any], chosen: str) -> bool:
    return row["name"] == chosen and row["kind"] == "rule"


def markdown(table: Sequence[Mapping[str, Any]], chosen: str) -> str:
    """The table as Markdown."""
    rows = [COLUMNS, ["---"] * len(COLUMNS), *lines(table, chosen)]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def headline(run: RunFolder) -> str:
    """The title of the page."""
    return f"Ensemble of {len(_members(run))} clients, combined by {_kept(run)['name']}"


def tiles(run: RunFolder) -> list[tuple[str, str, str]]:
    """(name, number, remark) of what matters most; the accuracy is that of the rule kept."""
    kept, members, summary = _kept(run), _members(run), run.summary or {}
    alone = [member["accuracy"] for member in members]
    mean = sum(alone) / len(alone)
    found = [
        (f"accuracy of {kept['name']}", quantity(kept["accuracy"], "accuracy"), _why(run)),
        (
            "the members alone, mean",
            quantity(mean, "accuracy"),
            f"{quantity(min(alone), 'accuracy')} to {quantity(max(alone), 'accuracy')}",
        ),
        (
            "bytes a client, counted",
            quantity(kept["counted"], "bytes"),
            f"{quantity(kept['formula'], 'bytes')} by FENS's formula",
        ),
    ]
    if others := [row for row in _rows(run) if row["kind"] == "baseline"]:
        best = max(others, key=lambda row: row["accuracy"])
        remark = f"{best['name']}, {quantity(best['counted'], 'bytes')} a client"
        found.insert(1, ("best baseline", quantity(best["accuracy"], "accuracy"), remark))
    if phases := summary.get("phases"):
        spent = [
            f"{name.replace('_', ' ')} {quantity(s, 'time')}" for name, s in phases.items() if s
        ]
        found.append(("wall time", quantity(summary["seconds"], "time"), ", ".join(spent)))
    return found


def sections(run: RunFolder, metrics: pl.DataFrame) -> list[Section]:
    """The sections of the page that are an ensemble's own."""
    rows, members = _rows(run), _members(run)
    chosen = str(_kept(run)["name"])
    curves = {row["name"]: _curve(metrics, row["name"]) for row in rows if row["kind"] == "rule"}
    drawn = [
        ensemble_charts.accuracy_chart(rows, curves, chosen),
        ensemble_charts.bytes_chart(rows),
    ]
    partition = run.read_json("partition.json") or {}
    clients = [str(member["client"]) for member in members]
    beside = [ensemble_charts.members_chart(members)]
    if partition.get("histogram"):
        beside.append(pictures.label_picture(partition | {"names": clients}, "client"))
    note = f"{chosen} was kept: {_why(run)}. Proxies are what clients held back; rules that are "
    note += "fitted are judged there out of fold. The test set is used for this table alone."
    removal = run.read_json("removal.json")
    about = "What was removed, and what stays"
    return [
        *([Section(about, grid=_removed(removal))] if removal else []),
        Section("Rules", grid=rules_table(run), note=note),
        Section("Accuracy and bytes", [chart for chart in drawn if chart]),
        Section("Members and their data", beside),
        Section("What travels", grid=_travel(run), note=_quantized(run)),
    ]


def _curve(metrics: pl.DataFrame, rule: str) -> list[tuple[int, float]]:
    rows = metrics.filter(pl.col("name") == f"accuracy_{rule}").sort("round")
    return list(zip(rows["round"].to_list(), rows["value"].to_list(), strict=True))


def _travel(run: RunFolder) -> Grid:
    """Each client's model: what it is, how good alone, its size as trained and as sent to all."""
    sizes = run.read_json("partition.json") or {}
    held = sizes.get("proxies") or []
    rows = []
    for k, member in enumerate(_members(run)):
        trained = sizes["sizes"][k] if sizes.get("sizes") else ""
        form = str(member.get("form", "")).rpartition(":")[2]
        rows.append(
            [
                f"client {member['client']}",
                form,
                str(trained),
                str(held[k]) if held else "",
                quantity(member["accuracy"], "accuracy"),
                quantity(member["upload_bytes"], "bytes"),
                quantity(member["download_bytes"], "bytes"),
            ]
        )
    columns = ["", "model", "trained on", "proxies", "accuracy", "uploaded", "sent to all"]
    return Grid("", columns, rows, words=2)


def _quantized(run: RunFolder) -> str:
    way = run.config.get("quantize")
    up = sum(member["upload_bytes"] for member in _members(run))
    down = sum(member["download_bytes"] for member in _members(run))
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


def _rows(run: RunFolder) -> list[dict[str, Any]]:
    return (run.read_json(TABLE) or {}).get("rows", [])


def _members(run: RunFolder) -> list[dict[str, Any]]:
    return (run.read_json(TABLE) or {}).get("members", [])


def _kept(run: RunFolder) -> dict[str, Any]:
    """The line of the rule that is kept; of a run that was cut short at its end, the best's."""
    rules = [row for row in _rows(run) if row["kind"] == "rule"]
    chosen = (run.summary or {}).get("chosen")
    named = [row for row in rules if row["name"] == chosen]
    return named[0] if named else max(rules, key=lambda row: bool(row["note"]))


def _why(run: RunFolder) -> str:
    return str((run.summary or {}).get("why") or _kept(run)["note"])
