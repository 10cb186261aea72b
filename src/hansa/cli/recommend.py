"""``hansa recommend``: a recommender of people who keep their ratings, or share them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hansa.cli.answer import Answer, answering
from hansa.cli.file_or_command import FileOrCommand
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
    RunDir,
    Seed,
    Sets,
)
from hansa.cli.training import train

if TYPE_CHECKING:
    from hansa.experiment import RunFile
    from hansa.report import RunFolder

app = typer.Typer(
    cls=FileOrCommand,
    help="Recommend by ratings that nodes keep or share among themselves: hansa recommend FILE; "
    "then hansa recommend for RUN --user NAME.",
    no_args_is_help=True,
)
File = Annotated[
    Path | None,
    typer.Argument(metavar="FILE", help="A recommender's run file.", show_default=False),
]
User = Annotated[
    str, typer.Option(help="Whom to recommend to, by the name in the ratings.", metavar="NAME")
]
Top = Annotated[int, typer.Option(min=1, help="How many items.", metavar="K")]
Node = Annotated[
    int | None,
    typer.Option(help="Whose model; by default that of the node that has the user.", metavar="N"),
]


@app.command("run")
def run(
    file: File = None,
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
    """Train a recommender (hansa recommend FILE does the same) and hold it against what is simple.

    --resume, --replay and exit statuses are as those of hansa learn.
    """

    def chosen(overrides: tuple[str, ...], **more: Any) -> RunFile:
        from hansa.recommend.recommend_file import RecommendFile

        return RecommendFile.of({} if file is None else file, overrides, **more)

    train(
        "hansa recommend",
        chosen,
        _show,
        file=file,
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


@app.command("for")
def recommend_for(
    run: RunDir,
    user: User,
    top: Top = 10,
    node: Node = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what a run recommends to a user, with the stars that it predicts, and why."""
    with answering(as_json, debug) as answer:
        from hansa.report import RunFolder

        RunFolder.open(run)  # before what takes long to import
        from hansa.recommend.recommending import recommend
        from hansa.report.grid import Grid

        answer.data = facts = recommend(run, user, top, node)
        rows = [
            [str(one["rank"]), one["title"], f"{one['stars']:.2f}", one["why"]]
            for one in facts["items"]
        ]
        title = f"For user {user}, by the model of node {facts['node']}"
        answer.table(Grid(title, ["", "item", "stars", "why"], rows, words=4))
        for remark in facts["remarks"]:
            answer.line(f"remark: {remark}")


@app.command("withdraw")
def withdraw(
    run: RunDir,
    user: Annotated[str, typer.Option(help="Whose ratings, by name.", metavar="NAME")],
    item: Annotated[
        str | None, typer.Option(help="Of which item, by name; by default all.", metavar="NAME")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Take a user's ratings back: once the run goes on, nodes drop them and take none in."""
    with answering(as_json, debug) as answer:
        from hansa.report import RunFolder

        RunFolder.open(run)
        from hansa.recommend.taking_back import take_back

        answer.data = facts = take_back(run, user, item)
        what = "all ratings" if item is None else f"the rating of {item}"
        answer.line(f"user {user} takes {what} back from round {facts['round']} on")
        answer.line("models that were trained on them do not forget them")
        answer.line(f"next    {facts['next']}")


def _show(answer: Answer, folder: RunFolder, every: bool) -> None:
    from hansa.recommend.beside import baselines_table, fallbacks, last_table, lists_table

    answer.table(last_table(folder, every=every))
    answer.table(baselines_table(folder, "Stars, beside what is simple"))
    answer.table(lists_table(folder, "Lists"))
    for text in fallbacks(folder):
        answer.line(f"remark: {text}")
