"""Runs of the red team.

::

    config.yaml, environment.json, events.jsonl, summary.json, report.html   as of any run
    rows.json   a row for each attack, layer and mode, as soon as it is tried
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hansa.base.errors import ConfigError
from hansa.experiment.hosting import HostedWork, Hosting
from hansa.infer.private.compiling.program_file import read_program
from hansa.infer.private.redteam.attacks.extraction import ExtractionAttack
from hansa.infer.private.redteam.oracle import Untried
from hansa.infer.private.redteam.redteam_file import RedTeamFile
from hansa.infer.private.redteam.targets import Target, made_target, targets_of
from hansa.infer.private.redteam.trial import tried
from hansa.report import RunFolder

ROWS = "rows.json"
_MOST = 1024
"""Columns of a matrix that is asked column by column."""
Say = Callable[[str], None]
Trial = tuple[ExtractionAttack, str, Target]


def redteam(
    settings: RedTeamFile | Mapping[str, Any],
    out: str | Path | None = None,
    say: Say = lambda text: None,
    report: bool = True,
) -> RunFolder:
    """Try attacks, in a new run folder.

    Raises:
        CheckpointError, ConfigError: there is no such program, or no layer that an attack takes.
    """
    return _hosted_work(say).begin(settings, out, report)


def resume(
    run: str | Path,
    changes: Mapping[str, Any] | None = None,
    say: Say = lambda text: None,
    report: bool = True,
) -> RunFolder:
    """Go on with a run that was interrupted: what was tried is kept.

    Raises:
        CheckpointError: the folder is another verb's, or is damaged.
        ConfigError: it has finished, or a setting cannot change any more.
    """
    return _hosted_work(say).resume(run, report, changes)


def _hosted_work(say: Say) -> HostedWork[RedTeamFile, list[Trial]]:
    def work(hosting: Hosting, chosen: RedTeamFile, trials: list[Trial]) -> None:
        _do(hosting, chosen, trials, say)

    return HostedWork(RedTeamFile, checked, work)


def checked(chosen: RedTeamFile) -> list[Trial]:
    """What is tried.

    Raises:
        ConfigError: no attack finds anything, or the program cannot be attacked.
    """
    trials = list(_trials(chosen))
    if not trials:
        names = ", ".join(attack.label() for attack in chosen.attacks)
        problem = "finds no layer in these modes"
        raise ConfigError("attacks", names, problem, "other attacks, more modes or no program")
    return trials


def _trials(chosen: RedTeamFile) -> Iterator[Trial]:
    program = None if chosen.program is None else targets_of(read_program(chosen.program))
    for attack in chosen.attacks:
        for target in _targets(attack, program, chosen.seed):
            for mode in chosen.modes:
                if mode in attack.modes:
                    yield attack, mode, target


def _targets(attack: ExtractionAttack, program: list[Target] | None, seed: int) -> list[Target]:
    if program is None:
        return [made_target(name, seed) for name in attack.layers]
    return [
        target
        for target in program
        if target.kind in attack.takes
        and (target.kind == "convolution" or target.weights[0].size <= _MOST)
    ]


def _do(hosting: Hosting, chosen: RedTeamFile, trials: list[Trial], say: Say) -> None:
    rows: list[dict[str, Any]] = hosting.folder.read_json(ROWS) or []
    hosting.facts = lambda: {"rows": rows, "final": _final(rows)}
    for k, (attack, mode, target) in enumerate(trials):
        if k < len(rows):
            continue
        say(f"{attack.label()} on {target.name}, {mode}")
        try:
            rows.append(tried(attack, mode, target, chosen.seed, chosen.profile))
        except Untried as why:
            rows.append({"attack": attack.label(), "mode": mode, "layer": target.name,
                         "recovered": None, "chance": None, "note": str(why)})  # fmt: skip
        hosting.folder.write_json(ROWS, rows)


def _final(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """By mode the most that any attack recovered, and whether all is as pages say."""
    done = [row for row in rows if row["recovered"] is not None]
    most: dict[str, float] = {}
    for row in done:
        most[row["mode"]] = max(most.get(row["mode"], 0.0), row["recovered"])
    return {
        "tried": len(done),
        "as_expected": sum(row["as_expected"] for row in done),
        "most_recovered": most,
        "cpu_seconds": sum(row["seconds"] for row in done),
    }
