"""``hansa audit``: ask a black box within budgets whether it treats groups alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa.base.telling import say
from hansa.cli.answer import Answer, answering
from hansa.cli.file_or_command import FileOrCommand
from hansa.cli.options import Debug, Json, NoReport, Out, Quiet, RunDir, Seed, Sets
from hansa.cli.running import changed, folder_for, going_on, heed_sigterm, present

if TYPE_CHECKING:
    from hansa.audit.audit_file import AuditFile

_GO_ON, _KEPT = "hansa audit resume", "what was asked and heard"


app = typer.Typer(
    cls=FileOrCommand,
    help="Ask a black box whether it treats groups alike: hansa audit FILE. Agents have budgets, "
    "and may share what they hear.",
    no_args_is_help=True,
)
File = Annotated[Path, typer.Argument(metavar="FILE", help="An audit's file.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only print the plan and its cost; ask nothing.")
]


@app.command("run")
def run(
    file: File,
    sets: Sets = None,
    out: Out = None,
    seed: Seed = None,
    dry_run: DryRun = False,
    no_report: NoReport = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Ask the platform, and say what was found (hansa audit FILE does the same)."""
    with answering(as_json, debug) as answer:
        if dry_run:
            show_plan(answer, _load(file, sets, seed))
            return
        heed_sigterm()
        chosen = _load(file, sets, seed)
        from hansa.audit.run import audit
        from hansa.experiment.progress import Steps

        with folder_for(chosen, out) as path, going_on(answer, path, _GO_ON, _KEPT):
            with Steps(quiet) as steps:
                folder = audit(chosen, path, steps, not no_report)
            _result(answer, folder.path)


@app.command("plan")
def plan(
    file: File,
    sets: Sets = None,
    seed: Seed = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Print what each strategy is expected to come to, and what it costs; nothing is asked."""
    with answering(as_json, debug) as answer:
        show_plan(answer, _load(file, sets, seed))


@app.command("resume")
def resume(
    run: RunDir,
    sets: Sets = None,
    no_report: NoReport = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Go on with an audit that was ended in the middle: no query is asked twice.

    --set reaches how the platform is asked: --set box.queries_a_second=1.
    """
    with answering(as_json, debug) as answer:
        heed_sigterm()
        present(run)
        from hansa.audit.run import resume as resumed
        from hansa.experiment.progress import Steps

        changes = changed(run, sets)
        with going_on(answer, run, _GO_ON, _KEPT):
            with Steps(quiet) as steps:
                folder = resumed(run, changes, steps, not no_report)
            _result(answer, folder.path)


def _load(file: Path, sets: list[str] | None, seed: int | None) -> AuditFile:
    from hansa.audit.audit_file import AuditFile

    return AuditFile.load(file, tuple(sets or ()), seed=seed)


def show_plan(answer: Answer, chosen: AuditFile) -> None:
    """Print what an audit would do; the platform is opened, and not asked."""
    from hansa.audit.audit_tables import cost_lines, plan_table, population_table
    from hansa.audit.preparing import planned_facts, prepare

    answer.data = facts = planned_facts(prepare(chosen))
    answer.table(population_table(facts))
    answer.table(plan_table(facts))
    for line in cost_lines(facts):
        answer.line(line)
    answer.line("Nothing was asked.")


def _result(answer: Answer, path: Path) -> None:
    from hansa.audit.audit_tables import agents_table, caveats, findings_table
    from hansa.report import RunFolder

    folder = RunFolder.open(path)
    answer.data = folder.summary or {}
    found = folder.read_json("audit.json")
    answer.table(findings_table(found))
    answer.table(agents_table(found))
    for text in caveats(found):
        say(f"remark: {text}")
    answer.places(path)
