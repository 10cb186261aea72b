"""Exposure against accuracy: how many nodes hold a rating, and what is sent in vain.

    python benchmarks/recommend/exposure.py            # 3 seeds, about 20 minutes of a core
    python benchmarks/recommend/exposure.py --smoke    # a few rounds, one seed

``examples/synthetic_rex.yaml`` (20 nodes) and, where HANSA_DATA has it, ``movielens_rex.yaml``
(50 nodes, MovieLens latest-small), with raw ratings by random walks. RMSE is the mean of nodes, in
stars. Two things are asked. Reconciliation: when it is as good as blind resending is at the end, of
what came by then, at most half as large a share had been there already. A hop limit: half the
holders of a rating or fewer, and an RMSE at most 1 % above, at the end of the same rounds; that too
where nodes share their models as well (``share: both``), with and without the limit. And counters
say how far copies have come: over how many links from their owners, at the end.
"""

from __future__ import annotations

import os
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import RESULTS, Notes, markdown, options, publish
from safetensors.torch import load_file

from hansa import run
from hansa.engine.runtimes.checkpoint import latest
from hansa.recommend.exposure import HOPS
from hansa.recommend.recommend_file import RecommendFile
from hansa.recommend.spreading import spread
from hansa.report import RunFolder
from hansa.report.charts import save_png

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = {"synthetic": "synthetic_rex.yaml", "latest-small": "movielens_rex.yaml"}
WAYS: dict[str, dict[str, Any]] = {
    "blind": {},
    "remembered": {"reconcile": "remembered"},
    "digest": {"reconcile": "digest"},
    "counted": {"exposure": {"hops": 255}},
    "hops 1": {"exposure": {"hops": 1}},
    "hops 2": {"exposure": {"hops": 2}},
    "hops 2, digest": {"exposure": {"hops": 2}, "reconcile": "digest"},
    "budget 8": {"exposure": {"budget": 8}},
    "expiry 10": {"exposure": {"expiry": 10}},
    "both, blind": {"share": "both"},
    "both, hops 1": {"share": "both", "exposure": {"hops": 1}},
    "both, hops 2": {"share": "both", "exposure": {"hops": 2}},
}
SMALL = {"synthetic": {"ratings": 100, "digest_entries": 200}, "latest-small": {}}
"""In the synthetic run messages are small, so that it is not all over after a few rounds."""
ROUNDS = 100


LEFT_OUT = dict.fromkeys(["budget 8", "expiry 10", "hops 2, digest"], ("latest-small",))
COUNTED = 4
"""Copies that came over so many links or more are told together."""
Curves = dict[str, dict[int, pl.DataFrame]]
"""By way and seed: what :func:`curve` gives."""


def curve(name: str, settings: dict[str, Any], seed: int, smoke: bool) -> list[dict[str, Any]]:
    """By measured round: ``rmse``, ``holders``, ``repeated`` (share of what came) and ``sent``,
    megabytes of all nodes; in the last ``hops``, where they are counted: the shares of copies that
    came over 1, 2 ... links."""
    chosen = yaml.safe_load((EXAMPLES / FILES[name]).read_text())
    chosen |= {"seed": seed, "baselines": ["global_mean"]}
    chosen["evaluate"] = {"every": 5, "own": {"name": "ratings", "k": 0}}
    chosen["algorithm"] |= SMALL[name] | settings
    chosen["rounds"] = 5 if smoke else ROUNDS
    counted = "hops" in settings.get("exposure", {})
    chosen["checkpoint"] = {"every": chosen["rounds"] if counted else 0}
    with tempfile.TemporaryDirectory() as folder:
        done = run(RecommendFile.parse(chosen), out=Path(folder) / "run", report=False)
        metrics = done.metrics()
        named = metrics.filter(pl.col("name") == "rmse").group_by("round")
        sent = metrics.filter(pl.col("name") == "rmse_pooled", pl.col("node").is_null())
        errors = named.agg(rmse=pl.col("value").mean()).join(
            sent.select("round", sent=pl.col("bytes") / 1e6), on="round"
        )
        rows = errors.join(spread(done), on="round").sort("round").to_dicts()
        return [*rows[:-1], rows[-1] | {"hops": far(done)}] if counted else rows


def far(done: RunFolder) -> list[float]:
    """Shares of copies by how many links they came over, the last as many or more."""
    checkpoint = latest(done.path / "checkpoints")
    assert checkpoint is not None
    (part,) = checkpoint.glob("*.safetensors")
    hops = load_file(part)[f"store.note.{HOPS}"].numpy()
    counts = np.bincount(np.minimum(hops[hops > 0], COUNTED), minlength=COUNTED + 1)[1:]
    shares: list[float] = (counts / counts.sum()).tolist()
    return shares


def at_error(found: pl.DataFrame, error: float) -> dict[str, Any] | None:
    """The first measured round that is as good; None: none is."""
    reached = found.filter(pl.col("rmse") <= error).head(1).to_dicts()
    return reached[0] if reached else None


def compared(name: str, curves: Curves) -> tuple[list[list[str]], list[str]]:
    """(rows of the table, the verdicts) of one data set; of a way, as many seeds as are there."""
    rows, verdicts = [], []
    for way, curve_of in curves.items():
        base_of = curves["both, blind" if way.startswith("both") else "blind"]
        seeds = [seed for seed in curve_of if seed in base_of]
        last, base = ([c[k].tail(1).to_dicts()[0] for k in seeds] for c in (curve_of, base_of))
        pairs = list(zip(last, base, strict=True))
        worse = [100 * (a["rmse"] / b["rmse"] - 1) for a, b in pairs]
        equal = [at_error(curve_of[k], b["rmse"]) for k, b in zip(seeds, base, strict=True)]
        once = [e for e in equal if e is not None]
        rows.append(
            [
                name,
                way,
                str(len(last)),
                _said([e["rmse"] for e in last], 4, max),
                _said(worse, 1, max),
                _said([e["holders"] for e in last], 1, max),
                _said([100 * e["repeated"] for e in last], 0, max),
                _said([e["sent"] for e in last], 2, max),
                f"{len(once)} of {len(equal)}",
                _said([e["sent"] for e in once], 2, max) if once else "-",
                _said([100 * e["repeated"] for e in once], 0, max) if once else "-",
            ]
        )
        if way in ("remembered", "digest"):
            shares = [
                np.inf if e is None else e["repeated"] / b["repeated"]
                for e, b in zip(equal, base, strict=True)
            ]
            verdicts.append(
                f"{name}, {way}: half the duplicates of blind resending or fewer at its RMSE, "
                f"every seed: {'yes' if max(shares) <= 0.5 else 'NO'} (worst {max(shares):.2f})"
            )
        if "hops" in way:
            share = max(a["holders"] / b["holders"] for a, b in pairs)
            holds = share <= 0.5 and max(worse) < 1
            verdicts.append(
                f"{name}, {way}: half the holders or fewer at under 1 % of RMSE, every seed: "
                f"{'yes' if holds else 'NO'} (worst {share:.2f} of them, {max(worse):+.1f} %)"
            )
    return rows, verdicts


def _said(values: list[float], digits: int, worst: Any) -> str:
    return f"{np.mean(values):.{digits}f} ({worst(values):.{digits}f})"


def draw(curves: dict[str, Curves], path: Path) -> None:
    """Error against holders by round, a line a way, mean of seeds."""
    import altair as alt

    charts = []
    for name, ways in curves.items():
        lines = [
            mean.with_columns(pl.lit(way).alias("way"))
            for way, each in ways.items()
            for mean in [pl.concat(each.values()).group_by("round").mean().sort("round")]
        ]
        marks = alt.Chart(pl.concat(lines), title=name, width=380, height=300)
        charts.append(
            marks.mark_line(point=True).encode(
                alt.X("holders", title="nodes that hold a rating, mean"),
                alt.Y("rmse", title="RMSE, mean of nodes, stars").scale(zero=False),
                alt.Color("way", sort=[*ways], title=None, scale=alt.Scale(scheme="tableau20")),
                order="round",
            )
        )
    save_png(alt.hconcat(*charts), path)


def named(name: str, way: str, seeds: int) -> list[str]:
    """What runs are called in notes."""
    return [f"{name}, {way}, seed {seed}" for seed in range(1, 1 + seeds)]


def measured(names: list[str], notes: Notes, seeds: int, smoke: bool) -> dict[str, Any]:
    """All curves by what they are called, one seed after the other."""
    found = {}
    for seed in range(1, 1 + seeds):
        for name in names:
            for way, settings in WAYS.items():
                if name not in LEFT_OUT.get(way, ()):
                    called, work = named(name, way, seed)[-1], partial(curve, name, settings, seed)
                    found[called] = notes.get(called, partial(work, smoke))
    return found


def main() -> None:
    parser = options(__doc__, "a few rounds, one seed")
    parser.add_argument("--known", action="store_true", help="run nothing: what is noted")
    parser.add_argument("--only", choices=[*FILES], help="one data set")
    arguments = parser.parse_args()
    names = [arguments.only] if arguments.only else [*FILES]
    if arguments.smoke or "HANSA_DATA" not in os.environ:
        names = ["synthetic"]
    notes, seeds = Notes(arguments.notes), 1 if arguments.smoke else arguments.seeds
    noted = notes.known if arguments.known else measured(names, notes, seeds, arguments.smoke)
    curves: dict[str, Curves] = {}
    rows, verdicts, hops = [], [], dict[str, list[list[float]]]()
    for name in names:
        curves[name] = {}
        for way in WAYS:
            if name not in LEFT_OUT.get(way, ()):
                kept = ("round", "rmse", "holders", "repeated", "sent")
                for seed, called in enumerate(named(name, way, seeds), start=1):
                    one = noted.get(called)
                    if one is None:
                        continue
                    if "hops" in one[-1]:
                        hops.setdefault(f"{name}, {way}", []).append(one[-1]["hops"])
                    curves[name].setdefault(way, {})[seed] = pl.DataFrame(one).select(kept)
        more = compared(name, curves[name])
        rows += more[0]
        verdicts += more[1]
    header = ["data", "way", "seeds", "RMSE", "above blind, %", "holders a rating", "duplicates, %"]
    header += ["MB sent", "as good as blind", "MB then", "duplicates then, %"]
    command = "python benchmarks/recommend/exposure.py"
    text = markdown("Exposure against accuracy: mean of seeds (worst)", command, header, rows)
    text += "\n" + "\n".join(f"- {line}" for line in verdicts) + "\n"
    heads = " | ".join(f"{k} %" for k in ("1 link", "2 links", "3 links", f"{COUNTED} or more"))
    text += (
        f"\nHow far copies were from their owners at the end, mean of seeds:\n\n| run | {heads} |\n"
    )
    text += "|---|" + "---|" * COUNTED + "\n"
    for who, shares in hops.items():
        cells = (f"{100 * share:.0f}" for share in np.mean(shares, axis=0))
        text += f"| {who} | {' | '.join(cells)} |\n"
    if not arguments.smoke:
        draw(curves, RESULTS / "exposure.png")
        text += "\n![Error against holders](exposure.png)\n"
    publish("exposure", text, arguments.smoke)


if __name__ == "__main__":
    main()
