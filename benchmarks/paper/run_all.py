"""Run the paper-scale files one after the other, the cheapest first, within a budget of hours.

    python benchmarks/paper/run_all.py --predict              # what each takes here, and on a GPU
    python benchmarks/paper/run_all.py --budget 24            # run; again: goes on
    python benchmarks/paper/run_all.py --only audit_german_5

A run that is finished is not run again, one that was interrupted goes on, and the table is written
after each, with what the papers claim beside it. Runs are on the GPU where torch sees one, else
where each file says. What a file takes is what `hansa check` foresees on this machine; files of
which nothing is foreseen, such as those whose data are not here, come last and say why.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from gpu_day import BEST, GPUS, LAUNCHES, LEAST_HERE, SOURCES, WORST, gpu_seconds, rates_here
from measure import markdown

from hansa.base.lazy import torch
from hansa.base.systems import systems
from hansa.engine.settings import CheckpointSettings
from hansa.experiment.settings_file import kind_of, read_settings_file

HERE = Path(__file__).parent
NO_DEVICE = ("audit",)
"""Commands that train nothing and so take no ``--device``."""
SYSTEMS = {
    "audit": "Fairness audits by many agents",
    "cpfl": "CPFL",
    "decentralizepy": "DecentralizePy",
    "fens": "FENS",
    "jwins": "JWINS",
    "quickdrop": "QuickDrop",
    "rex": "REX",
    "robust": "Robust Federated Inference",
    "skiptrain": "SkipTrain",
}
"""Whose set-up a file is, by the first word of its name."""
SMOKE = ("rex_15000_people", ["nodes=10", "rounds=2", "data.people=40", "data.items=60",
                              "data.per_user=20", "evaluate.nodes=4"])  # fmt: skip
LIMIT = 120
FIRST = ("accuracy", "rmse", "ndcg@10", "average_model_accuracy", "loss")
"""The figures that are shown before others."""
PLAN = ["file", "seconds", "training", "measuring", "exchange", "memory_mb", "disk_mb"]


def hansa(
    words: list[str], seconds: float | None = None, cpu_seconds: int | None = None
) -> tuple[dict[str, Any], float]:
    """(what a command answers as JSON, s it took); interrupted, as by Ctrl-C, after ``seconds``,
    and killed once it has taken ``cpu_seconds`` of CPU time."""
    began = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-m", "hansa.cli", *words, "--json"],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=partial(_limited, cpu_seconds) if cpu_seconds else None,
    )
    try:
        said, _ = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGINT)  # what was measured is kept, and the run can go on
        said, _ = child.communicate()
    try:
        answer = json.loads(said)
    except ValueError:
        if cpu_seconds and -child.returncode in (signal.SIGXCPU, signal.SIGKILL):
            why = f"not foreseen: its calibration takes more than {cpu_seconds} CPU seconds"
            return {"error": {"message": why}}, time.monotonic() - began
        answer = {"error": {"message": f"no answer, exit status {child.returncode}"}}
    return answer, time.monotonic() - began


def _limited(cpu_seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))


def command_of(file: Path) -> str:
    """The command that runs a file, such as ``learn``."""
    return kind_of(read_settings_file(file)).command


def placed(command: str, device: str | None) -> list[str]:
    """``--device`` where it was asked for and the command has it."""
    return ["--device", device] if device and command not in NO_DEVICE else []


def foreseen(file: Path, device: str | None, sets: list[str], limit: int) -> dict[str, Any]:
    """What `hansa check` foresees of a file: ``seconds`` and its parts, ``memory_mb``; or ``why``
    nothing is foreseen."""
    words = ["check", str(file), *sets, *placed(command_of(file), device)]
    facts, took = hansa(words, cpu_seconds=limit)
    if "error" in facts:
        why = str(facts["error"]["message"]).splitlines()[0].replace(f"{HERE}/", "")
        return {"file": file.stem, "why": why}
    if not (forecast := facts.get("forecast")):
        return {"file": file.stem, "why": f"`hansa {command_of(file)}` has no forecast"}
    return {"file": file.stem, "checked_in": round(took, 1), **forecast, **_disk(file, facts)}


def _disk(file: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """MB of the models in the checkpoints that stay: the most of a run folder."""
    asked = CheckpointSettings.model_validate(read_settings_file(file).get("checkpoint", {}))
    held = facts.get("servers") or facts["nodes"]
    kept = asked.keep if asked.every else 0
    return {"disk_mb": round(kept * held * facts["model_bytes"] / 1e6)}


def run(
    file: Path, folder: Path, device: str | None, sets: list[str], seconds: float
) -> dict[str, Any]:
    """Run a file, or go on with its run, for so long at most; its row of the table."""
    command, path = command_of(file), folder / file.stem
    summary = path / "summary.json"
    status = json.loads(summary.read_text()).get("status") if summary.exists() else None
    if status in ("finished", "diverged"):
        facts = json.loads(summary.read_text())
        row = {"file": file.stem, "seconds": 0.0, "run": str(path)}
        return {**row, "status": status, **figures(facts)}
    words = command.split()
    if not (path / "config.yaml").exists():  # which a run leaves that was killed, too
        words += [str(file), "--out", str(path), *sets, *placed(command, device)]
    else:
        words += ["--resume", str(path)]
    answer, took = hansa(words, seconds)
    row = {"file": file.stem, "seconds": round(took, 1), "run": str(path)}
    if summary.exists():
        facts = json.loads(summary.read_text())
        return {**row, "status": facts.get("status", "interrupted"), **figures(facts)}
    if "error" in answer:
        return {**row, "status": "not run", "why": answer["error"]["message"].splitlines()[0]}
    return {**row, "status": "finished", **figures(answer)}


def figures(summary: dict[str, Any]) -> dict[str, Any]:
    """What a run has come to: its numbers whole, and the first few of them in words."""
    final = summary.get("final") or {}
    named = [*(name for name in FIRST if name in final), *(n for n in final if n not in FIRST)]
    numbers = [f"{name} {final[name]:.4g}" for name in named if type(final[name]) is float]
    return {"rounds": summary.get("rounds", ""), "final": final, "figures": ", ".join(numbers[:4])}


def table(rows: list[dict[str, Any]], columns: list[str]) -> str:
    """Rows as Markdown; what stands in the way of a file is in its last cell."""
    lines = [f"| {' | '.join(columns)} | remark |", "|---" * (len(columns) + 1) + "|"]
    for row in rows:
        shown = [str(row.get(column, "")) for column in columns]
        lines.append(f"| {' | '.join(shown)} | {row.get('why', '')} |")
    return "\n".join(lines) + "\n"


def claims(rows: list[dict[str, Any]]) -> str:
    """What the papers of these files claim, beside what was seen of it here in small, and beside
    the figures of the runs of this table; no figure is judged by this script."""
    lines = ["| system | published | seen here in small | at this scale |", "|---|---|---|---|"]
    for system in systems():
        own = [row for row in rows if SYSTEMS[row["file"].partition("_")[0]] == system.name]
        ran = [f"{r['file']}: {r['figures'] or r['status']}" for r in own if "figures" in r]
        for claim in system.claims if own else ():
            small = f"{claim.verdict}: {claim.measured}"
            told = "; ".join(ran) or "not run"
            lines.append(f"| {system.name} | {claim.published} | {small} | {told} |")
    return "\n".join(lines) + "\n"


def on_gpus(plans: list[dict[str, Any]]) -> str:
    """Hours on GPUs that are not here, and what they were reckoned from; fills ``plans``."""
    here = rates_here()
    for plan in plans:
        for name, gpu in GPUS.items():
            if "why" not in plan and "step_ms" in plan:
                best, worst = (second / 3600 for second in gpu_seconds(plan, here, gpu))
                plan[name] = f"{_hours(best)} to {_hours(worst)} h"
    return f"""
The hours on GPUs are predictions and none was measured: both bounds go by ratios of
peaks. One thread here does {here.operations / 1e9:.0f} GFLOP/s in a matrix product and copies
{here.bytes / 1e9:.1f} GB/s. Best: the run has {LEAST_HERE:.0%} of the operations that its time here
allows for, and the GPU reaches {BEST:.0%} of its peaks. Worst: it has all of them, the GPU reaches
{WORST:.0%}, and each client's step waits for {LAUNCHES} launches of kernels, one after the other.

{SOURCES}
"""


def _hours(number: float) -> str:
    return f"{number:.2g}" if number >= 0.01 else "< 0.01"


LIMITS = """Not in these figures: reading and decoding data, changing images at random, wavelets and
other codecs, distillation and its clients' logits, a GPU's own memory (memory is that of the
process here). Clients that stop early and rounds without training (SkipTrain's) make it less. On
disk: the models in the checkpoints that stay; optimizers, codecs and figures come on top. `hansa
check` times steps of at most 32 clients.
"""


def predict(plans: list[dict[str, Any]], device: str | None, out: Path | None) -> None:
    """The table of what each file would take."""
    columns, gpus = PLAN, ""
    if device in (None, "cpu"):  # on a GPU that is here the forecast is timed there
        gpus, columns = on_gpus(plans), [*PLAN, *GPUS]
    known = [plan for plan in plans if "why" not in plan]
    hours = sum(plan["seconds"] for plan in known) / 3600
    total = f"{len(known)} of {len(plans)} files are foreseen: {hours:.3g} hours here in all.\n"
    write(out, plans, "\n".join([table(plans, columns), total, gpus, LIMITS]))


def main() -> None:
    """Foresee, or run, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", help="cpu, cuda ...: by default the GPU that torch sees")
    parser.add_argument("--budget", type=float, default=24.0, help="hours in all")
    parser.add_argument("--only", action="append", help="a file, without its ending")
    parser.add_argument("--predict", action="store_true", help="start nothing")
    parser.add_argument("--limit", type=int, default=LIMIT, help="CPU seconds to foresee a file")
    parser.add_argument("--runs", type=Path, default=Path("runs/paper"))
    parser.add_argument("--out", type=Path, help="the table's file, .md; JSON goes beside it")
    parser.add_argument("--smoke", action="store_true", help="a tiny run of one file, twice")
    asked = parser.parse_args()
    device = asked.device or ("cuda" if torch.cuda.is_available() else None)
    if asked.smoke:
        smoke()
        return
    files = [f for f in sorted(HERE.glob("*.yaml")) if not asked.only or f.stem in asked.only]
    if not files:
        parser.error(f"no such file: {', '.join(asked.only)}")
    plans = [foreseen(file, device, [], asked.limit) for file in files]
    plans.sort(key=lambda plan: ("why" in plan, plan.get("seconds", 0.0)))
    if asked.predict:
        predict(plans, device, asked.out)
        return
    ends, rows = time.monotonic() + 3600 * asked.budget, []
    for plan in plans:
        left = ends - time.monotonic()
        if left <= 0:
            rows.append({"file": plan["file"], "status": "not run", "why": "the budget is spent"})
        else:
            file = HERE / f"{plan['file']}.yaml"
            rows.append(run(file, asked.runs, device, [], left))
        write(asked.out, rows, told(rows))


def told(rows: list[dict[str, Any]]) -> str:
    """The runs' table, and the papers' claims beside it."""
    return f"{table(rows, ['file', 'status', 'seconds', 'rounds', 'figures'])}\n{claims(rows)}"


def smoke() -> None:
    """One file made tiny: foreseen, run, and asked for again, when nothing is left to run."""
    name, changes = SMOKE
    sets = [word for change in changes for word in ("--set", change)]
    file = HERE / f"{name}.yaml"
    plan = foreseen(file, "cpu", sets, LIMIT)
    predict([plan], "cpu", None)
    with tempfile.TemporaryDirectory() as folder:
        rows = [run(file, Path(folder), "cpu", sets, 3600.0) for _ in range(2)]
    print(told(rows[1:]))
    ended = [row["status"] for row in rows]
    if "why" in plan or ended != ["finished", "finished"] or rows[1]["seconds"]:
        raise SystemExit(f"not foreseen, not finished, or run twice: {plan}, {rows}")


def write(out: Path | None, rows: list[dict[str, Any]], text: str) -> None:
    """Print the table, and write it where asked, with what it was made on."""
    print(text, flush=True)
    if out is not None:
        words = " ".join(["python", "benchmarks/paper/run_all.py", *sys.argv[1:]])
        head = markdown("Paper scale", words, [], []).partition("\n| ")[0].rstrip()
        load = f"Load when this was made: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores."
        out.write_text(f"{head}\n\n{load}\n\n{text}", encoding="utf-8")
        out.with_suffix(".json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
