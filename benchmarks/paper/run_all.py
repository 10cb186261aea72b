"""Run the paper-scale files one after the other, the cheapest first, within a budget of hours.

    python benchmarks/paper/run_all.py --predict                    # what each will take here
    python benchmarks/paper/run_all.py --device cuda --budget 24    # run; again: goes on
    python benchmarks/paper/run_all.py --only audit_german_5

A run that is finished is not run again, one that was interrupted goes on, and the table is written
after each. What a file takes is what `hansa check` foresees on this machine; files of which nothing
is foreseen, such as those whose data are not here, come last and say why.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hansa.experiment.settings_file import kind_of, read_settings_file

HERE = Path(__file__).parent
NO_DEVICE = ("audit",)
"""Commands that train nothing and so take no ``--device``."""


def hansa(words: list[str], seconds: float | None = None) -> tuple[dict[str, Any], float]:
    """(what a command answers as JSON, s it took); interrupted, as by Ctrl-C, after ``seconds``."""
    began = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-m", "hansa.cli", *words, "--json"], stdout=subprocess.PIPE, text=True
    )
    try:
        said, _ = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGINT)  # what was measured is kept, and the run can go on
        said, _ = child.communicate()
    try:
        answer = json.loads(said)
    except ValueError:
        answer = {"error": {"message": f"no answer, exit status {child.returncode}"}}
    return answer, time.monotonic() - began


def command_of(file: Path) -> str:
    """The command that runs a file, such as ``learn``."""
    return kind_of(read_settings_file(file)).command


def placed(command: str, device: str | None) -> list[str]:
    """``--device`` where it was asked for and the command has it."""
    return ["--device", device] if device and command not in NO_DEVICE else []


def foreseen(file: Path, device: str | None) -> dict[str, Any]:
    """What `hansa check` foresees of a file: ``seconds`` and its parts, ``memory_mb``; or ``why``
    nothing is foreseen."""
    facts, took = hansa(["check", str(file), *placed(command_of(file), device)], seconds=600)
    if "error" in facts:
        return {"file": file.stem, "why": str(facts["error"]["message"]).splitlines()[0]}
    forecast = facts.get("forecast") or {"why": "has no forecast"}
    return {"file": file.stem, "checked_in": round(took, 1), **forecast}


def run(file: Path, folder: Path, device: str | None, seconds: float) -> dict[str, Any]:
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
        words += [str(file), "--out", str(path), *placed(command, device)]
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
    numbers = [f"{name} {value:.4g}" for name, value in final.items() if type(value) is float]
    return {"rounds": summary.get("rounds", ""), "final": final, "figures": ", ".join(numbers[:4])}


def table(rows: list[dict[str, Any]], columns: list[str]) -> str:
    """Rows as Markdown; what stands in the way of a file is in its last cell."""
    lines = [f"| {' | '.join(columns)} | remark |", "|---" * (len(columns) + 1) + "|"]
    for row in rows:
        shown = [str(row.get(column, "")) for column in columns]
        lines.append(f"| {' | '.join(shown)} | {row.get('why', '')} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Foresee, or run, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", help="cpu, cuda ...: by default each file's own")
    parser.add_argument("--budget", type=float, default=24.0, help="hours in all")
    parser.add_argument("--only", action="append", help="a file, without its ending")
    parser.add_argument("--predict", action="store_true", help="start nothing")
    parser.add_argument("--runs", type=Path, default=Path("runs/paper"))
    parser.add_argument("--out", type=Path, help="the table's file, .md; JSON goes beside it")
    asked = parser.parse_args()
    files = [f for f in sorted(HERE.glob("*.yaml")) if not asked.only or f.stem in asked.only]
    if not files:
        parser.error(f"no such file: {', '.join(asked.only)}")
    plans = [foreseen(file, asked.device) for file in files]
    plans.sort(key=lambda plan: ("why" in plan, plan.get("seconds", 0.0)))
    if asked.predict:
        columns = ["file", "seconds", "training", "measuring", "exchange", "memory_mb"]
        write(asked.out, plans, table(plans, columns))
        return
    ends, rows = time.monotonic() + 3600 * asked.budget, []
    for plan in plans:
        left = ends - time.monotonic()
        if left <= 0:
            rows.append({"file": plan["file"], "status": "not run", "why": "the budget is spent"})
        else:
            file = HERE / f"{plan['file']}.yaml"
            rows.append(run(file, asked.runs, asked.device, left))
        write(asked.out, rows, table(rows, ["file", "status", "seconds", "rounds", "figures"]))


def write(out: Path | None, rows: list[dict[str, Any]], text: str) -> None:
    """Print the table, and write it where asked, with what it was made on."""
    print(text, flush=True)
    if out is not None:
        head = f"Load when this was made: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores."
        out.write_text(f"# Paper scale\n\n{head}\n\n{text}", encoding="utf-8")
        out.with_suffix(".json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
