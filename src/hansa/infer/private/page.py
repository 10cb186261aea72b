"""The page of private inference: whether it was exact, what it cost, what its mode hides."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from hansa.base.component import register
from hansa.base.lazy import altair as alt
from hansa.base.lazy import polars as pl
from hansa.infer.private.mode_claims import CLAIMS, claims_grid
from hansa.report.charts import HEIGHT, WIDTH, palette, records, style
from hansa.report.folder import RunFolder
from hansa.report.grid import Grid
from hansa.report.measured import Measured
from hansa.report.page import Section, Tile
from hansa.report.run_page import RunPage
from hansa.report.units import number, quantity

_FLOODED = 40
_GRADE = (
    "Research grade: parameters from a baked table, own ring-LWE code held to SEAL's residue by "
    "residue, not audited, not guaranteed to take the same time whatever is secret."
)


class Answered(Measured):
    """Answers as far as a run has come."""

    @cached_property
    def final(self) -> dict[str, Any]:
        """The figures."""
        return dict(self.summary.get("final") or {})

    @cached_property
    def steps(self) -> list[dict[str, Any]]:
        """One a round: bytes and seconds of a query."""
        asked = self.run.read_json("asked.json") or {}
        return [
            {"round": k, **{name: step[name] / step["times"] for name in step if name != "times"}}
            for k, step in enumerate(asked.get("steps", []), start=1)
            if step["times"]
        ]

    @property
    def mode(self) -> str:
        """The mode."""
        return str(self.config["mode"])

    @property
    def scheme(self) -> dict[str, Any]:
        """The scheme."""
        return dict(self.summary.get("scheme") or {})


@register("private_inference")
class PrivatePage(RunPage):
    """A network asked privately."""

    def claim(self, path: Path, config: Mapping[str, Any] | None) -> int:
        """A run of ``hansa infer private demo`` that has asked something."""
        return 3 * ((config or {}).get("verb") == "private" and (path / "asked.json").exists())

    def read(self, folder: RunFolder | Path) -> Answered:
        """The folder with its figures."""
        return Answered(folder)

    def called(self, folder: RunFolder) -> str:
        """The mode."""
        return f"private inference, {folder.config.get('mode')}"

    def headline(self, of: Answered) -> str:  # type: ignore[override]
        """How many, and how."""
        return f"Private inference on {number(of.final.get('queries', 0))} examples, mode {of.mode}"

    def sentence(self, of: Answered) -> str:  # type: ignore[override]
        """Whether it was exact, and what it cost."""
        final = of.final
        if not final.get("queries"):
            return "Nothing was answered yet."
        wrong, each = final["mismatches"], final["queries"]
        held = "logits" if of.scheme.get("reveals") == "logits" else "classes"
        where = "in garbled circuits" if of.mode == "shares" else "at the client"
        text = "Linear layers ran on ciphertexts at a server in a process of its own, activations "
        text += f"{where}. Of {number(each)} answers {number(wrong) if wrong else 'none'} "
        text += f"differ in {held} from the integer network in the clear; "
        text += f"{quantity(final['accuracy'], 'accuracy')} are right, in float "
        text += f"{quantity(final['accuracy_plain'], 'accuracy')}. A query took "
        text += f"{quantity(final['cpu_seconds'] / each, 'time')} of processors on both sides and "
        text += quantity((final["bytes_up"] + final["bytes_down"]) / each, "bytes")
        text += f" in {number(final['rounds'])} requests."
        if final.get("refused"):
            text += " The server then refused: the budget of equations was spent."
        return text

    def notes(self, of: Answered) -> list[str]:  # type: ignore[override]
        """What the mode is worth."""
        holds = CLAIMS[of.mode][2]
        said = [f"Mode {of.mode} holds against: {holds}. {_GRADE}"]
        distance = (of.summary.get("certificate") or {}).get("distance_log2")
        if distance is not None and distance > -_FLOODED:
            said.append(
                f"Flooding is only {-distance:.0f} bits above the errors that it hides: a client "
                "that follows the protocol can learn of weights; profile n4096 or n8192 has more."
            )
        if not of.final.get("in_range", True):
            said.append("The client decrypted numbers that the network cannot come to.")
        return said

    def tiles(self, of: Answered) -> list[Tile]:  # type: ignore[override]
        """Exactness, accuracy, cost."""
        final = of.final
        if not final.get("queries"):
            return []
        each = final["queries"]
        plain = quantity(final["accuracy_plain"], "accuracy")
        up, down = (quantity(final[name] / each, "bytes") for name in ("bytes_up", "bytes_down"))
        whole = quantity((final["bytes_up"] + final["bytes_down"]) / each, "bytes")
        client, server = (
            quantity(final[name] / each, "time") for name in ("client_seconds", "server_seconds")
        )
        return [
            Tile("answers that differ", number(final["mismatches"]), f"of {number(each)}"),
            Tile("accuracy", quantity(final["accuracy"], "accuracy"), f"in float {plain}"),
            Tile("CPU time a query", quantity(final["cpu_seconds"] / each, "time"),
                 f"client {client}, server {server}"),
            Tile("sent a query", whole, f"{up} up, {down} down"),
            Tile("failure, at most", f"2^{of.final['failure_log2']:.0f}", "of a wrong number"),
        ]  # fmt: skip

    def main_chart(self, of: Answered) -> list[Any]:  # type: ignore[override]
        """Bytes and seconds by round."""
        return [_bytes_chart(of.steps), _time_chart(of.steps)] if of.steps else []

    def unfolded(self, of: Answered) -> list[Section]:  # type: ignore[override]
        """What the mode hides, and the certificate."""
        others = "Figures of attacks on each mode: hansa infer redteam."
        return [
            Section("What modes hide", grid=claims_grid(), note=others),
            Section("Certificate", grid=self._certificate(of)),
        ]

    def others(self, of: Measured) -> list[Section]:
        """There are no curves over rounds of training here."""
        return []

    def table(self, of: Answered, *, every: bool = False) -> Grid:  # type: ignore[override]
        """The figures."""
        final = of.final
        names = {
            "queries": "queries", "mismatches": "answers that differ", "accuracy": "accuracy",
            "accuracy_plain": "accuracy in float", "cpu_seconds": "CPU time",
            "client_seconds": "of the client", "server_seconds": "of the server",
            "bytes_up": "bytes up", "bytes_down": "bytes down", "rounds": "requests a query",
        }  # fmt: skip
        rows = []
        for name, words in names.items():
            value = final.get(name)
            if value is not None:
                rows.append([words, quantity(value, name)])
        return Grid(f"Private inference, mode {of.mode}", ["", ""], rows)

    def _certificate(self, of: Answered) -> Grid:
        sure, scheme = of.summary.get("certificate") or {}, of.scheme
        if not sure:
            return Grid("", ["", ""], [])
        rows = [
            ["parameters, 128 bits", sure["security"].partition(";")[0]],
            ["packing, shuffle", f"{scheme['packing']}, {scheme['hides']}"],
            ["bits of the largest accumulator", str(sure["accumulator_bits"])],
            ["bits of the plaintext", str(sure["plain_bits"])],
            ["largest error of an answer", f"2^{sure['residual_bits']:.1f}"],
            ["error at which an answer is wrong", f"2^{sure['room_bits']:.1f}"],
            ["any number of a query decrypts wrongly", f"2^{sure['failure_log2']:.0f} at most"],
        ]
        if of.mode == "shares":
            rows.append(["what the client decrypts", "uniform modulo q, whatever it sends"])
        else:
            rows.append(["flooding", f"2^{sure['flooding_bits']}, the ceiling"])
            distance = f"2^{sure['distance_log2']:.0f} a number, of honest errors alone"
            rows.append(["statistical distance of flooded errors", distance])
        return Grid("", ["what", "bound"], rows, words=2)


def _bytes_chart(steps: list[dict[str, Any]]) -> Any:
    rows = [
        (step["round"], way, step[f"bytes_{way}"] / 1e3) for step in steps for way in ("up", "down")
    ]
    title = alt.TitleParams("Bytes of a query", subtitle="by request")
    return _bars(rows, "kB", title, ["up", "down"])


def _time_chart(steps: list[dict[str, Any]]) -> Any:
    rows = []
    for step in steps:
        rows.append((step["round"], "client computes", 1e3 * step["client_s"]))
        rows.append((step["round"], "line and server", 1e3 * step["waited_s"]))
    title = alt.TitleParams("Time of a query", subtitle="by request; wall time of a loopback line")
    return _bars(rows, "milliseconds", title, ["client computes", "line and server"])


def _bars(rows: list[tuple[int, str, float]], unit: str, title: Any, kinds: list[str]) -> Any:
    frame = pl.DataFrame(rows, schema=["round", "what", "amount"], orient="row")
    colour = alt.Color(
        "what:N",
        scale=alt.Scale(domain=kinds, range=palette(len(kinds))),
        legend=alt.Legend(title=None, orient="bottom"),
    )
    base = alt.Chart(records(frame)).encode(
        x=alt.X("round:O", title="request", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("amount:Q", title=unit),
        color=colour,
        order=alt.Order("what:N"),
        tooltip=["round:O", "what:N", alt.Tooltip("amount:Q", format=".4g", title=unit)],
    )
    return style(base.mark_bar().properties(width=WIDTH - 40, height=HEIGHT, title=title))
