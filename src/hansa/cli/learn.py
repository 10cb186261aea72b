"""``hansa learn``: train a network of nodes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hansa.cli.options import (
    All,
    Debug,
    Device,
    Json,
    Nodes,
    NoReport,
    Out,
    Quiet,
    RayAddress,
    Replay,
    Resume,
    Rounds,
    Seed,
    Sets,
    Target,
    read_settings,
)
from hansa.cli.training import train

if TYPE_CHECKING:
    from hansa.cli.answer import Answer
    from hansa.report import RunFolder


def learn(
    target: Target = None,
    sets: Sets = None,
    out: Out = None,
    seed: Seed = None,
    rounds: Rounds = None,
    nodes: Nodes = None,
    device: Device = None,
    resume: Resume = None,
    replay: Replay = None,
    ray_address: RayAddress = None,
    no_report: NoReport = False,
    as_json: Json = False,
    every: All = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a network of nodes and leave a run folder with everything that was measured.

    --replay RUN does in simulate what was done in RUN, wherever that was, with all that went wrong
    there, and says whether models and figures are equal; if they are not, the exit status is 4.

    With --resume, --set reaches what may change: rounds, runtime, checkpoint, device. --ray-address
    stands for --set runtime.name=ray --set runtime.address=HOST:PORT. The exit status is 3 if
    training diverged, whether it then went on or was stopped.
    """
    train(
        "hansa learn",
        partial(read_settings, target),
        _show,
        file=target,
        sets=sets,
        out=out,
        seed=seed,
        rounds=rounds,
        nodes=nodes,
        device=device,
        resume=resume,
        replay=replay,
        ray_address=ray_address,
        report=not no_report,
        as_json=as_json,
        every=every,
        quiet=quiet,
        debug=debug,
    )


def _show(answer: Answer, folder: RunFolder, every: bool) -> None:
    from hansa.report.tables import final_table

    answer.table(final_table(folder, every=every))
