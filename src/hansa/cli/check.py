"""``hansa check``: all that can be known of a run before it starts."""

from __future__ import annotations

from typing import Any

from hansa.cli.answer import answering
from hansa.cli.options import Debug, Device, Json, Seed, Sets, Target, read_settings


def check(
    target: Target = None,
    sets: Sets = None,
    seed: Seed = None,
    device: Device = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Load the data, build everything, print the plan of a run, and start nothing."""
    with answering(as_json, debug) as answer:
        from hansa.experiment import plan, prepare
        from hansa.report.tables import Grid
        from hansa.report.units import label

        chosen = read_settings(target, sets, seed=seed, device=device)
        answer.data = plan(chosen, prepare(chosen))
        rows = [[label(key), _shown(value)] for key, value in answer.data.items()]
        answer.table(Grid("Plan", ["", ""], rows, words=2))
        answer.line("This run can start.")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        low, high = value["min"], value["max"]
        return _shown(low) if low == high else f"{_shown(low)} to {_shown(high)}"
    return f"{value:,}" if isinstance(value, int) else str(value)
